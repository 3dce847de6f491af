"""Find and read the weights of a run, a checkpoint or an export."""

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from tireid.runs.checkpoint import LAST, PREVIOUS, read_checkpoint
from tireid.runs.record import RECORD_FILE, read_record
from tireid.runs.settings import CONFIG_FILE

WEIGHTS_FILE = "model.safetensors"
TOKENIZER_FOLDER = "tokenizer"


def find_run(run: str | None) -> tuple[Path, Path]:
    """Return the run folder and the checkpoint that `run` names.

    For a run folder it is the checkpoint that the run has tested or, if the run was stopped before
    that, the best on validation so far.

    Args:
        run: A run folder or a checkpoint in one.

    Raises:
        ValueError: If `run` is not given, or the run's record cannot be read.
        FileNotFoundError: If there is no such run or it holds no checkpoint.
    """
    if not run:
        raise ValueError("run: expected a run folder or a checkpoint; set run=runs/...")
    path = Path(str(run))
    if path.is_file():
        folder, checkpoint = path.resolve().parent.parent, path
    else:
        folder = path
        checkpoints = sorted(
            path.glob("checkpoints/*.ckpt"), key=lambda c: (c.name not in (LAST, PREVIOUS), c.name)
        )
        if not checkpoints:
            raise FileNotFoundError(
                f"{path}: expected a run folder with checkpoints/*.ckpt in it, or a file; "
                "`make train` makes one under runs/"
            )
        tested = read_record(folder).get("tested_checkpoint")
        checkpoint = folder / "checkpoints" / tested if tested else checkpoints[-1]
        if not checkpoint.is_file():
            raise FileNotFoundError(
                f"{checkpoint}: expected the checkpoint that {folder / RECORD_FILE} names; "
                "give another one by its file"
            )
    if not (folder / CONFIG_FILE).is_file():
        raise FileNotFoundError(
            f"{folder}: expected {CONFIG_FILE} beside checkpoints/, where training left it"
        )
    return folder, checkpoint


def find_saved(path: str | Path) -> tuple[Path, Path]:
    """Return the folder and the weights file of an export, a run or a checkpoint.

    Args:
        path: An exported folder, its weights file, a run folder, or a checkpoint in one.

    Raises:
        FileNotFoundError: If `path` is none of them.
    """
    path = Path(path)
    folder = path.parent if path.name == WEIGHTS_FILE else path
    if (folder / WEIGHTS_FILE).is_file():
        return folder, folder / WEIGHTS_FILE
    if not path.is_file() and not (path / "checkpoints").is_dir():
        raise FileNotFoundError(
            f"{path}: expected an exported folder with {WEIGHTS_FILE} in it, a run folder with "
            "checkpoints/, or a checkpoint"
        )
    return find_run(str(path))


def read_weights(file: Path, entry: str = "state_dict") -> dict[str, Tensor]:
    """Return the weights in a checkpoint or a safetensors file, by name.

    Args:
        file: A checkpoint or a safetensors file.
        entry: Key of the weights in a checkpoint.

    Raises:
        ValueError: If the file holds no weights; names it.
    """
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = read_checkpoint(file).get(entry)
        if not isinstance(state, dict):
            raise TypeError(f"it has no {entry}")
        if not all(isinstance(value, Tensor) for value in state.values()):
            raise TypeError(f"its {entry} holds other things than tensors")
    except Exception as error:  # Broken files raise nearly anything.
        reason = str(error).splitlines()[0] if str(error) else "an unreadable file"
        raise ValueError(
            f"{file}: expected the weights of a training run, got {type(error).__name__}: "
            f"{reason.removeprefix(f'{file}: ')}"
        ) from error
    return state
