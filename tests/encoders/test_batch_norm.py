import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from tireid.encoders import batch_norm
from tireid.encoders.batch_norm import replace_batch_norms, sample_weights
from tireid.encoders.textcnn import MaskedBatchNorm
from tireid.methods.lcr2s.supports import shares_of_processes
from tireid.training.batch_norm_sync import BatchNormSync

# Rank 0 has two samples, rank 1 has three: statistics are of samples, not of processes.
SHARES = [slice(0, 2), slice(2, 5)]


def model():
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 2, 3),
        nn.BatchNorm2d(2),
    ]
    return nn.Sequential(*layers).double()


def step(net, images, weights):
    out = net(images)
    (out * weights).sum().backward()
    return out.detach(), torch.cat([p.grad.flatten() for p in net.parameters()])


def inputs():
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(5, 3, 8, 7, generator=generator, dtype=torch.float64)
    return images, torch.randn(5, 2, 4, 3, generator=generator, dtype=torch.float64)


def in_single_precision():
    generator = torch.Generator().manual_seed(3)
    pictures = 3 + torch.randn(5, 24, 31, 17, generator=generator)
    norm = replace_batch_norms(nn.BatchNorm2d(24)).train()
    return pictures.contiguous(memory_format=torch.channels_last), norm


def captions():
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(5, 4, 6, generator=generator, dtype=torch.float64)
    valid = torch.arange(6)[None, None] < torch.tensor([6, 2, 3, 1, 5])[:, None, None]
    return features, valid, torch.randn(5, 4, 6, generator=generator, dtype=torch.float64)


def masked_step(rows):
    features, valid, weights = captions()
    norm = MaskedBatchNorm(4).double()
    if rows != slice(None):
        BatchNormSync().apply(norm)
    own = features[rows].clone().requires_grad_()
    out = norm(own, valid[rows]) * valid[rows]
    (out * weights[rows]).sum().backward()
    return out.detach(), own.grad, norm.running_mean, norm.running_var


def on_each_rank(rank):
    rows = SHARES[rank]
    images, weights = inputs()
    net = BatchNormSync().apply(model()).train()
    out, gradient = step(net, images[rows], weights[rows])
    dist.all_reduce(gradient)
    found = {"out": out, "gradient": gradient, "names": list(net.state_dict())}
    found["buffers"] = torch.cat([b.flatten() for b in net.buffers()])
    found["masked"] = masked_step(rows)
    # One sample that both have counts once; rank 1 has nothing else, and rank 0 two more.
    keys, slots = [([7, 8, 9], [[0, 1], [2, -1]]), ([8], [[0, -1], [-1, 0]])][rank]
    shares = shares_of_processes(torch.tensor(keys), torch.tensor(slots))
    found["shares"] = shares
    common = BatchNormSync().apply(nn.BatchNorm2d(3).double()).train()
    with sample_weights(shares):
        common(images[[0, 1, 2]] if rank == 0 else images[[1]])
    found["common"] = common.running_mean.clone()
    # A process without samples brings one that does not count.
    nothing = torch.tensor([], dtype=torch.int64)
    empty = nothing if rank else torch.tensor([3, 4, 5])
    alone = shares_of_processes(empty, torch.tensor([[-1, -1, -1]] if rank else [[0, 1, 2]]))
    found["no shares"] = alone
    with sample_weights(alone):
        found["alone"] = common(images[[3]] if rank else images[[0, 1, 2]])
    # In evaluation nobody waits for anybody: one rank alone may ask.
    if rank == 0:
        found["eval"] = net.eval()(images[:1])
    BatchNormSync().revert(net)
    found["reverted"] = sum(getattr(m, "shared_statistics", False) for m in net)
    # Far from zero: the sums of squares of float32 would cancel.
    far = BatchNormSync().apply(nn.BatchNorm2d(3)).train()
    found["far"] = far((images[rows] + 1e4).float())
    # What follows may have a kink: not even the last bit may depend on who shares the batch.
    pictures, layer = in_single_precision()
    exact = BatchNormSync().apply(layer)(pictures[rows])
    found["exact"] = exact
    numbers = (torch.Tensor, tuple)
    plain = {k: v for k, v in found.items() if not isinstance(v, numbers)}
    arrays = {k: v.detach().numpy() for k, v in found.items() if isinstance(v, torch.Tensor)}
    return plain | arrays | {"masked": [t.detach().numpy() for t in found["masked"]]}


