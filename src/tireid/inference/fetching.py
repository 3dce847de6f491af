"""Download what a config needs of the model hub: weights, tokenizers, exports."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from tireid.console import say
from tireid.runs.foreign import read_json
from tireid.runs.hub import is_hub_address, split_address
from tireid.runs.weights import EXPORT_FILES

_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_SECTIONS = ("image_encoder", "text_encoder", "model")
_SAVED = ("init_weights", "vocabulary")  # settings that may name an export
_HUB_TOKENIZER = "HubTokenizer"
_CONFIG = "config.json"
_SAFETENSORS, _PICKLED = "model.safetensors", "pytorch_model.bin"
_PATTERNS: dict[str, Sequence[str]] = {
    "weights": (_CONFIG, "model*.safetensors", f"{_SAFETENSORS}.index.json"),
    "pickled weights": ("pytorch_model*.bin", f"{_PICKLED}.index.json"),
    "tokenizer": (
        *(_CONFIG, "tokenizer*.json", "vocab.txt", "vocab.json", "merges.txt"),
        *("special_tokens_map.json", "added_tokens.json"),
    ),
    "export": EXPORT_FILES,
}
_VOCABULARIES = (("tokenizer.json",), ("vocab.txt",), ("vocab.json", "merges.txt"))


class HubSource(NamedTuple):
    """What a config needs of one repository.

    Attributes:
        name: Repository on the hub, or a path that is not there.
        revision: Branch, tag or commit; None: the main branch.
        kinds: Of `weights`, `tokenizer` and `export`, what is needed of it.
        settings: Names of the settings that ask for it.
    """

    name: str
    revision: str | None
    kinds: tuple[str, ...]
    settings: tuple[str, ...]


def hub_sources(cfg: DictConfig) -> list[HubSource]:
    """Return what a training config needs of the hub; local files and folders are left out.

    Args:
        cfg: A composed training config.
    """
    found: dict[tuple[str, str | None], dict[str, list[str]]] = {}
    for setting, kind, name, revision in _named(cfg):
        if not Path(name).exists():
            of = found.setdefault((name, revision), {})
            of.setdefault(kind, []).append(setting)
    return [
        HubSource(name, revision, tuple(of), tuple(s for settings in of.values() for s in settings))
        for (name, revision), of in found.items()
    ]


def _named(cfg: DictConfig) -> Iterator[tuple[str, str, str, str | None]]:
    """Yield setting, kind, repository and revision of all that a config names."""
    has_vocabulary = False
    for setting in _SAVED:
        if (value := cfg.get(setting)) is not None:
            has_vocabulary = True  # the tokenizer comes along
            if is_hub_address(value):
                yield setting, "export", *split_address(value)
    for section in _SECTIONS:
        settings: Any = OmegaConf.to_container(cfg[section], resolve=True)
        for setting, node in _nodes(settings, section):
            target = str(node["_target_"])
            pretrained, name = node.get("pretrained"), node.get("name_or_path")
            if not target.startswith("tireid."):
                continue  # of another package, which may mean something else
            if isinstance(pretrained, str):
                yield f"{setting}.pretrained", "weights", pretrained, None
            if target.endswith(f".{_HUB_TOKENIZER}") and not has_vocabulary:
                yield f"{setting}.name_or_path", "tokenizer", str(name), node.get("revision")


def _nodes(settings: Any, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the parts of a config that name a class, with their dotted names."""
    if isinstance(settings, dict):
        if "_target_" in settings:
            yield name, settings
        for key, value in settings.items():
            yield from _nodes(value, f"{name}.{key}")


def is_cached(source: HubSource) -> bool:
    """Return whether the hub's cache holds all that is needed of a repository."""
    if not _NAME.fullmatch(source.name):
        return False
    checks: Mapping[str, Callable[[HubSource], bool]] = {
        "weights": lambda s: _holds(s, _CONFIG) and (_is_whole(s, _SAFETENSORS) or _is_pickled(s)),
        "tokenizer": lambda s: any(_holds(s, *names) for names in _VOCABULARIES),
        "export": lambda s: _holds(s, _SAFETENSORS),
    }
    return all(checks[kind](source) for kind in source.kinds)


