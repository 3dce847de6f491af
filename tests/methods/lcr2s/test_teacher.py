"""The teacher: its supports, its terms, its two ways of embedding."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from tireid.data.supports import SupportSettings
from tireid.encoders.lstm import WordEmbedding
from tireid.losses.contrastive import InfoNceLoss
from tireid.losses.projection import CmpmLoss
from tireid.losses.ranking import RankingLoss
from tireid.methods.baseline import Baseline
from tireid.methods.lcr2s.fusion import KINDS, dual_terms
from tireid.methods.lcr2s.teacher import SOURCES, Lcr2sTeacher
from tireid.methods.lgur import Lgur
from tireid.methods.schedules import warmup_cosine
from tireid.structures import PairBatch, SupportBatch, Tokens

DIM = 8
SLOTS = {"num_images": 2, "num_texts": 2}


def dual(**arguments):
    return Baseline(alignment=InfoNceLoss(logit_scale=10.0), embedding_dim=DIM, **arguments)


@pytest.fixture
def make(normed_arguments):
    def made(encoders=None, **changes) -> Lcr2sTeacher:
        torch.manual_seed(2)
        asked = [name for name in ("num_images", "num_texts", "paired") if name in changes]
        settings = {
            "dual": dual,
            "fusion": {"heads": 2},
            "alignment": CmpmLoss(),
            "supports": SupportSettings(**SLOTS | {k: changes.pop(k) for k in asked}),
        }
        if changes.get("source") == "memory":
            settings["memory"] = {"capacity": 40}
        arguments = normed_arguments | (encoders or {})
        if encoders is None:
            arguments = copy.deepcopy(arguments)
        return Lcr2sTeacher(**arguments, **settings | changes)

    return made


@pytest.mark.parametrize("source", ["dataset", "batch"])
def test_features_are_fused_with_those_of_the_support(make, family_batch, source):
    teacher = make(source=source).eval()
    images = teacher.dual.image_features(family_batch.images)
    texts = teacher.dual.text_features(family_batch.token_ids, family_batch.valid)
    found = teacher.enrich(family_batch, 7)
    if source == "dataset":
        support = family_batch.support
        pools = (
            teacher.dual.image_features(support.images),
            teacher.dual.text_features(support.token_ids, support.valid),
        )
        slots = (support.image_slots, support.text_slots)
        for features, pool, rows, fusion, rich in zip(
            (images, texts), pools, slots, teacher.fusions, found, strict=True
        ):
            for row, anchor in enumerate(features):
                members = [pool[slot] for slot in rows[row].tolist() if slot != -1]
                members = torch.stack(members) if members else pool[:0]
                valid = torch.ones(1, len(members), dtype=torch.bool)
                expected = fusion(anchor[None], members[None], valid)[0]
                torch.testing.assert_close(rich[row], expected)
    else:
        supports = teacher.support_features(
            dual_terms(teacher.dual, family_batch, 7, 0.0), family_batch, 7
        )
        torch.testing.assert_close(
            found[0], teacher.image_fusion(images, supports.images, supports.images_valid)
        )
        torch.testing.assert_close(
            found[1], teacher.text_fusion(texts, supports.texts, supports.texts_valid)
        )


def test_a_frozen_teacher_draws_anew_what_it_drew_in_its_training(make, family_batch):
    teacher = make(source="batch", num_images=1).eval()
    anchors = dual_terms(teacher.dual, family_batch, 0, 0.0)

    def drawn():
        return [teacher.support_features(anchors, family_batch, step).images for step in range(9)]

    frozen = torch.stack(drawn())
    teacher.training = True
    assert not torch.equal(torch.stack(drawn()), frozen)


def test_teacher_and_student_draw_other_negatives_in_a_step(make, family_batch):
    class Draws(nn.Module):
        draws = True

        def forward(self, rows, columns, pids, *, draw):
            seen.add(4 * draw % 2**32)  # LGUR's, in what a CPU generator takes of a seed
            return rows.sum()

    seen = set()
    teacher = make(source="batch", alignment=Draws(), anchor_weight=1.0)
    teacher.dual.alignment = Draws()
    teacher.training_terms(family_batch, 3)
    assert len(seen) == 1
    teacher.dual.training_terms(family_batch, 3)  # as a student's
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("source", "paired"), [("batch", False), ("batch", True), ("memory", False)]
)
def test_supports_are_never_the_anchor_image_nor_a_caption_of_it(
    make, family_batch, source, paired
):
    teacher = make(source=source, paired=paired).train()
    teacher.training_terms(family_batch, 0)  # fills the memory
    teacher.eval()
    anchors = dual_terms(teacher.dual, family_batch, 1, 0.0)
    pools = {"images": anchors.images, "texts": anchors.texts}
    if source == "memory":
        pools = {
            "images": teacher.image_memory.features[family_batch.image_id],
            "texts": teacher.text_memory.features[family_batch.index],
        }
    drawn = {"images": set(), "texts": set()}
    for step in range(1, 30):
        supports = teacher.support_features(anchors, family_batch, step)
        chosen = {}
        for name, pool in pools.items():
            features = getattr(supports, name)
            valid = getattr(supports, f"{name}_valid")
            chosen[name] = [
                [
                    {j for j, row in enumerate(pool) if torch.equal(row, feature)}
                    for feature in features[i][valid[i]]
                ]
                for i in range(len(pool))
            ]
            for anchor, sets in enumerate(chosen[name]):
                for rows in sets:
                    assert rows  # a feature of the pool
                    for row in rows:
                        assert family_batch.pid[row] == family_batch.pid[anchor]
                        assert family_batch.image_id[row] != family_batch.image_id[anchor]
                        drawn[name].add((anchor, row))
        assert (chosen["images"] == chosen["texts"]) or not paired
    views = [
        (i, j)
        for i in range(len(family_batch.pid))
        for j in range(len(family_batch.pid))
        if family_batch.pid[i] == family_batch.pid[j]
        and family_batch.image_id[i] != family_batch.image_id[j]
    ]
    assert drawn["texts"] == set(views)  # all others, sooner or later
    assert len(drawn["images"]) > len(views) / 2


def test_a_support_larger_than_the_identity_leaves_slots_empty(make, family_batch):
    few, many = (make(source="batch", num_images=n, num_texts=n).eval() for n in (4, 40))
    # Identity 0 has four pairs, so no anchor can fill more slots.
    for found, expected in zip(
        many.enrich(family_batch, 0), few.enrich(family_batch, 0), strict=True
    ):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_no_support_at_all(make, family_batch, kind):
    alone = make(source="batch", num_images=0, num_texts=0, fusion={"kind": kind, "heads": 2})
    images, texts = alone.eval().enrich(family_batch, 0)
    torch.testing.assert_close(images, alone.image_features(family_batch.images))
    torch.testing.assert_close(
        texts, alone.text_features(family_batch.token_ids, family_batch.valid)
    )
    dataset = make(fusion={"kind": kind, "heads": 2}).eval()
    empty = SupportBatch(
        images=family_batch.images[:0],
        image_slots=torch.full((len(family_batch.pid), 3), -1),
        token_ids=family_batch.token_ids[:0],
        valid=family_batch.valid[:0],
        text_slots=torch.full((len(family_batch.pid), 3), -1),
    )
    found = dataset.enrich(family_batch._replace(support=empty), 0)
    torch.testing.assert_close(found[0], dataset.image_features(family_batch.images))


def test_embeddings_are_those_of_single_samples(make, family_batch):
    teacher = make(source="batch").eval()
    images = teacher.encode_image(family_batch.images)
    texts = teacher.encode_text(family_batch.token_ids, family_batch.valid)
    torch.testing.assert_close(images.norm(dim=1), torch.ones(len(images)))
    for row in range(2):
        one = slice(row, row + 1)
        torch.testing.assert_close(teacher.encode_image(family_batch.images[one])[0], images[row])
        alone = teacher.encode_text(family_batch.token_ids[one], family_batch.valid[one])
        torch.testing.assert_close(alone[0], texts[row])
    # Alone, the anchor attends to itself: its value, mapped, joins it.
    mixer = teacher.image_fusion.mixer
    x = teacher.dual.image_features(family_batch.images)
    expected = F.normalize(x + mixer.to_out(mixer.to_value(x)), dim=-1)
    torch.testing.assert_close(images, expected)


def test_the_terms(make, family_batch):
    teacher = make(
        alignment=RankingLoss(seed=3), alignment_weight=2.0, identity_weight=0.5, anchor_weight=0.25
    ).eval()
    terms, images, texts = teacher.training_terms(family_batch, 4)
    expected = teacher.enrich(family_batch, 4)
    torch.testing.assert_close(images, expected[0])
    torch.testing.assert_close(texts, expected[1])
    draw = 4 + 2**29  # its own, not its student's
    ranked = teacher.alignment(images, texts, family_batch.pid, draw=draw)
    torch.testing.assert_close(terms["alignment"], 2 * ranked)
    identity = sum(F.cross_entropy(teacher.classifier(x), family_batch.label) for x in expected)
    torch.testing.assert_close(terms["id"], 0.5 * identity)
    own = teacher.dual.training_terms(family_batch, draw).terms
    for name, term in own.items():
        torch.testing.assert_close(terms[f"anchor_{name}"], 0.25 * term)
    assert set(terms) == {"alignment", "id", "anchor_alignment", "anchor_id"}
    assert set(make().training_terms(family_batch, 4).terms) == {"alignment", "id"}
    smooth = make(label_smoothing=0.2).training_terms(family_batch, 4)
    identity = (
        F.cross_entropy(teacher.classifier(x), family_batch.label, label_smoothing=0.2)
        for x in (smooth.images, smooth.texts)
    )
    torch.testing.assert_close(smooth.terms["id"], sum(identity))
    assert set(make(identity_weight=0.0).training_terms(family_batch, 4).terms) == {"alignment"}


@pytest.mark.parametrize("anchor_weight", [0.0, 1.0])
@pytest.mark.parametrize("share_fusion", [False, True])
@pytest.mark.parametrize("source", SOURCES)
def test_every_trained_parameter_gets_a_finite_gradient(
    make, family_batch, source, share_fusion, anchor_weight
):
    teacher = make(source=source, share_fusion=share_fusion, anchor_weight=anchor_weight)
    teacher.training_terms(family_batch, 0)
    sum(teacher.training_terms(family_batch, 1).terms.values()).backward()
    for name, weight in teacher.named_parameters():
        if name.startswith("dual.classifier") and not anchor_weight:
            assert not weight.requires_grad
            continue
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert weight.grad.any(), name
    grouped = [p for group in teacher.parameter_groups().values() for p in group]
    assert len(grouped) == len({id(p) for p in grouped}) == len(list(teacher.parameters()))
    assert len(teacher.fusions) == (1 if share_fusion else 2)


def test_supports_are_dropped_in_training_only(make, family_batch):
    dropping = make(support_dropout=1.0)
    plain = make()
    alone = plain.train().training_terms(family_batch._replace(support=_emptied(family_batch)), 0)
    dropped = dropping.train().training_terms(family_batch, 0)
    torch.testing.assert_close(dropped.images, alone.images)
    torch.testing.assert_close(dropped.texts, alone.texts)
    for found, expected in zip(
        dropping.eval().enrich(family_batch, 0), plain.eval().enrich(family_batch, 0), strict=True
    ):
        torch.testing.assert_close(found, expected)
    half = make(support_dropout=0.5).train()
    differ = [
        (half.training_terms(family_batch, step).images - alone.images).abs().amax(1) > 1e-6
        for step in range(40)
    ]
    supported = (family_batch.support.image_slots != -1).any(1)
    differ = torch.stack(differ).float().mean(0)
    assert (differ[~supported] == 0).all()
    assert differ[supported].mean().item() == pytest.approx(0.5, abs=0.1)  # sd 0.03


def _emptied(batch: PairBatch) -> SupportBatch:
    support = batch.support
    assert support is not None
    return support._replace(
        image_slots=torch.full_like(support.image_slots, -1),
        text_slots=torch.full_like(support.text_slots, -1),
    )


def test_draws_follow_seed_and_step(make, family_batch):
    teacher, other = make(source="batch").eval(), make(source="batch", seed=1).eval()
    first, again, later = (teacher.enrich(family_batch, step)[0] for step in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, later)
    assert not torch.allclose(first, other.enrich(family_batch, 0)[0])


def test_the_memory_is_filled_in_training_and_read_later(make, family_batch):
    teacher = make(source="memory").train()
    nothing = teacher.support_features(
        dual_terms(teacher.dual, family_batch, 0, 0.0), family_batch, 0
    )
    assert not nothing.images_valid.any()
    teacher.training_terms(family_batch, 0)
    teacher.eval()
    filled = copy.deepcopy(teacher.state_dict())
    assert (filled["image_memory.written"] == 0).sum() == len(family_batch.image_id.unique())
    assert (filled["text_memory.written"] == 0).sum() == len(family_batch.index)
    supports = teacher.support_features(
        dual_terms(teacher.dual, family_batch, 1, 0.0), family_batch, 1
    )
    assert supports.texts_valid.any()
    assert not supports.texts.requires_grad
    teacher.enrich(family_batch, 5)
    teacher.training_terms(family_batch, 5)
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, filled[name]), name


def test_over_lgur_each_prototype_is_fused_by_itself(normed_arguments, family_batch):
    head = {
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
    lgur = partial(Lgur, head=head, alignment=RankingLoss(seed=1))
    teacher = Lcr2sTeacher(
        **normed_arguments,
        dual=lgur,
        alignment=CmpmLoss(),
        fusion={"heads": 2},
        supports=SupportSettings(4, 4),
        source="batch",
        anchor_weight=1.0,
    )
    assert teacher.feature_dim == 18
    assert teacher.image_fusion.mixer.to_query.weight.shape == (6, 6)
    terms = teacher.training_terms(family_batch, 0).terms
    assert {"id", "anchor_id_guided", "anchor_alignment_text"} <= set(terms)
    sum(terms.values()).backward()
    for name, weight in teacher.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
    silent = Lcr2sTeacher(
        **copy.deepcopy(normed_arguments),
        dual=partial(Lgur, head=head | {"pooling": "max"}, alignment=RankingLoss(seed=1)),
        alignment=CmpmLoss(),
        fusion={"heads": 2, "parts": None},
        supports=SupportSettings(4, 4),
        source="batch",
    )
    assert silent.image_fusion.mixer.to_query.weight.shape == (6, 6)  # one part in their place
    sum(silent.training_terms(family_batch, 0).terms.values()).backward()
    for name, weight in silent.named_parameters():
        assert (weight.grad is not None) == weight.requires_grad, name


@pytest.mark.parametrize("source", SOURCES)
def test_nothing_in_a_step_waits_for_the_device(make, normed_arguments, family_batch, source):
    """Fake tensors have no values: a step that asks for one, or for a size that follows, fails."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        names = ("image_encoder", "text_encoder")
        encoders = {name: type(normed_arguments[name])() for name in names}
        teacher = make(encoders, source=source, support_dropout=0.5, anchor_weight=1.0).train()
        teacher.training_terms(family_batch, 0)
        terms = teacher.training_terms(family_batch, 1).terms
    assert set(terms) == {"alignment", "id", "anchor_alignment", "anchor_id"}


