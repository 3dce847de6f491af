"""Add pictures to a run of Weights & Biases that has ended."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tireid.wandb_begin import STEP
from tireid.wandb_logger import WandbLogger, finished
from tireid.wandb_runs import read_offline_run
from tireid.wandb_session import import_quietly, say


def log_pictures(folder: Path, settings: Mapping[str, Any], pictures: Sequence[Path]) -> None:
    """Add pictures of a run folder to the run that was logged from it, or say that there is none.

    Args:
        folder: The run folder.
        settings: Of the run's logger: project and entity.
        pictures: Files below the folder; each is named by its place there.
    """
    try:
        earlier = read_offline_run(folder)
    except (FileNotFoundError, ValueError, ModuleNotFoundError) as error:
        say(f"wandb: no run to add the pictures to: {error}")
        return
    place = {name: settings[name] for name in ("project", "entity") if settings.get(name)}
    logger = WandbLogger(str(folder), **place, id=earlier.id, job_type=earlier.job_type)
    logger.describe(earlier.name, earlier.group, earlier.tags, {})
    with finished([logger]):
        if logger.run is None:
            return
        wandb = import_quietly()
        row = {
            str(path.relative_to(folder).with_suffix("")): wandb.Image(str(path))
            for path in pictures
        }
        logger.log_row(row, earlier.summary.get(STEP))
