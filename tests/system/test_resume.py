"""A run that is killed after any step ends as if it had not been, to the last bit."""

import csv
import errno
import json
import os
import shutil
from functools import partial

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from tireid.runs.settings import fingerprint, read_config
from tireid.training.lightning_module import LightningMethod
from tireid.training.run import train
from tireid.training.shortage import shortage

# Small runs of four steps an epoch; every step can be resumed from.
COMMON = ["callbacks.last.every_n_train_steps=1", "trainer.log_every_n_steps=1"]
MEASURED = ("train/peak_memory_mib", "train/images_per_second")
TIMES = ("seconds", "images_per_second", "peak_memory_mib", "teacher", "config_sha256")
SOURCES = ("commit", "dirty")  # may be edited while tests run


class KilledError(BaseException):
    """Stands for a kill: nobody catches it."""


def die_at(monkeypatch, step, method=None):
    """Have training die within a step, once."""
    total_loss = LightningMethod.total_loss

    def dying(self, terms, batch_size):
        if self.global_step == step and method in (None, type(self.method).__name__):
            monkeypatch.setattr(LightningMethod, "total_loss", total_loss)
            raise KilledError
        return total_loss(self, terms, batch_size)

    monkeypatch.setattr(LightningMethod, "total_loss", dying)


@pytest.fixture
def kill_at(monkeypatch):
    """Return a function that has training die within a step, once."""
    return partial(die_at, monkeypatch)


@pytest.fixture(scope="module")
def unbroken(small_config, tmp_path_factory):
    """Return a function from settings to the folder of a run that nothing stopped, kept."""
    known = {}

    def run(*settings):
        if settings not in known:
            known[settings] = tmp_path_factory.mktemp("unbroken")
            train(small_config(known[settings], *COMMON, *settings))
        return known[settings]

    return run


@pytest.fixture(scope="module")
def dead(small_config, tmp_path_factory):
    """Return a function from settings, a step and a method to the folder of a run that died there.

    It is kept: whoever continues the run takes a copy.
    """
    known = {}

    def run(settings, step, method=None):
        key = (*settings, step, method)
        if key not in known:
            known[key] = tmp_path_factory.mktemp("dead")
            with pytest.MonkeyPatch.context() as patch:
                die_at(patch, step, method)
                with pytest.raises(KilledError):
                    train(small_config(known[key], *COMMON, *settings))
        return known[key]

    return run


def left_by(folder):
    """Return what a run is compared by: record, log, weights, names of files."""
    record = json.loads((folder / "metrics.json").read_text())
    with (folder / "metrics.csv").open(newline="") as file:
        rows = [
            {name: value for name, value in row.items() if name not in MEASURED}
            for row in csv.DictReader(file)
        ]
    weights = {
        str(path.relative_to(folder)): torch.load(path, weights_only=True)["state_dict"]
        for path in folder.rglob("*.ckpt")
    }
    kept = {name: value for name, value in record.items() if name not in TIMES + SOURCES}
    return kept, rows, weights, sorted(path.name for path in folder.rglob("*"))


def assert_equal_runs(folder, other):
    record, rows, weights, names = left_by(folder)
    its_record, its_rows, its_weights, its_names = left_by(other)
    assert names == its_names
    assert record == its_record
    assert rows == its_rows
    for file, state in weights.items():
        assert state.keys() == its_weights[file].keys()
        for name, tensor in state.items():
            assert torch.equal(tensor, its_weights[file][name]), (file, name)


