import math

import pytest
import torch
from torch.nn import functional as F

from tireid.encoders.clip import ClipImageEncoder, ClipTextEncoder
from tireid.losses.contrastive import InfoNceLoss
from tireid.losses.projection import CmpmLoss, SdmLoss
from tireid.losses.ranking import RankingLoss
from tireid.losses.tal import TalLoss
from tireid.methods.lgur import Lgur
from tireid.methods.optimization import optimizer_of

HEAD = {
    "dictionary_size": 9,
    "dictionary_heads": 2,
    "dictionary_head_dim": 4,
    "dictionary_hidden_dim": 12,
    "num_prototypes": 3,
    "prototype_heads": 2,
    "prototype_head_dim": 8,
    "prototype_hidden_dim": 10,
    "feature_dim": 6,
}


@pytest.fixture
def lgur(base_arguments):
    return Lgur(**base_arguments, head=HEAD, alignment=RankingLoss(seed=1))


def test_embeddings_have_unit_norm_and_ignore_padding(lgur, pair_batch):
    lgur.eval()
    images = lgur.encode_image(pair_batch.images)
    texts = lgur.encode_text(pair_batch.token_ids, pair_batch.valid)
    assert images.shape == texts.shape == (6, 3 * 6)
    torch.testing.assert_close(images.norm(dim=1), torch.ones(6))
    torch.testing.assert_close(texts.norm(dim=1), torch.ones(6))
    padded_ids = F.pad(pair_batch.token_ids, (0, 3))
    padded = lgur.encode_text(padded_ids, F.pad(pair_batch.valid, (0, 3)))
    torch.testing.assert_close(texts, padded)


def test_every_trained_parameter_gets_a_finite_gradient(lgur, pair_batch):
    sum(lgur.training_terms(pair_batch, 0).terms.values()).backward()
    for name, parameter in lgur.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_terms_are_the_papers(lgur, pair_batch):
    terms = lgur.training_terms(pair_batch, 0).terms
    tokens = lgur.image_projection(lgur.image_encoder(pair_batch.images).local)
    text = lgur.text_encoder(pair_batch.token_ids, pair_batch.valid)
    features = lgur.head(tokens, text.local, text.valid)

    def identity(image, text):
        terms = [
            F.cross_entropy(x[:, k] @ weight.T + bias[0], pair_batch.label)
            for x in (image, text)
            for k, (weight, bias) in enumerate(
                zip(lgur.classifier_weight, lgur.classifier_bias, strict=True)
            )
        ]
        return sum(terms) / 3

    pairs = {
        "guided": (features.image_guided, features.text_raw),
        "dictionary": (features.image_dictionary, features.text_dictionary),
    }
    for branch, (image, text_features) in pairs.items():
        torch.testing.assert_close(terms[f"id_{branch}"], identity(image, text_features))
    ranked = [
        (*pairs["guided"], 0),
        (*pairs["dictionary"], 1),
        (features.text_raw, features.text_dictionary, 2),
        (features.image_guided, features.image_dictionary, 3),
    ]
    names = ["guided", "dictionary", "text", "image"]
    for name, (rows, columns, draw) in zip(names, ranked, strict=True):
        expected = lgur.alignment(rows, columns, pair_batch.pid, draw=draw)
        torch.testing.assert_close(terms[f"alignment_{name}"], expected)
    assert len(terms) == 6


def test_untrained_identity_loss_is_that_of_chance(lgur, pair_batch):
    terms = lgur.training_terms(pair_batch, 0).terms
    # two modalities, five identities, weights near zero
    assert float(terms["id_guided"].detach()) == pytest.approx(2 * math.log(5), rel=1e-2)


def test_parameter_groups_hold_every_parameter_once(lgur):
    grouped = [p for group in lgur.parameter_groups().values() for p in group]
    assert len(grouped) == len({id(p) for p in grouped}) == len(list(lgur.parameters()))


