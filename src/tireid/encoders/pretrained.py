"""Read pretrained weights from a hub name or a folder, and load them without silent gaps."""

import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from torch import Tensor, nn

from tireid.runs.checkpoint import weights_fault
from tireid.runs.hub_folder import check_hub_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WHAT_TO_DO = "pass a local folder saved with save_pretrained, or `pretrained=false`"
SHOWN_KEYS = 5
UNREADABLE = (OSError, ValueError, RuntimeError, SafetensorError, pickle.UnpicklingError)


def read_pretrained(class_name: str, source: str) -> "PreTrainedModel":
    """Return the model of a class's `from_pretrained(source)`, with all its weights.

    Args:
        class_name: Name of a model or auto-model class of `transformers`.
        source: A hub name or a folder written by `save_pretrained`.

    Raises:
        ValueError: If `source` cannot be read, or lacks weights other than a pooler's.
    """
    import transformers  # late: it takes seconds

    model_class = getattr(transformers, class_name)
    try:
        if (folder := Path(source)).is_dir():
            check_hub_folder(folder)
        with quiet_library():
            loaded: Any = model_class.from_pretrained(source, output_loading_info=True)
    except UNREADABLE as error:
        reason = f"{type(error).__name__}: {error}"
        raise unreadable(source, class_name, reason) from error
    model, report = loaded
    if fault := weights_fault(model.state_dict()):
        raise ValueError(f"pretrained: '{source}' holds {fault}; {WHAT_TO_DO}")
    # Poolers are optional in checkpoints, and no encoder here uses them.
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise ValueError(
            f"pretrained: '{source}' lacks {len(missing)} weights of {type(model).__name__} "
            f"({_some(missing)}); {WHAT_TO_DO}"
        )
    return model


@contextmanager
def quiet_library() -> Iterator[None]:
    """Hold back the library's remarks: weights that a part of a model does not use, odd ids.

    Its bars of the loading, too, but not those of a download.
    """
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging  # late: it takes seconds

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    downloads_hidden = are_progress_bars_disabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if not downloads_hidden:
        enable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars and not downloads_hidden:
            logging.enable_progress_bar()


def unreadable(source: str, expected: str, reason: str) -> ValueError:
    """Return the error for a source that does not hold what was expected."""
    return ValueError(f"pretrained: cannot read '{source}' as {expected}; {WHAT_TO_DO} ({reason})")


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copy `state` into `module`; names and shapes must be the same.

    Raises:
        ValueError: If a name is missing or left over, or a shape differs.
    """
    if faults := misfit(module.state_dict(), state):
        raise ValueError(
            f"pretrained: the weights in '{source}' do not fit this {type(module).__name__}: "
            f"{faults}; make the sizes in the config those of the checkpoint, or {WHAT_TO_DO}"
        )
    module.load_state_dict(dict(state))


def misfit(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Describe how names, shapes and kinds in `state` differ from those expected, or nothing."""
    shapes = [
        f"{key} is {tuple(state[key].shape)}, expected {tuple(expected[key].shape)}"
        for key in expected.keys() & state.keys()
        if state[key].shape != expected[key].shape
    ]
    kinds = [
        f"{key} is {state[key].dtype}, expected {expected[key].dtype}"
        for key in expected.keys() & state.keys()
        if state[key].is_floating_point() != expected[key].is_floating_point()
    ]
    faults = {
        "missing": sorted(expected.keys() - state.keys()),
        "left over": sorted(state.keys() - expected.keys()),
        "of another shape": sorted(shapes),
        "of another kind": sorted(kinds),
    }
    return ", ".join(f"{len(keys)} {name} ({_some(keys)})" for name, keys in faults.items() if keys)


def _some(keys: list[str]) -> str:
    more = f", and {len(keys) - SHOWN_KEYS} more" if len(keys) > SHOWN_KEYS else ""
    return ", ".join(keys[:SHOWN_KEYS]) + more
