"""Where a run begins: anew, or at a checkpoint that an interrupted one has left."""

import copy
import secrets
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from tireid.checkpoints.run_state import STATE
from tireid.runs.checkpoint import LAST, PREVIOUS, read_checkpoint
from tireid.runs.folder import is_unfinished
from tireid.runs.settings import CONFIG_FILE, difference, fingerprint
from tireid.training import processes

_CHECKPOINTS = "checkpoints"


_ANEW = "ckpt_path=null begins anew"


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
        checkpoint: What it continues from; None: it has no step yet.
        resumed: Whether the folder's run is continued; else what it holds is replaced.
        place: Where in the run the checkpoint stands, in words.
        step: The next optimiser step.
    """

    folder: Path
    checkpoint: Path | None = None
    resumed: bool = False
    place: str = ""
    step: int = 0


def find_folder(cfg: DictConfig) -> Path:
    """Return the run folder of a config: its own, or that of the run its `ckpt_path` names.

    Raises:
        ValueError: If the settings of a run cannot be read.
        FileNotFoundError: If there is no such run.
    """
    wanted: str | None = cfg.ckpt_path
    own = Path(cfg.paths.output_dir)
    if wanted in (None, "auto"):
        return own
    if wanted == "last":
        return _newest_unfinished(own.parent, _settings(cfg))
    path = Path(str(wanted))
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


def find_start(cfg: DictConfig, folder: Path) -> Start:
    """Return where the run of a config begins.

    Args:
        cfg: A composed training config.
        folder: As `find_folder` gives it.

    Raises:
        ValueError: If the run to continue has other settings, or its checkpoints are damaged.
    """
    if cfg.ckpt_path is None or (cfg.ckpt_path == "auto" and not is_unfinished(folder)):
        return Start(folder)
    settings = _settings(cfg)
    if different := difference(folder, settings):
        raise ValueError(
            f"{folder}: expected the run in it to have these settings, got {different}; set them "
            f"alike to continue it, choose another folder (hydra.run.dir=...), or {_ANEW}"
        )
    file = Path(cfg.ckpt_path)
    if cfg.ckpt_path not in ("auto", "last") and file.is_file():
        return Start(folder, file, True, *_place(file, fingerprint(settings)))
    return newest(folder, fingerprint(settings))


def agreed(find: Callable[[], Start]) -> Start:
    """Return on all processes where the first one finds that a run begins."""

    def plain() -> list[Any]:
        start = find()
        checkpoint = None if start.checkpoint is None else str(start.checkpoint)
        return [str(start.folder), checkpoint, *start[2:]]

    folder, checkpoint, *rest = processes.agreed(plain)
    return Start(Path(folder), None if checkpoint is None else Path(checkpoint), *rest)


def newest(folder: Path, written_with: str) -> Start:
    """Return where the run in a folder continues: at its last checkpoint, or the one before.

    Args:
        folder: Of a run that has begun.
        written_with: Fingerprint that the checkpoints must carry.

    Raises:
        ValueError: If there are checkpoints and all of them are damaged.
    """
    faults: list[str] = []
    for name in (LAST, PREVIOUS):
        file = folder / _CHECKPOINTS / name
        if not file.is_file():
            continue
        try:
            place, step = _place(file, written_with)
        except ValueError as error:
            faults.append(str(error))
            continue
        if faults:
            warnings.warn(f"{faults[0]}; continuing from {file}", stacklevel=2)
        return Start(folder, file, True, place, step)
    if faults:
        raise ValueError(f"{'; '.join(faults)}; {_ANEW}")
    return Start(folder, None, True)


@contextmanager
def naming(checkpoint: Path | None) -> Iterator[None]:
    """Name the checkpoint that a run continues from where its weights are not the model's.

    Raises:
        ValueError: If they are not.
    """
    try:
        yield
    except RuntimeError as error:
        if checkpoint is None or not str(error).startswith("Error(s) in loading state_dict"):
            raise
        faults = "; ".join(line.strip() for line in str(error).splitlines()[1:])
        raise ValueError(f"{checkpoint}: does not fit the model: {faults}; {_ANEW}") from error


def logger_config(cfg: DictConfig, start: Start) -> DictConfig:
    """Return the config of the loggers, which continue what the run of a resumed folder has logged.

    Weights & Biases gets the run's id; TensorBoard hides what was logged after the checkpoint.
    """
    loggers = copy.deepcopy(cfg.logger)
    for node in loggers.values():
        known: dict[str, Any] = {}
        if str(node.get("_target_")).endswith("WandbLogger") and not node.get("id"):
            known = {"id": processes.agreed(lambda: _wandb_id(start)), "resume": "allow"}
        elif str(node.get("_target_")).endswith("TensorBoardLogger"):
            known = {"purge_step": start.step}
        for name, value in known.items():
            OmegaConf.update(node, name, value, force_add=True)
    return loggers


def _wandb_id(start: Start) -> str:
    file = start.folder / "wandb_id.txt"
    if not (start.resumed and file.is_file()):
        file.write_text(secrets.token_hex(4), encoding="utf-8")
    return file.read_text(encoding="utf-8").strip()


def _settings(cfg: DictConfig) -> dict[str, Any]:
    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    return settings


def _newest_unfinished(runs: Path, settings: dict[str, Any]) -> Path:
    """Return the run folder of these settings that was last at work."""
    other = ""
    found = [config.parent for config in runs.glob(f"*/{CONFIG_FILE}")]
    for folder in sorted(found, key=_last_change, reverse=True):
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


def _place(file: Path, written_with: str) -> tuple[str, int]:
    """Return where in its run a checkpoint stands that training can continue from; the next step.

    Raises:
        ValueError: If it is none, or that of another run; names it.
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
    state = content[STATE]
    if state.get("settings") != written_with:
        raise ValueError(
            f"{file}: expected a checkpoint of the run in its folder, got one of a "
            f"{state.get('method')} with other settings"
        )
    batches = f", batch {state['batches']}" if state.get("batches") else ""
    step: int = content["global_step"]
    return f"epoch {content['epoch'] + 1}{batches}, step {step}", step