BY_TIME = ["callbacks.last.every_n_train_steps=null", "callbacks.last.minutes=0"]
# The plain baseline draws its figures, which are a quarter of a small run's time.
UNDRAWN = ["~callbacks.curves", "~callbacks.gallery"]
LGUR, IRRA, RDE = (["model=" + name, *UNDRAWN] for name in ("lgur", "irra", "rde"))
LCR2S = ["model=lcr2s", "model.teacher.source=memory", *UNDRAWN]
JOINT = ["model=lcr2s", "model.joint=true", *UNDRAWN]
AVERAGED = ["model=baseline", "average_decay=0.9", *UNDRAWN]
SPARE = [  # LoRA, blocks computed again, batches in pieces
    *UNDRAWN,
    *("model=baseline", "image_encoder=vit_tiny", "text_encoder=bert_tiny", "lora_rank=2"),
    *("checkpoint_activations=true", "micro_batch=3"),
]
_MADE = "layout: synthetic, num_train_ids: 8, num_val_ids: 3, num_test_ids: 4, images_per_id: 2"
MIXED = [  # two synthetic sets of other people as one, each with its share of an epoch
    *UNDRAWN,
    "model=baseline",
    "~dataset.read",
    "+dataset.read={_target_: tireid.data.mixed.read_mixed, _partial_: true,"
    " cache_dir: ${paths.cache_dir},"
    f" sets: {{one: {{{_MADE}}}, two: {{{_MADE}, world_seed: 1}}}}}}",
    "+dataset.weights={one: 1, two: 3}",
]
HALVES = ["model=baseline", "+trainer.val_check_interval=0.5", *UNDRAWN]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "step", "method", "place"),
    [
        (["model=baseline"], 6, None, "epoch 2, batch 2, step 6"),
        (["model=baseline"], 4, None, "epoch 1, step 4"),
        (LGUR, 3, None, "epoch 1, batch 3, step 3"),
        (IRRA, 3, None, "epoch 1, batch 3, step 3"),
        (RDE, 6, None, "epoch 2, batch 2, step 6"),  # within what a division is for
        (RDE, 4, None, "epoch 1, step 4"),
        (AVERAGED, 6, None, "epoch 2, batch 2, step 6"),
        (SPARE, 6, None, "epoch 2, batch 2, step 6"),
        (HALVES, 6, None, "epoch 2, batch 2, step 6"),
        (MIXED, 11, None, "epoch 2, batch 3, step 11"),
        (LCR2S, 6, "Lcr2sTeacher", "epoch 2, batch 2, step 6"),
        (LCR2S, 5, "Lcr2s", "epoch 2, batch 1, step 5"),
        (JOINT, 5, "Lcr2s", "epoch 2, batch 1, step 5"),
    ],
)
def test_a_killed_run_ends_as_an_unbroken_one(
    small_config, tmp_path, unbroken, dead, capsys, settings, step, method, place
):
    whole = unbroken(*settings)
    shutil.copytree(dead(settings, step, method), tmp_path, dirs_exist_ok=True)
    capsys.readouterr()
    train(small_config(tmp_path, *COMMON, *settings))
    assert f"continuing after {place}, from" in capsys.readouterr().out
    assert_equal_runs(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["queries_test.npz", "metrics.json"])
def test_a_disk_that_is_full_at_the_test_costs_nothing_once_there_is_room(
    small_config, tmp_path, unbroken, monkeypatch, name
):
    whole = unbroken("model=baseline")

    def write(self, content):
        if name in self.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._file.write(content)

    def fill(self):
        disk.setattr("tireid.files._Writer.write", write)

    with monkeypatch.context() as disk:
        disk.setattr(LightningMethod, "on_test_start", fill)
        with pytest.raises(OSError, match=rf"{name}: could not be written \(No space") as error:
            train(small_config(tmp_path, *COMMON, "model=baseline"))
    assert "make room there and start the same command again" in str(shortage(error.value))
    assert not json.loads((tmp_path / "metrics.json").read_text())["finished"]
    train(small_config(tmp_path, *COMMON, "model=baseline"))
    assert_equal_runs(tmp_path, whole)


