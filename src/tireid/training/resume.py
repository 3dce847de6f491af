"""Find where a run begins: from scratch, or at a checkpoint that an interrupted one has left."""

import os
import secrets
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tireid.checkpoints.run_state import STATE
from tireid.files import write_text
from tireid.runs.checkpoint import LAST, PREVIOUS, read_checkpoint
from tireid.runs.folder import LATEST, finished_metrics, is_unfinished
from tireid.runs.foreign import read_text
from tireid.runs.record import read_record
from tireid.runs.settings import CONFIG_FILE, difference, fingerprint, method_name, read_config
from tireid.runs.training_state import check_resumable
from tireid.tracking.logger import ID_FILE
from tireid.training import processes

_CHECKPOINTS = "checkpoints"
_FROM_SCRATCH = "ckpt_path=null starts from scratch"
_NEEDED: dict[str, type] = {
    "state_dict": dict,
    "loops": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
    "callbacks": dict,
    "epoch": int,
    "global_step": int,
    STATE: dict,
}


class Start(NamedTuple):
    """Where a run begins.

    Attributes:
        folder: The run folder.
        checkpoint: The checkpoint that it continues from; None: it has no step yet.
        resumed: Whether the folder's run is continued; else what it holds is replaced.
        position: Epoch, batch and step of the checkpoint, to be shown.
        step: The next optimiser step.
        data: Hash of each split's records as the run had them; None: not known.
    """

    folder: Path
    checkpoint: Path | None = None
    resumed: bool = False
    position: str = ""
    step: int = 0
    data: dict[str, str] | None = None


def find_folder(ckpt_path: str | None, output_dir: Path, settings: dict[str, Any]) -> Path:
    """Return the folder that a run is written to: its own, or that of the run it continues.

    Args:
        ckpt_path: `auto`, `last`, None, a checkpoint or a run folder.
        output_dir: The run's own folder.
        settings: The resolved config.

    Raises:
        ValueError: If the settings of a run cannot be read.
        FileNotFoundError: If there is no such run.
    """
    if ckpt_path in (None, "auto"):
        return output_dir
    if ckpt_path == "last":
        return _newest_unfinished(output_dir.parent, settings)
    path = Path(str(ckpt_path))
    if not path.exists():
        raise FileNotFoundError(
            f"ckpt_path: expected auto, last, null, a checkpoint or a run folder, got {path}"
        )
    folder = path if path.is_dir() else path.resolve().parent.parent
    if not (folder / CONFIG_FILE).is_file():
        raise FileNotFoundError(
            f"ckpt_path={path}: expected {CONFIG_FILE} in {folder}, where training left it"
        )
    return folder


def find_finished(
    ckpt_path: str | None, folder: Path, settings: dict[str, Any], *, skip: bool
) -> dict[str, float] | None:
    """Return the metrics of the complete run in a folder; None if a run begins or continues there.

    Args:
        ckpt_path: `auto`, `last`, None, a checkpoint or a run folder. None begins anew.
        folder: The folder that `find_folder` returned.
        settings: The resolved config.
        skip: Whether a complete run of these settings stays even then, as in a sweep.

    Raises:
        ValueError: If the folder holds a complete run of other settings, and that is not meant.
    """
    if not skip and ckpt_path != "auto":
        return None
    if ckpt_path is None and (folder / CONFIG_FILE).is_file() and difference(folder, settings):
        return None
    return finished_metrics(folder, settings)


def find_start(ckpt_path: str | None, folder: Path, settings: dict[str, Any]) -> Start:
    """Return where a run begins.

    Args:
        ckpt_path: `auto`, `last`, None, a checkpoint or a run folder.
        folder: The folder that `find_folder` returned.
        settings: The resolved config.

    Raises:
        ValueError: If the run to continue has other settings, or its checkpoints are damaged.
    """
    if ckpt_path is None or (ckpt_path == "auto" and not is_unfinished(folder)):
        return Start(folder)
    if different := difference(folder, settings):
        raise ValueError(
            f"{folder}: expected the run in it to have these settings, got {different}; set them "
            f"alike to continue it, choose another folder (hydra.run.dir=...), or {_FROM_SCRATCH}"
        )
    file = Path(ckpt_path)
    if ckpt_path not in ("auto", "last") and file.is_file():
        return Start(folder, file, True, *_position(file, fingerprint(read_config(folder))))
    return _newest(folder)


def _newest(folder: Path) -> Start:
    """Return the start of the run in a folder: its last checkpoint, or the one before.

    Raises:
        ValueError: If there are checkpoints and all of them are damaged.
    """
    written_with, faults = fingerprint(read_config(folder)), list[str]()
    for name in (LAST, PREVIOUS):
        file = folder / _CHECKPOINTS / name
        if not file.is_file():
            continue
        try:
            found = _position(file, written_with)
        except ValueError as error:
            faults.append(str(error))
            continue
        if faults:
            warnings.warn(f"{faults[0]}; continuing from {file}", stacklevel=2)
        return Start(folder, file, True, *found)
    if faults:
        raise ValueError(f"{'; '.join(faults)}; {_FROM_SCRATCH}")
    return Start(folder, None, True)


