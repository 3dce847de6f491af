"""Checkpoints of LGUR's official code: read without running them, and rename for `Lgur`.

The layout is that of https://github.com/ZhiyinShao-H/LGUR (`best.pth.tar`): `network` holds the
model, `W` the identity heads.
"""

import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tireid.runs.checkpoint import load_saved, weights_fault

BERT = "text_encoder.embedding.bert."
SHOWN_KEYS = 5

# Per part of the model its official prefix, ours, and the names below them: official as a pattern
# of the whole rest, then ours. `{a|b}`: the rows are split in equal parts with these names, in
# this order. None: saved by the official code, never used by it.
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
_NAMES: list[tuple[str, str, dict[str, str | None]]] = [
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


class _Ignored:
    """Takes the place of numpy's scalars and dtypes: accepts what they are made of, does nothing.

    The file's `test_best` is a numpy number that nobody needs here.
    """

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


_ALLOWED: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_Ignored, name)
    for name in ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype")
]


def read_official(path: Path) -> dict[str, dict[str, Tensor]]:
    """Return the weights in an official checkpoint; nothing in the file is executed.

    Returns:
        `network` and `W`, tensors by official name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds anything but what the official code saves.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected a checkpoint of the official LGUR code")
    expected = f"{path}: expected a checkpoint of the official LGUR code, a dict with network and W"
    try:
        content = load_saved(path, _ALLOWED)
    except pickle.UnpicklingError as error:  # Its text advises to execute the file: not shown.
        raise ValueError(f"{expected}; got what is not, or not only, tensors") from error
    except Exception as error:  # Broken files raise nearly anything.
        raise ValueError(f"{expected}; got an unreadable file ({type(error).__name__})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{expected}; got a {type(content).__name__}")
    parts: dict[str, dict[str, Tensor]] = {}
    for part in ("network", "W"):
        weights = content.get(part)
        if not isinstance(weights, dict):
            raise ValueError(f"{expected}; got {_some(sorted(map(str, content)))}")
        fault = weights_fault(weights) if weights else "nothing"
        if fault:
            raise ValueError(f"{expected}, of tensors by name; got in {part}: {fault}")
        parts[part] = dict(weights)
    return parts


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
    state: dict[str, Tensor] = {}
    unknown: list[str] = []
    for key, value in network.items():
        block = _BLOCK.match(key)
        if _PART_MAP.fullmatch(key) or (block and int(block[1]) >= trunk_depth):
            continue
        known, name = _rename(key)
        if not known:
            unknown.append(key)
        elif name is not None:
            state |= _split(key, name, value)
    unknown += [key for key in W if not _HEAD.fullmatch(key)]
    if unknown:
        raise ValueError(
            f"expected the names of the official LGUR code, got {len(unknown)} others: "
            f"{_some(sorted(unknown))}"
        )
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


def _rename(key: str) -> tuple[bool, str | None]:
    """Return whether an official name is known, and ours, None for what is never used."""
    for official, ours, names in _NAMES:
        if key.startswith(official):
            for pattern, name in names.items():
                if found := re.fullmatch(pattern, key.removeprefix(official)):
                    return True, None if name is None else ours + found.expand(name)
    return False, None


def _split(key: str, name: str, value: Tensor) -> dict[str, Tensor]:
    """Return `value` by its name, or its parts by theirs where the name has alternatives."""
    alternatives = re.search(r"\{(.+)\}", name)
    if alternatives is None:
        return {name: value}
    parts = alternatives[1].split("|")
    if value.ndim == 0 or len(value) % len(parts):
        raise ValueError(
            f"{key}: expected rows for {len(parts)} equal parts, got shape {tuple(value.shape)}"
        )
    return {
        name.replace(alternatives[0], part): chunk
        for part, chunk in zip(parts, value.chunk(len(parts)), strict=True)
    }


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


def _some(keys: list[str]) -> str:
    more = f", and {len(keys) - SHOWN_KEYS} more" if len(keys) > SHOWN_KEYS else ""
    return (", ".join(keys[:SHOWN_KEYS]) or "nothing") + more
