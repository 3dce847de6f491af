"""The layers of a residual network; weights have the names that `transformers` gives them."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

LayerType = Literal["bottleneck", "basic"]
_NARROWER = 4  # a bottleneck than what it leads to


class _Layer(nn.Module):
    """Convolutions whose result is added to their input, which is mapped where sizes differ."""

    def __init__(self, kind: LayerType, channels: int, out: int, stride: int) -> None:
        super().__init__()
        same = channels == out and stride == 1
        self.shortcut = nn.Identity() if same else convolution(channels, out, 1, stride, relu=False)
        if kind == "basic":
            layers = [convolution(channels, out, 3, stride), convolution(out, out, 3, relu=False)]
        else:
            narrow = out // _NARROWER
            layers = [
                convolution(channels, narrow, 1),
                convolution(narrow, narrow, 3, stride),
                convolution(narrow, out, 1, relu=False),
            ]
        self.layer = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        added = self.layer(features)
        added += self.shortcut(features)
        return F.relu(added)


class ResidualNetwork(nn.Sequential):
    """From images to the last feature map of a ResNet, with random weights.

    Args:
        kind: Residual layer: two 3x3 convolutions, or 1x1, 3x3, 1x1.
        stem: Channels after the stem, which divides by 4 (7x7 stride 2, max pooling).
        widths: Channels of each stage.
        depths: Residual layers in each stage.

    Raises:
        ValueError: If there is no such layer.
    """

    def __init__(
        self, kind: LayerType, stem: int, widths: Sequence[int], depths: Sequence[int]
    ) -> None:
        if kind not in ("bottleneck", "basic"):
            raise ValueError(f"layer_type: expected bottleneck or basic, got {kind!r}")
        first = OrderedDict[str, nn.Module](
            embedder=convolution(3, stem, 7, 2), pooler=nn.MaxPool2d(3, 2, 1)
        )
        stages = list[nn.Module]()
        channels = stem
        for number, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            layers = list[nn.Module]()
            for index in range(depth):
                stride = 2 if number and not index else 1
                layers.append(_Layer(kind, channels, width, stride))
                channels = width
            stages.append(nn.Sequential(OrderedDict(layers=nn.Sequential(*layers))))
        encoder = nn.Sequential(OrderedDict(stages=nn.Sequential(*stages)))
        super().__init__(OrderedDict(embedder=nn.Sequential(first), encoder=encoder))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight)  # transformers draws twice: seeds keep their weights
                init_convolution(module)


def convolution(
    channels: int, out: int, size: int, stride: int = 1, *, relu: bool = True
) -> nn.Sequential:
    """Return a convolution that keeps the size but for its stride, and its normalisation.

    Args:
        channels: Those of its input.
        out: Those of its output.
        size: Side of the window.
        stride: Step of the window.
        relu: Whether a ReLU follows.
    """
    parts = OrderedDict[str, nn.Module](
        convolution=nn.Conv2d(channels, out, size, stride, size // 2, bias=False),
        normalization=nn.BatchNorm2d(out),
    )
    return nn.Sequential(parts | (OrderedDict(activation=nn.ReLU()) if relu else {}))


def init_convolution(layer: nn.Conv2d) -> None:
    """Draw weights as in He et al., ICCV 2015."""
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