@pytest.mark.slow
def test_a_student_of_an_earlier_version_continues_with_its_teacher(
    small_config, tmp_path, unbroken, dead, capsys
):
    """A teacher was no run then, supports were the data's, and the hash was that of those keys."""
    shutil.copytree(dead(LCR2S, 5, "Lcr2s"), tmp_path, dirs_exist_ok=True)
    teacher = tmp_path / "teacher"
    state = torch.load(teacher / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    shutil.rmtree(teacher)
    teacher.mkdir()
    torch.save({"state_dict": state, "settings": "a hash"}, teacher / "teacher.ckpt")
    settings = OmegaConf.to_container(OmegaConf.load(tmp_path / "config.yaml"))
    for name in ("split_of_selection", "vocabulary", "teacher"):
        del settings[name]
    supports = settings["supports"] = settings["model"]["teacher"].pop("supports")
    for name in ("num_images", "num_texts", "paired"):
        settings["model"]["teacher"][name] = supports[name]
    settings["teaching"]["checkpoint"] = None
    OmegaConf.save(settings, tmp_path / "config.yaml")
    for file in (tmp_path / "checkpoints").glob("last*.ckpt"):
        content = torch.load(file, weights_only=True)
        content["tireid"]["settings"] = fingerprint(read_config(tmp_path))
        torch.save(content, file)
    capsys.readouterr()
    train(small_config(tmp_path, *COMMON, *LCR2S))
    shown = capsys.readouterr().out
    assert "stage 1 of 2" not in shown
    assert "continuing after epoch 2, batch 1, step 5, from last.ckpt" in shown
    record, rows, weights, _ = left_by(tmp_path)
    its_record, its_rows, its_weights, _ = left_by(unbroken(*LCR2S))
    assert (record, rows) == (its_record, its_rows)
    for name, value in its_weights["checkpoints/last.ckpt"].items():
        assert torch.equal(weights["checkpoints/last.ckpt"][name], value), name


@pytest.mark.slow
def test_checkpoints_come_by_time_too(small_config, tmp_path, unbroken, kill_at, capsys):
    kill_at(5)
    settings = [*COMMON, *BASELINE, *BY_TIME]
    with pytest.raises(KilledError):
        train(small_config(tmp_path, *settings))
    train(small_config(tmp_path, *settings))
    assert "continuing after epoch 2, batch 1, step 5, from" in capsys.readouterr().out
    assert_equal_runs(tmp_path, unbroken(*BASELINE))


BASELINE = ("model=baseline",)


@pytest.fixture
def killed(dead, tmp_path):
    """Return the folder of a baseline that died in step 7 of 8, with checkpoints of 6 and 5."""
    return shutil.copytree(dead(BASELINE, 6), tmp_path / "runs" / "earlier")


def test_last_continues_the_run_beside_wherever_it_lies_now(small_config, killed, unbroken, capsys):
    (killed.parent / "new" / ".hydra").mkdir(parents=True)
    cfg = small_config(killed.parent / "new", *COMMON, *BASELINE, "ckpt_path=last")
    train(cfg)
    assert "continuing after epoch 2, batch 2, step 6" in capsys.readouterr().out
    assert [path.name for path in killed.parent.iterdir()] == ["earlier"]
    assert_equal_runs(killed, unbroken(*BASELINE))
    with pytest.raises(FileNotFoundError, match="expected an unfinished run with these settings"):
        train(cfg)


def test_other_settings_are_named_with_the_ways_out(small_config, killed):
    changed = [*COMMON, *BASELINE, "seed=7"]
    with pytest.raises(ValueError, match=r"got seed=1 instead of 7; .*run\.dir=.*ckpt_path=null"):
        train(small_config(killed, *changed))
    with pytest.raises(FileNotFoundError, match=r"got none; .*earlier has seed=1 instead of 7"):
        train(small_config(killed.parent / "new", *changed, "ckpt_path=last"))
    file = killed / "checkpoints" / "last.ckpt"
    with pytest.raises(ValueError, match="got seed=1 instead of 7"):
        train(small_config(killed.parent / "new", *changed, f"ckpt_path={file}"))
    assert not (killed.parent / "new").exists()


@pytest.mark.parametrize("damage", ["truncated", pytest.param("foreign", marks=pytest.mark.slow)])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    small_config, killed, unbroken, untrained_run, capsys, damage
):
    last = killed / "checkpoints" / "last.ckpt"
    if damage == "truncated":
        last.write_bytes(last.read_bytes()[:-100])
        message = r"last\.ckpt: expected a checkpoint, .*cut off or damaged.*continuing from .*prev"
    else:
        shutil.copy(untrained_run(*BASELINE) / "checkpoints" / "last.ckpt", last)
        message = r"last\.ckpt: expected a checkpoint that training can continue from, got one with"
    cfg = small_config(killed, *COMMON, *BASELINE)
    with pytest.raises(ValueError, match=message[:40]):
        train(small_config(killed, *COMMON, *BASELINE, f"ckpt_path={last}"))
    with pytest.warns(UserWarning, match=message):
        train(cfg)
    assert "step 5, from last_previous.ckpt" in capsys.readouterr().out
    assert_equal_runs(killed, unbroken(*BASELINE))


