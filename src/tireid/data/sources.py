"""Where the images of public data sets come from, and which sets share people by it."""

from collections.abc import Iterable

# The sets that the images were taken from, and who says so.
_SOURCES = {
    "cuhk_pedes": (
        ("CUHK03", "Market-1501", "SSM", "VIPER", "CUHK01"),
        "Li et al., CVPR 2017",
    ),
    "icfg_pedes": (("MSMT17",), "Ding et al., arXiv 2107.12666"),
    "rstpreid": (("MSMT17",), "Zhu et al., ACM MM 2021"),
}


def shared_sources(one: str, other: str) -> tuple[str, ...]:
    """Return the sets that two data sets both took images from.

    Args:
        one: A data set, as `dataset=` names it.
        other: Another one.
    """
    theirs = _SOURCES[other][0] if other in _SOURCES else ()
    return tuple(name for name in _SOURCES.get(one, ((), ""))[0] if name in theirs)


def shared_source_warnings(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Return a sentence for each pair of different data sets that share sources.

    Args:
        pairs: Names of data sets, as `dataset=` has them.
    """
    return [
        f"{one} and {other} both hold images of {', '.join(shared)} ({_SOURCES[one][1]}; "
        f"{_SOURCES[other][1]}): people of one may be in the other, also in its test split"
        for one, other in dict.fromkeys(tuple(sorted(pair)) for pair in pairs)
        if one != other and (shared := shared_sources(one, other))
    ]
