"""Low-rank adaptation (LoRA): the blocks of transformers keep their weights and get thin products.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022 (arXiv 2106.09685).
"""

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tireid.encoders.blocks import ENCODERS, depths_of, named, no_blocks
from tireid.runs.weights import with_product


class LowRankLinear(nn.Linear):
    """A frozen linear map, and the trained product of two thin matrices that is added to it.

    The product begins as zero. In training it is applied to the input, else it is added to the
    weight first: what is validated is what an export computes.

    Args:
        linear: The map, whose parameters are taken over under their names.
        rank: Width between the two matrices.

    Source:
        Section 4.1; initialised as in the official code, microsoft/LoRA. Its factor alpha / rank is
        1 here: with Adam it does what the learning rate does.
    """

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        with torch.device("meta"):
            super().__init__(linear.in_features, linear.out_features, linear.bias is not None)
        self.weight, self.bias = linear.weight, linear.bias
        self.lora_down = nn.Parameter(linear.weight.new_empty(rank, linear.in_features))
        self.lora_up = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_down, a=5**0.5)
        self.train(linear.training)

    def forward(self, input: Float[Tensor, "*batch in_dim"]) -> Float[Tensor, "*batch out_dim"]:
        """Apply both."""
        if not self.training:
            weight = with_product(self.weight, self.lora_down, self.lora_up)
            return F.linear(input, weight, self.bias)
        added = F.linear(F.linear(input, self.lora_down), self.lora_up)
        return super().forward(input) + added


def adapt(model: nn.Module, groups: Mapping[str, Iterable[nn.Parameter]], rank: int) -> None:
    """Train thin products in place of the embeddings and blocks of the encoders.

    Blocks that are frozen already get none. What follows the last block is trained as before.

    Args:
        model: A method.
        groups: Its parameters by the name of their rate.
        rank: Width of the products; 0: nothing is changed.

    Raises:
        ValueError: If no encoder that is trained has blocks.
    """
    if not rank:
        return
    kept: dict[str, nn.Parameter] = {}
    for group in ENCODERS:
        parameters = named(model, groups.get(group, ()))
        depths, blocks = depths_of(parameters)
        kept |= {name: parameters[name] for name, depth in depths.items() if depth <= blocks}
    if not kept:
        raise ValueError(no_blocks("lora_rank", rank))
    for name in kept:
        place, _, of_module = name.rpartition(".")
        module = model.get_submodule(place)
        if of_module == "weight" and type(module) is nn.Linear:
            parent, _, own_name = place.rpartition(".")
            setattr(model.get_submodule(parent), own_name, LowRankLinear(module, rank))
    for parameter in kept.values():
        parameter.requires_grad_(False)
