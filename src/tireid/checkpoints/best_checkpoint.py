"""The best checkpoint on validation, whose file survives a kill at any moment."""

import re
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor


class BestCheckpoint(ModelCheckpoint):
    """Lightning's `ModelCheckpoint` for runs that are moved, killed and resumed.

    Args:
        **arguments: Passed on to `ModelCheckpoint`.

    Attributes:
        keeps_superseded: Whether a file that is no longer the best stays until
            `remove_superseded`: a killed run resumes from a checkpoint that may still name it.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments, enable_version_counter=False)
        self.keeps_superseded = False

    def format_checkpoint_name(
        self,
        metrics: dict[str, Tensor],
        filename: str | None = None,
        ver: int | None = None,
        prefix: str | None = None,
    ) -> str:
        """Return the name of a checkpoint, with its epoch counted from 1."""
        counted = {"epoch": metrics["epoch"] + 1} if "epoch" in metrics else {}
        return super().format_checkpoint_name({**metrics, **counted}, filename, ver, prefix)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore scores and file names, in the folder that the run has now."""
        folder = Path(str(self.dirpath))
        state = dict(state_dict)
        for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
            state[name] = str(folder / Path(state[name]).name) if state[name] else ""
        scores = {str(folder / Path(p).name): v for p, v in state["best_k_models"].items()}
        state["best_k_models"] = {path: v for path, v in scores.items() if Path(path).is_file()}
        if missing := sorted(scores.keys() - state["best_k_models"].keys()):
            rank_zero_warn(f"{missing[0]}: this best checkpoint is gone; a later one is chosen")
            state["kth_best_model_path"] = ""
        super().load_state_dict(state | {"dirpath": self.dirpath})

    def clear(self) -> None:
        """Remove the checkpoints of an earlier run, to start from scratch."""
        self._remove_all_but(set())

    def remove_superseded(self) -> None:
        """Remove the files of this run that are no longer among the best."""
        self._remove_all_but({Path(path).name for path in self.best_k_models})

    def _remove_all_but(self, best: set[str]) -> None:
        template = re.sub(r"\\\{.*?\\\}", r"[\\d.]+", re.escape(str(self.filename)))
        pattern = re.compile(template + re.escape(self.FILE_EXTENSION))
        for file in Path(str(self.dirpath)).glob(f"*{self.FILE_EXTENSION}"):
            if pattern.fullmatch(file.name) and file.name not in best:
                file.unlink(missing_ok=True)

    def _remove_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:  # private to Lightning
        if not self.keeps_superseded:
            super()._remove_checkpoint(trainer, filepath)
