"""Log a tested run to Weights & Biases: queries with images, similarities and files."""

import re
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_warn

from tireid.callbacks.query_images import (
    Query,
    interesting_queries,
    similarity_plot,
)
from tireid.callbacks.query_record import query_results_of
from tireid.console import say
from tireid.data.images import decode
from tireid.data.records import captions_of
from tireid.data.synthetic import SYNTHETIC
from tireid.figures import OWN, RIGHT, WRONG
from tireid.figures.pages import framed, tick
from tireid.methods.base import embedding_weights
from tireid.retrieval.query_results import QUERIES_FILE, QueryResults
from tireid.runs.record import RECORD_FILE, read_record
from tireid.runs.settings import CONFIG_FILE
from tireid.runs.weights import WEIGHTS_FILE, write_weights
from tireid.tracking.artifacts import (
    RESULTS,
    Artifact,
    dataset_artifact,
    keep,
    kept,
    model_artifact,
)
from tireid.tracking.logger import WandbLogger, images_by_name, wandb_logger_of
from tireid.tracking.session import import_quietly

_LONGEST_NAME = 110  # W&B takes 128; the end tells settings apart
_LONGEST_TAIL = 80
_MOST_PIXELS = 256  # a side of an image
_FIGURES_OF_PEOPLE = ("gallery_test.png", "explanations/*.png")
_SUMMARY = (
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
    """After the test, log a table of queries, the spread of similarities, and the run's files.

    Does nothing without a logger for Weights & Biases; what fails does not fail the run.

    Args:
        output_dir: The run folder.
        seed: The run's seed.
        selection: What chose the tested checkpoint.
        pictures: Whether images of the data are logged; auto: only of synthetic data, since the
            terms of data sets with real people forbid passing images on.
        num_queries: Queries of each kind in the table: best hits, worst misses, drawn at random.
        top_k: Best images of each query.
        checkpoint: What of the tested checkpoint is logged with the run's config and metrics:
            `weights`, those that embedding needs, which `tireid.load` takes; true, all of it with
            the optimiser's state; false, nothing.
        log_gradients: Steps of the optimiser between two histograms of the gradient of each weight,
            which take time and space; 0: none.

    Raises:
        ValueError: If `pictures`, `checkpoint` or `log_gradients` is none of its values.
    """

    def __init__(
        self,
        output_dir: str,
        seed: int,
        selection: str = "val",
        pictures: bool | Literal["auto"] = "auto",
        num_queries: int = 8,
        top_k: int = 5,
        checkpoint: bool | Literal["weights"] = "weights",
        log_gradients: int = 0,
    ) -> None:
        if not (type(log_gradients) is int and log_gradients >= 0):
            raise ValueError(
                "callbacks.wandb.log_gradients: expected a whole number of steps, or 0 for none, "
                f"got {log_gradients!r}"
            )
        if pictures not in (True, False, "auto"):
            raise ValueError(
                f"callbacks.wandb.pictures: expected auto, true or false, got {pictures!r}"
            )
        if checkpoint not in (True, False, "weights"):
            raise ValueError(
                f"callbacks.wandb.checkpoint: expected weights, true or false, got {checkpoint!r}"
            )
        self.folder = Path(output_dir)
        self.seed = seed
        self.selection = selection
        self.pictures = pictures
        self.num_queries = num_queries
        self.top_k = top_k
        self.checkpoint = checkpoint
        self.log_gradients = log_gradients

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the data set as what the run uses: counts and checksums of its splits."""
        logger = wandb_logger_of(trainer.loggers)
        if not trainer.is_global_zero or logger is None or logger.experiment is None:
            return
        data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue] -- set by Trainer.fit
        checksums = data.fingerprints()
        splits = {
            split: {**counts, "sha256": checksums.get(split)}
            for split, counts in data.describe().items()
        }
        logger.log_artifact(dataset_artifact(self.folder, data.name, splits), is_used=True)

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any
    ) -> None:
        """Log histograms of gradients, if they are asked for; unscaled and not yet clipped."""
        if not self.log_gradients or trainer.global_step % self.log_gradients:
            return
        logger = wandb_logger_of(trainer.loggers)
        if not trainer.is_global_zero or logger is None or logger.experiment is None:
            return
        histogram = import_quietly().Histogram
        method: Any = pl_module.method
        row = {
            f"gradients/{name}": histogram(finite.float().cpu().numpy())
            for name, weight in method.named_parameters()
            if weight.grad is not None
            and (finite := weight.grad[weight.grad.isfinite()]).numel() > 0
        }
        logger.log_row(row, trainer.global_step)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log everything; the run's other files have been written by now."""
        logger = wandb_logger_of(trainer.loggers)
        if not trainer.is_global_zero or logger is None or logger.experiment is None:
            return
        datamodule: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue] -- set by Trainer.test
        with_images = self._may_log_images(datamodule.name)
        try:
            names = ["curves.png", *(_FIGURES_OF_PEOPLE if with_images else ())]
            figures = [file for name in names for file in sorted(self.folder.glob(name))]
            row = images_by_name(self.folder, figures)
            if (results := query_results_of(trainer)) is not None:
                row |= _similarities(results)
                row |= self._queries(results, datamodule.records("test"), with_images=with_images)
            logger.log_row(row, trainer.global_step)
            self._log_files(logger, Path(str(trainer.ckpt_path)), pl_module.method)
        except Exception as error:
            rank_zero_warn(f"wandb: the test was not logged: {type(error).__name__}: {error}")

    def _may_log_images(self, dataset: str) -> bool:
        if self.pictures != "auto":
            return bool(self.pictures)
        if dataset != SYNTHETIC:
            say(
                f"wandb: no images of {dataset} are logged, since they show real people; "
                "callbacks.wandb.pictures=true logs them"
            )
        return dataset == SYNTHETIC

    def _queries(
        self, results: QueryResults, records: list[Any], *, with_images: bool
    ) -> dict[str, Any]:
        """Return the table of queries; nothing if a limit on the batches cut the split."""
        captions = captions_of(records)
        if len(captions) != len(results.pids):
            return {}
        paths = [record.image_path for record in records] if with_images else []
        rows = [
            _line(results, query, captions[query.number], paths, self.top_k)
            for query in interesting_queries(results, self.num_queries)
        ]
        data = [list(row.values()) for row in rows]
        return {"queries": import_quietly().Table(columns=list(rows[0]), data=data)} if rows else {}

    def _log_files(self, logger: WandbLogger, tested: Path, model: Any) -> None:
        record = read_record(self.folder)
        logger.update_summary({name: record[name] for name in _SUMMARY if name in record})
        if record:
            cost = {
                "train_seconds": record["seconds"]["training"],
                "images_per_second": record["images_per_second"],
                "peak_memory_mib": record["peak_memory_mib"],
                "parameters_million": record["parameters"]["total"] / 1e6,
            }
            logger.update_summary({f"cost/{name}": value for name, value in cost.items()})
        metadata = {"metrics": record.get("metrics", {}), "seed": self.seed}
        if teacher := record.get("teacher", {}).get("run"):
            model_of_teacher = kept(Path(teacher).parent.parent)
            if model_of_teacher is not None:
                logger.log_artifact(model_of_teacher, is_used=True)
        label, *rest = (
            re.sub(r"[^\w.-]+", "-", str(logger.config[key]))
            for key in ("label", "encoders", "dataset/name", "settings")
        )
        tail = "-".join(rest)[-_LONGEST_TAIL:]
        name = f"{label[: _LONGEST_NAME - len(tail)]}-{tail}"
        made = model_artifact(
            name,
            self._model_files(tested, model),
            selection=self.selection,
            seed=self.seed,
            metadata=metadata | {"checkpoint": tested.name},
        )
        logger.log_artifact(made)
        keep(self.folder, made)
        files = {QUERIES_FILE: self.folder / QUERIES_FILE}
        aliases = [f"seed{self.seed}"]
        logger.log_artifact(Artifact(f"{name}-queries", RESULTS, files, aliases, metadata))

    def _model_files(self, tested: Path, model: Any) -> dict[str, Path]:
        files = {name: self.folder / name for name in (RECORD_FILE, CONFIG_FILE)}
        tokenizer = sorted((self.folder / "tokenizer").glob("*"))
        files |= {f"tokenizer/{file.name}": file for file in tokenizer}
        if self.checkpoint == "weights":
            return files | {WEIGHTS_FILE: self._written_weights(model)}
        return files | ({f"checkpoints/{tested.name}": tested} if self.checkpoint else {})

    def _written_weights(self, model: Any) -> Path:
        """Write the weights that embedding needs; the tested ones were restored for the test."""
        path = self.folder / "wandb" / WEIGHTS_FILE
        path.parent.mkdir(exist_ok=True)
        write_weights(path, embedding_weights(model, model.state_dict()))
        return path


