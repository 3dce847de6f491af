"""The best checkpoint on validation, whose file outlives a kill at any moment."""

import re
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn


class BestCheckpoint(ModelCheckpoint):
    """Lightning's, but its state moves with its folder and a superseded file can stay a while.

    Args:
        **arguments: Of `ModelCheckpoint`.

    Attributes:
        keeps_superseded: Whether the best file before stays until `remove_superseded`: a run that
            is killed continues from a checkpoint that may still name it.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments, enable_version_counter=False)
        self.keeps_superseded = False

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore scores and names; the files lie where this run has its folder now."""
        folder = Path(str(self.dirpath))
        state = dict(state_dict)
        for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
            state[name] = str(folder / Path(state[name]).name) if state[name] else ""
        known = {str(folder / Path(p).name): v for p, v in state["best_k_models"].items()}
        state["best_k_models"] = {path: v for path, v in known.items() if Path(path).is_file()}
        if missing := sorted(known.keys() - state["best_k_models"].keys()):
            rank_zero_warn(f"{missing[0]}: this best checkpoint is gone; a later one is chosen")
            state["kth_best_model_path"] = ""
        super().load_state_dict(state | {"dirpath": self.dirpath})

    def clear(self) -> None:
        """Remove the checkpoints of an earlier run, to start from scratch."""
        self._remove_all_but(set())

    def remove_superseded(self) -> None:
        """Remove files that this run wrote and that are no longer among the best."""
        self._remove_all_but({Path(path).name for path in self.best_k_models})

    def _remove_all_but(self, kept: set[str]) -> None:
        template = re.sub(r"\\\{.*?\\\}", r"[\\d.]+", re.escape(str(self.filename)))
        pattern = re.compile(template + re.escape(self.FILE_EXTENSION))
        folder = Path(str(self.dirpath))
        for file in folder.glob(f"*{self.FILE_EXTENSION}"):
            if pattern.fullmatch(file.name) and file.name not in kept:
                file.unlink(missing_ok=True)

    def _remove_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
        if not self.keeps_superseded:
            super()._remove_checkpoint(trainer, filepath)
