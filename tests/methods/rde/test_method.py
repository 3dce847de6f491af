import json

import pytest
import torch
from torch import nn

from tireid.encoders.clip import ClipTextEncoder
from tireid.inference.build import build_encoders, build_model
from tireid.losses.contrastive import InfoNceLoss
from tireid.losses.tal import TalLoss
from tireid.methods.optimization import optimizer_of
from tireid.methods.rde import Rde
from tireid.methods.rde.division import DivisionSettings
from tireid.methods.rde.selection import TokenEmbedding, choose, words_between
from tireid.structures import PairBatch
from tireid.training.run import train

CLIP = ["image_encoder=clip_tiny", "text_encoder=clip_text_tiny"]


@pytest.fixture
def model(base_arguments):
    return Rde(alignment=TalLoss(), token_dim=16, embedding_dim=10, **base_arguments)


def test_it_works_over_any_encoders_by_the_similarity_of_tokens(model, pair_batch):
    terms = model.training_terms(pair_batch, 0)
    assert terms.images.shape == terms.texts.shape == (6, 26)
    sum(terms.terms.values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    halves = terms.images.split([10, 16], dim=1)
    for half in halves:
        torch.testing.assert_close(half.norm(dim=1), torch.ones(6))


def test_a_caption_ranks_alike_whatever_its_padding(model, pair_batch):
    model.eval()
    longer = nn.functional.pad(pair_batch.token_ids, (0, 4))
    valid = nn.functional.pad(pair_batch.valid, (0, 4))
    expected = model.encode_text(pair_batch.token_ids, pair_batch.valid)
    torch.testing.assert_close(model.encode_text(longer, valid), expected)


def test_clip_ends_in_one_space_so_nothing_is_mapped(compose_config, tmp_path):
    cfg = compose_config("model=rde", *CLIP, f"paths.output_dir={tmp_path}")
    model = build_model(cfg, build_encoders(cfg), 7)
    assert isinstance(model.image_projection, nn.Identity)
    assert model.feature_dim == 128 + 1024


def test_a_caption_without_words_keeps_its_end_token_and_spoils_no_other():
    valid = torch.tensor([[True] * 5, [True, True, False, False, False]])
    expected = [[False, True, True, True, False], [False, True, False, False, False]]
    assert words_between(valid).tolist() == expected
    embed = TokenEmbedding(4, 6, "frozen")
    tokens = torch.randn(2, 5, 4)
    places, real = choose(torch.zeros(2, 5), words_between(valid), 3)
    assert places[1, 0] == 1
    features = embed(tokens[torch.arange(2)[:, None], places], real)
    assert features.isfinite().all()


def test_the_highest_scores_are_chosen_in_their_order():
    scores = torch.tensor([[0.1, 0.9, 0.4, 0.8]])
    places, real = choose(scores, torch.tensor([[True, False, True, True]]), 9)
    assert places[0, :3].tolist() == [3, 2, 0]
    assert real.tolist() == [[True, True, True, False]]


def test_a_frozen_norm_stays_as_it_begins_and_one_of_the_batch_leaves_padding_out():
    tokens, valid = torch.randn(3, 4, 5), torch.arange(4) < torch.tensor([[4], [2], [1]])
    frozen, batch = (TokenEmbedding(5, 6, norm).train() for norm in ("frozen", "batch"))
    batch.load_state_dict(frozen.state_dict())
    assert torch.equal(frozen(tokens, valid), frozen.eval()(tokens, valid))
    other = torch.where(valid[..., None], tokens, 100.0)
    torch.testing.assert_close(batch(other, valid), batch(tokens, valid))
    assert batch.norm.num_batches_tracked == 2
    assert frozen.norm.num_batches_tracked == 0


def test_what_needs_clip_or_a_sum_over_pairs_says_so(base_arguments):
    with pytest.raises(
        ValueError, match=r"got attention and TinyImageEncoder; set model\.scores=auto"
    ):
        Rde(alignment=TalLoss(), scores="attention", **base_arguments)
    with pytest.raises(ValueError, match=r"got InfoNceLoss; set model\.division\.enabled=false"):
        Rde(alignment=InfoNceLoss(), division=DivisionSettings(), **base_arguments)
    with pytest.raises(ValueError, match=r"norm: expected frozen or batch, got 'none'"):
        Rde(alignment=TalLoss(), norm="none", **base_arguments)
    with pytest.raises(ValueError, match="scores: expected one of auto, attention, similarity"):
        Rde(alignment=TalLoss(), scores="pooled", **base_arguments)
    mixed = base_arguments | {
        "text_encoder": ClipTextEncoder(vocab_size=50, dim=8, depth=1, heads=2, out_dim=8)
    }
    assert Rde(alignment=InfoNceLoss(), **mixed).feature_dim == 512 + 1024


def test_a_pair_that_is_not_trusted_is_no_anchor(model, pair_batch):
    full = model.training_terms(pair_batch, 0).terms
    kept = torch.tensor([True, False, True, True, True, False])
    model.trust.load_state({"epoch": 0, "kept": kept})
    half = model.training_terms(pair_batch, 0).terms
    first, second = model.pair_losses(pair_batch)
    for name, losses in (("global", first), ("tokens", second)):
        torch.testing.assert_close(full[f"alignment_{name}"], losses.sum())
        torch.testing.assert_close(half[f"alignment_{name}"], losses[kept].sum())


@pytest.mark.parametrize("state", [3, {"epoch": 1, "kept": [True]}, {"kept": None}])
def test_a_division_of_another_kind_is_refused(model, state):
    with pytest.raises(ValueError, match="division: expected an epoch and, for each pair"):
        model.on_load_checkpoint({"division": state})


@pytest.mark.slow
def test_clip_with_noise_and_augmentation_trains_and_keeps_its_division(small_config, tmp_path):
    changes = [
        "dataset.noise=0.5",
        "dataset.word_probability=0.3",
        "model.division.warmup_epochs=1",
    ]
    train(small_config(tmp_path, "model=rde", *CLIP, *changes))
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["division"]
    assert state["epoch"] == 1
    assert 0 < state["kept"].sum() < len(state["kept"])
    assert json.loads((tmp_path / "metrics.json").read_text())


def test_every_group_has_the_official_rate_and_decay_in_every_epoch(compose_config, tmp_path):
    """60 epochs: 5 of warm-up from a tenth, then half a cosine to 0."""
    cfg = compose_config("model=rde", *CLIP, "recipe=rde", f"paths.output_dir={tmp_path}")
    cfg.image_encoder.learning_rate = cfg.text_encoder.learning_rate = 1e-5
    model = build_model(cfg, build_encoders(cfg), 7)
    optimizer, schedule = optimizer_of(model, total_steps=60)
    names = {id(p): name for name, p in model.named_parameters()}
    for epoch in range(60):
        factor = (
            0.1 + 0.9 * epoch / 5
            if epoch < 5
            else 0.5 * (1 + torch.cos(torch.tensor(torch.pi * (epoch - 5) / 55)).item())
        )
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                name = names[id(parameter)]
                own = name.split(".")[0].endswith("token_embedding")
                base = 1e-3 if own else 2e-5 if "bias" in name else 1e-5
                assert group["lr"] == pytest.approx(base * factor, rel=1e-5), (name, epoch)
                assert group["weight_decay"] == (0.0 if "bias" in name else 4e-5), name
                assert group["eps"] == 1e-3
        optimizer.step()
        schedule["scheduler"].step()
    assert schedule["interval"] == "epoch"
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(names)


def test_contributions_of_tokens_that_are_pooled_add_up_to_the_score(model, pair_batch):
    model.eval()
    images, ids, valid = pair_batch.images, pair_batch.token_ids, pair_batch.valid
    with torch.no_grad():
        sides = model.encode_image(images), model.encode_text(ids, valid)
        found = (
            model.image_contributions(images, sides[1]),
            model.text_contributions(ids, valid, sides[0]),
        )
        pooled = model.image_encoder(images).pooled, model.text_encoder(ids, valid).pooled
    projections = model.image_projection, model.text_projection
    score = (sides[0] * sides[1]).sum(dim=1)
    for terms, tokens, project, others in zip(found, pooled, projections, sides[::-1], strict=True):
        constant = others[:, :10] @ project.bias / project(tokens).norm(dim=1) / 2**0.5
        torch.testing.assert_close(terms.sum(dim=1) + constant, score)
    assert not found[1][~valid].any()


def test_over_clip_the_chosen_tokens_bring_all_of_the_token_embedding(compose_config, tmp_path):
    cfg = compose_config("model=rde", *CLIP, f"paths.output_dir={tmp_path}")
    model = build_model(cfg, build_encoders(cfg), 7).eval()
    images = torch.randn(2, 3, *cfg.dataset.image_size)
    texts = nn.functional.normalize(torch.randn(2, model.feature_dim), dim=1)
    with torch.no_grad():
        terms = model.image_contributions(images, texts)
        products = model.encode_image(images) * texts
    torch.testing.assert_close(terms.sum(dim=1), products[:, 128:].sum(dim=1))
    count = int(terms.shape[1] * cfg.model.token_share)
    assert ((terms != 0).sum(dim=1) > 0).all()
    assert ((terms != 0).sum(dim=1) <= count).all()


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_the_published_size_trains_a_step_and_embeds(compose_config, tmp_path, dtype):
    offline = ["image_encoder.pretrained=false", "text_encoder.pretrained=false"]
    cfg = compose_config("experiment=rde", f"paths.output_dir={tmp_path}", *offline)
    torch.manual_seed(0)
    model = build_model(cfg, build_encoders(cfg), 11_003)
    optimizer, _ = optimizer_of(model, total_steps=60)
    token_ids = torch.tensor([[49406, 5, 6, 7, 49407], [49406, 8, 9, 49407, 49407]])
    valid = torch.arange(5) < torch.tensor([[5], [4]])
    rows = torch.arange(2)
    images = torch.randn(2, 3, *cfg.dataset.image_size)
    batch = PairBatch(images, token_ids, valid, rows, rows, rows, rows)
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        terms = model.training_terms(batch, 0).terms
        sum(terms.values()).backward()
    assert {name: value.dtype for name, value in terms.items()} == dict.fromkeys(
        ("alignment_global", "alignment_tokens"), torch.float32
    )
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
    optimizer.step()
    with torch.no_grad():
        features = model.eval().encode_image(images), model.encode_text(token_ids, valid)
    assert [tuple(side.shape) for side in features] == [(2, 1536), (2, 1536)]
    assert bool((features[0] @ features[1].T).isfinite().all())
