"""The student: what it follows, what it never touches, what its checkpoints hold."""

import copy
import csv
import math
from functools import partial

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from torch.nn import functional as F
from torch.utils.data import DataLoader

from tireid.data.supports import SupportSettings
from tireid.encoders.low_rank import LowRankLinear
from tireid.losses.contrastive import InfoNceLoss
from tireid.losses.distillation import FeatureDistillationLoss, RelationDistillationLoss
from tireid.losses.projection import CmpmLoss, SdmLoss
from tireid.losses.tal import TalLoss
from tireid.methods.baseline import Baseline
from tireid.methods.lcr2s import Lcr2sTeacher
from tireid.methods.lcr2s.student import Lcr2s, gradient_shares
from tireid.methods.lcr2s.targets import TargetTable, enrich_split
from tireid.methods.lgur import Lgur
from tireid.tracking.csv_log import CsvLog
from tireid.training.lightning_module import LightningMethod

pytestmark = [
    pytest.mark.filterwarnings("ignore:You defined a `validation_step`"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec"),
]
DIM = 8


def dual(**arguments):
    settings = {"embedding_dim": DIM} | arguments
    return Baseline(alignment=InfoNceLoss(logit_scale=10.0), **settings)


def student_settings():
    return {
        "dual": dual,
        "feature_distillation": FeatureDistillationLoss(),
        "relation_distillation": RelationDistillationLoss(),
    }


def make_teacher(arguments, **changes):
    settings = {"fusion": {"heads": 2}, "source": "batch", "supports": SupportSettings(2, 2)}
    settings |= {"alignment": CmpmLoss(), "dual": dual} | changes
    return Lcr2sTeacher(**arguments, **settings)


@pytest.fixture
def teacher(normed_arguments):
    torch.manual_seed(9)
    made = make_teacher(copy.deepcopy(normed_arguments))
    for weight in made.parameters():  # no copy of the student
        torch.nn.init.normal_(weight, std=0.3)
    return made


@pytest.fixture
def make_student(normed_arguments):
    def made(teacher=None, **changes):
        torch.manual_seed(4)
        settings = student_settings() | changes
        return Lcr2s(**copy.deepcopy(normed_arguments), teacher=teacher, **settings)

    return made


def fit(model, batches, *, epochs=1, resume=None, **options):
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **{"logger": False} | options,
    )
    model.train()
    loader = DataLoader(batches, batch_size=None)
    trainer.fit(LightningMethod(model), loader, ckpt_path=resume, weights_only=True)
    return trainer


def test_the_terms_are_the_dual_encoders_and_the_distances_from_the_teacher(
    make_student, teacher, family_batch
):
    student = make_student(
        teacher, feature_weight=0.5, relation_weight=3.0, task_weight=2.0
    ).train()
    terms, images, texts = student.training_terms(family_batch, 3)
    own = student.dual.training_terms(family_batch, 3)
    torch.testing.assert_close(images, own.images)
    torch.testing.assert_close(texts, own.texts)
    assert set(terms) == {"alignment", "id", "distil_features", "distil_relations"}
    for name in ("alignment", "id"):
        torch.testing.assert_close(terms[name], 2 * own.terms[name])
    with torch.no_grad():
        rich_images, rich_texts = teacher.enrich(family_batch, 3)
    features = F.mse_loss(images, rich_images) + F.mse_loss(texts, rich_texts)
    torch.testing.assert_close(terms["distil_features"], 0.5 * features)
    mine = F.cosine_similarity(texts[:, None], images[None], dim=2)
    theirs = F.cosine_similarity(rich_texts[:, None], rich_images[None], dim=2)
    relations = (mine - theirs).square().sum() / len(images)
    torch.testing.assert_close(terms["distil_relations"], 3 * relations)


