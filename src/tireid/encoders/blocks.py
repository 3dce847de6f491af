"""The blocks of transformer encoders: rates that fall with depth, and blocks that are frozen."""

import re
from collections.abc import Iterable, Mapping

from torch import nn

ENCODERS = ("image_encoder", "text_encoder")
_BLOCK = re.compile(r"(?:^|\.)layers?\.(\d+)\.")
_INPUT = ("embed", "pre_layrnorm")  # what stands before the first block


def parts_by_depth(
    parameters: Mapping[str, nn.Parameter], decay: float | int
) -> dict[str, tuple[float, list[nn.Parameter]]]:
    """Divide the parameters of an encoder by their depth.

    The rule is that of BEiT (Bao et al., ICLR 2022): the rate of what follows the last block is
    whole, and each block further down has `decay` times that of the next; embeddings are below the
    first.

    Args:
        parameters: Those of one encoder that are trained, by name.
        decay: In (0, 1].

    Returns:
        By part (`embeddings`, `block0`, ..., `end`), the factor of the rate and the parameters. One
        nameless part, whole, where there are no blocks or nothing falls.
    """
    depths, _ = depths_of(parameters)
    if decay == 1 or not depths:
        return {"": (1.0, list(parameters.values()))}
    end = max(depths.values())
    parts: dict[str, tuple[float, list[nn.Parameter]]] = {}
    for depth in sorted(set(depths.values())):
        name = {0: "embeddings", end: "end"}.get(depth, f"block{depth - 1}")
        members = [parameters[key] for key in parameters if depths[key] == depth]
        parts[name] = (decay ** (end - depth), members)
    return parts


def freeze_blocks(
    model: nn.Module, groups: Mapping[str, Iterable[nn.Parameter]], count: int
) -> None:
    """Stop training the embeddings and first blocks of the encoders that are transformers.

    Args:
        model: A method.
        groups: Its parameters by the name of their rate.
        count: Number of blocks of either encoder; 0: nothing is frozen.

    Raises:
        ValueError: If no encoder has blocks, or one has fewer.
    """
    if not count:
        return
    has_blocks = False
    for name in ENCODERS:
        parameters = named(model, groups.get(name, ()))
        depths, blocks = depths_of(parameters)
        has_blocks |= bool(depths)
        if depths and count > blocks:
            raise ValueError(
                f"frozen_blocks: expected at most {blocks}, the blocks of the {name}, got {count}"
            )
        for key, depth in depths.items():
            if depth <= count:
                parameters[key].requires_grad_(False)
    if not has_blocks:
        raise ValueError(no_blocks("frozen_blocks", count))


def no_blocks(setting: str, value: float | int | str) -> str:
    """Return the message for a setting of blocks where no encoder that is trained has some."""
    return (
        f"{setting}: expected an encoder that is a transformer, got none with {setting}={value}; "
        f"choose image_encoder=vit_tiny, for example, or leave {setting} out"
    )


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """Return the blocks of the transformers in a model."""
    return [
        module
        for name, module in model.named_modules()
        if ".stages." not in name
        and (match := _BLOCK.search(f"{name}."))
        and match.end() > len(name)
    ]


def named(model: nn.Module, parameters: Iterable[nn.Parameter]) -> dict[str, nn.Parameter]:
    """Return those of some parameters that are trained, by their names in a model."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: p for p in parameters if p.requires_grad}


def depths_of(names: Iterable[str]) -> tuple[dict[str, int], int]:
    """Return the depths of an encoder's parameters by name, and the number of its blocks.

    Args:
        names: Of its parameters.

    Returns:
        Depths: 0 before the blocks, 1 in the first, and so on; one more than in the last behind it.
        Empty without blocks.
    """
    found = {name: None if ".stages." in name else _BLOCK.search(name) for name in names}
    blocks = {name: int(match[1]) + 1 for name, match in found.items() if match}
    if not blocks:
        return {}, 0
    count = max(blocks.values())
    below = {name: 0 for name in found if any(part in name for part in _INPUT)}
    return {name: blocks.get(name, below.get(name, count + 1)) for name in found}, count