def check_data(start: Start, data: Mapping[str, str]) -> None:
    """Check that a run continues on the data that it began with.

    Args:
        start: Where the run begins.
        data: Hash of each split's records, as they are now.

    Raises:
        ValueError: If a split has changed; names it.
    """
    if not isinstance(start.data, dict):
        return
    changed = [name for name, value in start.data.items() if data.get(name, value) != value]
    if changed:
        raise ValueError(
            f"{start.checkpoint}: expected the data that this run began with, got another "
            f"{' and another '.join(changed)} split: captions, identities or names of images have "
            "changed; put the earlier files back, choose another folder (hydra.run.dir=...), or "
            f"{_FROM_SCRATCH}"
        )


@contextmanager
def checkpoint_in_errors(checkpoint: Path | None) -> Iterator[None]:
    """Name the checkpoint that a run continues from if its weights do not fit the model.

    Raises:
        ValueError: If they do not.
    """
    try:
        yield
    except RuntimeError as error:
        if checkpoint is None or not str(error).startswith("Error(s) in loading state_dict"):
            raise
        faults = "; ".join(line.strip() for line in str(error).splitlines()[1:])
        raise ValueError(
            f"{checkpoint}: does not fit the model: {faults}; {_FROM_SCRATCH}"
        ) from error


def logger_arguments(loggers: Mapping[str, Any], start: Start) -> dict[str, dict[str, Any]]:
    """Return arguments with which loggers continue the log of a resumed run, by logger.

    Weights & Biases gets the run's id; TensorBoard hides what was logged after the checkpoint.
    """
    arguments: dict[str, dict[str, Any]] = {name: {} for name in loggers}
    for name, node in loggers.items():
        if str(node.get("_target_")).endswith("WandbLogger") and not node.get("id"):
            arguments[name] = {
                "id": processes.decide_on_rank_zero(partial(_wandb_id, start, node)),
                "resume": "allow",
            }
        elif str(node.get("_target_")).endswith("TensorBoardLogger"):
            arguments[name] = {"purge_step": start.step}
    return arguments


def _wandb_id(start: Start, logger: Mapping[str, Any]) -> str:
    file = start.folder / ID_FILE
    agents = os.environ.get("WANDB_RUN_ID") if "WANDB_SWEEP_ID" in os.environ else None
    if agents and logger.get("job_type") == "train":  # the one that the sweep waits for
        write_text(file, agents)
    elif not (start.resumed and file.is_file()):
        write_text(file, secrets.token_hex(4))
    return read_text(file, inside=start.folder).strip()


def _newest_unfinished(runs: Path, settings: dict[str, Any]) -> Path:
    """Return the unfinished run folder of these settings that changed last."""
    other = ""
    folders = [file.parent for file in runs.glob(f"*/{CONFIG_FILE}") if file.parent.name != LATEST]
    for folder in sorted(folders, key=_last_change, reverse=True):
        if is_unfinished(folder):
            different = difference(folder, settings)
            if not different:
                return folder
            other = other or f"; {folder} has {different}"
    raise FileNotFoundError(
        f"ckpt_path=last: expected an unfinished run with these settings in {runs}, got none"
        f"{other}; without ckpt_path=last a new one begins"
    )


def _last_change(folder: Path) -> float:
    files = [folder / CONFIG_FILE, *folder.glob(f"{_CHECKPOINTS}/*.ckpt")]
    return max(file.stat().st_mtime for file in files)


def _position(file: Path, written_with: str) -> tuple[str, int, dict[str, str] | None]:
    """Return a checkpoint's position in its run, to be shown, the next step, and its data's hashes.

    Raises:
        ValueError: If training cannot continue from it, or it is another run's; names it.
    """
    content = read_checkpoint(file)
    missing = [name for name, kind in _NEEDED.items() if not isinstance(content.get(name), kind)]
    if not missing and "fit_loop" not in content["loops"]:
        missing = ["fit_loop"]
    if missing:
        raise ValueError(
            f"{file}: expected a checkpoint that training can continue from, got one without "
            f"{', '.join(missing)}"
        )
    check_resumable(content, STATE, file)
    state = content[STATE]
    if state.get("settings") != written_with:
        raise ValueError(
            f"{file}: expected a checkpoint of the run in its folder, got one of "
            f"{method_name(str(state.get('method')))} with other settings"
        )
    batches = f", batch {state['batches']}" if state.get("batches") else ""
    step: int = content["global_step"]
    # Earlier versions wrote the hashes into the record only.
    data = state.get("data") or read_record(file.parents[1]).get("data_sha256")
    return f"epoch {content['epoch'] + 1}{batches}, step {step}", step, data
