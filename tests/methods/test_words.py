"""Words computed beforehand change nothing but who computes them, in every method."""

import pytest
import torch

from tireid.encoders.bert import BertEncoder
from tireid.encoders.lstm import BiLstmEncoder
from tireid.inference.build import build_encoders, build_model
from tireid.structures import TextBatch


@pytest.fixture(params=["baseline", "lgur"])
def method(request, compose_config, tmp_path):
    torch.manual_seed(0)
    cfg = compose_config(f"model={request.param}", f"paths.output_dir={tmp_path}")
    encoders = build_encoders(cfg)
    bert = BertEncoder(frozen=True, vocab_size=50, dim=8, depth=1, heads=2, max_positions=9)
    encoders["text_encoder"] = BiLstmEncoder(bert, hidden=8)
    return build_model(cfg, encoders, 5)


@torch.no_grad()
def words_of(model, batch):
    return model.text_encoder.embedding(batch.token_ids, batch.valid).local * batch.valid[..., None]


def test_training_step(method, pair_batch):
    batch = pair_batch._replace(images=torch.randn(6, 3, 96, 32))
    torch.manual_seed(1)
    loss = sum(method.training_terms(batch, 0).terms.values())
    loss.backward()
    expected = {name: weight.grad for name, weight in method.named_parameters()}
    method.zero_grad()
    batch = batch._replace(words=words_of(method, batch))
    method.text_encoder.embedding.forward = None
    torch.manual_seed(1)
    given = sum(method.training_terms(batch, 0).terms.values())
    given.backward()
    assert torch.equal(given, loss)
    for name, weight in method.named_parameters():
        assert (weight.grad is None) == (expected[name] is None), name
        assert weight.grad is None or torch.equal(weight.grad, expected[name]), name


def test_evaluation(method, pair_batch):
    method.eval()
    batch = TextBatch(
        pair_batch.token_ids, pair_batch.valid, pair_batch.pid, pair_batch.index, pair_batch.index
    )
    expected = method.embed(batch)
    words = words_of(method, batch)
    method.text_encoder.embedding.forward = None
    assert torch.equal(method.embed(batch._replace(words=words)), expected)
