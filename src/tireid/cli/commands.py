"""The commands of `tireid`, and the nearest of some words to a mistyped one."""

import difflib
from collections.abc import Iterable

COMMANDS = {
    "train": "Train a method, test the chosen checkpoint, write a run folder.",
    "evaluate": "Evaluate a run or a checkpoint on a split.",
    "compare": "Print one table of many runs and write a report.",
    "tune": "Search hyperparameters.",
    "doctor": "Examine a data set: what is missing, damaged or not as published.",
    "fetch": "Download the weights and tokenizers that a config needs.",
    "dataset": "Convert a data set to another layout.",
    "explain": "Draw what a model looks at.",
    "index": "Index images of yours for search; again: bring the index up to date.",
    "search": "Find people in an index by sentences and images.",
    "serve": "Open a page that searches an index.",
    "export": "Write a model for tireid.load.",
    "new": "Write the files of a method, a loss, an encoder or a reader to start from.",
    "convert": "Make a run folder from an official checkpoint.",
    "dashboard": "Create or update a report on Weights & Biases.",
}
# Of the commands without a config; those of the others begin the files of their configs.
EXAMPLES = {
    "compare": (
        "tireid compare runs/sweeps/lgur_ablation --csv results/lgur_ablation.csv",
        "tireid compare runs/synthetic --out report",
    ),
    "dataset": ("tireid dataset convert custom photos --to cuhk_pedes data/CUHK-PEDES",),
    "doctor": ("tireid doctor cuhk_pedes /data/CUHK-PEDES",),
    "fetch": (
        "tireid fetch experiment=lgur",
        "HF_HOME=/shared/hf tireid fetch experiment=lcr2s --list",
    ),
    "index": ("tireid index photos/ --model runs/synthetic/lgur/latest --out gallery",),
    "search": ('tireid search "a woman in a red coat" --in gallery',),
    "serve": ("tireid serve gallery",),
    "new": ("tireid new method my_method", "tireid new method my_method --package mypkg"),
    "dashboard": ("tireid dashboard --group like_for_like",),
}

WITHOUT_HYDRA = tuple(EXAMPLES)

_SHORTEST = 3  # letters of a word that stands for a longer one

# Of annotation files, as `dataset=` names them.
LAYOUTS = ("cuhk_pedes", "icfg_pedes", "rstpreid", "custom")

# Modules of the commands that are one function of a config, named as the command.
FUNCTIONS = {
    "evaluate": "tireid.training.evaluate",
    "tune": "tireid.sweeps.tune",
    "explain": "tireid.explanations.explain",
    "export": "tireid.inference.export",
    "convert": "tireid.inference.convert",
}


def nearest(word: str, words: Iterable[str]) -> str | None:
    """Return the nearest of some words, or the shortest that begins so; None if none is near."""
    known = list(words)
    longer = [other for other in known if len(word) >= _SHORTEST and other.startswith(word)]
    return min(
        longer, key=len, default=next(iter(difflib.get_close_matches(word, known, n=1)), None)
    )


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return `; did you mean ...?` with the nearest of some words; empty if none is near."""
    match = nearest(word, words)
    return f"; did you mean {match}?" if match else ""
