"""Checkpoints of RDE's official code: renamed for `Rde`.

The layout is that of https://github.com/QinYang79/RDE (`best.pth`): `model` holds all weights.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from tireid.encoders.openai_layout import from_openai_layout
from tireid.runs.official import Names, OfficialWeights, read_parts

CODE = "official RDE code"

_PARAMETER = r"(weight|bias)"
_STATISTICS = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
_MLP: dict[str, str | None] = {
    rf"mlp\.layers\.0\.{_PARAMETER}": r"hidden.\1",
    rf"mlp\.bns\.0\.{_STATISTICS}": r"norm.\1",
    rf"mlp\.layers\.1\.{_PARAMETER}": r"output.\1",
    rf"mlp\.bns\.1\.{_STATISTICS}": None,
}
_NAMES: Names = [
    (
        "visul_emb_layer.",
        "image_token_embedding.",
        _MLP | {rf"fc\.{_PARAMETER}": r"shortcut.\1", rf"linear\.{_PARAMETER}": None},
    ),
    (
        "texual_emb_layer.",
        "text_token_embedding.",
        _MLP | {rf"linear\.{_PARAMETER}": r"shortcut.\1"},
    ),
]


def read_rde(path: Path, *, num_train_pids: int | None = None) -> OfficialWeights:
    """Read a checkpoint for `tireid convert`; nothing in it is executed.

    Args:
        path: `best.pth`.
        num_train_pids: Number of training identities, for the record: RDE classifies none.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds anything but what the official code saves.
    """
    parts = read_parts(path, CODE, ("model",))
    try:
        return OfficialWeights(convert_official(parts["model"]), num_train_pids or 0)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def convert_official(model: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights under the names and in the shapes of `Rde`, in float32, for any sizes.

    Args:
        model: Tensors by official name.

    Raises:
        ValueError: If a name is not of the official layout.
    """
    return from_openai_layout(model, _NAMES, CODE)
