import pytest
import torch
from torch.nn import functional as F

from tireid.losses.contrastive import InfoNceLoss
from tireid.losses.projection import CmpmCmpcLoss, cmpc_loss, cmpm_loss
from tireid.losses.ranking import RankingLoss
from tireid.methods.baseline import Baseline
from tireid.structures import ImageBatch


@pytest.fixture
def baseline(base_arguments):
    return Baseline(**base_arguments, alignment=InfoNceLoss(logit_scale=10.0), embedding_dim=9)


def test_terms_and_gradients(baseline, pair_batch):
    terms = baseline.training_terms(pair_batch, 0).terms
    sum(terms.values()).backward()
    images = baseline.image_features(pair_batch.images)
    texts = baseline.text_features(pair_batch.token_ids, pair_batch.valid)
    expected = sum(
        F.cross_entropy(baseline.classifier(x), pair_batch.label) for x in (images, texts)
    )
    torch.testing.assert_close(terms["id"], expected)
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


def test_mapping_each_position_follows_the_pool_of_the_encoder(base_arguments, pair_batch):
    model = Baseline(**base_arguments, alignment=InfoNceLoss(), projection="per_position")
    largest = model.image_features(pair_batch.images)
    model.image_encoder.pool = "avg"
    mean = model.image_projection(model.image_encoder(pair_batch.images).local.mean(1))
    torch.testing.assert_close(model.image_features(pair_batch.images), mean)
    assert not torch.allclose(largest, mean)


def test_without_a_projection_texts_are_mapped_to_the_image_feature(base_arguments, pair_batch):
    settings = {"alignment": InfoNceLoss(), "projection": "none"}
    model = Baseline(**base_arguments, **settings, embedding_dim=12)
    images = model.image_encoder(pair_batch.images).pooled
    assert torch.equal(model.image_features(pair_batch.images), images)
    assert model.text_features(pair_batch.token_ids, pair_batch.valid).shape == (6, 12)
    with pytest.raises(ValueError, match=r"embedding_dim: expected 12, .*projection=none, got 9"):
        Baseline(**base_arguments, **settings, embedding_dim=9)


def test_projections_of_their_own_are_asked_of_encoders_of_one_space(base_arguments):
    settings = {"alignment": InfoNceLoss(), "projection": "pretrained", "embedding_dim": 12}
    with pytest.raises(ValueError, match=r"do not end in one space of 12, .*projection=pooled"):
        Baseline(**base_arguments, **settings)


@pytest.mark.parametrize("identity_weight", [0.0, 1.0])
def test_classified_projections_train_the_weights_of_the_classes(
    base_arguments, pair_batch, identity_weight
):
    model = Baseline(
        **base_arguments, alignment=CmpmCmpcLoss(), identity_weight=identity_weight, embedding_dim=9
    )
    terms, images, texts = model.training_terms(pair_batch, 0)
    weights = model.classifier.weight
    expected = cmpm_loss(images, texts, pair_batch.pid) + cmpc_loss(
        images, texts, pair_batch.label, weights
    )
    torch.testing.assert_close(terms["alignment"], expected)
    sum(terms.values()).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (not parameter.requires_grad), name
    assert weights.grad is not None


def test_the_ranking_loss_draws_anew_each_step(base_arguments, pair_batch):
    model = Baseline(**base_arguments, alignment=RankingLoss(seed=3))
    first, again, later = (model.training_terms(pair_batch, step) for step in (0, 0, 1))
    expected = model.alignment(first.images, first.texts, pair_batch.pid, draw=0)
    torch.testing.assert_close(first.terms["alignment"], expected)
    assert torch.equal(first.terms["alignment"], again.terms["alignment"])
    assert later.terms["alignment"] != first.terms["alignment"]


def test_smoothed_labels_change_the_identity_terms_only(base_arguments, pair_batch):
    def build(share):
        torch.manual_seed(0)
        return Baseline(**base_arguments, alignment=InfoNceLoss(), label_smoothing=share)

    usual, smooth = (build(share).training_terms(pair_batch, 0).terms for share in (0.0, 0.2))
    changed = {name for name, term in usual.items() if smooth[name] != term}
    assert changed == {name for name in usual if name.startswith("id")}


def test_a_mirrored_image_has_the_same_embedding_where_both_are_averaged(
    base_arguments, pair_batch
):
    model = Baseline(**base_arguments, alignment=InfoNceLoss()).eval()
    images = ImageBatch(pair_batch.images, pair_batch.pid, pair_batch.index)
    mirrored = images._replace(images=images.images.flip(-1))
    sides = model.embed(images), model.embed(mirrored)
    assert not torch.allclose(*sides)
    model.flip_images = True
    expected = F.normalize(sides[0] + sides[1], dim=1)
    torch.testing.assert_close(model.embed(images), expected)
    torch.testing.assert_close(model.embed(mirrored), expected)
