"""Valid data sets, runs and an export, which the cases are damaged copies of."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from models import write_hub_model, write_official
from PIL import Image

LAYOUTS = {
    "cuhk_pedes": ("reid_raw.json", "file_path", "cam_a/{n}.png"),
    "icfg_pedes": ("ICFG-PEDES.json", "file_path", "test/{n:04d}/{n}.png"),
    "rstpreid": ("data_captions.json", "img_path", "{n:04d}_c1_0001.png"),
}
SPLITS = {"train": [1, 1, 7, 7, 30, 30], "val": [40, 41], "test": [50, 51, 50]}
CAPTION = "a {} person with a {} coat and {} shoes"
COLOURS = ("red", "blue", "green", "white", "black")
TINY = [
    "trainer=cpu",
    "logger=csv",
    "batch_size=4",
    "image_encoder=resnet_tiny",
    "image_encoder.module.embedding_size=8",
    "image_encoder.module.hidden_sizes=[8,8,8,8]",
    "text_encoder=bilstm_tiny",
    "text_encoder.tokenizer.vocab_size=200",
    "text_encoder.module.embedding.dim=8",
    "text_encoder.module.hidden=8",
    "recipe=scratch",
    "max_epochs=1",
    "dataset.image_size=[32,16]",
    "dataset.num_workers=0",
    "~callbacks.gallery",  # slow; a file stands for what it draws
]
SIZES = {
    "baseline": ["model.embedding_dim=8"],
    "lcr2s": ["model.dual.embedding_dim=8", "model.teacher.fusion.heads=2"],
    "lgur": [
        "text_encoder.module.hidden=16",
        "model.head.dictionary_size=4",
        "model.head.dictionary_heads=1",
        "model.head.dictionary_head_dim=8",
        "model.head.prototype_heads=1",
        "model.head.prototype_head_dim=8",
        "model.head.prototype_hidden_dim=8",
        "model.head.feature_dim=8",
    ],
}
Run = Callable[[list[str]], None]


def make_samples(folder: Path, run: Run) -> None:
    """Fill a folder with one data set a layout, finished runs, a sweep and an export.

    Args:
        folder: An empty folder.
        run: Runs a command line of `tireid` and raises an error if it fails.
    """
    for layout in LAYOUTS:
        write_data(folder / "data" / layout, layout)
    layouts = ["cuhk_pedes", str(folder / "data" / "cuhk_pedes"), "--to", "custom"]
    run(["dataset", "convert", *layouts, str(folder / "data" / "custom"), "--images", "copy"])
    for name in SIZES:
        run(training(name, folder / "data" / "cuhk_pedes", "cuhk_pedes", folder / name))
        Image.new("RGB", (60, 40)).save(folder / name / "gallery_test.png")
    run(["evaluate", f"run={folder / 'baseline'}", "split=val"])
    run(["export", f"run={folder / 'baseline'}", f"output={folder / 'export'}"])
    run(["compare", str(folder / "baseline"), "--no-page", "--csv", str(folder / "results.csv")])
    images = str(folder / "data" / "cuhk_pedes" / "imgs")
    options = ["--model", str(folder / "baseline"), "--device", "cpu", "--workers", "0"]
    pattern = "--name-pattern=(?P<camera>[0-9]+).png"
    run(["index", images, "--out", str(folder / "gallery"), pattern, *options])
    run(["tune", "tuning=lgur_rates", "trials=2", f"output={folder / 'study'}"])
    write_official(folder / "official", write_hub_model(folder / "hub"))
    run(["index", images, "--out", str(folder / "scenes"), "--detect", "hog", *options])
    sweep = folder / "sweep"
    shutil.copytree(folder / "baseline", sweep / "0")
    shutil.copytree(folder / "lgur", sweep / "1")
    jobs = [["model=baseline"], ["model=lgur"], ["model=lgur", "seed=2"]]
    (sweep / "jobs.json").write_text(json.dumps(jobs))


def training(model: str, root: Path, layout: str, output: Path) -> list[str]:
    """Return the command line that trains a tiny model on a data set for one epoch."""
    places = [f"dataset={layout}", f"dataset.root={root}", f"hydra.run.dir={output}"]
    return ["train", f"model={model}", *places, *TINY, *SIZES[model]]


def write_data(root: Path, layout: str) -> None:
    """Write a small data set in a layout; ICFG-PEDES has no validation split."""
    annotation, field, pattern = LAYOUTS[layout]
    rng = random.Random(layout)  # noqa: S311 -- no secret
    splits = {s: pids for s, pids in SPLITS.items() if layout != "icfg_pedes" or s != "val"}
    entries = []
    for split, pids in splits.items():
        for pid in pids:
            name = pattern.format(n=len(entries))
            path = root / "imgs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            colour = tuple(rng.randrange(256) for _ in range(3))
            Image.new("RGB", (12, 24), colour).save(path)
            count = 1 if layout == "icfg_pedes" else 2
            captions = [CAPTION.format(*rng.choices(COLOURS, k=3)) for _ in range(count)]
            entries.append({"split": split, "id": pid, "captions": captions, field: name})
    (root / annotation).write_text(json.dumps(entries))
