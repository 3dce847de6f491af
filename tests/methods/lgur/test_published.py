"""LGUR as published: its number of parameters, and a step at full size with random weights."""

import math

import pytest
import torch

from tireid.inference.build import build_encoders, build_model
from tireid.structures import ImageBatch, PairBatch, TextBatch

IDS = 11_000
# The official module on CUHK-PEDES, part by part.
OFFICIAL = {
    "BERT": 109_482_240,
    "LSTM": 3_538_944,
    "DeiT": 22_049_128,
    "prototype decoder": 10_229_248,
    "dictionary decoder": 1_182_720,
    "part maps": 1_179_648,
    "dictionary": 153_600,
    "prototypes": 2_304,
    "foreground": 385,
    "position table of another image encoder": 49_152,
}
OFFICIAL_NETWORK = 147_867_369
IDENTITY_HEADS = 33_858_000
# What the official module builds and never uses, so that it is not built here.
UNUSED = {
    "DeiT": {"12th block": 1_774_464, "last norm": 768, "ImageNet classifier": 385_000},
    "BERT": {"pooler": 590_592},
    "position table of another image encoder": {"all": 49_152},
}


@pytest.fixture(scope="module")
def published(compose_config, tmp_path_factory):
    return compose_config(
        "experiment=lgur",
        "image_encoder.pretrained=false",
        "text_encoder.pretrained=false",
        f"paths.output_dir={tmp_path_factory.mktemp('published')}",
    )


def count(module, trained_only=False):
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained_only)


def test_it_has_the_official_parameters_less_what_is_never_used(published):
    assert sum(OFFICIAL.values()) == OFFICIAL_NETWORK
    with torch.device("meta"):
        model = build_model(published, build_encoders(published), IDS)
    head = model.head
    ours = {
        "BERT": count(model.text_encoder.embedding),
        "LSTM": count(model.text_encoder.lstm),
        "DeiT": count(model.image_encoder),
        "prototype decoder": count(head.prototype_decoder),
        "dictionary decoder": count(head.dictionary_decoder),
        "part maps": head.part_projection.numel(),
        "dictionary": head.dictionary.numel(),
        "prototypes": head.prototypes.numel(),
        "foreground": count(head.foreground),
    }
    for part, number in OFFICIAL.items():
        assert ours.get(part, 0) == number - sum(UNUSED.get(part, {}).values()), part
    assert model.classifier_weight.numel() + model.classifier_bias.numel() == IDENTITY_HEADS
    assert sum(ours.values()) + IDENTITY_HEADS == count(model) == 178_925_393
    frozen = ours["BERT"]
    assert count(model, trained_only=True) == count(model) - frozen == 70_033_745


@pytest.mark.slow
def test_full_size_trains_a_step_and_evaluates_a_batch(published):
    torch.manual_seed(0)
    model = build_model(published, build_encoders(published), IDS)
    valid = torch.arange(31) < torch.tensor([31, 18])[:, None]
    token_ids = torch.randint(1, 30522, valid.shape) * valid
    images, pid, index = torch.randn(2, 3, 384, 128), torch.tensor([7, 9]), torch.arange(2)
    batch = PairBatch(images, token_ids, valid, pid, pid, index, index)

    terms = model.training_terms(batch, 0).terms
    for branch in ("guided", "dictionary"):  # two modalities, chance
        assert float(terms[f"id_{branch}"].detach()) == pytest.approx(2 * math.log(IDS), rel=0.01)
    groups = [
        {"params": [p for p in group if p.requires_grad], "lr": model.learning_rates[name]}
        for name, group in model.parameter_groups().items()
    ]
    optimizer = model.build_optimizer(groups)
    loss = sum(terms.values())
    loss.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name
    optimizer.step()
    model.eval()
    with torch.no_grad():
        assert sum(model.training_terms(batch, 0).terms.values()) < loss  # the same pairs again
        gallery = model.embed(ImageBatch(images, pid, index))
        queries = model.embed(TextBatch(token_ids, valid, pid, index, index))
    assert gallery.shape == queries.shape == (2, 6 * 512)
    for embeddings in (gallery, queries):
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))
