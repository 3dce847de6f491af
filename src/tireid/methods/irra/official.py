"""Checkpoints of IRRA's official code: renamed for `Irra`.

The layout is that of https://github.com/anosorae/IRRA (`best.pth`): `model` holds all weights.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from tireid.encoders.openai_layout import from_openai_layout
from tireid.runs.official import Names, OfficialWeights, read_parts

CODE = "official IRRA code"

_PARAMETER = r"(weight|bias)"
_NAMES: Names = [
    (
        "",
        "relation.",
        {
            rf"ln_pre_t\.{_PARAMETER}": r"text_norm.\1",
            rf"ln_pre_i\.{_PARAMETER}": r"image_norm.\1",
            rf"ln_post\.{_PARAMETER}": r"final_norm.\1",
            rf"cross_attn\.(in_proj_weight|in_proj_bias|out_proj\.{_PARAMETER})": (
                r"cross_attention.\1"
            ),
        },
    ),
    (
        "cross_modal_transformer.resblocks.",
        "relation.blocks.",
        {
            rf"(\d+)\.ln_1\.{_PARAMETER}": r"\1.attention_norm.\2",
            rf"(\d+)\.attn\.(in_proj_weight|in_proj_bias|out_proj\.{_PARAMETER})": (
                r"\1.attention.\2"
            ),
            rf"(\d+)\.ln_2\.{_PARAMETER}": r"\1.mlp_norm.\2",
            rf"(\d+)\.mlp\.c_fc\.{_PARAMETER}": r"\1.expand.\2",
            rf"(\d+)\.mlp\.c_proj\.{_PARAMETER}": r"\1.contract.\2",
        },
    ),
    (
        "mlm_head.",
        "relation.head.",
        {
            rf"dense\.{_PARAMETER}": r"dense.\1",
            rf"ln\.{_PARAMETER}": r"norm.\1",
            rf"fc\.{_PARAMETER}": r"out.\1",
        },
    ),
    ("classifier.", "classifier.", {_PARAMETER: r"\1"}),
]


def read_irra(path: Path, *, num_train_pids: int | None = None) -> OfficialWeights:
    """Read a checkpoint for `tireid convert`; nothing in it is executed.

    Args:
        path: `best.pth`.
        num_train_pids: Number of training identities that its classifier must have; None: any.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds anything but what the official code saves, or has other classes.
    """
    parts = read_parts(path, CODE, ("model",))
    try:
        return convert_official(parts["model"], num_train_pids=num_train_pids)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def convert_official(
    model: Mapping[str, Tensor], *, num_train_pids: int | None = None
) -> OfficialWeights:
    """Return the weights under the names and in the shapes of `Irra`, in float32, for any sizes.

    Args:
        model: Tensors by official name.
        num_train_pids: As in `read_irra`.

    Raises:
        ValueError: If a name is not of the official layout, or the classifier is missing or has
            other classes.
    """
    state = from_openai_layout(model, _NAMES, CODE)
    classifier = state.get("classifier.weight")
    if classifier is None or classifier.ndim != 2:
        found = "none" if classifier is None else f"shape {tuple(classifier.shape)}"
        raise ValueError(f"classifier.weight: expected a matrix, got {found}")
    classes = len(classifier)
    if num_train_pids not in (None, classes):
        raise ValueError(
            f"classifier.weight: expected {num_train_pids} training identities "
            f"(num_train_pids), got {classes}"
        )
    return OfficialWeights(state, classes)
