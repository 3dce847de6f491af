"""Generalised-mean pooling by its definition, and a gradient for every weight."""

import torch

from tireid.losses.contrastive import InfoNceLoss
from tireid.methods.gem import Gem, generalised_mean
from tireid.structures import Tokens


def test_only_real_tokens_are_pooled():
    local = torch.tensor([[[1.0], [3.0], [9.0]]])
    tokens = Tokens(local[:, 0], local, torch.tensor([[True, True, False]]))
    expected = torch.tensor([[((1 + 3**3) / 2) ** (1 / 3)]])
    torch.testing.assert_close(generalised_mean(tokens, torch.tensor(3.0)), expected)


def test_every_weight_is_trained(base_arguments, pair_batch):
    model = Gem(alignment=InfoNceLoss(), embedding_dim=8, **base_arguments)
    sum(model.training_terms(pair_batch, step=0).terms.values()).backward()
    grouped = [p for group in model.parameter_groups().values() for p in group]
    assert {id(p) for p in grouped} == {id(p) for p in model.parameters()}
    assert all(p.grad is not None and p.grad.any() for p in grouped)
