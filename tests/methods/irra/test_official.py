"""IRRA equals its official module: features, losses, gradients, draws, rates, initial spreads."""

import math

import pytest
import torch
from hydra.utils import instantiate
from torch.nn import functional as F

from tireid.data.masking import WordMasking
from tireid.encoders.clip import ClipImageEncoder, ClipTextEncoder
from tireid.losses.projection import SdmLoss
from tireid.methods.irra import Irra
from tireid.methods.irra.official import convert_official
from tireid.methods.optimization import optimizer_of
from tireid.structures import PairBatch

# No two widths of one model are equal, so that no transposed weight fits by chance: but the text
# projection is square in the official layout.
SMALL = {
    "image": {"dim": 12, "heads": 3, "mlp": 48, "depth": 2},
    "text": {"dim": 8, "heads": 2, "mlp": 32, "depth": 2},
    "out": 8,
    "relation_heads": 4,
    "relation_depth": 3,
    "patch": 4,
    "size": (12, 8),
    "words": 40,
    "length": 9,
    "classes": 5,
}
OTHER = SMALL | {
    "image": {"dim": 20, "heads": 2, "mlp": 80, "depth": 1},
    "text": {"dim": 6, "heads": 1, "mlp": 24, "depth": 3},
    "out": 10,
    "relation_heads": 2,
    "relation_depth": 1,
    "patch": 8,
    "size": (16, 24),
    "words": 61,
    "length": 14,
    "classes": 7,
}
SIZES = pytest.mark.parametrize("sizes", [SMALL, OTHER], ids=["small", "other"])
PIDS = torch.tensor([3, 1, 3, 0, 4])


def official_masking(ids, draws, random_words, sizes):
    """Return masked ids and labels, one draw a word in order, and another a random word."""
    mask, first, last = sizes["words"] - 3, 1, sizes["words"] - 4
    ids, labels = list(ids), [0] * len(ids)
    for position, word in enumerate(ids):
        if not 0 < word < mask:
            continue
        draw = draws[position]
        if draw < 0.15:
            labels[position] = word
            if draw / 0.15 < 0.8:
                ids[position] = mask
            elif draw / 0.15 < 0.9:
                ids[position] = first + int(random_words[position] * (last - first + 1))
    if not any(labels):
        labels[1], ids[1] = ids[1], mask
    return ids, labels


def captions(sizes):
    """Full, short, without a word, with an end token in the middle."""
    start, end, length = sizes["words"] - 2, sizes["words"] - 1, sizes["length"]
    generator = torch.Generator().manual_seed(5)
    draw = torch.randint(1, sizes["words"] - 3, (5, length), generator=generator).tolist()
    return [
        [start, *draw[0][: length - 2], end],
        [start, *draw[1][:3], end],
        [start, end],
        [start, draw[3][0], end, draw[3][1], end],
        [start, *draw[4][: length - 3], end],
    ]


def masking_of(sizes):
    words = sizes["words"]
    return WordMasking(mask_id=words - 3, first_word=1, end_word=words - 3, num_ids=words)


def draws_of(ids):
    """Some words masked, some replaced, some kept: 0.05, 0.125, 0.14 of 0.15."""
    choices = [0.05, 0.125, 0.9, 0.14, 0.6, 0.149, 0.01]
    return [choices[(3 * k + len(ids)) % 7] for k in range(len(ids))], [
        (0.37 * k + 0.11) % 1 for k in range(len(ids))
    ]


def batch_of(sizes, pad_id):
    """Return a batch as the data module makes it, with given draws, and the official inputs."""
    ids, masking = captions(sizes), masking_of(sizes)
    longest = max(map(len, ids))
    valid = torch.arange(longest) < torch.tensor([len(row) for row in ids])[:, None]
    token_ids = torch.tensor([row + [pad_id] * (longest - len(row)) for row in ids])
    draws = [draws_of(row) for row in ids]

    official = [official_masking(row, *draw, sizes) for row, draw in zip(ids, draws, strict=True)]
    padded = [
        torch.tensor([row + [0] * (sizes["length"] - len(row)) for row in rows])
        for rows in (ids, [masked for masked, _ in official], [label for _, label in official])
    ]
    masked = masking.batch(ids, draws, token_ids)
    images = torch.randn(
        5, 3, *sizes["size"], generator=torch.Generator().manual_seed(6), dtype=torch.float64
    )
    batch = PairBatch(
        images=images,
        token_ids=token_ids,
        valid=valid,
        label=PIDS,
        pid=PIDS,
        image_id=torch.arange(5),
        index=torch.arange(5),
        masked=masked,
    )
    return batch, images, *padded


def ours_of(weights, sizes, **switches):
    image, text = sizes["image"], sizes["text"]
    model = Irra(
        image_encoder=ClipImageEncoder(
            image_size=sizes["size"],
            patch_size=sizes["patch"],
            dim=image["dim"],
            depth=image["depth"],
            heads=image["heads"],
            out_dim=sizes["out"],
        ),
        text_encoder=ClipTextEncoder(
            vocab_size=sizes["words"],
            dim=text["dim"],
            depth=text["depth"],
            heads=text["heads"],
            max_positions=sizes["length"],
            out_dim=sizes["out"],
        ),
        num_train_pids=sizes["classes"],
        alignment=SdmLoss(),
        masking=masking_of(sizes),
        relation={"heads": sizes["relation_heads"], "depth": sizes["relation_depth"]},
        attend_padding=True,
        padded_length=sizes["length"],
        **switches,
    )
    model.load_state_dict(convert_official(weights).state)
    return model.double()