def test_without_a_good_checkpoint_nothing_begins(small_config, killed, tmp_path):
    for name in ("last.ckpt", "last_previous.ckpt"):
        (killed / "checkpoints" / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"last\.ckpt.*; .*last_previous\.ckpt.*ckpt_path=null"):
        train(small_config(killed, *COMMON, *BASELINE))
    with pytest.raises(FileNotFoundError, match="expected auto, last, null, a checkpoint or"):
        train(small_config(killed, *COMMON, *BASELINE, "ckpt_path=nowhere"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state_dict": None}, "continue from, got one without state_dict"),
        ({"loops": {}}, "got one without fit_loop"),
        ({"tireid": 3, "epoch": "1"}, "got one without epoch, tireid"),
        (
            {"state_dict": {"weight": torch.zeros(2)}},
            r"last\.ckpt: does not fit the model: Missing",
        ),
    ],
)
def test_parts_of_another_kind_are_named(small_config, killed, change, message):
    file = killed / "checkpoints" / "last.ckpt"
    torch.save(torch.load(file, weights_only=True) | change, file)
    with pytest.raises(ValueError, match=message):
        train(small_config(killed, *COMMON, *BASELINE, f"ckpt_path={file}"))


def of_optimizer(content):
    return content["optimizer_states"][0]


def of_loops(content):
    return content["loops"]["fit_loop"]


