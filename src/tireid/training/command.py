"""The record of a command in `.hydra/` of its run folder, written when the run begins.

Hydra itself would write it before the run is accepted, also into the folder of another run.
"""

import os
import shlex
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tireid.console import complain
from tireid.files import write_text
from tireid.runs.settings import own_overrides

_RECORD = ".hydra"
_UNUSED = {_RECORD, ".lock"}  # all that a run folder may hold before the run begins
# Set where whoever started this process has recorded the command.
RECORDED = "TIREID_RECORDED"


def record_command(folder: Path, source: Path | None = None) -> None:
    """Write the overrides and Hydra's config of this command, or copy those of another folder.

    It does nothing where the command is not Hydra's, or has been recorded already.

    Args:
        folder: The run folder.
        source: A folder that another process has recorded the command in.
    """
    record = folder / _RECORD
    if RECORDED in os.environ:
        return
    if source is not None and (source / _RECORD).is_dir():
        shutil.copytree(source / _RECORD, record, dirs_exist_ok=True)
    elif HydraConfig.initialized():
        record.mkdir(parents=True, exist_ok=True)
        hydra = HydraConfig.get()
        write_text(record / "overrides.yaml", OmegaConf.to_yaml(hydra.overrides.task))
        write_text(record / "hydra.yaml", OmegaConf.to_yaml(OmegaConf.create({"hydra": hydra})))


def fetch_command() -> str:
    """Return the command that downloads what this one needs of the model hub."""
    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return shlex.join(["tireid", "fetch", *own_overrides(overrides)])


_made: list[Path] = []  # by this process, the innermost first


def discard_folder() -> None:
    """Remove what this process has made for a run that has not begun: its folder, and empty ones.

    A run has begun when its config stands there; a failure that a sweep has recorded is kept.
    """
    if not _made:
        return
    folder, *parents = _made
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set[str]()
    if names <= _UNUSED:
        shutil.rmtree(folder, ignore_errors=True)  # other processes of the run remove it, too
        for parent in parents:
            with suppress(OSError):
                parent.rmdir()


class RunFolder(Callback):
    """A callback of Hydra that makes the run folder, or says in one line why it cannot."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Make the folder before Hydra does."""
        instance = HydraConfig.instance()
        before = instance.cfg
        instance.set_config(config)  # which the folder's default name refers to
        try:
            folder = Path(config.hydra.run.dir).absolute()
            _made[:] = [path for path in (folder, *folder.parents) if not path.exists()]
            folder.mkdir(parents=True, exist_ok=True)
        except OmegaConfBaseException:  # Hydra meets it next, and says it in its own words
            return
        except OSError as error:
            complain(
                f"{config.hydra.run.dir}: expected a folder that can be made, got {error}; choose "
                "another for this run (hydra.run.dir=FOLDER), or for all (paths.runs_dir=FOLDER)"
            )
            sys.exit(1)
        finally:
            instance.cfg = before
