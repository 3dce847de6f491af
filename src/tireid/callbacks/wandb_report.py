"""What a tested run leaves in Weights & Biases: queries with pictures, similarities, files."""

import json
import re
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_warn
from PIL import Image
from rich.console import Console

from tireid.callbacks.query_pictures import (
    Query,
    draw_similarities,
    framed,
    interesting_queries,
    tick,
)
from tireid.callbacks.query_record import QueryRecord
from tireid.figures import OWN, RIGHT, WRONG
from tireid.retrieval.query_results import QueryResults
from tireid.tracking.logger import WandbLogger, wandb_logger_of
from tireid.tracking.session import import_quietly

DRAWN = ("synthetic",)  # data sets without real people
_PEOPLE = ("gallery_test.png", "explanations/*.png")
_FIGURES = (
    "seconds",
    "images_per_second",
    "peak_memory_mib",
    "parameters",
    "epochs",
    "steps",
    "teacher",
    "data_sha256",
)


class WandbReport(Callback):
    """After the test, log a table of queries, how similarities are spread, and the run's files.

    Without a logger for Weights & Biases it does nothing; what fails does not fail the run.

    Args:
        output_dir: The run folder.
        seed: The run's seed.
        selection: What chose the tested checkpoint.
        pictures: Whether pictures of the data are logged; auto: only of made people, since the
            terms of data sets with real ones forbid handing pictures on.
        num_queries: Queries of each kind in the table: best hits, worst misses, drawn at random.
        top_k: Best images of each.
        checkpoint: Whether the tested checkpoint is logged with the run's settings and metrics.
    """

    def __init__(
        self,
        output_dir: str,
        seed: int,
        selection: str = "val",
        pictures: bool | Literal["auto"] = "auto",
        num_queries: int = 8,
        top_k: int = 5,
        checkpoint: bool = True,
    ) -> None:
        if pictures not in (True, False, "auto"):
            raise ValueError(
                f"callbacks.wandb.pictures: expected auto, true or false, got {pictures!r}"
            )
        self.folder = Path(output_dir)
        self.seed = seed
        self.selection = selection
        self.pictures = pictures
        self.num_queries = num_queries
        self.top_k = top_k
        self.checkpoint = checkpoint

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log everything; the run's other files have been written by now."""
        logger = wandb_logger_of(trainer.loggers)
        if not trainer.is_global_zero or logger is None or logger.run is None:
            return
        datamodule: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue] -- set by Trainer.test
        shown = datamodule.name in DRAWN if self.pictures == "auto" else bool(self.pictures)
        if not shown and self.pictures == "auto":
            Console(highlight=False, soft_wrap=True).print(
                f"wandb: no pictures of {datamodule.name} are logged, whose people are real; "
                "callbacks.wandb.pictures=true logs them",
                markup=False,
            )
        try:
            row = self._rows(trainer, datamodule, shown=shown)
            logger.log_row(row | self._drawn(shown=shown), trainer.global_step)
            self._log_files(logger, trainer)
        except Exception as error:
            rank_zero_warn(f"wandb: the test was not logged: {type(error).__name__}: {error}")

    def _rows(self, trainer: L.Trainer, datamodule: Any, *, shown: bool) -> dict[str, Any]:
        """Return the table of queries and the histograms of similarities."""
        wandb = import_quietly()
        callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue] -- set by Trainer's connector
        found = (one.results for one in callbacks if isinstance(one, QueryRecord))
        results = next(found, None)
        if results is None:
            return {}
        logged: dict[str, Any] = {
            f"similarity/{name}": wandb.Histogram(np_histogram=(counts, results.edges))
            for name, counts in (
                ("positives", results.positives),
                ("negatives", results.negatives),
            )
        }
        logged["similarity/spread"] = wandb.Image(draw_similarities(results))
        records = datamodule.records("test")
        captions = [caption for record in records for caption in record.captions]
        if len(captions) == len(results.pids):  # else a limit on the batches cut the split
            paths = [record.image_path for record in records]
            logged["queries"] = self._table(wandb, results, captions, paths, shown=shown)
        return logged

    def _table(
        self,
        wandb: Any,
        results: QueryResults,
        captions: list[str],
        paths: list[Path],
        *,
        shown: bool,
    ) -> Any:
        k = min(self.top_k, results.found.shape[1])
        columns = ["kind", "query", "caption", "person", "first rank", "average precision"]
        columns += [f"score {rank + 1}" for rank in range(k)]
        columns += [f"right {rank + 1}" for rank in range(k)]
        if shown:
            columns += ["described", *(f"rank {rank + 1}" for rank in range(k))]
        table = wandb.Table(columns=columns)
        for query in interesting_queries(results, self.num_queries):
            table.add_data(*_line(wandb, query, results, captions, paths, k, shown=shown))
        return table

    def _drawn(self, *, shown: bool) -> dict[str, Any]:
        """Return the pictures that the run folder holds."""
        wandb = import_quietly()
        names = ["curves.png", *(_PEOPLE if shown else ())]
        files = [file for name in names for file in sorted(self.folder.glob(name))]
        return {
            str(file.relative_to(self.folder).with_suffix("")): wandb.Image(str(file))
            for file in files
        }

    def _log_files(self, logger: WandbLogger, trainer: L.Trainer) -> None:
        record_file = self.folder / "metrics.json"
        record: dict[str, Any] = {}
        if record_file.is_file():
            record = json.loads(record_file.read_text(encoding="utf-8"))
        logger.update_summary({name: record[name] for name in _FIGURES if name in record})
        if record:
            logger.update_summary(
                {
                    "cost/train_seconds": record["seconds"]["training"],
                    "cost/images_per_second": record["images_per_second"],
                    "cost/peak_memory_mib": record["peak_memory_mib"],
                    "cost/parameters_million": record["parameters"]["total"] / 1e6,
                }
            )
        metrics = record.get("metrics", {})
        name = re.sub(r"[^\w.-]+", "-", f"{logger.config['label']}-{logger.config['dataset/name']}")
        files = {name: self.folder / name for name in ("metrics.json", "config.yaml")}
        tokenizer = self.folder / "tokenizer"
        files |= {f"tokenizer/{file.name}": file for file in sorted(tokenizer.glob("*"))}
        tested = Path(str(trainer.ckpt_path))
        if self.checkpoint:
            files[f"checkpoints/{tested.name}"] = tested
        chosen = "last" if self.selection == "last" else "best"
        logger.log_artifact(
            name,
            "model",
            files,
            aliases=[chosen, f"seed{self.seed}"],
            metadata={"metrics": metrics, "checkpoint": tested.name, "seed": self.seed},
        )
        logger.log_artifact(
            f"{name}-queries",
            "results",
            {"queries_test.npz": self.folder / "queries_test.npz"},
            aliases=[f"seed{self.seed}"],
            metadata={"metrics": metrics, "seed": self.seed},
        )


def _line(
    wandb: Any,
    query: Query,
    results: QueryResults,
    captions: list[str],
    paths: list[Path],
    k: int,
    *,
    shown: bool,
) -> list[Any]:
    """Return a row of the table."""
    number = query.number
    right = [bool(value) for value in results.right[number, :k]]
    scores = [float(value) for value in results.scores[number, :k]]
    precision = float(results.values["mAP"][number])
    cells: list[Any] = [
        query.kind,
        number,
        captions[number],
        int(results.pids[number]),
        int(results.first_rank[number]),
        precision if np.isfinite(precision) else None,
        *scores,
        *(tick(value) for value in right),
    ]
    if not shown:
        return cells

    def picture(path: Path, colour: str, caption: str) -> Any:
        with Image.open(path) as file:
            return wandb.Image(framed(file, colour), caption=caption)

    own = int(results.own[number])
    cells.append(picture(paths[own], OWN, "described") if own >= 0 else None)
    for position, good, score in zip(results.found[number, :k], right, scores, strict=True):
        colour = RIGHT if good else WRONG
        cells.append(picture(paths[position], colour, f"{tick(good)} {score:.2f}"))
    return cells