TAMPERED = {
    "a wrong shape": (
        lambda c: of_optimizer(c)["state"][3].update(exp_avg=torch.zeros(2)),
        r"optimizer_states\[0\]\.state\.3\.exp_avg: expected shape \(32, 32, 3, 3\), got \(2,\)",
    ),
    "a step of two numbers": (
        lambda c: of_optimizer(c)["state"][3].update(step=torch.zeros(2)),
        r"state\.3\.step: expected shape \(\), got \(2,\)",
    ),
    "no number": (
        lambda c: of_optimizer(c)["state"][0]["exp_avg"].fill_(torch.nan),
        r"state\.0\.exp_avg: expected finite numbers",
    ),
    "another parameter": (
        lambda c: of_optimizer(c)["state"].update({9999: {}}),
        r"state\.9999: expected a parameter's number",
    ),
    "a parameter too few": (
        lambda c: of_optimizer(c)["state"].pop(3),
        r"optimizer_states\[0\]\.state: expected that of step \d for \d+ parameters, got \d+",
    ),
    "half a state": (
        lambda c: of_optimizer(c)["state"][3].pop("exp_avg"),
        r"state\.3: expected \['exp_avg', 'exp_avg_sq', 'step'\], got \['exp_avg_sq', 'step'\]",
    ),
    "more than a state": (
        lambda c: of_optimizer(c)["state"][3].update(other=torch.zeros(())),
        r"state\.3: expected .*, got .*'other'",
    ),
    "a setting too many": (
        lambda c: of_optimizer(c)["param_groups"][0].update(other=1),
        r"param_groups\[0\]: expected no setting 'other'",
    ),
    "a switch that is a number": (
        lambda c: of_optimizer(c)["param_groups"][0].update(amsgrad=3),
        r"param_groups\[0\]\.amsgrad: expected true or false or null, got 3",
    ),
    "a rate below 0": (
        lambda c: of_optimizer(c)["param_groups"][0].update(lr=-1.0),
        r"param_groups\[0\]\.lr: expected 1 numbers >= 0, got \[-1\.0\]",
    ),
    "one beta": (
        lambda c: of_optimizer(c)["param_groups"][0].update(betas=(0.9,)),
        r"betas: expected 2 numbers >= 0, got \[0\.9\]",
    ),
    "no betas": (
        lambda c: of_optimizer(c)["param_groups"][0].pop("betas"),
        r"param_groups\[0\]\.betas: expected a value, got none",
    ),
    "a parameter twice": (
        lambda c: of_optimizer(c)["param_groups"][0]["params"].__setitem__(0, 1),
        r"param_groups: expected each parameter once",
    ),
    "no state": (lambda c: of_optimizer(c)["state"].clear(), r"state: expected that of step \d"),
    "no optimizer": (lambda c: c["optimizer_states"].clear(), "optimizer_states: expected 1 of"),
    "no groups": (lambda c: of_optimizer(c)["param_groups"].clear(), "expected groups of"),
    "a rate of text": (
        lambda c: of_optimizer(c)["param_groups"][0].update(lr="1"),
        r"param_groups\[0\]\.lr: expected a finite number, got '1' \(str\)",
    ),
    "betas of text": (
        lambda c: of_optimizer(c)["param_groups"][0].update(betas=("a", 0.9)),
        r"betas\[0\]: expected a finite number",
    ),
    "no schedule": (lambda c: c["lr_schedulers"].clear(), "lr_schedulers: expected 1 of them"),
    "a schedule of text": (lambda c: c.update(lr_schedulers=["x"]), r"lr_schedulers\[0\]: expect"),
    "a schedule's method": (
        lambda c: c["lr_schedulers"][0].update(step=1),
        r"lr_schedulers\[0\]: expected numbers of a schedule, got step",
    ),
    "empty loops": (lambda c: of_loops(c).clear(), r"loops\.fit_loop\.\S+: expected a value"),
    "a count below 0": (
        lambda c: of_loops(c)["epoch_progress"]["total"].update(ready=-1),
        r"epoch_progress\.total\.ready: expected at least 0, got -1",
    ),
    "no generators": (lambda c: c["tireid"].update(generators=3), r"tireid\.generators: expected"),
    "junk generators": (
        lambda c: c["tireid"]["generators"][0].update(torch=torch.zeros(3)),
        r"generators\[0\]: expected the state of random generators",
    ),
    "a best file's score": (
        lambda c: next(iter(c["callbacks"].values())).update(best_k_models={"a": "b"}),
        r"best_k_models\.a: expected a Tensor or a finite number, got 'b'",
    ),
}


@pytest.mark.parametrize("kind", TAMPERED)
def test_tampered_states_are_refused_before_they_are_restored(small_config, killed, kind):
    change, message = TAMPERED[kind]
    file = killed / "checkpoints" / "last.ckpt"
    content = torch.load(file, weights_only=True)
    change(content)
    torch.save(content, file)
    with pytest.raises(ValueError, match=rf"last\.ckpt: .*{message}"):
        train(small_config(killed, *COMMON, *BASELINE, f"ckpt_path={file}"))


def test_a_checkpoint_of_another_run_is_refused(small_config, killed, lgur_run):
    source = lgur_run[0] / "checkpoints" / "last.ckpt"
    for name in ("last.ckpt", "last_previous.ckpt"):
        shutil.copy(source, killed / "checkpoints" / name)
    with pytest.raises(ValueError, match="of the run in its folder, got one of LGUR with other"):
        train(small_config(killed, *COMMON, *BASELINE))


@pytest.mark.slow
def test_a_path_continues_from_that_checkpoint(small_config, killed, unbroken):
    (best,) = (killed / "checkpoints").glob("epoch*.ckpt")
    cfg = small_config(killed.parent / "new", *COMMON, *BASELINE, f"ckpt_path={best}")
    metrics = train(cfg)
    whole = unbroken(*BASELINE)
    assert metrics == json.loads((whole / "metrics.json").read_text())["metrics"]
    assert left_by(killed)[2].keys() == left_by(whole)[2].keys()


