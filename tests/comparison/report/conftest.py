"""Run folders as training leaves them, written without training."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from tireid.comparison.report import load_comparison
from tireid.data.records import split_sha256
from tireid.inference.build import build_datamodule
from tireid.retrieval.query_results import QUERIES_FILE, queries_content, query_results
from tireid.runs.failure import write_failure
from tireid.runs.results import read_runs

PEOPLE = ["dataset.read.num_train_ids=3", "dataset.read.num_val_ids=2"]
PEOPLE += ["dataset.read.num_test_ids=16", "dataset.read.images_per_id=2"]
# Label, model, noise: the more of it, the worse.
METHODS = [
    ("plain <b>|*tower*", "baseline", 2.2),
    ("LGUR, made up", "lgur", 0.55),
    ("LCR2S, made up", "lcr2s", 0.9),
]
SEEDS = (1, 2)


def made_queries(records, noise, seed):
    """Results of a model whose embeddings are the identity and noise."""
    rng = torch.Generator().manual_seed(seed)
    image_pids = torch.tensor([record.pid for record in records])
    text_pids = torch.tensor([r.pid for r in records for _ in r.captions])
    own = torch.tensor([n for n, r in enumerate(records) for _ in r.captions])
    people, place = image_pids.unique(return_inverse=True)
    centres = torch.eye(len(people))

    def noisy(rows):
        return centres[rows] + noise * torch.randn((len(rows), len(people)), generator=rng) / 3

    texts = noisy(place[own])
    return query_results(texts, noisy(place), text_pids, image_pids, own)


def write_run(folder, settings, seed, queries, sha256, **record):
    """Write the files of a complete run that a report reads."""
    (folder / "checkpoints").mkdir(parents=True)
    OmegaConf.save(settings | {"seed": seed}, folder / "config.yaml")
    metrics = {f"test/{n}": 100 * float(np.nanmean(v)) for n, v in queries.values.items()}
    metrics |= {"val/R1": metrics["test/R1"] + 1, "val/mAP": metrics["test/mAP"] + 1}
    content = {
        "metrics": metrics,
        "seed": seed,
        "selection": "val",
        "finished": True,
        "steps": 20,
        "data_sha256": {"test": sha256},
        "validations": [],
        "seconds": {"total": 100.0, "training": 60.0 * seed, "evaluation": 1.0},
        "images_per_second": 50.0,
        "peak_memory_mib": 1000.0 + seed,
        "parameters": {"total": 2_000_000, "trained": 1_500_000},
        "device": "a processor",
        "commit": None,
        "dirty": None,
    }
    (folder / "metrics.json").write_text(json.dumps(content | record))
    (folder / "metrics.csv").write_text(
        "epoch,step,train/loss,val/R1,val/mAP\n"
        f"0,9,4.0,,\n0,10,,{10.0 * seed},5.0\n1,19,2.0,,\n1,20,,{20.0 * seed},9.0\n"
    )
    (folder / QUERIES_FILE).write_bytes(queries_content(queries))


@pytest.fixture(scope="session")
def made_data(small_config, cache_dir, tmp_path_factory):
    """Return the records of the test split of a few synthetic people, drawn in a second or two."""
    datamodule = build_datamodule(small_config(tmp_path_factory.mktemp("data"), *PEOPLE))
    datamodule.prepare_data()
    datamodule.setup("test")
    return datamodule.records("test")


@pytest.fixture(scope="session")
def made_runs(small_config, made_data, tmp_path_factory) -> Path:
    """Return a folder of three methods with two seeds each, and one run that failed."""
    root = tmp_path_factory.mktemp("made") / "sweep"
    sha256 = split_sha256(made_data)
    for label, model, noise in METHODS:
        cfg = small_config(root, f"model={model}", *PEOPLE)
        settings = OmegaConf.to_container(cfg, resolve=True) | {"label": label}
        for seed in SEEDS:
            teacher = {"seconds": 300.0 if seed == 1 else 240.0, "teacher_oracle/test/R1": 77.7}
            write_run(
                root / model / f"seed{seed}",
                settings,
                seed,
                made_queries(made_data, noise, seed),
                sha256,
                **({"teacher": teacher} if model == "lcr2s" else {}),
            )
    (root / "broken" / "checkpoints").mkdir(parents=True)
    (root / "broken" / "config.yaml").write_text("seed: 1\n")
    write_failure(root / "broken", "ValueError", "a <i>bad</i> value")
    return root


@pytest.fixture(scope="session")
def comparison(made_runs):
    """Return the content of a report about them."""
    return load_comparison({made_runs: read_runs(made_runs)})
