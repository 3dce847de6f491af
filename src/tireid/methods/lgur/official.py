"""Checkpoints of LGUR's official code: read without running them, and rename for `Lgur`.

The layout is that of https://github.com/ZhiyinShao-H/LGUR (`best.pth.tar`): `network` holds the
model, `W` the identity heads.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from tireid.runs.official import Names, OfficialWeights, read_parts, renamed

BERT = "text_encoder.embedding.bert."
CODE = "official LGUR code"

_PARAMETER = r"(weight|bias)"
_BERT_LAYER = (
    r"attention\.self\.(?:query|key|value)|attention\.output\.(?:dense|LayerNorm)|"
    r"intermediate\.dense|output\.(?:dense|LayerNorm)"
)
_DECODER: dict[str, str | None] = {
    rf"(\d+)\.0\.fn\.norm\.{_PARAMETER}": r"\1.attention.norm.\2",
    r"(\d+)\.0\.fn\.fn\.to_q\.weight": r"\1.attention.to_query.weight",
    r"(\d+)\.0\.fn\.fn\.to_kv\.weight": r"\1.attention.to_{key|value}.weight",
    rf"(\d+)\.0\.fn\.fn\.to_out\.0\.{_PARAMETER}": r"\1.attention.to_out.\2",
    rf"(\d+)\.1\.fn\.norm\.{_PARAMETER}": r"\1.feed_forward.0.\2",
    rf"(\d+)\.1\.fn\.fn\.net\.0\.{_PARAMETER}": r"\1.feed_forward.1.\2",
    rf"(\d+)\.1\.fn\.fn\.net\.3\.{_PARAMETER}": r"\1.feed_forward.3.\2",
}
_NAMES: Names = [
    (
        "ImageExtract.model.",
        "image_encoder.vit.",
        {
            r"cls_token": "embeddings.cls_token",
            r"pos_embed": "embeddings.position_embeddings",
            rf"patch_embed\.proj\.{_PARAMETER}": r"embeddings.patch_embeddings.projection.\1",
            rf"blocks\.(\d+)\.norm1\.{_PARAMETER}": r"layers.\1.layernorm_before.\2",
            rf"blocks\.(\d+)\.norm2\.{_PARAMETER}": r"layers.\1.layernorm_after.\2",
            rf"blocks\.(\d+)\.attn\.qkv\.{_PARAMETER}": r"layers.\1.attention.{q|k|v}_proj.\2",
            rf"blocks\.(\d+)\.attn\.proj\.{_PARAMETER}": r"layers.\1.attention.o_proj.\2",
            rf"blocks\.(\d+)\.mlp\.(fc1|fc2)\.{_PARAMETER}": r"layers.\1.mlp.\2.\3",
            rf"(?:norm|fc)\.{_PARAMETER}": None,
        },
    ),
    (
        "TextExtract.text_embed.",
        BERT,
        {
            r"embeddings\.(word|position|token_type)_embeddings\.weight": r"\g<0>",
            rf"embeddings\.LayerNorm\.{_PARAMETER}": r"\g<0>",
            rf"encoder\.layer\.\d+\.(?:{_BERT_LAYER})\.{_PARAMETER}": r"\g<0>",
            rf"pooler\.dense\.{_PARAMETER}": None,
            r"embeddings\.position_ids": None,
        },
    ),
    (
        "TextExtract.lstm.",
        "text_encoder.lstm.",
        {r"weight_[ih]h_l0(?:_reverse)?": r"\g<0>"},
    ),
    ("TXTDecoder_2.transformer.layers.", "head.dictionary_decoder.layers.", _DECODER),
    ("TXTDecoder.transformer.layers.", "head.prototype_decoder.layers.", _DECODER),
    (
        "",
        "head.",
        {
            r"dict_feature": "dictionary",
            r"query_embed_image": "prototypes",
            rf"mask\.0\.{_PARAMETER}": r"foreground.\1",
            r"pos_embed_image": None,
        },
    ),
]
_BLOCK = re.compile(r"ImageExtract\.model\.blocks\.(\d+)\.")
_PART_MAP = re.compile(r"conv_1X1_2\.(\d+)\.block\.0\.(weight)")
_HEAD = re.compile(r"(\d+)\.W\.block\.(weight|bias)")


def read_lgur(
    path: Path,
    *,
    num_train_pids: int | None = None,
    trunk_depth: int | None = None,
    bert: str | bool = False,
) -> OfficialWeights:
    """Read a checkpoint for `tireid convert`.

    Args:
        path: `best.pth.tar`.
        num_train_pids: As in `convert_official`.
        trunk_depth: As in `convert_official`.
        bert: What BERT's weights are read from if the file lacks them; False: nothing.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint of the official code, or lacks BERT and none is named.
    """
    parts = read_official(path)
    try:
        state = convert_official(**parts, num_train_pids=num_train_pids, trunk_depth=trunk_depth)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    has_bert = any(name.startswith(BERT) for name in state)
    if not has_bert and not bert:
        raise ValueError(f"{path}: holds no weights of BERT; set bert=bert-base-uncased")
    return OfficialWeights(state, state["classifier_weight"].shape[1], "" if has_bert else BERT)


def read_official(path: Path) -> dict[str, dict[str, Tensor]]:
    """Return the weights in an official checkpoint; nothing in the file is executed.

    Returns:
        `network` and `W`, tensors by official name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds anything but what the official code saves.
    """
    return read_parts(path, CODE, ("network", "W"))


def convert_official(
    network: Mapping[str, Tensor],
    W: Mapping[str, Tensor],
    *,
    num_train_pids: int | None = None,
    trunk_depth: int | None = None,
) -> dict[str, Tensor]:
    """Return the weights under the names and in the shapes of `Lgur`, for any sizes.

    Args:
        network: The model, by official name. It may lack BERT; then so does the result, whose
            names under `BERT` are to be filled from elsewhere.
        W: The identity heads, by official name.
        num_train_pids: Number of training identities that the heads must have; None: any.
        trunk_depth: Image blocks to keep; None: all but the last, which the official code builds
            and never runs.

    Raises:
        ValueError: If a name is not of the official layout, a part map or head is missing, or
            their shapes differ.
    """
    if trunk_depth is None:
        blocks = [int(found[1]) for found in map(_BLOCK.match, network) if found]
        trunk_depth = max(blocks, default=0)
    kept = {
        key: value
        for key, value in network.items()
        if not _PART_MAP.fullmatch(key)
        and not ((block := _BLOCK.match(key)) and int(block[1]) >= trunk_depth)
    }
    stray = {f"W: {key}": value for key, value in W.items() if not _HEAD.fullmatch(key)}
    state = renamed(kept | stray, _NAMES, CODE)
    maps = _stack(network, _PART_MAP, ("weight", 4), "conv_1X1_2.{}.block.0.weight")
    weights = _stack(W, _HEAD, ("weight", 2), "W: {}.W.block.weight", num_train_pids)
    biases = _stack(W, _HEAD, ("bias", 1), "W: {}.W.block.bias", weights.shape[1])
    if not len(maps) == len(weights) == len(biases):
        raise ValueError(
            "expected as many identity heads as part maps, got "
            f"{len(maps)} maps (conv_1X1_2), {len(weights)} weights and {len(biases)} biases (W)"
        )
    state["head.part_projection"] = maps.flatten(2)
    state["classifier_weight"] = weights
    state["classifier_bias"] = biases.unsqueeze(1)
    return state


def _stack(
    weights: Mapping[str, Tensor],
    pattern: re.Pattern[str],
    parameter: tuple[str, int],
    shown: str,
    rows: int | None = None,
) -> Tensor:
    """Stack the tensors whose names match, by their numbers 0, 1, ...; all of one shape.

    Args:
        weights: Tensors by name.
        pattern: Of the name, with the number and the parameter.
        parameter: The parameter and the number of its dimensions.
        shown: The name in messages.
        rows: Rows that each must have; None: as many as the first.
    """
    found = {
        int(match[1]): value
        for key, value in weights.items()
        if (match := pattern.fullmatch(key)) and match[2] == parameter[0]
    }
    if sorted(found) != list(range(len(found))) or not found:
        raise ValueError(
            f"{shown.format('k')}: expected k = 0, 1, ... without gaps, got {sorted(found)}"
        )
    if found[0].ndim != parameter[1]:
        raise ValueError(
            f"{shown.format(0)}: expected {parameter[1]} dimensions, got {found[0].ndim}"
        )
    shape = (found[0].shape[0] if rows is None else rows, *found[0].shape[1:])
    for number, value in sorted(found.items()):
        if tuple(value.shape) != shape:
            raise ValueError(
                f"{shown.format(number)}: expected shape {shape}, got {tuple(value.shape)}"
            )
    return torch.stack([found[number] for number in range(len(found))])
