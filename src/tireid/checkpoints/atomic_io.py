"""Lightning's checkpoint plugin over atomic files."""

from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO

from tireid.runs.checkpoint import read_checkpoint, write_checkpoint


class AtomicCheckpointIO(CheckpointIO):
    """Lightning's way to the disk; `storage_options` may name where the file before is kept."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint; see `write_checkpoint`."""
        write_checkpoint(checkpoint, Path(path), previous=storage_options)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint onto the CPU; see `read_checkpoint`."""
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint if it is there."""
        Path(path).unlink(missing_ok=True)
