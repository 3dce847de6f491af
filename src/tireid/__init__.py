"""Text-to-image person re-identification: LGUR and LCR2S on shared encoders."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tireid.inference.retriever import Retriever, load

__version__ = "0.1.0"
__all__ = ["Retriever", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import `load` and `Retriever` on first use: torch and Lightning take seconds."""
    if name in __all__:
        from tireid.inference import retriever

        return getattr(retriever, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
