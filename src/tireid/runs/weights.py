"""Find, read and write the weights of a run, a checkpoint or an export."""

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save
from torch import Tensor

from tireid.files import replacing
from tireid.runs.checkpoint import LAST, PREVIOUS, read_checkpoint, weights_fault
from tireid.runs.folder import named_run
from tireid.runs.foreign import regular_file
from tireid.runs.hub import download, is_hub_address
from tireid.runs.record import RECORD_FILE, read_record
from tireid.runs.settings import CONFIG_FILE

WEIGHTS_FILE = "model.safetensors"
TOKENIZER_FOLDER = "tokenizer"
CARD_FILE = "README.md"
# Of an export on the hub; no other file of its repository is downloaded.
EXPORT_FILES = (WEIGHTS_FILE, CONFIG_FILE, RECORD_FILE, f"{TOKENIZER_FOLDER}/*.json")
PRODUCT = ("lora_down", "lora_up")  # names of the matrices whose product is added to a weight


def find_run(run: str | None) -> tuple[Path, Path]:
    """Return the run folder and the checkpoint that `run` names.

    For a run folder it is the checkpoint that the run has tested or, if the run was stopped before
    that, the best on validation so far.

    Args:
        run: A run folder, a checkpoint in one, or `latest` for the newest run.

    Raises:
        ValueError: If `run` is not given, or the run's record cannot be read.
        FileNotFoundError: If there is no such run or it holds no checkpoint.
    """
    if not run:
        raise ValueError(
            "run: expected a run folder or a checkpoint; set run=runs/... or run=latest"
        )
    path = named_run(run)
    if path.exists() and not path.is_dir():
        folder, checkpoint = path.resolve().parent.parent, regular_file(path)
    else:
        folder, checkpoint = path, _chosen(path)
    if not (folder / CONFIG_FILE).exists():
        raise FileNotFoundError(
            f"{folder}: expected {CONFIG_FILE} beside checkpoints/, where training left it"
        )
    return folder, checkpoint


def _chosen(folder: Path) -> Path:
    """Return the checkpoint that a run has tested or, if it has not, the best so far."""
    checkpoints = sorted(
        folder.glob("checkpoints/*.ckpt"), key=lambda c: (c.name not in (LAST, PREVIOUS), c.name)
    )
    if not checkpoints:
        raise FileNotFoundError(
            f"{folder}: expected a run folder with checkpoints/*.ckpt in it, or a file; "
            "`make train` makes one under runs/"
        )
    tested = read_record(folder).get("tested_checkpoint") or checkpoints[-1].name
    if tested != Path(tested).name or tested == ".." or "\0" in tested:
        raise ValueError(
            f"{folder / RECORD_FILE}: tested_checkpoint: expected the name of a file in "
            f"checkpoints/, got {tested!r}"
        )
    try:
        return regular_file(folder / "checkpoints" / tested, inside=folder)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{folder / 'checkpoints' / tested}: expected the checkpoint that "
            f"{folder / RECORD_FILE} names; give another one by its file"
        ) from error


def is_export(path: str | Path) -> bool:
    """Return whether this is an exported folder, its weights file, or an export on the hub."""
    folder = Path(path).parent if Path(path).name == WEIGHTS_FILE else Path(path)
    is_here = all((folder / name).exists() for name in (WEIGHTS_FILE, CONFIG_FILE))
    return is_here or is_hub_address(path)


def find_saved(path: str | Path) -> tuple[Path, Path]:
    """Return the folder and the weights file of an export, a run or a checkpoint.

    Args:
        path: An exported folder, its weights file, a run folder, a checkpoint in one, or `latest`
            for the newest run; or an export on the hub, which is downloaded, as in
            `tireid.runs.hub`.

    Raises:
        FileNotFoundError: If `path` is none of them.
    """
    if is_hub_address(path):
        return _find_downloaded(path)
    path = named_run(path)
    folder = path.parent if path.name == WEIGHTS_FILE else path
    if (folder / WEIGHTS_FILE).exists():
        return folder, regular_file(folder / WEIGHTS_FILE, inside=folder)
    if not (path / "checkpoints").is_dir() and (path.is_dir() or not path.exists()):
        raise FileNotFoundError(
            f"{path}: expected an exported folder with {WEIGHTS_FILE} in it, a run folder with "
            "checkpoints/, or a checkpoint"
        )
    return find_run(str(path))