@SIZES
@pytest.mark.parametrize("in_place", [True, False], ids=["in place", "copied"])
def test_losses_and_all_gradients_are_the_official_ones(official, sizes, in_place):
    weights = official.weights(sizes)
    theirs = official.module(weights, sizes)
    model = ours_of(
        weights,
        sizes,
        masked_for="all" if in_place else "relation",
        end_position="largest_id",
    )
    batch, images, ids, masked, labels = batch_of(sizes, pad_id=sizes["words"] - 1)
    expected = theirs.losses(images, masked if in_place else ids, masked, labels, PIDS)
    found = model.training_terms(batch, 0).terms
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-9)

    sum(expected.values()).backward()
    sum(found.values()).backward()
    gradients = convert_official({k: v.grad for k, v in theirs.w.items()}).state
    compared = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert compared.keys() == gradients.keys()
    for name, gradient in gradients.items():
        size, error = torch.linalg.norm(gradient), torch.linalg.norm(compared[name] - gradient)
        if name.endswith("k_proj.bias"):  # no softmax depends on it: rounding
            assert max(size, error) < 1e-9
        else:
            assert error < 1e-6 * size, name


@SIZES
def test_features_and_similarities_are_the_official_ones(official, sizes):
    weights = official.weights(sizes, seed=1)
    theirs = official.module(weights, sizes)
    model = ours_of(weights, sizes, end_position="largest_id").eval()
    batch, images, ids, _, _ = batch_of(sizes, pad_id=sizes["words"] - 1)
    with torch.no_grad():
        image, text = theirs.image_tokens(images)[:, 0], theirs.text_feature(ids)
        torch.testing.assert_close(model.image_features(images), image)
        torch.testing.assert_close(model.text_features(batch.token_ids, batch.valid), text)
        scores = model.encode_text(batch.token_ids, batch.valid) @ model.encode_image(images).T
        torch.testing.assert_close(scores, F.cosine_similarity(text[:, None], image, dim=2))


@SIZES
def test_masking_is_the_official_one_with_given_draws(sizes):
    masking = masking_of(sizes)
    for ids in captions(sizes):
        draws = draws_of(ids)
        masked, labels = official_masking(ids, *draws, sizes)
        found, chosen = masking.mask(ids, *draws)
        assert found == masked
        assert chosen == [position for position, label in enumerate(labels) if label]


def official_group(name):
    """Return rate and decay of a parameter; the later rule wins."""
    rate, decay = 1e-5, 4e-5
    if "cross" in name:
        rate = 5e-5
    if "bias" in name:
        rate, decay = 2e-5, 0.0
    if "classifier" in name or "mlm_head" in name:
        rate = 5e-5
    return rate, decay


def test_rates_of_all_groups_are_the_official_ones_in_every_epoch(
    official, compose_config, tmp_path
):
    cfg = compose_config("experiment=irra_official", f"paths.output_dir={tmp_path}")
    recipe = instantiate(cfg.recipe, _convert_="all")
    weights = official.weights(SMALL)
    expected = [
        convert_official(
            {k: torch.full_like(v, official_group(k)[part]) for k, v in weights.items()}
        ).state
        for part in (0, 1)
    ]
    arguments = {name: recipe[name] for name in ("optimizer", "schedule", "learning_rates")}
    model = ours_of(weights, SMALL, **arguments).float()
    optimizer, schedule = optimizer_of(model, total_steps=60 * 1064)
    scheduler = schedule["scheduler"]
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.defaults["eps"] == 1e-3
    assert recipe["batch_size"] == 64
    for epoch in range(recipe["max_epochs"]):
        factor = 0.1 + 0.9 * epoch / 5
        if epoch >= 5:
            factor = 0.5 * (1 + math.cos(math.pi * (epoch - 5) / 55))
        seen = 0
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                seen += 1
                rate, decay = (values[names[id(parameter)]].flatten()[0] for values in expected)
                assert group["lr"] == pytest.approx(float(rate) * factor, rel=1e-5)
                assert group["weight_decay"] == pytest.approx(float(decay), rel=1e-5)
        assert seen == len(names)
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-15)


def test_initial_spreads_are_the_official_ones():
    torch.manual_seed(0)
    wide = SMALL | {"out": 256, "relation_depth": 2, "words": 900}
    model = Irra(
        image_encoder=ClipImageEncoder(
            image_size=(8, 8), patch_size=8, dim=8, depth=1, heads=1, out_dim=256
        ),
        text_encoder=ClipTextEncoder(vocab_size=900, dim=8, depth=1, heads=1, out_dim=256),
        num_train_pids=300,
        alignment=SdmLoss(),
        masking=masking_of(wide),
        relation={"heads": None, "depth": 2},
    )
    narrow, block = 256**-0.5 * 4**-0.5, model.relation.blocks[1]
    spreads = {
        model.classifier.weight: 0.001,
        model.relation.cross_attention.in_proj_weight: 256**-0.5,
        model.relation.cross_attention.out_proj.weight: narrow,
        block.attention.in_proj_weight: 256**-0.5,
        block.attention.out_proj.weight: narrow,
        block.contract.weight: narrow,
        block.expand.weight: 512**-0.5,
        model.relation.head.dense.weight: 512**-0.5,
        model.relation.head.out.weight: narrow,
    }
    for weight, spread in spreads.items():
        assert float(weight.detach().std()) == pytest.approx(spread, rel=0.03)
    assert not model.classifier.bias.any()
    assert not block.attention.in_proj_bias.any()
    assert not block.attention.out_proj.bias.any()
    assert block.attention.num_heads == 4