def test_errors_name_what_is_wrong(make, family_batch):
    with pytest.raises(ValueError, match="source: expected one of dataset, batch, memory"):
        make(source="disk")
    with pytest.raises(ValueError, match="paired: expected as many num_texts as num_images"):
        make(source="batch", paired=True, num_texts=3)
    with pytest.raises(ValueError, match="paired: expected false with supports from memory"):
        make(source="memory", paired=True)
    with pytest.raises(ValueError, match="expected batches with support sets"):
        make().enrich(family_batch._replace(support=None), 0)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("num_images", -1, "an integer >= 0"),
        ("num_texts", 1.5, "an integer >= 0"),
        ("support_dropout", 1.5, "a number from 0 to 1"),
        ("slot_dropout", -0.5, "a number from 0 to 1"),
        ("alignment_weight", -1, "a number >= 0"),
        ("identity_weight", float("nan"), "a number >= 0"),
        ("anchor_weight", "much", "a number >= 0"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_settings_out_of_range_are_named(make, name, value, expected):
    with pytest.raises(ValueError, match=rf"{name}: expected {expected}, got {value!r}"):
        make(**{name: value})
    with pytest.raises(ValueError, match="expected one above 0, got none"):
        make(alignment_weight=0.0, identity_weight=0, anchor_weight=0.0)


class FlatImages(nn.Module):
    out_dim = 6

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(3 * 16 * 8, 6)

    def forward(self, images):
        local = self.map(images.flatten(1))[:, None]
        return Tokens(local[:, 0], local, torch.ones(len(images), 1, dtype=torch.bool))


def loss_and_gradient(source: str, rows: slice) -> tuple[float, np.ndarray]:
    """Three steps of a small teacher over some rows of fixed batches; the last one's gradient."""
    torch.manual_seed(0)
    teacher = Lcr2sTeacher(
        image_encoder=FlatImages(),
        text_encoder=WordEmbedding(50, 6),
        optimizer=torch.optim.Adam,
        schedule=warmup_cosine,
        learning_rates={},
        num_train_pids=4,
        dual=dual,
        fusion={"heads": 2},
        alignment=CmpmLoss(),
        source=source,
        memory={"capacity": 40} if source == "memory" else None,
        supports=SupportSettings(**SLOTS),
        support_dropout=0.3,
        anchor_weight=0.5,
    )
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 1, 0, 2, 0, 1, 3, 1])
    for step in range(3):
        batch = PairBatch(
            images=torch.randn(8, 3, 16, 8, generator=generator)[rows],
            token_ids=torch.randint(1, 50, (8, 5), generator=generator)[rows],
            valid=torch.ones(8, 5, dtype=torch.bool)[rows],
            label=labels[rows],
            pid=labels[rows],
            image_id=torch.arange(8)[rows] + 8 * (step % 2),
            index=torch.arange(8)[rows] + 8 * step,
        )
        loss = sum(teacher.training_terms(batch, step).terms.values())
    gradients = torch.autograd.grad(loss, list(teacher.parameters()))
    return loss.item(), torch.cat([g.flatten() for g in gradients]).numpy()


def train_step(rank: int) -> dict[str, tuple[float, np.ndarray]]:
    results = {}
    for source in ("batch", "memory"):
        loss, gradient = loss_and_gradient(source, slice(4 * rank, 4 * rank + 4))
        shared = torch.cat([torch.tensor([loss]), torch.from_numpy(gradient)])
        dist.all_reduce(shared)  # as DDP: the average over the ranks
        results[source] = (shared[0].item() / 2, (shared[1:] / 2).numpy())
    return results


@pytest.mark.ddp
@pytest.mark.slow
def test_two_ranks_train_like_one(on_two_ranks):
    for rank in on_two_ranks(train_step):
        for source, (loss, gradient) in rank.items():
            expected, expected_gradient = loss_and_gradient(source, slice(None))
            assert loss == pytest.approx(expected, rel=1e-5)
            np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-6)