def _find_downloaded(address: str | Path) -> tuple[Path, Path]:
    folder = download(address, EXPORT_FILES)
    for name in (WEIGHTS_FILE, CONFIG_FILE):
        if not (folder / name).exists():
            raise FileNotFoundError(
                f"{address}: expected a model that `tireid export --push` wrote, got no {name} in "
                "it; a CLIP or SigLIP 2 is named without hf://"
            )
    return folder, regular_file(folder / WEIGHTS_FILE, inside=folder)


def write_weights(file: Path, weights: Mapping[str, Tensor]) -> None:
    """Write weights as safetensors; the file is whole or not there.

    Args:
        file: The file to write, which is replaced.
        weights: By name, on any device; tied ones are written once for each name.
    """
    plain = {name: value.detach().cpu().clone().contiguous() for name, value in weights.items()}
    with replacing(file) as target:
        target.write(save(plain, metadata={"format": "pt"}))


def with_product(
    weight: Float[Tensor, "out_dim in_dim"],
    down: Float[Tensor, "rank in_dim"],
    up: Float[Tensor, "out_dim rank"],
) -> Float[Tensor, "out_dim in_dim"]:
    """Return a weight to which the product of two thin matrices is added.

    In float64 where the device has it, so that all devices and precisions agree.
    """
    wide = torch.float32 if weight.device.type == "mps" else torch.float64
    return torch.addmm(weight.to(wide), up.to(wide), down.to(wide)).to(weight.dtype)


def _merged(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights with their products added; a product that does not fit stays as it is."""
    merged = dict(state)
    for name in [name for name in state if name.endswith(f".{PRODUCT[0]}")]:
        parts = [name.removesuffix(PRODUCT[0]) + part for part in ("weight", *PRODUCT)]
        weight, down, up = (state.get(part) for part in parts)
        if weight is not None and down is not None and up is not None and _fit(weight, down, up):
            merged[parts[0]] = with_product(weight, down, up)
            del merged[parts[1]], merged[parts[2]]
    return merged


def _fit(weight: Tensor, down: Tensor, up: Tensor) -> bool:
    if not weight.dim() == down.dim() == up.dim() == 2 or not weight.is_floating_point():
        return False
    rank, in_dim = down.shape
    return tuple(weight.shape) == (len(up), in_dim) and up.shape[1] == rank


def read_weights(file: Path, entry: str = "state_dict") -> dict[str, Tensor]:
    """Return the weights in a checkpoint or a safetensors file, by name; of LoRA those added up.

    Args:
        file: A checkpoint or a safetensors file.
        entry: Key of the weights in a checkpoint.

    Raises:
        ValueError: If the file holds no weights, or some that are not finite; names it.
    """
    try:
        is_export = file.suffix == ".safetensors"
        state = load_file(regular_file(file)) if is_export else read_checkpoint(file).get(entry)
    except Exception as error:  # Broken files raise nearly anything.
        reason = str(error).splitlines()[0] if str(error) else "an unreadable file"
        raise ValueError(
            f"{file}: expected the weights of a training run, got {type(error).__name__}: "
            f"{reason.removeprefix(f'{file}: ')}"
        ) from error
    expected = f"{file}: expected the weights of a training run, but it"
    if not isinstance(state, dict):
        raise ValueError(f"{expected} has no {entry}")
    if fault := weights_fault(state) or weights_fault(state := _merged(state)):
        raise ValueError(f"{expected} holds {fault}")
    return state
