"""A training step never waits for the device: nothing in it reads a number on the host."""

from itertools import product

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tireid.inference.build import build_encoders, build_model
from tireid.structures import MaskedWords, PairBatch

READING_METHODS = {
    "item",
    "cpu",
    "numpy",
    "tolist",
    "__bool__",
    "__float__",
    "__int__",
    "__array__",
}
READING_OPERATORS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2"}


class WatchCalls(TorchFunctionMode):
    """Notes the methods by which Python reads a tensor."""

    def __init__(self, noted):
        super().__init__()
        self.noted = noted

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__name__", "") in READING_METHODS:
            self.noted.append(function.__name__)
        return function(*args, **(kwargs or {}))


class WatchOperators(TorchDispatchMode):
    """Notes the operators whose result, or its shape, the host must know."""

    def __init__(self, noted):
        super().__init__()
        self.noted = noted

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        by_mask = name.startswith("index") and any(
            isinstance(index, torch.Tensor) and index.dtype == torch.bool
            for index in (args[1] if isinstance(args[1], list | tuple) else [])
        )
        if name in READING_OPERATORS or by_mask:
            self.noted.append(name)
        return function(*args, **(kwargs or {}))


def noted_in(function):
    noted = []
    with WatchCalls(noted), WatchOperators(noted):
        function()
    return noted


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: float(x.sum()),
        lambda x: bool(x.all()),
        lambda x: x.cpu(),
        lambda x: x.detach().numpy(),
        lambda x: x[x > 0],
        lambda x: x.tolist(),
    ],
)
def test_reading_is_noticed(read):
    assert noted_in(lambda: read(torch.ones(3)))


ENCODERS = [
    ("vit_tiny", "bert_bilstm_tiny"),
    ("resnet_tiny", "bilstm_tiny"),
    ("clip_tiny", "clip_text_tiny"),
    ("siglip2_tiny", "siglip2_tiny"),
    ("vit_tiny", "bert_tiny"),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("encoders", "method"),
    [
        *product(ENCODERS, ["lgur", "baseline", "irra", "rde"]),
        (ENCODERS[1], "lgur model.identity=sampled model.identity_share=1.0"),
    ],
    ids=str,
)
def test_a_training_step_reads_nothing(compose_config, tmp_path, monkeypatch, encoders, method):
    cfg = compose_config(
        *f"model={method}".split(),
        f"image_encoder={encoders[0]}",
        f"text_encoder={encoders[1]}",
        f"paths.output_dir={tmp_path}",
    )
    model = build_model(cfg, build_encoders(cfg), 7).train()
    monkeypatch.setattr(model, "log_dict", lambda *_, **__: None)
    valid = torch.arange(9) < torch.tensor([9, 4, 6, 5])[:, None]
    rows = torch.arange(4)
    token_ids = torch.randint(1, 100, (4, 9)) * valid
    masked = MaskedWords(token_ids, rows, rows, rows)
    batch = PairBatch(
        torch.randn(4, 3, 96, 32), token_ids, valid, rows, rows, rows, rows, masked=masked
    )
    assert noted_in(lambda: model.training_step(batch, 0).backward()) == []
