"""CLIP in the layout of OpenAI's code, in which IRRA and its successors save both towers."""

from collections.abc import Mapping

from torch import Tensor

from tireid.runs.official import Names, renamed

_PARAMETER = r"(weight|bias)"
_BLOCKS: dict[str, str | None] = {
    rf"transformer\.resblocks\.(\d+)\.attn\.in_proj_{_PARAMETER}": (
        r"encoder.layers.\1.self_attn.{q|k|v}_proj.\2"
    ),
    rf"transformer\.resblocks\.(\d+)\.attn\.out_proj\.{_PARAMETER}": (
        r"encoder.layers.\1.self_attn.out_proj.\2"
    ),
    rf"transformer\.resblocks\.(\d+)\.mlp\.c_fc\.{_PARAMETER}": r"encoder.layers.\1.mlp.fc1.\2",
    rf"transformer\.resblocks\.(\d+)\.mlp\.c_proj\.{_PARAMETER}": r"encoder.layers.\1.mlp.fc2.\2",
    rf"transformer\.resblocks\.(\d+)\.ln_([12])\.{_PARAMETER}": (
        r"encoder.layers.\1.layer_norm\2.\3"
    ),
}
_PROJECTIONS = (
    "image_encoder.clip.visual_projection.weight",
    "text_encoder.clip.text_projection.weight",
)
_NAMES: Names = [
    (
        "base_model.visual.",
        "image_encoder.clip.vision_model.",
        {
            r"class_embedding": "embeddings.class_embedding",
            r"conv1\.weight": "embeddings.patch_embedding.weight",
            r"positional_embedding": "embeddings.position_embedding.weight",
            rf"ln_pre\.{_PARAMETER}": r"pre_layrnorm.\1",
            rf"ln_post\.{_PARAMETER}": r"post_layernorm.\1",
            **_BLOCKS,
        },
    ),
    ("base_model.visual.", "image_encoder.clip.", {r"proj": "visual_projection.weight"}),
    (
        "base_model.",
        "text_encoder.clip.text_model.",
        {
            r"token_embedding\.weight": "embeddings.token_embedding.weight",
            r"positional_embedding": "embeddings.position_embedding.weight",
            rf"ln_final\.{_PARAMETER}": r"final_layer_norm.\1",
            **_BLOCKS,
        },
    ),
    ("base_model.", "text_encoder.clip.", {r"text_projection": "text_projection.weight"}),
]


def from_openai_layout(weights: Mapping[str, Tensor], names: Names, code: str) -> dict[str, Tensor]:
    """Return the weights of a method over both towers under our names, in float32.

    The projections, which that code multiplies from the right, are transposed.

    Args:
        weights: Tensors by official name, those of the towers under `base_model.`.
        names: The official names of the rest, and ours, as in `tireid.runs.official`.
        code: What saved them, for messages.

    Raises:
        ValueError: If a name is not of that layout, or a projection is no matrix.
    """
    state = renamed(weights, [*_NAMES, *names], code)
    for name, value in state.items():
        if value.is_floating_point():  # counters are not
            state[name] = value.float()
    for name in _PROJECTIONS:
        if name in state and state[name].ndim != 2:
            raise ValueError(f"{name}: expected a matrix, got shape {tuple(state[name].shape)}")
        if name in state:
            state[name] = state[name].mT.contiguous()
    return state