@pytest.mark.parametrize("loss", [SdmLoss(), TalLoss()])
def test_the_losses_of_other_methods_align_teacher_and_student(
    normed_arguments, make_student, family_batch, loss
):
    dual = partial(Baseline, alignment=loss, embedding_dim=DIM)
    teacher = make_teacher(copy.deepcopy(normed_arguments), dual=dual, alignment=loss)
    student = make_student(copy.deepcopy(teacher), dual=dual)
    for model, own in ((teacher, teacher.dual), (student, student.dual)):
        terms, images, texts = model.train().training_terms(family_batch, 3)
        sum(terms.values()).backward()
        expected = loss(images, texts, family_batch.pid)
        assert any(torch.allclose(term, expected) for term in terms.values())
        assert all(p.grad.isfinite().all() for p in own.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ((0.0, 0.0), set()),
        ((1.0, 0.0), {"distil_features"}),
        ((0.0, 1.0), {"distil_relations"}),
        ((1.0, 1.0), {"distil_features", "distil_relations"}),
    ],
)
def test_the_ablations_leave_terms_out(make_student, teacher, family_batch, weights, expected):
    student = make_student(teacher, feature_weight=weights[0], relation_weight=weights[1])
    assert set(student.training_terms(family_batch, 0).terms) == {"alignment", "id"} | expected
    if not expected:  # no teacher is needed then
        untaught = make_student(None, feature_weight=0.0, relation_weight=0.0)
        untaught.training_terms(family_batch, 0)


def test_distillation_is_zero_for_a_student_equal_to_its_teacher(normed_arguments, family_batch):
    """Without supports and with the mean as fusion, the teacher's features are the anchors'."""
    teacher = make_teacher(
        copy.deepcopy(normed_arguments), fusion={"kind": "mean"}, supports=SupportSettings(0, 0)
    )
    student = Lcr2s(
        **copy.deepcopy(normed_arguments),
        **student_settings(),
        teacher=teacher,
        init_from_teacher=True,
    ).eval()
    terms = student.training_terms(family_batch, 0).terms
    assert terms["distil_features"] == terms["distil_relations"] == 0
    assert terms["id"] > 0


def test_the_student_holds_nothing_of_the_teacher(make_student, teacher, family_batch):
    plain, student = make_student(), make_student(teacher)
    assert plain.state_dict().keys() == student.state_dict().keys()
    assert all(name.startswith("dual.") for name in student.state_dict())
    assert {id(p) for p in student.parameters()}.isdisjoint(id(p) for p in teacher.parameters())
    assert not any(module is teacher for module in student.modules())
    grouped = [p for group in student.parameter_groups().values() for p in group]
    assert len(grouped) == len({id(p) for p in grouped}) == len(list(student.parameters()))
    student.training_terms(family_batch, 0)
    assert all(p.grad is None for p in teacher.parameters())


def test_only_the_dual_encoder_embeds_and_no_support_is_asked_for(
    make_student, teacher, family_batch
):
    student = make_student(teacher).eval()
    images = student.encode_image(family_batch.images)
    texts = student.encode_text(family_batch.token_ids, family_batch.valid)
    assert torch.equal(images, student.dual.encode_image(family_batch.images))
    assert torch.equal(texts, student.dual.encode_text(family_batch.token_ids, family_batch.valid))
    alone = student.encode_image(family_batch.images[2:3])
    torch.testing.assert_close(alone[0], images[2])
    torch.testing.assert_close(images.norm(dim=1), torch.ones(len(images)))


@pytest.mark.parametrize("source", ["batch", "memory"])
def test_the_teacher_is_bit_identical_after_the_second_stage(
    make_student, normed_arguments, family_batch, source
):
    memory = {"capacity": 40} if source == "memory" else None
    teacher = make_teacher(copy.deepcopy(normed_arguments), source=source, memory=memory)
    fit(teacher, [family_batch] * 3)
    before = copy.deepcopy(teacher.state_dict())
    assert any("running_var" in name for name in before)
    student = make_student(teacher)
    started = copy.deepcopy(student.state_dict())
    student.train()
    assert not teacher.training
    fit(student, [family_batch] * 3)
    assert not any(module.training for module in teacher.modules())
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name]), name
    changed = [n for n, value in student.state_dict().items() if not torch.equal(value, started[n])]
    assert any("running_var" in name for name in changed)