def _holds(source: HubSource, *names: str) -> bool:
    return all(_cached(source, name) is not None for name in names)


def _cached(source: HubSource, name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache  # takes a second to import

    place = try_to_load_from_cache(source.name, name, revision=source.revision)
    return Path(place) if isinstance(place, str) else None


def _is_whole(source: HubSource, name: str) -> bool:
    """Return whether weights are there, in one file or in all that their index names."""
    if _holds(source, name):
        return True
    index = _cached(source, f"{name}.index.json")
    if index is None:
        return False
    content = read_json(index, "an index of weights", {"weight_map": {str: str}})
    return _holds(source, *set(content.get("weight_map", {}).values()))


def _is_pickled(source: HubSource) -> bool:
    return _is_whole(source, _PICKLED)


def fetch(source: HubSource) -> None:
    """Download what is needed of a repository into the hub's cache.

    Safetensors are preferred; of a repository without any, the file that is read with
    `weights_only=True`.

    Raises:
        OSError: If there is no such repository, it cannot be reached, or lacks what is needed.
    """
    from huggingface_hub import snapshot_download

    if not _NAME.fullmatch(source.name):
        raise FileNotFoundError("expected a folder that is there, or a name of the hub")
    for kind in source.kinds:
        for part in (kind, f"pickled {kind}"):
            if part in _PATTERNS and not is_cached(source._replace(kinds=(kind,))):
                patterns = list(_PATTERNS[part])
                snapshot_download(source.name, revision=source.revision, allow_patterns=patterns)
    if not is_cached(source):
        raise FileNotFoundError(f"expected {' and '.join(source.kinds)} in it, got none")


def fetch_missing(cfg: DictConfig, command: str, tell: Callable[[str], None] = say) -> None:
    """Download what a training needs and the hub's cache lacks, before data are read.

    Args:
        cfg: A composed training config.
        command: What to type where there is a network, for the message.
        tell: Takes the line that says what is downloaded.

    Raises:
        FileNotFoundError: If something cannot be had; names all of it.
    """
    missing = [source for source in hub_sources(cfg) if not is_cached(source)]
    if not missing:
        return
    names = ", ".join(source.name for source in missing)
    tell(f"downloading {names} into {cache_folder()}, below HF_HOME")
    failed = fetch_all(missing)
    if failed:
        reasons = "; ".join(f"{described(source)}: {why}" for source, why in failed.items())
        raise FileNotFoundError(
            f"expected weights and tokenizers in the hub's cache, {cache_folder()}, or on the "
            f"hub, got none of {reasons}. Where there is a network: `{command}`, with HF_HOME set "
            "alike on both machines; or give local folders"
        )


def fetch_all(
    sources: Sequence[HubSource], done: Callable[[HubSource], None] | None = None
) -> dict[HubSource, str]:
    """Download what is needed of several repositories.

    Args:
        sources: What is needed.
        done: Called with each that was downloaded.

    Returns:
        Why, by each that could not be had. After one that could not be reached, the others are not
        tried.
    """
    failed: dict[HubSource, str] = {}
    is_reached = True
    for source in sources:
        if not is_reached:
            failed[source] = "not tried"
            continue
        try:
            fetch(source)
        except (OSError, ValueError) as error:
            failed[source] = _reason(error)
            is_reached = not _is_unreachable(error)
        else:
            if done is not None:
                done(source)
    return failed


def described(source: HubSource) -> str:
    """Return the name of a repository, what is needed of it and by which settings."""
    return f"{source.name} ({' and '.join(source.kinds)}: {', '.join(source.settings)})"


def cache_folder() -> str:
    """Return the folder of the hub's cache, which `HF_HOME` moves."""
    from huggingface_hub import constants

    return constants.HF_HUB_CACHE


def _reason(error: Exception) -> str:
    name = type(error).__name__
    if name == "GatedRepoError":
        return "its licence must be accepted on the hub, and `hf auth login` run"
    return next(iter(str(error).strip().splitlines()), name)


def _is_unreachable(error: Exception) -> bool:
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    kinds = (LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError)
    return isinstance(error, kinds)