def test_a_missing_rate_is_named(lgur):
    del lgur.learning_rates["classifier"]
    with pytest.raises(ValueError, match="expected a rate for 'classifier'"):
        optimizer_of(lgur, total_steps=60)


@pytest.mark.parametrize("rate", [[None], "fast", True, -1e-3, float("nan")])
def test_a_rate_that_is_no_rate_is_named(lgur, rate):
    lgur.learning_rates["classifier"] = rate
    with pytest.raises(ValueError, match=r"learning_rates\.classifier: expected a number >= 0"):
        optimizer_of(lgur, total_steps=60)


BOTH = {"id_dictionary", "alignment_dictionary"}
GUIDED = {"id_guided", "alignment_guided", "alignment_image"}


@pytest.mark.parametrize(
    ("switches", "terms"),
    [
        ({"use_dictionary": False}, BOTH | GUIDED),
        ({"use_guidance": False}, BOTH),
        ({"use_foreground": False}, BOTH | GUIDED | {"alignment_text"}),
        ({"pooling": "mean"}, BOTH | GUIDED | {"alignment_text"}),
        ({"pooling": "max"}, BOTH | GUIDED | {"alignment_text"}),
        ({"shared_prototypes": False}, BOTH | GUIDED | {"alignment_text"}),
        ({"use_dictionary": False, "use_guidance": False, "pooling": "max"}, BOTH),
    ],
)
def test_a_part_switched_off_takes_its_terms_and_weights_with_it(
    base_arguments, pair_batch, switches, terms
):
    model = Lgur(**base_arguments, head=HEAD | switches, alignment=RankingLoss(seed=1))
    result = model.training_terms(pair_batch, 0)
    assert set(result.terms) == terms
    sum(result.terms.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
    features = model.image_features(pair_batch.images)
    torch.testing.assert_close(result.images, features)
    texts = model.text_features(pair_batch.token_ids, pair_batch.valid)
    torch.testing.assert_close(result.texts, texts)


@pytest.mark.parametrize("alignment", [InfoNceLoss(), SdmLoss(), CmpmLoss(), TalLoss()])
def test_another_alignment_loss_sees_the_concatenated_parts(base_arguments, pair_batch, alignment):
    model = Lgur(**base_arguments, head=HEAD, alignment=alignment, alignment_weight=2.0)
    result = model.training_terms(pair_batch, 0)
    expected = 2.0 * alignment(result.images, result.texts, pair_batch.pid)
    torch.testing.assert_close(result.terms["alignment_dictionary"], expected)


@pytest.mark.parametrize("alignment", [SdmLoss(), TalLoss(), RankingLoss(seed=1)])
def test_the_head_reads_the_tokens_of_clip(base_arguments, pair_batch, alignment):
    sizes = {"dim": 8, "depth": 1, "heads": 2, "out_dim": 8}
    towers = {
        "image_encoder": ClipImageEncoder(image_size=(16, 8), patch_size=4, **sizes),
        "text_encoder": ClipTextEncoder(vocab_size=50, max_positions=9, **sizes),
    }
    model = Lgur(**base_arguments | towers, head=HEAD, alignment=alignment)
    assert isinstance(model.image_projection, torch.nn.Identity)
    result = model.training_terms(pair_batch, 0)
    sum(result.terms.values()).backward()
    of_clip = dict(model.image_encoder.named_parameters())
    for name in ("clip.visual_projection.weight", "clip.vision_model.embeddings.class_embedding"):
        assert 0 < of_clip[name].grad.abs().sum() < float("inf")
    features = model.image_features(pair_batch.images)
    torch.testing.assert_close(result.images, features)


def test_smoothed_labels_change_the_identity_terms_only(base_arguments, pair_batch):
    def build(share):
        torch.manual_seed(0)
        return Lgur(**base_arguments, head=HEAD, alignment=SdmLoss(), label_smoothing=share)

    usual, smooth = (build(share).training_terms(pair_batch, 0).terms for share in (0.0, 0.2))
    changed = {name for name, term in usual.items() if smooth[name] != term}
    assert changed == {name for name in usual if name.startswith("id")}
