"""Residual networks (He et al., CVPR 2016) of any depth, with a stem for small images."""

from collections.abc import Sequence
from typing import Literal, cast

import torch
from einops import rearrange
from torch import nn

from tireid.encoders.batch_norm import replace_batch_norms
from tireid.encoders.pretrained import load_exactly, read_pretrained
from tireid.encoders.residual import LayerType, ResidualNetwork, convolution, init_convolution
from tireid.structures import Images, Tokens


class ResNetEncoder(nn.Module):
    """The last feature map of a ResNet, row by row as tokens, and its global pooling.

    Images may have any size; the map has their size divided by the strides, rounded up.

    Args:
        pretrained: Hub name or `save_pretrained` folder of a ResNet of these sizes, or False.
        layer_type: Residual layer: two 3x3 convolutions, or 1x1, 3x3, 1x1.
        embedding_size: Channels after the stem.
        hidden_sizes: Channels of each stage; the last is `out_dim`.
        depths: Residual layers in each stage.
        last_stride: 1 keeps the last stage at the resolution of the one before.
        pool: How `pooled` is made from the map.
        stem: "standard" divides by 4 (7x7 stride 2, max pooling), "small" by 2 (3x3 stride 2).
        channels_last: Memory format; convolutions on CPU are 1.2 to 2.5 times faster with it.
    """

    def __init__(
        self,
        pretrained: str | Literal[False] = False,
        layer_type: LayerType = "bottleneck",
        embedding_size: int = 64,
        hidden_sizes: Sequence[int] = (256, 512, 1024, 2048),
        depths: Sequence[int] = (3, 4, 6, 3),
        last_stride: Literal[1, 2] = 2,
        pool: Literal["max", "avg"] = "max",
        stem: Literal["standard", "small"] = "standard",
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        if len(hidden_sizes) != len(depths):
            raise ValueError(
                f"expected as many hidden_sizes as depths, got {list(hidden_sizes)} "
                f"and {list(depths)}"
            )
        self.resnet = ResidualNetwork(layer_type, embedding_size, hidden_sizes, depths)
        if stem == "small":
            self.resnet.add_module("embedder", _small_stem(embedding_size))
        if last_stride == 1:
            _remove_stride(self.resnet.get_submodule(f"encoder.stages.{len(depths) - 1}"))
        if pretrained is not False:
            state = read_pretrained("ResNetModel", pretrained).state_dict()
            load_exactly(self.resnet, state, pretrained)
        replace_batch_norms(self.resnet)
        self.out_dim = hidden_sizes[-1]
        self.pool = pool
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        nn.utils.convert_conv2d_weight_memory_format(self, self.memory_format)

    def forward(self, images: Images) -> Tokens:
        """Encode normalised RGB images."""
        images = images.contiguous(memory_format=self.memory_format)
        feature_map = self.resnet(images)
        local = rearrange(feature_map, "batch dim h w -> batch (h w) dim")
        pooled = local.amax(dim=1) if self.pool == "max" else local.mean(dim=1)
        return Tokens(pooled, local, local.new_ones(local.shape[:2], dtype=torch.bool))


def _small_stem(channels: int) -> nn.Module:
    stem = convolution(3, channels, 3, 2)
    init_convolution(cast(nn.Conv2d, stem.get_submodule("convolution")))
    return stem


def _remove_stride(stage: nn.Module) -> None:
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