def test_the_teacher_moves_with_the_student(make_student, teacher):
    student = make_student(teacher)
    student.to(torch.float64)
    assert teacher.classifier.weight.dtype == torch.float64
    student.to("meta")
    assert teacher.classifier.weight.device.type == "meta"


def test_starting_from_the_teacher(make_student, teacher):
    student = make_student(teacher, init_from_teacher=True)
    for name, value in student.dual.state_dict().items():
        assert torch.equal(value, teacher.dual.state_dict()[name])
    table = TargetTable(torch.zeros(30, DIM), torch.zeros(30, DIM))
    by_table = make_student(init_from_teacher=True)
    by_table.set_teacher(table, origin=teacher)
    assert torch.equal(by_table.dual.classifier.weight, teacher.dual.classifier.weight)
    adapted = make_student(init_from_teacher=True)
    adapted.dual.text_projection = LowRankLinear(adapted.dual.text_projection, 2)
    adapted.set_teacher(teacher)
    assert torch.equal(adapted.dual.text_projection.weight, teacher.dual.text_projection.weight)
    weight = student.dual.image_projection.weight
    assert weight is not teacher.dual.image_projection.weight
    assert not torch.equal(
        make_student(teacher).dual.image_projection.weight, teacher.dual.image_projection.weight
    )


def test_the_distillation_weights_rise(make_student, teacher, family_batch):
    student = make_student(teacher, warmup_epochs=1.5)
    fit(student, [family_batch] * 4, epochs=2)
    assert student.warmup_steps == 6
    student.eval()
    for step, share in [(0, 1 / 6), (2, 3 / 6), (5, 1), (50, 1)]:
        terms, images, texts = student.training_terms(family_batch, step)
        rich_images, rich_texts = teacher.enrich(family_batch, step)
        features = F.mse_loss(images, rich_images) + F.mse_loss(texts, rich_texts)
        torch.testing.assert_close(terms["distil_features"], share * features)
        relations = student.relation_distillation(images, texts, rich_images, rich_texts)
        torch.testing.assert_close(terms["distil_relations"], share * relations)


def test_every_trained_parameter_gets_a_finite_gradient(make_student, teacher, family_batch):
    for task_weight in (1.0, 0.0):
        student = make_student(teacher, task_weight=task_weight)
        sum(student.training_terms(family_batch, 0).terms.values()).backward()
        for name, weight in student.named_parameters():
            if name.startswith("dual.classifier") and not task_weight:
                assert not weight.requires_grad
                continue
            assert weight.grad is not None, name
            assert weight.grad.isfinite().all(), name
            assert weight.grad.any(), name


def test_shares_of_the_gradient():
    x, y = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    terms = {
        "three": 3 * x[0],
        "one": y[1] ** 2 / 2,
        "pythagoras": 3 * x[1] + 4 * y[2],
        "elsewhere": torch.zeros(1, requires_grad=True).sum(),
    }
    shares = gradient_shares(terms, (x, y))
    assert {name: float(share) for name, share in shares.items()} == pytest.approx(
        {"three": 3 / 9, "one": 1 / 9, "pythagoras": 5 / 9, "elsewhere": 0.0}
    )


def test_shares_change_no_gradient(make_student, teacher, family_batch):
    gradients = []
    for steps in (0, 1):
        student = make_student(teacher, gradient_share_steps=steps)
        found = student.training_terms(family_batch, 0)
        assert bool(student.measurements(found, 0)) == bool(steps)
        sum(found.terms.values()).backward()
        gradients.append([weight.grad for weight in student.parameters()])
    for plain, shared in zip(*gradients, strict=True):
        assert torch.equal(plain, shared)


