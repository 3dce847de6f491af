"""Draw what a run's model attends to: words, image patches, dictionary atoms, support sets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from lightning.fabric import Fabric
from omegaconf import DictConfig, ListConfig
from rich.progress import track

from tireid.console import say
from tireid.explanations.atom_pages import dictionary_use, draw_atoms
from tireid.explanations.embedded_split import EmbeddedSplit, embed_split
from tireid.explanations.query_pages import QueryPage, draw_overview, draw_query
from tireid.explanations.support_pages import draw_supports
from tireid.explanations.token_weights import query_page
from tireid.inference.build import allow_tf32
from tireid.inference.restore import (
    find_teacher,
    restore_datamodule,
    restore_model,
    teacher_of,
)
from tireid.inference.saved_config import evaluation_config
from tireid.methods.base import RetrievalModule
from tireid.methods.lcr2s import Lcr2sTeacher
from tireid.retrieval.similarity import check_finite
from tireid.runs.settings import read_settings
from tireid.runs.weights import find_run
from tireid.tracking.logger import log_images

FOLDER = "explanations"
IMAGES = ("overview.png", "query_*.png", "atoms.png", "supports.png")
_STAGES = {"train": "fit", "val": "validate", "test": "test"}


def explain(cfg: DictConfig) -> list[Path]:
    """Draw the explanations of one checkpoint into its run folder, in place of earlier ones.

    Args:
        cfg: Composed from `conf/explain.yaml`.

    Returns:
        The images written; none if the method has nothing to show.

    Raises:
        ValueError: If a setting is wrong or the checkpoint does not fit.
        FileNotFoundError: If the run or its data are missing.
    """
    _check(cfg)
    folder, checkpoint = find_run(cfg.run)
    run_cfg = evaluation_config(folder)
    allow_tf32(run_cfg.tf32)
    datamodule = restore_datamodule(
        run_cfg,
        folder,
        cache_dir=cfg.paths.cache_dir,
        batch_size=cfg.batch_size,
        dataset_root=cfg.dataset_root,
    )
    model = restore_model(run_cfg, folder, checkpoint)
    datamodule.prepare_data()
    datamodule.setup(_STAGES[cfg.split])
    datamodule.records(cfg.split)  # or a clear error
    device = Fabric(accelerator=cfg.accelerator, devices=1).device
    split = embed_split(model, datamodule, cfg.split, device)
    check_finite(checkpoint, text=split.texts, image=split.images)
    queries = _queries(cfg.queries, len(split.texts))
    teacher = _teacher(model, run_cfg, folder, checkpoint, cfg.teacher)

    out = _empty_folder(folder)
    on_test = run_cfg.selection == "test"
    warning = "Checkpoint CHOSEN ON THE TEST SPLIT." if on_test else ""
    written = _draw_queries(model, split, queries, out, cfg.images, checkpoint.name, warning)
    use = dictionary_use(model, split, items=cfg.sample)
    if use is not None:
        written.append(draw_atoms(use, split, out / "atoms.png", count=cfg.atoms, warning=warning))
    if teacher is not None:
        supports, path = datamodule.supports_for(split.name), out / "supports.png"
        written.append(draw_supports(teacher, split, supports, queries, path, warning=warning))
    for path in written:
        say(f"written: {path}")
    if cfg.wandb and written:
        log_images(folder, read_settings(folder), written)
    return written


def _empty_folder(run: Path) -> Path:
    """Return the folder of a run's explanations, without those of another checkpoint."""
    folder = run / FOLDER
    if folder.is_symlink():
        raise ValueError(f"{folder}: expected a folder to write to, got a link; remove it")
    folder.mkdir(exist_ok=True)
    for pattern in IMAGES:
        for old in folder.glob(pattern):
            old.unlink()
    return folder


def _draw_queries(
    model: RetrievalModule,
    split: EmbeddedSplit,
    queries: Sequence[int],
    out: Path,
    images: int,
    checkpoint: str,
    warning: str,
) -> list[Path]:
    """Draw a page for each query, and their overview."""
    method = type(model).__name__
    pages: list[QueryPage] = []
    for query in track(queries, "explanations", transient=True):
        page = query_page(model, split, query, images=images)
        if page is None:
            say(
                f"{method} with these encoders weighs no tokens, and its score is no sum over "
                "them: there is nothing to show over images and words"
            )
            return []
        pages.append(page)
    scale = "The weights of the queries' pages, added up; each row has its own scale"
    if pages[0].weights.signed:
        scale = "Purple adds to the score, green takes from it; each row has its own scale"
    overview = draw_overview(
        pages,
        out / "overview.png",
        f"What {method} looks at: {len(pages)} captions",
        f"{checkpoint}. {scale}. Dashed frame: the image described, then the best.",
        warning,
    )
    return [
        overview,
        *(
            draw_query(page, out / f"query_{query:05d}.png", warning)
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


def _queries(queries: Any, total: int) -> list[int]:
    """Return the given positions, or so many drawn at random, always the same ones."""
    if isinstance(queries, int):
        drawn = np.random.default_rng(0).choice(total, min(queries, total), replace=False)
        return drawn.tolist()
    wrong = [query for query in queries if not (isinstance(query, int) and 0 <= query < total)]
    if wrong:
        raise ValueError(f"queries: expected positions from 0 to {total - 1}, got {wrong}")
    return list(queries)


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
