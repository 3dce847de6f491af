"""`metrics.csv`: a row for each time that something is logged, and a whole file at any moment."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers.logger import Logger
from torch import Tensor

from tireid.files import write_text
from tireid.runs.log import LOG_FILE


class CsvLog(Logger):
    """Rows in the layout of Lightning's `CSVLogger`, a column for each metric in sorted order.

    The file is replaced as a whole: a full disk or a kill leaves the rows that were there.

    Args:
        save_dir: Folder of `metrics.csv`.
        flush_every_n_steps: Steps between two writes; it is also written with each checkpoint.
    """

    def __init__(self, save_dir: str, flush_every_n_steps: int = 100) -> None:
        super().__init__()
        self.file = Path(save_dir) / LOG_FILE
        self.flush_every_n_steps = flush_every_n_steps
        self._rows: list[dict[str, Any]] = []
        self._written = 0  # of the rows

    @property
    def name(self) -> str:
        """Empty: there is one log in a run folder."""
        return ""

    @property
    def version(self) -> str:
        """Empty: there is one log in a run folder."""
        return ""

    @property
    def save_dir(self) -> str:
        """Folder of the file."""
        return str(self.file.parent)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add a row, and write the file every so many steps."""
        step = len(self._rows) if step is None else step
        values = {n: v.item() if isinstance(v, Tensor) else v for n, v in metrics.items()}
        self._rows.append(values | {"step": step})
        if (step + 1) % self.flush_every_n_steps == 0:
            self.save()

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Do nothing: the config is in the run folder."""

    def text(self) -> str | None:
        """Return what the file holds with all rows so far; None if there are none."""
        if not self._rows:
            return None
        lines = io.StringIO()
        writer = csv.DictWriter(lines, sorted(set().union(*self._rows)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        return lines.getvalue()

    def restore(self, text: str) -> None:
        """Go on after the rows of a text that `text` returned."""
        self._rows = [
            {name: value for name, value in row.items() if value}
            for row in csv.DictReader(io.StringIO(text))
        ]
        self._written = 0
        self.save()

    @rank_zero_only
    def save(self) -> None:
        """Write the file if there are new rows."""
        text = self.text()
        if text is None or self._written == len(self._rows):
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.file, text)
        self._written = len(self._rows)

    def finalize(self, status: str) -> None:
        """Write what is left."""
        self.save()
