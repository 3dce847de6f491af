"""Text-to-image person re-identification: LGUR and LCR2S on shared encoders.

`train`, `evaluate`, `explain`, `export` and `compare` do what the commands of these names do,
`load_dataset` reads a data set, `load` a trained model, and `Index` searches images of one's own.
"""

import importlib
from typing import TYPE_CHECKING, Any

from tireid.runs.launcher_variables import check_variables

if TYPE_CHECKING:
    from tireid.api import Run, compare, evaluate, explain, export, load_dataset, train
    from tireid.inference.retriever import Retriever, load
    from tireid.search.index import Index

__version__ = "0.1.0"
__all__ = [
    "Index",
    "Retriever",
    "Run",
    "__version__",
    "compare",
    "evaluate",
    "explain",
    "export",
    "load",
    "load_dataset",
    "train",
]
_MODULES = {
    "Index": "tireid.search.index",
    "Retriever": "tireid.inference.retriever",
    "load": "tireid.inference.retriever",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for on first use: torch and Lightning take seconds."""
    if name in __all__:
        check_variables()
        return getattr(importlib.import_module(_MODULES.get(name, "tireid.api")), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return also what has not been asked for yet."""
    return sorted({*globals(), *__all__})
