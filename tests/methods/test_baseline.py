import pytest
import torch
from torch.nn import functional as F

from tireid.losses.contrastive import InfoNceLoss
from tireid.losses.ranking import RankingLoss
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


def test_mapping_each_position_comes_before_the_maximum(base_arguments, pair_batch):
    model = Baseline(**base_arguments, alignment=InfoNceLoss(), projection="per_position")
    local = model.image_encoder(pair_batch.images).local
    mapped = torch.stack([model.image_projection(tokens) for tokens in local])
    torch.testing.assert_close(model.image_features(pair_batch.images), mapped.amax(1))
    with pytest.raises(ValueError, match="pooled or per_position, got 'mean'"):
        Baseline(**base_arguments, alignment=InfoNceLoss(), projection="mean")


def test_the_ranking_loss_draws_anew_each_step(base_arguments, pair_batch):
    model = Baseline(**base_arguments, alignment=RankingLoss(seed=3))
    first, again, later = (model.training_terms(pair_batch, step) for step in (0, 0, 1))
    expected = model.alignment(first.images, first.texts, pair_batch.pid, draw=0)
    torch.testing.assert_close(first.terms["alignment"], expected)
    assert torch.equal(first.terms["alignment"], again.terms["alignment"])
    assert later.terms["alignment"] != first.terms["alignment"]