def _similarities(results: QueryResults) -> dict[str, Any]:
    """Return histograms of the similarities of positive and negative pairs, and their plot."""
    wandb = import_quietly()
    counts = {"positives": results.positives, "negatives": results.negatives}
    histograms = {
        f"similarity/{name}": wandb.Histogram(np_histogram=(count, results.edges))
        for name, count in counts.items()
    }
    return histograms | {"similarity/spread": wandb.Image(similarity_plot(results))}


def _line(
    results: QueryResults, query: Query, caption: str, paths: list[Path], k: int
) -> dict[str, Any]:
    """Return a query and its k best images, by column; without paths their numbers only."""
    number = query.number
    precision = float(results.values["mAP"][number])
    scores = results.scores[number, :k].tolist()
    right = results.right[number, :k].tolist()
    row: dict[str, Any] = {
        "kind": query.kind,
        "query": number,
        "caption": caption,
        "person": int(results.pids[number]),
        "first rank": int(results.first_rank[number]),
        "average precision": precision if np.isfinite(precision) else None,
        **{f"score {rank}": score for rank, score in enumerate(scores, 1)},
        **{f"right {rank}": tick(hit) for rank, hit in enumerate(right, 1)},
    }
    if paths:
        described = int(results.own[number])
        shown = _image(paths[described], OWN, "described") if described >= 0 else None
        row["described"] = shown
        found = zip(results.found[number, :k].tolist(), right, scores, strict=True)
        for rank, (position, hit, score) in enumerate(found, 1):
            colour, label = RIGHT if hit else WRONG, f"{tick(hit)} {score:.2f}"
            row[f"rank {rank}"] = _image(paths[position], colour, label)
    return row


def _image(path: Path, colour: str, caption: str) -> Any:
    image = decode(path)
    image.thumbnail((_MOST_PIXELS, _MOST_PIXELS))
    return import_quietly().Image(framed(image, colour), caption=caption)
