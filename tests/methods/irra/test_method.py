"""IRRA's switches, and its published size."""

from dataclasses import replace

import pytest
import torch
from hydra.utils import instantiate

from tireid.inference.build import build_encoders, build_model
from tireid.losses.projection import SdmLoss
from tireid.methods.irra import Irra
from tireid.methods.optimization import optimizer_of
from tireid.structures import PairBatch

OFFLINE = ["image_encoder.pretrained=false", "text_encoder.pretrained=false"]


def batch_for(cfg, size=2):
    """Return a batch of two captions of a published vocabulary."""
    masking = instantiate(cfg.model.masking)
    captions = [[49406, 5, 6, 7, 49407], [49406, 8, 9, 49407]][:size]
    token_ids = torch.tensor([[*row, *[49407] * (5 - len(row))] for row in captions])
    valid = torch.arange(5) < torch.tensor([len(row) for row in captions])[:, None]
    masked = masking.batch(captions, [[[0.0] * len(row)] * 2 for row in captions], token_ids)
    rows = torch.arange(size)
    images = torch.randn(size, 3, *cfg.dataset.image_size)
    return PairBatch(images, token_ids, valid, rows, rows, rows, rows, masked=masked)


def small(base_arguments, **switches):
    masking = instantiate(
        {
            "_target_": "tireid.data.masking.WordMasking",
            "mask_id": 1,
            "first_word": 4,
            "end_word": 50,
            "num_ids": 50,
        }
    )
    relation = {"heads": 2, "depth": 1}
    settings = {"alignment": SdmLoss(), "masking": masking, "relation": relation} | switches
    return Irra(**(base_arguments | settings)), masking


def masked_batch(pair_batch, masking):
    captions = [
        row[valid].tolist()
        for row, valid in zip(pair_batch.token_ids, pair_batch.valid, strict=True)
    ]
    draws = [[[0.0] * len(row)] * 2 for row in captions]
    return pair_batch._replace(masked=masking.batch(captions, draws, pair_batch.token_ids))


@pytest.mark.parametrize(
    ("switches", "message"),
    [
        ({"masked_for": "none"}, "masked_for: expected relation or all, got 'none'"),
        ({"end_position": "first"}, "end_position: expected last or largest_id, got 'first'"),
        ({"attend_padding": True}, "attend_padding=true: expected CLIP's text encoder"),
        ({"end_position": "largest_id"}, "largest_id: expected CLIP's text encoder"),
    ],
)
def test_a_switch_that_does_not_fit_is_refused(base_arguments, switches, message):
    with pytest.raises(ValueError, match=message):
        small(base_arguments, **switches)


def test_padding_without_a_meaning_changes_nothing(base_arguments, pair_batch):
    model, masking = small(base_arguments)
    batch = masked_batch(pair_batch, masking)
    longer = [torch.nn.functional.pad(x, (0, 3)) for x in (batch.token_ids, batch.valid)]
    ids = torch.nn.functional.pad(batch.masked.token_ids, (0, 3), value=9)
    padded = batch._replace(
        token_ids=longer[0], valid=longer[1], masked=batch.masked._replace(token_ids=ids)
    )
    terms, others = (model.training_terms(b, 0).terms for b in (batch, padded))
    for name, value in terms.items():
        torch.testing.assert_close(others[name], value)


def test_only_the_official_masking_reaches_all_losses(base_arguments, pair_batch):
    plain, masking = small(base_arguments)
    batch = masked_batch(pair_batch, masking)
    official, _ = small(base_arguments, masked_for="all")
    official.load_state_dict(plain.state_dict())
    ours, theirs = (model.training_terms(batch, 0) for model in (plain, official))
    seen = batch._replace(token_ids=batch.masked.token_ids)
    assert torch.equal(theirs.texts, plain.text_features(seen.token_ids, seen.valid))
    assert not torch.equal(ours.texts, theirs.texts)
    assert torch.equal(ours.terms["words"], theirs.terms["words"])


def test_without_words_nothing_of_the_reasoning_is_built(base_arguments, pair_batch):
    model, masking = small(base_arguments, word_weight=0.0)
    terms = model.training_terms(masked_batch(pair_batch, masking), 0).terms
    assert set(terms) == {"alignment", "id"}
    assert not any(name.startswith("relation") for name in model.state_dict())
    with pytest.raises(ValueError, match="expected a batch with masked words"):
        model.training_terms(pair_batch, 0)
    assert replace(masking, probability=0.3).probability == 0.3


def test_the_published_model_has_the_official_number_of_weights(compose_config, tmp_path):
    cfg = compose_config("experiment=irra_official", f"paths.output_dir={tmp_path}", *OFFLINE)
    with torch.device("meta"):
        model = build_model(cfg, build_encoders(cfg), 11_003)
    sizes = {
        "image_encoder": 86_189_568,
        "text_encoder": 63_428_096,
        "relation.cross_attention": 1_050_624,
        "relation.blocks": 12_609_536,
        "relation.head": 25_609_984,
        "classifier": 5_644_539,
    }
    for part, size in sizes.items():
        module = model.get_submodule(part)
        assert sum(parameter.numel() for parameter in module.parameters()) == size, part
    assert sum(parameter.numel() for parameter in model.parameters()) == 194_535_419


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("experiment", ["irra", "irra_official"])
def test_the_published_size_trains_a_step_and_embeds(compose_config, tmp_path, dtype, experiment):
    cfg = compose_config(f"experiment={experiment}", f"paths.output_dir={tmp_path}", *OFFLINE)
    torch.manual_seed(0)
    model = build_model(cfg, build_encoders(cfg), 11_003)
    optimizer, _ = optimizer_of(model, total_steps=60)
    batch = batch_for(cfg)
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        terms = model.training_terms(batch, 0).terms
        sum(terms.values()).backward()
    assert {name: value.dtype for name, value in terms.items()} == dict.fromkeys(
        ("alignment", "id", "words"), torch.float32
    )
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters())
    optimizer.step()
    with torch.no_grad():
        images = model.eval().encode_image(batch.images)
        texts = model.encode_text(batch.token_ids, batch.valid)
    assert images.shape == texts.shape == (2, 512)
    assert bool((texts @ images.T).isfinite().all())


def test_contributions_of_tokens_that_are_pooled_add_up_to_the_score(base_arguments, pair_batch):
    model = small(base_arguments)[0].eval()
    images, ids, valid = pair_batch.images, pair_batch.token_ids, pair_batch.valid
    with torch.no_grad():
        sides = model.encode_image(images), model.encode_text(ids, valid)
        score = (sides[0] * sides[1]).sum(dim=1)
        torch.testing.assert_close(model.image_contributions(images, sides[1]).sum(dim=1), score)
        terms = model.text_contributions(ids, valid, sides[0])
    torch.testing.assert_close(terms.sum(dim=1), score)
    assert not terms[~valid].any()


def test_smoothed_labels_change_the_identity_terms_only(base_arguments, pair_batch):
    def build(share):
        torch.manual_seed(0)
        return small(base_arguments, label_smoothing=share)[0]

    batch = masked_batch(pair_batch, small(base_arguments)[1])
    usual, smooth = (build(share).training_terms(batch, 0).terms for share in (0.0, 0.2))
    changed = {name for name, term in usual.items() if smooth[name] != term}
    assert changed == {name for name in usual if name.startswith("id")}
