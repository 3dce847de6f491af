import numpy as np
import pytest
import torch
import torch.distributed as dist

from tireid.losses.contrastive import InfoNceLoss
from tireid.losses.gather import gather_with_gradient
from tireid.losses.projection import CmpmLoss, SdmLoss
from tireid.losses.sigmoid import SigmoidLoss
from tireid.losses.tal import TalLoss

# Some identities stand on both ranks, so that matches cross them.
PIDS = torch.tensor([1, 2, 3, 1, 2, 2, 4, 1])
LOSSES = {
    "cmpm": CmpmLoss(),
    "sdm": SdmLoss(temperature=0.2),
    "info_nce": InfoNceLoss(),
    "info_nce_shared": InfoNceLoss(share_identity=True),
    "sigmoid": SigmoidLoss(),
    "sigmoid_shared": SigmoidLoss(share_identity=True),
    "tal": TalLoss(temperature=0.2),
}


def loss_and_gradient(name: str, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of a shared linear map over some rows of a fixed batch, and its gradient."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 8, 6, generator=generator)
    weight = torch.randn(6, 4, generator=generator, requires_grad=True)
    image, text = inputs[0, rows] @ weight, inputs[1, rows] @ weight
    loss = LOSSES[name](image, text, PIDS[rows])
    (gradient,) = torch.autograd.grad(loss, weight)
    return loss.detach(), gradient


def train_step(rank: int) -> dict[str, tuple[float, np.ndarray]]:
    results = {}
    for name in LOSSES:
        loss, gradient = loss_and_gradient(name, slice(4 * rank, 4 * rank + 4))
        dist.all_reduce(gradient)  # as DDP: the average over the ranks
        results[name] = (loss.item(), (gradient / 2).numpy())
    return results


def gather_some(rank: int) -> dict[str, np.ndarray]:
    mine = torch.arange(6.0).view(2, 3) + 10 * rank
    mine.requires_grad_()
    gathered = gather_with_gradient(mine.mT)  # not contiguous
    # Rank r asks row i of the gathered tensor for a gradient of (r + 1) * i.
    weights = torch.arange(6.0)[:, None] * (rank + 1)
    (gathered * weights).sum().backward()
    assert mine.grad is not None
    pids = gather_with_gradient(torch.tensor([rank, 7]))
    return {
        "gathered": gathered.detach().numpy(),
        "gradient": mine.grad.numpy(),
        "pids": pids.numpy(),
    }


def test_one_process_gets_its_own_tensor_back():
    tensor = torch.ones(2, 3, requires_grad=True)
    assert gather_with_gradient(tensor) is tensor


@pytest.mark.ddp
@pytest.mark.slow
def test_two_ranks_train_like_one(on_two_ranks):
    ranks = on_two_ranks(train_step)
    for name in LOSSES:
        loss, gradient = loss_and_gradient(name, slice(None))
        for rank in ranks:
            assert rank[name][0] == pytest.approx(loss.item(), rel=1e-6)
            np.testing.assert_allclose(rank[name][1], gradient.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.ddp
@pytest.mark.slow
def test_rows_come_in_rank_order_and_gradients_add_up(on_two_ranks):
    ranks = on_two_ranks(gather_some)
    columns = np.array([[0, 3], [1, 4], [2, 5]])
    for number, rank in enumerate(ranks):
        np.testing.assert_array_equal(rank["gathered"], np.concatenate([columns, columns + 10]))
        np.testing.assert_array_equal(rank["pids"], [0, 7, 1, 7])
        # Rows 3r .. 3r+2 of the gathered tensor, asked by both ranks: (1 + 2) * row.
        expected = 3 * (3 * number + np.arange(3.0))
        np.testing.assert_array_equal(rank["gradient"], np.stack([expected, expected]))