def test_shares_are_logged_at_their_own_steps_whatever_the_epochs_and_other_rows(
    make_student, teacher, family_batch, tmp_path
):
    student = make_student(teacher, gradient_share_steps=5)
    expected = {}
    real = student.measurements

    def kept(terms, step):
        shares = real(terms, step)
        expected[step] = {n: float(share) for n, share in shares.items()}
        return shares

    student.measurements = kept
    logger = CsvLog(str(tmp_path))
    fit(student, [family_batch] * 4, epochs=3, logger=logger, log_every_n_steps=3)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = [
            {n.removeprefix("train/"): float(v) for n, v in row.items() if v}
            for row in csv.DictReader(file)
            if row["train/gradient_share_id"]
        ]
    assert [(row["step"], row["epoch"]) for row in rows] == [(0, 0), (5, 1), (10, 2)]
    for row in rows:
        shares = {n: v for n, v in row.items() if n not in ("step", "epoch")}
        assert shares == pytest.approx(expected[row["step"]])
        names = ("alignment", "id", "distil_features", "distil_relations")
        assert set(shares) == {f"gradient_share_{name}" for name in names}
        assert sum(shares.values()) == pytest.approx(1.0)


def test_lgurs_own_terms_have_shares_at_the_ranked_features(normed_arguments, family_batch):
    head = {"dictionary_size": 5, "prototype_head_dim": 4, "num_prototypes": 2, "feature_dim": 4}
    lgur = Lgur(**normed_arguments, head=head, alignment=CmpmLoss())
    terms, images, texts = lgur.training_terms(family_batch, 0)
    shares = gradient_shares(terms, (images, texts))
    direct = {"id_dictionary", "alignment_dictionary", "alignment_text", "alignment_image"}
    assert {name for name, share in shares.items() if share > 0} == direct


def test_errors_name_what_is_wrong(make_student, teacher, normed_arguments, family_batch):
    with pytest.raises(ValueError, match="expected a trained teacher, got none; use set_teacher"):
        make_student().training_terms(family_batch, 0)
    narrow = partial(dual, embedding_dim=4)
    with pytest.raises(ValueError, match="features of 4, as wide as the student's, got 8"):
        make_student(teacher, dual=narrow)
    with pytest.raises(ValueError, match="joint: expected a teacher to be made"):
        make_student(teacher, joint=True)
    maker = partial(make_teacher, copy.deepcopy(normed_arguments))
    with pytest.raises(ValueError, match="init_from_teacher: expected false with joint=true"):
        make_student(maker, joint=True, init_from_teacher=True)
    # Not joint: the maker is left alone, as in evaluation.
    assert make_student(maker).state_dict().keys() == make_student().state_dict().keys()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task_weight": -1.0}, "task_weight: expected a number >= 0, got -1.0"),
        ({"feature_weight": "x"}, "feature_weight: expected a number >= 0, got 'x'"),
        ({"relation_weight": True}, "relation_weight: expected a number >= 0, got True"),
        ({"warmup_epochs": -1}, "warmup_epochs: expected a number >= 0, got -1"),
        ({"gradient_share_steps": -3}, "gradient_share_steps: expected an integer >= 0, got -3"),
        (
            {"task_weight": 0.0, "feature_weight": 0.0, "relation_weight": 0.0},
            "expected one above 0, got none",
        ),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_settings_out_of_range_are_named(make_student, settings, message):
    with pytest.raises(ValueError, match=message):
        make_student(**settings)


@pytest.fixture
def make_joint(normed_arguments):
    def made():
        torch.manual_seed(4)
        recipe = {k: normed_arguments[k] for k in ("optimizer", "schedule", "learning_rates")}
        maker = partial(
            Lcr2sTeacher,
            **recipe,
            dual=dual,
            fusion={"heads": 2},
            source="batch",
            supports=SupportSettings(2, 2),
            anchor_weight=1.0,
            alignment=CmpmLoss(),
        )
        arguments = copy.deepcopy(normed_arguments)
        return Lcr2s(**arguments, **student_settings(), teacher=maker, joint=True)

    return made


