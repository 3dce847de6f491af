"""Cases: a copy of a sample with one thing wrong, and command lines that read it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import yaml
from annotations import mutate_annotations
from case import Case, Place
from databases import mutate_database
from doctors import make_doctor
from files import (
    ANY,
    REFUSED,
    mutate_arrays,
    mutate_bytes,
    mutate_checkpoint,
    mutate_image,
    mutate_kind,
    mutate_safetensors,
    mutate_text_file,
    mutate_zip,
)
from models import make_hub, make_official
from samples import LAYOUTS, SIZES, training
from searches import make_search
from tables import make_table
from values import mutate_text, printable_scalars

TESTED = "checkpoints/epoch*.ckpt"
LAST = "checkpoints/last.ckpt"
_STATE = '{"id": "abcdefgh", "rows": 3, "best": {"val/R1": 50.0}}'
_LARGEST = 2**22  # bytes of what a case looks into
_TEXTS = (".json", ".yaml", ".csv", ".txt")
_QUICK = ["load", "load", "evaluate", "evaluate", "export", "explain"]  # more often
# Settings that may rightly take long, write elsewhere, or are code of whoever types them.
_NOT_CHANGED = (
    "paths",
    "max_epochs",
    "num_workers",
    "devices",
    "_target_",
    "_partial_",
    "dir",
    "root",
    "path",
)


def make_case(rng: Random, place: Place) -> Case:
    """Draw a case and write its files."""
    makers: dict[Callable[[Random, Place], Case], int] = {
        _data: 28,
        _run: 22,
        _weights: 12,
        _export: 8,
        _overrides: 5,
        _collection: 5,
        make_search: 20,
        make_doctor: 10,
        make_hub: 8,
        make_official: 8,
        make_table: 12,
    }
    return rng.choices(list(makers), weights=list(makers.values()))[0](rng, place)


def _data(rng: Random, place: Place) -> Case:
    layout = rng.choice(sorted(LAYOUTS))
    annotation, field, _ = LAYOUTS[layout]
    root, run = place.inside / "data", place.copied("baseline", "run")
    shutil.copytree(place.samples / "data" / layout, root)
    entries = json.loads((root / annotation).read_text())
    split = rng.choice(["val", "test"] if layout != "icfg_pedes" else ["test"])
    image = root / "imgs" / rng.choice([e[field] for e in entries if e["split"] == split])
    command = ["evaluate", f"run={run}", f"dataset={layout}", f"dataset.root={root}"]
    command += ["dataset.num_workers=0", f"split={split}"]
    if rng.random() < 0.25:
        command = ["load", str(run), str(image)]
    elif rng.random() < 0.12:
        command = training("baseline", root, layout, place.inside / "new")
    file, kind = root / annotation, 1 if command[0] == "load" else rng.random()
    if kind < 0.25:
        what, expected = mutate_annotations(file, field, rng)
    elif kind < 0.6:
        what, expected = mutate_text_file(file, rng, place.outside)
    elif kind < 0.85:
        file = rng.choice([file, image, image])
        # Images may not; an annotation file may rightly lie elsewhere.
        what, expected = mutate_kind(file, rng, place.outside if file == image else None)
        if not file.exists():
            expected = REFUSED
    else:
        file = image
        what, expected = rng.choice([mutate_bytes, mutate_image, mutate_image])(image, rng)
    if command[0] == "train" and file == image:
        expected = ANY  # it may be of a split that is not read
    return Case(f"data of {layout}: {file.relative_to(root)}: {what}", command, expected)


def _run(rng: Random, place: Place) -> Case:
    name = rng.choice([*SIZES, "sweep"])
    run = place.copied(name, "run")
    (run / "wandb_id.txt").write_text("abcdefgh")
    (run / "wandb").mkdir()
    (run / "wandb" / "state.json").write_text(_STATE)
    files = [f for f in sorted(run.rglob("*")) if f.suffix in (*_TEXTS, ".npz", ".png")]
    file = rng.choice(files)
    kind = rng.random()
    if kind < 0.15 or file.suffix == ".png":
        what, expected = mutate_kind(file, rng, place.outside)
    elif kind < 0.2:
        what, expected = mutate_bytes(file, rng)
    elif file.suffix in _TEXTS:
        what, expected = mutate_text_file(file, rng, place.outside)
    else:
        what, expected = rng.choice([mutate_arrays, mutate_zip])(file, rng)
    kinds = {**_READERS, "compare": _compare} if name != "sweep" else _READERS_OF_SWEEPS
    reader = rng.choice(sorted(kinds) + _QUICK * (name != "sweep"))
    if "wandb" in str(file.relative_to(run)):
        reader = "resume" if name != "sweep" else reader
    if reader == "resume":
        _make_unfinished(run / "metrics.json")
    if expected == REFUSED and not _must_read(file, reader):
        expected = ANY
    command = kinds[reader](run, place)
    if reader == "resume" and rng.random() < 0.5:
        command.append("logger=wandb")
    return Case(f"run {name}: {file.relative_to(run)}: {what}", command, expected)


def _must_read(file: Path, reader: str) -> bool:
    """Whether a command cannot do its work without a file."""
    if "teacher" in file.parts:
        return False
    needs_model = reader in ("load", "evaluate", "export", "explain")
    if file.name == "config.yaml" and ".hydra" not in file.parts:
        return (
            needs_model or reader == "resume" or (reader == "compare" and "sweep" not in file.parts)
        )
    return file.name == "tokenizer.json" and needs_model


def _weights(rng: Random, place: Place) -> Case:
    run = place.copied(rng.choice(list(SIZES)), "run")
    reader = rng.choice([*_READERS, *_QUICK, "convert"])
    if reader == "resume":
        _make_unfinished(run / "metrics.json")
    teachers = list(run.glob(f"teacher/{LAST}")) if reader in ("explain", "resume") else []
    file = next(iter(teachers), next(run.glob(LAST if reader == "resume" else TESTED)))
    damages = [mutate_checkpoint] * 6 + [mutate_kind]
    damage = rng.choice([*damages, mutate_zip, mutate_bytes])
    # Whoever types a path may name a link; inside of a run folder none leads out.
    outside = None if reader == "convert" and damage is mutate_kind else place.outside
    arguments = (outside,) if damage in (mutate_checkpoint, mutate_kind) else ()
    what, expected = damage(file, rng, *arguments)
    if reader == "convert":
        expected = REFUSED
        command = ["convert", f"official={file}", f"output={place.inside / 'new'}"]
    else:
        command = _READERS[reader](run, place)
    if reader in ("resume", "vocabulary") or teachers:
        expected = ANY  # it need not read the weights, or may start anew
    return Case(f"weights: {file.name}: {what}", command, expected)


def _export(rng: Random, place: Place) -> Case:
    export = place.copied("export", "export")
    file = rng.choice(
        [export / "model.safetensors", *sorted(export.rglob("*.json")), export / "config.yaml"]
    )
    kind = rng.random()
    if kind < 0.15:
        what, expected = mutate_kind(file, rng, place.outside)
        if file.name not in ("model.safetensors", "config.yaml", "tokenizer.json"):
            expected = ANY
    elif kind < 0.3:
        what, expected = mutate_bytes(file, rng)
    elif file.suffix == ".safetensors":
        what, expected = mutate_safetensors(file, rng)
    else:
        what, expected = mutate_text_file(file, rng, place.outside)
    reader = rng.choice(["load", "load", "init_weights"])
    return Case(
        f"export: {file.relative_to(export)}: {what}", _READERS[reader](export, place), expected
    )


def _collection(rng: Random, place: Place) -> Case:
    """A file about many runs: a table of results, or the study of a tuning."""
    if rng.random() < 0.5:
        file = place.inside / "results.csv"
        text, what = mutate_text((place.samples / file.name).read_text(), rng)
        file.write_text(text)
        return Case(f"{file.name}: {what}", ["compare", str(file), "--no-page"], ANY)
    study = place.copied("study", "study")
    file = study / "study.db"
    damages = [mutate_database] * 4 + [mutate_bytes, mutate_kind]
    damage = rng.choice(damages)
    what, expected = damage(file, rng, *((place.outside,) if damage is mutate_kind else ()))
    command = ["tune", "tuning=lgur_rates", "trials=2", f"output={study}"]
    return Case(f"study: {what}", command, expected)


def _overrides(rng: Random, place: Place) -> Case:
    run = place.copied("baseline", "run")
    settings = yaml.safe_load((run / "config.yaml").read_text())
    names = [name for name in _names(settings, "") if not any(w in name for w in _NOT_CHANGED)]
    value = rng.choice([v for v in printable_scalars() if not isinstance(v, dict)])
    text = json.dumps(value) if rng.random() < 0.7 else str(value)
    odd = [
        "=",
        "a=b=c",
        "~model",
        "+x=1",
        "model=nobody",
        "[",
        "seed=${",
        "seed=",
        "--nothing",
        "seed=1 2",
    ]
    override = rng.choice(odd) if rng.random() < 0.2 else f"{rng.choice(names)}={text}"
    command = training(
        "baseline", place.samples / "data" / "cuhk_pedes", "cuhk_pedes", place.inside / "new"
    )
    if rng.random() < 0.3:
        name = rng.choice(
            ["split", "batch_size", "accelerator", "queries", "images", "sample", "atoms"]
        )
        command = [rng.choice(["evaluate", "explain"]), f"run={run}"]
        override = f"{name}={text}"
    return Case(f"overrides: {override[:100]!r}", [*command, override], ANY)


def _names(node: Any, name: str) -> list[str]:
    if not isinstance(node, dict):
        return [name]
    return [
        n for key, value in node.items() for n in _names(value, f"{name}.{key}" if name else key)
    ]


def _make_unfinished(record: Path) -> None:
    """Let a finished run look interrupted, unless its record is what was damaged."""
    if record.is_file() and not record.is_symlink() and record.stat().st_size < _LARGEST:
        text = record.read_bytes()
        record.write_bytes(text.replace(b'"finished": true', b'"finished": false'))


def _train(run: Path, place: Place, setting: str) -> list[str]:
    data = place.samples / "data" / "cuhk_pedes"
    return [*training("baseline", data, "cuhk_pedes", place.inside / "new"), f"{setting}={run}"]


def _resume(run: Path, place: Place) -> list[str]:
    text = run / "config.yaml"
    content = text.read_bytes() if text.is_file() and text.stat().st_size < _LARGEST else b""
    classes = {"lcr2s": b"Lcr2s", "lgur": b"Lgur"}
    name = next((name for name, word in classes.items() if word in content), "baseline")
    return training(name, place.samples / "data" / "cuhk_pedes", "cuhk_pedes", run)


def _compare(run: Path, place: Place) -> list[str]:
    return ["compare", str(run), "--out", str(place.inside / "report")]


def _sweep(run: Path, place: Place) -> list[str]:
    data = place.samples / "data" / "cuhk_pedes"
    words = training("baseline", data, "cuhk_pedes", run)
    words = [word for word in words if not word.startswith(("hydra.run.dir=", "model="))]
    return [*words, "model=baseline,lgur", f"hydra.sweep.dir={run}", "--multirun"]


_READERS_OF_SWEEPS = {"compare": _compare, "sweep": _sweep}
_READERS: dict[str, Callable[[Path, Place], list[str]]] = {
    "load": lambda run, place: ["load", str(run)],
    "evaluate": lambda run, place: ["evaluate", f"run={run}", "split=val"],
    "export": lambda run, place: ["export", f"run={run}", f"output={place.inside / 'exported'}"],
    "explain": lambda run, place: ["explain", f"run={run}", "queries=1", "sample=4"],
    "resume": _resume,
    "init_weights": lambda run, place: _train(run, place, "init_weights"),
    "vocabulary": lambda run, place: _train(run, place, "vocabulary"),
}
