"""Draw what a run's model looks at: words, places of pictures, dictionary atoms, support sets."""

from pathlib import Path
from typing import Any, cast

import numpy as np
from lightning.fabric import Fabric
from omegaconf import DictConfig, ListConfig
from rich.console import Console
from rich.progress import track

from tireid.console import quiet, say
from tireid.explanations.atoms import dictionary_use, draw_atoms
from tireid.explanations.queries import QueryPage, draw_overview, draw_query
from tireid.explanations.supports import draw_supports
from tireid.explanations.weighing import embed_split, query_page
from tireid.inference.restore import (
    find_teacher,
    restore_datamodule,
    restore_model,
    teacher_of,
)
from tireid.inference.saved_config import evaluation_config, read_settings
from tireid.methods.base import RetrievalModule
from tireid.methods.lcr2s import Lcr2sTeacher
from tireid.runs.weights import find_run
from tireid.tracking.logger import log_pictures

FOLDER = "explanations"


PICTURES = ("overview.png", "query_*.png", "atoms.png", "supports.png")


_STAGES = {"train": "fit", "val": "validate", "test": "test"}


def explain(cfg: DictConfig) -> list[Path]:
    """Draw the explanations of one checkpoint into its run folder, anew.

    Args:
        cfg: Composed from `conf/explain.yaml`.

    Returns:
        The pictures written; none where the method has nothing to show.

    Raises:
        ValueError: If a setting is wrong or the checkpoint does not fit.
        FileNotFoundError: If the run or its data are missing.
    """
    quiet()
    _check(cfg)
    folder, checkpoint = find_run(cfg.run)
    run_cfg = evaluation_config(folder)
    datamodule = restore_datamodule(
        run_cfg, folder, batch_size=cfg.batch_size, dataset_root=cfg.dataset_root
    )
    model = restore_model(run_cfg, folder, checkpoint)
    datamodule.prepare_data()
    datamodule.setup(_STAGES[cfg.split])
    datamodule.records(cfg.split)  # or a clear error
    device = Fabric(accelerator=cfg.accelerator, devices=1).device
    split = embed_split(model, datamodule, cfg.split, device)
    queries = _queries(cfg.queries, len(split.texts))

    out = folder / FOLDER
    out.mkdir(exist_ok=True)
    for pattern in PICTURES:  # those of another checkpoint would mix with the new ones
        for old in out.glob(pattern):
            old.unlink()
    warning = ""
    if run_cfg.selection == "test":
        warning = "Checkpoint CHOSEN ON THE TEST SPLIT."
    found = [
        query_page(model, split, query, images=cfg.images, device=device)
        for query in track(queries, "explanations", transient=True)
    ]
    pages = [page._replace(warning=warning) for page in found if page is not None]
    written = _draw_pages(pages, queries, out, type(model).__name__, checkpoint.name)
    use = dictionary_use(model, split, items=cfg.sample, device=device)
    if use is not None:
        written.append(draw_atoms(use, split, out / "atoms.png", count=cfg.atoms, warning=warning))
    teacher = _teacher(model, run_cfg, folder, checkpoint, cfg.teacher)
    if teacher is not None:
        supports, page = datamodule.supports_for(split.name), out / "supports.png"
        written.append(
            draw_supports(teacher, split, supports, queries, page, device=device, warning=warning)
        )
    console = Console(highlight=False, soft_wrap=True)
    if not pages:
        console.print(
            f"{type(model).__name__} with these encoders weighs no tokens, and its score is no sum "
            "over them: there is nothing to show over pictures and words",
            markup=False,
        )
    for path in written:
        console.print(f"written: {path}", markup=False)
    if cfg.wandb and written:
        logger = read_settings(folder).get("logger") or {}
        log_pictures(folder, logger.get("wandb") or {}, written)
    return written


def _draw_pages(
    pages: list[QueryPage], queries: list[int], out: Path, model: str, checkpoint: str
) -> list[Path]:
    if not pages:
        return []
    scale = "What the pages of the queries show apart, added up; each line has its own scale"
    if pages[0].signed:
        scale = "Purple adds to the score, green takes from it; each line has its own scale"
    overview = draw_overview(
        pages,
        out / "overview.png",
        f"What {model} looks at: {len(pages)} captions",
        f"{checkpoint}. {scale}. Dashed frame: the picture described, then the best.",
    )
    return [
        overview,
        *(
            draw_query(page, out / f"query_{query:05d}.png")
            for page, query in zip(pages, queries, strict=True)
        ),
    ]


def _teacher(
    model: RetrievalModule, run_cfg: DictConfig, folder: Path, checkpoint: Path, given: str | None
) -> Lcr2sTeacher | None:
    """Return the teacher to draw: the model, or the one that an LCR2S run followed."""
    if isinstance(model, Lcr2sTeacher):
        return model
    if run_cfg.get("teaching") is None:
        return None
    if given is None:
        saved = teacher_of(run_cfg, folder, checkpoint)
    else:
        saved = find_teacher(given, folder)
    if saved is None:
        say("no teacher of this run was found; give it: teacher=...")
        return None
    teacher = restore_model(saved.config, saved.folder, saved.weights, entry=saved.entry)
    return cast(Lcr2sTeacher, teacher)


def _queries(wanted: Any, total: int) -> list[int]:
    """Return the positions that are named, or as many drawn at random, always the same."""
    if isinstance(wanted, int):
        drawn = np.random.default_rng(0).choice(total, min(wanted, total), replace=False)
        return drawn.tolist()
    wrong = [query for query in wanted if not (isinstance(query, int) and 0 <= query < total)]
    if wrong:
        raise ValueError(f"queries: expected positions from 0 to {total - 1}, got {wrong}")
    return list(wanted)


def _check(cfg: DictConfig) -> None:
    if cfg.split not in _STAGES:
        raise ValueError(f"split: expected test, val or train, got {cfg.split!r}")
    queries = cfg.queries
    number = isinstance(queries, int) and not isinstance(queries, bool) and queries > 0
    if not number and not (isinstance(queries, ListConfig) and len(queries)):
        raise ValueError(
            f"queries: expected a number > 0 or positions of captions, as in queries=[3,17], "
            f"got {queries!r}"
        )
    for name in ("images", "atoms", "sample"):
        if not isinstance(cfg[name], int) or cfg[name] < 1:
            raise ValueError(f"{name}: expected an integer > 0, got {cfg[name]!r}")