def test_joint_training_trains_both_and_distils_one_way(make_joint, family_batch):
    model = make_joint()
    terms = model.training_terms(family_batch, 0).terms
    assert {"teacher_alignment", "teacher_id", "teacher_anchor_id", "distil_features"} <= set(terms)
    (terms["distil_features"] + terms["distil_relations"]).backward()
    assert all(weight.grad is None for weight in model.teacher.parameters())
    assert model.dual.image_projection.weight.grad is not None
    grouped = [p for group in model.parameter_groups().values() for p in group]
    assert len(grouped) == len({id(p) for p in grouped}) == len(list(model.parameters()))
    before = copy.deepcopy(model.teacher.state_dict())
    fit(model, [family_batch] * 2)
    after = model.teacher.state_dict()
    for part in ("dual.image_projection.weight", "fusions.0.mixer.to_out.weight"):
        assert not torch.equal(before[part], after[part])


def test_a_joint_checkpoint_keeps_the_teacher_apart_and_resumes(make_joint, family_batch, tmp_path):
    half, whole, resumed = make_joint(), make_joint(), make_joint()
    trainer = fit(half, [family_batch] * 3, epochs=1)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    saved = torch.load(tmp_path / "half.ckpt", weights_only=True)
    assert all(name.startswith("dual.") for name in saved["state_dict"])
    assert saved["teacher"].keys() == half.teacher.state_dict().keys()

    # As evaluation does it: the weights alone, strictly.
    evaluated = make_joint()
    evaluated.load_state_dict(saved["state_dict"])
    assert torch.equal(
        evaluated.eval().encode_image(family_batch.images),
        half.eval().encode_image(family_batch.images),
    )
    with pytest.raises(RuntimeError, match=r"Missing key.*dual\.classifier\.bias"):
        evaluated.load_state_dict(
            {k: v for k, v in saved["state_dict"].items() if k != "dual.classifier.bias"}
        )

    # All of two epochs, so that the schedules agree; one is stopped after the first.
    fit(whole, [family_batch] * 3, epochs=2)
    stop = LambdaCallback(
        on_train_epoch_end=lambda trainer, _: (
            trainer.save_checkpoint(tmp_path / "first.ckpt"),
            setattr(trainer, "should_stop", True),
        )
    )
    fit(make_joint(), [family_batch] * 3, epochs=2, callbacks=[stop])
    fit(resumed, [family_batch] * 3, epochs=2, resume=tmp_path / "first.ckpt")
    for module, other in ((resumed, whole), (resumed.teacher, whole.teacher)):
        for name, value in module.state_dict().items():
            torch.testing.assert_close(value, other.state_dict()[name])


def test_targets_computed_once_are_the_teachers(make_student, teacher, family_batch):
    """Slots that point at the same supports give what `enrich` gives batch by batch."""
    teacher.eval()
    images = teacher.dual.image_features(family_batch.images)
    texts = teacher.dual.text_features(family_batch.token_ids, family_batch.valid)
    slots = torch.full((len(images), 2), -1)
    slots[0, 1], slots[3, 0] = 2, 5
    rich = enrich_split(teacher.image_fusion, images, slots, chunk=3)
    torch.testing.assert_close(rich[1], teacher.image_features(family_batch.images)[1])
    valid = torch.ones(1, 1, dtype=torch.bool)
    torch.testing.assert_close(
        rich[3:4], teacher.image_fusion(images[3:4], images[None, 5:6], valid)
    )
    # Rows are those of the split: image by `image_id`, caption by `index`.
    table = TargetTable(torch.zeros(30, DIM), torch.zeros(30, DIM))
    table.images[family_batch.image_id] = rich.detach()
    table.texts[family_batch.index] = texts.detach()
    found = table.enrich(family_batch, 0)
    torch.testing.assert_close(found[1], texts)
    student = make_student(table)
    terms = student.eval().training_terms(family_batch, 0)
    expected = F.mse_loss(terms.images, found[0]) + F.mse_loss(terms.texts, texts)
    torch.testing.assert_close(terms.terms["distil_features"], expected)
    assert math.isfinite(float(expected.detach()))