@pytest.mark.slow
def test_null_begins_anew_and_leaves_nothing_of_the_run_before(small_config, killed, unbroken):
    stale = killed / "checkpoints" / "epoch007_R1_99.99.ckpt"
    stale.write_bytes(b"")
    own = killed / "checkpoints" / "epoch007_R1_99.99 mine.ckpt"
    own.write_bytes(b"")
    train(small_config(killed, *COMMON, *BASELINE, "ckpt_path=null"))
    assert not stale.exists()
    own.unlink()  # what the run did not write, it does not remove
    assert_equal_runs(killed, unbroken(*BASELINE))


def write_people(root, change=None):
    """Write a data set in CUHK-PEDES' layout, its entries changed by a function."""
    entries = []
    splits = {"train": [1, 1, 2, 2, 3, 3, 4, 4], "val": [10, 10, 11], "test": [20, 20, 21, 21]}
    for split, pids in splits.items():
        for pid in pids:
            number = len(entries)
            path = root / "imgs" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (24, 60), (20 * number, 10, 10)).save(path)
            captions = [f"a person in coat number {number}", f"shoes and bag of {pid}"]
            entry = {"split": split, "id": pid, "captions": captions, "file_path": path.name}
            entries.append(entry)
    if change is not None:
        change(entries)
    (root / "reid_raw.json").write_text(json.dumps(entries))


PEOPLE = [
    *("dataset=cuhk_pedes", "model=baseline", "image_encoder=resnet_tiny", "recipe=scratch"),
    *("text_encoder=bilstm_tiny", "dataset.num_workers=0", "logger=csv", "trainer=cpu"),
    *("dataset.image_size=[48,16]", "dataset.pad=2", "max_epochs=2", "batch_size=4"),
    "dataset.counts=null",
]


def _edit_a_caption(entries):
    entries[0]["captions"][0] = "other words"


def _renumber(entries):
    for entry in entries:
        entry["id"] = {4: 40, 1: 50}.get(entry["id"], entry["id"])


def _leave_one_out(entries):
    entries[:] = [entry for entry in entries if entry["id"] != 4]


def _edit_the_test(entries):
    entries[-1]["captions"].append("one more")


@pytest.fixture(scope="module")
def killed_on_people(compose_config, tmp_path_factory):
    """Return a function to the config of a run, and the run's folder, in which it died."""
    place = tmp_path_factory.mktemp("own")
    write_people(place / "people")
    settings = [*PEOPLE, f"dataset.root={place / 'people'}", f"paths.cache_dir={place}", *COMMON]

    def config(folder):
        return compose_config(*settings, f"paths.output_dir={folder}")

    with pytest.MonkeyPatch.context() as patch:
        die_at(patch, 6)
        with pytest.raises(KilledError):
            train(config(place / "run"))
    return config, place / "run"


@pytest.fixture(params=[False, True], ids=["", "earlier version"])
def people_run(request, killed_on_people, tmp_path):
    """Return a copy's config, its folder and the data's; earlier versions hashed in the record."""
    config, killed = killed_on_people
    folder = shutil.copytree(killed, tmp_path / "run")
    if request.param:
        for file in (folder / "checkpoints").glob("last*.ckpt"):
            content = torch.load(file, weights_only=True)
            del content["tireid"]["data"]
            torch.save(content, file)
    root = killed.parent / "people"
    yield config(folder), folder, root
    write_people(root)


@pytest.mark.parametrize(
    ("change", "split"),
    [
        (_edit_a_caption, "train"),
        (_renumber, "train"),
        (_leave_one_out, "train"),
        (_edit_the_test, "test"),
    ],
)
def test_other_data_than_the_run_began_with_is_refused(people_run, change, split):
    cfg, folder, root = people_run
    write_people(root, change)
    vocabulary = sorted(path.read_bytes() for path in (folder / "tokenizer").iterdir())
    with pytest.raises(ValueError, match=rf"last\.ckpt: .*another {split} split: .*ckpt_path=null"):
        train(cfg)
    assert vocabulary == sorted(path.read_bytes() for path in (folder / "tokenizer").iterdir())