@pytest.mark.ddp
@pytest.mark.slow
def test_two_ranks_normalise_as_one(on_two_ranks):
    ranks = on_two_ranks(on_each_rank)
    images, weights = inputs()
    net = model().train()
    out, gradient = step(net, images, weights)
    joined = np.concatenate([rank["out"] for rank in ranks])
    np.testing.assert_allclose(joined, out.numpy(), rtol=1e-12, atol=1e-12)
    buffers = torch.cat([b.flatten() for b in net.buffers()]).numpy()
    for rank in ranks:
        np.testing.assert_allclose(rank["gradient"], gradient.numpy(), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(rank["buffers"], buffers, rtol=1e-12)
        assert rank["names"] == list(net.state_dict())
        assert rank["reverted"] == 0
    np.testing.assert_allclose(ranks[0]["eval"], net.eval()(images[:1]).detach().numpy())

    found = zip(*(rank["masked"] for rank in ranks), strict=True)
    for number, (parts, whole) in enumerate(zip(found, masked_step(slice(None)), strict=True)):
        value = np.concatenate(parts) if number < 2 else parts[1]
        np.testing.assert_allclose(value, whole.detach().numpy(), rtol=1e-9, atol=1e-12)

    np.testing.assert_array_equal(ranks[0]["shares"], [1, 0.5, 1])
    np.testing.assert_array_equal(ranks[1]["shares"], [0.5])
    np.testing.assert_array_equal(ranks[1]["no shares"], [0])
    once = images[:3].mean(dim=(0, 2, 3)).numpy() * 0.1  # momentum
    alone = nn.BatchNorm2d(3).double()(images[:3]).detach().numpy()
    np.testing.assert_allclose(ranks[0]["alone"], alone, rtol=1e-9)
    for rank in ranks:
        np.testing.assert_allclose(rank["common"], once, rtol=1e-9)
    pictures, norm = in_single_precision()
    whole = norm(pictures).detach().numpy()
    np.testing.assert_array_equal(np.concatenate([rank["exact"] for rank in ranks]), whole)
    far = np.concatenate([rank["far"] for rank in ranks])
    near = nn.BatchNorm2d(3)((images + 1e4).double().sub(1e4).float()).detach().numpy()
    np.testing.assert_allclose(far, near, atol=2e-3)  # float32 has 1e-3 at 1e4


def test_threads_change_nothing():
    pictures, norm = in_single_precision()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = norm(pictures)
        torch.set_num_threads(2)
        assert torch.equal(norm(pictures), one)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("shape", [(5, 3, 6, 4), (5, 3, 7), (5, 3)])
def test_one_process_computes_what_pytorch_does(shape):
    generator = torch.Generator().manual_seed(4)
    features = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(shape, generator=generator, dtype=torch.float64)
    kind = nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d
    theirs, ours = kind(3).double(), replace_batch_norms(kind(3)).double()
    for norm in (theirs, ours):
        nn.init.normal_(norm.weight, generator=torch.Generator().manual_seed(5))
        nn.init.normal_(norm.bias, generator=torch.Generator().manual_seed(6))
    for _ in range(2):
        found, expected = ours(features), theirs(features)
        torch.testing.assert_close(found, expected)
        for value, other in zip(
            torch.autograd.grad(found, [features, *ours.parameters()], upstream),
            torch.autograd.grad(expected, [features, *theirs.parameters()], upstream),
            strict=True,
        ):
            torch.testing.assert_close(value, other)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    torch.testing.assert_close(ours.eval()(features), theirs.eval()(features))


def test_one_value_has_no_variance():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        replace_batch_norms(nn.BatchNorm2d(3))(torch.zeros(1, 3, 1, 1))


def test_a_replaced_layer_keeps_parameters_buffers_names_and_settings():
    """Also one within another module, and one without parameters or running statistics."""
    inner = nn.Sequential(nn.BatchNorm2d(4, eps=1e-3, momentum=None))
    net = nn.Sequential(inner, nn.BatchNorm1d(3, affine=False, track_running_stats=False)).eval()
    before = dict(net.named_parameters()) | dict(net.named_buffers())
    old = repr(net)
    assert replace_batch_norms(net) is net
    assert [type(module).__module__ for module in (net[0][0], net[1])] == [batch_norm.__name__] * 2
    after = dict(net.named_parameters()) | dict(net.named_buffers())
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)
    assert repr(net) == old
    assert not any(module.training for module in net.modules())
    layers = list(net.modules())
    replace_batch_norms(net)  # those that are ours already stay
    assert list(net.modules()) == layers


def test_one_process_keeps_its_layers(monkeypatch):
    monkeypatch.setattr(dist, "get_world_size", lambda: 1)
    net = BatchNormSync().apply(nn.Sequential(nn.BatchNorm2d(3), MaskedBatchNorm(2)))
    assert type(net[0]) is nn.BatchNorm2d
    assert not net[1].shared_statistics


def test_one_process_weighs_nothing():
    assert shares_of_processes(torch.tensor([1]), torch.tensor([[0]])) is None


def test_bfloat16_is_pytorchs():
    pictures, ours = in_single_precision()
    theirs = nn.BatchNorm2d(24).train()
    found, expected = (norm(pictures.bfloat16()) for norm in (ours, theirs))
    assert torch.equal(found, expected)
    assert torch.equal(ours.running_var, theirs.running_var)
