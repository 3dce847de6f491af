"""Write `queries_test.npz`: the ranks and best images of each query of the test split."""

from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_warn

from tireid.callbacks.retrieval_evaluation import embeddings_of
from tireid.files import replacing
from tireid.retrieval.query_results import (
    QUERIES_FILE,
    QueryResults,
    queries_content,
    query_results,
)


class QueryRecord(Callback):
    """Keep the ranks and best images of each test query, for comparisons query by query.

    Args:
        output_dir: The run folder.
        filename: Name of the file in it.
        top_k: Best images to keep of each query.
        required: Whether a file that cannot be written is an error; else a warning.

    Attributes:
        results: Those of the last test, on the first process; None before.
    """

    results: QueryResults | None

    def __init__(
        self,
        output_dir: str,
        filename: str = QUERIES_FILE,
        top_k: int = 10,
        *,
        required: bool = True,
    ) -> None:
        self.path = Path(output_dir) / filename
        self.top_k = top_k
        self.required = required
        self.results = None

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the file."""
        split = embeddings_of(trainer)
        if not trainer.is_global_zero or split is None:
            return
        self.results = query_results(*split, k=self.top_k)
        try:
            with replacing(self.path) as file:
                file.write(queries_content(self.results))
        except OSError as error:
            if self.required:
                raise
            rank_zero_warn(str(error))


def query_results_of(trainer: L.Trainer) -> QueryResults | None:
    """Return the results of a trainer's last test; None if none were kept."""
    callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue] -- set by Trainer's connector
    records = (c for c in callbacks if isinstance(c, QueryRecord))
    return next((record.results for record in records), None)