def test_with_its_data_back_a_run_that_was_refused_continues(people_run):
    cfg, _, root = people_run
    write_people(root, _edit_a_caption)
    with pytest.raises(ValueError, match="another train split"):
        train(cfg)
    write_people(root)
    assert train(cfg)


def test_a_complete_run_stays_unless_it_is_asked_to_begin_anew(small_config, copied_run, capsys):
    def state():
        return {path: path.stat().st_mtime_ns for path in copied_run.rglob("*") if path.is_file()}

    before = state()
    metrics = train(small_config(copied_run, "model=lgur"))
    assert metrics == json.loads((copied_run / "metrics.json").read_text())["metrics"]
    assert "complete already; ckpt_path=null trains it again" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"a complete one with .*run\.dir=.*ckpt_path=null"):
        train(small_config(copied_run, "model=baseline", "seed=7"))
    after = state()
    del after[copied_run / ".lock"]
    before.pop(copied_run / ".lock", None)
    assert after == before
    train(small_config(copied_run, "model=baseline", "seed=7", "ckpt_path=null", "max_epochs=1"))
    assert json.loads((copied_run / "metrics.json").read_text())["seed"] == 7


def test_an_empty_record_is_named(small_config, killed):
    (killed / "metrics.json").write_bytes(b"")
    with pytest.raises(ValueError, match=r"metrics\.json: expected a run's record"):
        train(small_config(killed, *COMMON, *BASELINE))


STOPPING = [
    *UNDRAWN,
    "max_epochs=5",
    "+callbacks.stopping._target_=lightning.pytorch.callbacks.EarlyStopping",
    "+callbacks.stopping.monitor=val/R1",
    "+callbacks.stopping.mode=max",
    "+callbacks.stopping.patience=1",
    "+callbacks.stopping.min_delta=1000",
]


@pytest.mark.slow
def test_a_run_that_stopped_early_and_died_in_its_test_trains_no_further(
    small_config, tmp_path, unbroken, monkeypatch
):
    whole = unbroken(*BASELINE, *STOPPING)
    assert json.loads((whole / "metrics.json").read_text())["epochs"] == 2

    def dying(self, *_):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(LightningMethod, "test_step", dying)
        with pytest.raises(KilledError):
            train(small_config(tmp_path, *COMMON, *BASELINE, *STOPPING))
    train(small_config(tmp_path, *COMMON, *BASELINE, *STOPPING))
    assert_equal_runs(tmp_path, whole)


def test_a_resumed_folder_keeps_its_run_of_weights_and_biases(compose_config, tmp_path):
    from tireid.training.resume import Start, logger_arguments

    loggers = compose_config("logger=wandb", f"paths.output_dir={tmp_path}").logger
    first, again, new = (
        logger_arguments(loggers, Start(tmp_path, resumed=resumed))["wandb"]
        for resumed in (True, True, False)
    )
    assert first == again
    assert first["resume"] == "allow"
    assert new["id"] != first["id"]
    assert "id" not in loggers.wandb
    assert logger_arguments(compose_config("logger=csv").logger, Start(tmp_path)) == {"csv": {}}


@pytest.mark.slow
def test_tensorboard_shows_each_step_once(small_config, tmp_path, kill_at):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    settings = [*COMMON, *BASELINE, "logger=tensorboard", "callbacks.last.every_n_train_steps=2"]
    kill_at(3)
    with pytest.raises(KilledError):
        train(small_config(tmp_path, *settings))  # step 2 is logged, and after the checkpoint
    train(small_config(tmp_path, *settings))
    shown = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in shown.Scalars("train/loss")] == list(range(8))
    assert [event.step for event in shown.Scalars("val/R1")] == [3, 7]
