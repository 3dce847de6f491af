import pytest
import torch
from torch.nn import functional as F

from tireid.losses.contrastive import InfoNceLoss
from tireid.methods.baseline import Baseline


@pytest.fixture
def baseline(base_arguments, monkeypatch):
    model = Baseline(**base_arguments, alignment=InfoNceLoss(logit_scale=10.0), embedding_dim=9)
    model.logged = {}
    monkeypatch.setattr(model, "log_dict", lambda values, **_: model.logged.update(values))
    return model


def test_terms_and_gradients(baseline, pair_batch):
    baseline.training_step(pair_batch, 0).backward()
    images = baseline.image_features(pair_batch.images)
    texts = baseline.text_features(pair_batch.token_ids, pair_batch.valid)
    expected = sum(
        F.cross_entropy(baseline.classifier(x), pair_batch.label) for x in (images, texts)
    )
    torch.testing.assert_close(baseline.logged["train/loss_id"], expected.detach())
    for name, parameter in baseline.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_embeddings_are_the_normalised_features(baseline, pair_batch):
    images = baseline.encode_image(pair_batch.images)
    torch.testing.assert_close(images.norm(dim=1), torch.ones(6))
    features = baseline.image_features(pair_batch.images)
    torch.testing.assert_close(images * features.norm(dim=1, keepdim=True), features)


def test_parameter_groups_hold_every_parameter_once(baseline):
    grouped = [p for group in baseline.parameter_groups().values() for p in group]
    assert len(grouped) == len({id(p) for p in grouped}) == len(list(baseline.parameters()))
