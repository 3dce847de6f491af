"""Text-to-image person re-identification: LGUR and LCR2S on shared encoders."""

import importlib
from typing import TYPE_CHECKING, Any

from tireid.runs.launcher_variables import check_variables

if TYPE_CHECKING:
    from tireid.inference.retriever import Retriever, load
    from tireid.search.index import Index

__version__ = "0.1.0"
__all__ = ["Index", "Retriever", "__version__", "load"]
_MODULES = {
    "Index": "tireid.search.index",
    "Retriever": "tireid.inference.retriever",
    "load": "tireid.inference.retriever",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for on first use: torch and Lightning take seconds."""
    if name in _MODULES:
        check_variables()
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
