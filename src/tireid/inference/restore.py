"""Restore a model and its data module from a run folder or an export."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from tireid.data.mixed import read_mixed
from tireid.data.synthetic import find_synthetic, read_synthetic
from tireid.data.tokenizers import CaptionTokenizer, load_tokenizer
from tireid.encoders.pretrained import misfit
from tireid.files import available_cores
from tireid.inference.build import SETTINGS_ERRORS, build_datamodule, build_encoders, build_model
from tireid.inference.saved_config import inference_config
from tireid.methods.base import RetrievalModule, embedding_weights
from tireid.methods.lcr2s import Lcr2sTeacher
from tireid.runs.record import read_record
from tireid.runs.settings import CONFIG_FILE, method_name
from tireid.runs.weights import TOKENIZER_FOLDER, find_run, read_weights

if TYPE_CHECKING:
    from tireid.data.datamodule import TireidDataModule

TEACHER_FOLDER = "teacher"  # of a student's run folder: the run of its teacher
EARLIER_FILE = "teacher.ckpt"  # there, of versions in which a teacher was no run
READ_MIXED = f"{read_mixed.__module__}.{read_mixed.__name__}"
READ_SYNTHETIC = f"{read_synthetic.__module__}.{read_synthetic.__name__}"
_MOST_PARAMETERS = 5_000
_LONGEST_REASON = 1000  # characters
_Built = TypeVar("_Built")


class SavedTeacher(NamedTuple):
    """A trained teacher on disk.

    Attributes:
        folder: Run folder whose config, tokenizer and record are the teacher's.
        weights: Checkpoint.
        config: Checked config that the teacher is built from.
        entry: Entry of the checkpoint that holds the weights.
    """

    folder: Path
    weights: Path
    config: DictConfig
    entry: str = "state_dict"


def _fitting(model: RetrievalModule, file: Path, entry: str) -> dict[str, Tensor]:
    """Return a file's weights, which are exactly those of a model but for its heads."""
    expected = embedding_weights(model, model.state_dict())
    state = embedding_weights(model, read_weights(file, entry))
    if faults := misfit(expected, state):
        raise ValueError(
            f"{file}: does not fit the {method_name(type(model).__name__)} of {CONFIG_FILE}: "
            f"{faults}"
        )
    return state


def restore_model(
    cfg: DictConfig,
    folder: Path,
    weights: Path,
    *,
    entry: str = "state_dict",
    num_train_pids: int = 1,
) -> RetrievalModule:
    """Build a model from a checked config and load its weights.

    The heads of the training identities are not restored, so their number does not matter. The
    global random generator is left as it was.

    Args:
        cfg: Config that `tireid.inference.saved_config` has checked.
        folder: Folder of the config, for the message.
        weights: Checkpoint or safetensors file.
        entry: Entry of a checkpoint that holds the weights.
        num_train_pids: Number of training identities that heads are built for.

    Raises:
        ValueError: If the config is not that of a method, or the weights do not fit it.
    """
    build = partial(build_model, cfg, num_train_pids=num_train_pids)
    restored = partial(_built, lambda: build(build_encoders(cfg)), RetrievalModule, folder)
    with torch.random.fork_rng(devices=[]):
        with outlined():  # whatever sizes the config asks for
            state = _fitting(restored("a model"), weights, entry)
        model = restored("a model")
    model.load_state_dict(state, strict=False)
    return model


def restore_tokenizer(cfg: DictConfig, folder: Path) -> CaptionTokenizer:
    """Load the tokenizer that a run left, whose ids the text encoder must know.

    Args:
        cfg: Config that `tireid.inference.saved_config` has checked.
        folder: Of the run or export.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it cannot be read, or has more ids than the text encoder.
    """
    tokenizer = load_tokenizer(folder / TOKENIZER_FOLDER)
    waiting, sizes = [cfg.text_encoder.module], list[int]()
    while waiting:
        node = waiting.pop()
        waiting += [value for value in node.values() if isinstance(value, DictConfig)]
        sizes += [node.vocab_size] if isinstance(node.get("vocab_size"), int) else []
    if sizes and tokenizer.vocab_size > min(sizes):
        raise ValueError(
            f"{folder / TOKENIZER_FOLDER}: vocab_size: expected at most {min(sizes)}, the ids that "
            f"text_encoder.module of {CONFIG_FILE} knows, got {tokenizer.vocab_size}"
        )
    return tokenizer


class _ShapesOnly(TorchFunctionMode):
    """Leave out what changes values only, such as draws: without memory it loads a compiler."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.randn:
            return torch.empty(*args, **{k: v for k, v in kwargs.items() if k != "generator"})
        if func in (nn.init.normal_, Tensor.normal_):
            return args[0] if args else kwargs["tensor"]
        scaled = func is Tensor.mul and args[0].is_floating_point() and isinstance(args[1], float)
        return args[0] if scaled else func(*args, **kwargs)


@contextmanager
def outlined() -> Iterator[None]:
    """Let the block build models without memory, and of so many layers only."""
    made = itertools.count(1)

    def count(module: nn.Module, name: str, parameter: Any) -> None:
        if next(made) > _MOST_PARAMETERS:
            raise ValueError(f"expected a model of at most {_MOST_PARAMETERS:,} tensors, got more")

    handle = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"), _ShapesOnly():
            yield
    finally:
        handle.remove()


def find_teacher(run: str | Path, student: Path | None = None) -> SavedTeacher:
    """Find a trained teacher.

    Args:
        run: A teacher's run folder, a checkpoint of one, or the `teacher.ckpt` of a student that
            an earlier version trained.
        student: Run folder of the student that followed a `teacher.ckpt`; None: that above it.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is the run of something else.
    """
    path = Path(run)
    if not (path / CONFIG_FILE).is_file() and (path / EARLIER_FILE).is_file():
        path = path / EARLIER_FILE
    if path.name == EARLIER_FILE and path.is_file():
        folder = student or path.resolve().parent.parent
        return SavedTeacher(folder, path, inference_config(folder, of_teacher=True))
    folder, weights = find_run(str(path))
    config = inference_config(folder)
    if not config.model._target_.endswith(f".{Lcr2sTeacher.__name__}"):
        raise ValueError(
            f"teacher: {path}: expected a run of model=lcr2s_teacher, got one of "
            f"{config.model._target_}; the teacher of an LCR2S run is {TEACHER_FOLDER}/ in its "
            "folder"
        )
    return SavedTeacher(folder, weights, config)


def teacher_of(cfg: DictConfig, folder: Path, checkpoint: Path) -> SavedTeacher | None:
    """Return the teacher that an LCR2S run followed; None: it is not where the run left it.

    Args:
        cfg: The run's config, checked.
        folder: The run folder.
        checkpoint: The student's, which holds a teacher that was trained along.
    """
    if cfg.model.joint:
        config = inference_config(folder, of_teacher=True)
        return SavedTeacher(folder, checkpoint, config, "teacher")
    recorded = read_record(folder).get("teacher", {}).get("run")
    for run in (cfg.get("teacher"), recorded, folder / TEACHER_FOLDER):
        if run is not None and _has_weights(Path(run)):
            return find_teacher(run, folder)
    return None


def _has_weights(run: Path) -> bool:
    return run.is_file() or (run / EARLIER_FILE).is_file() or any(run.glob("checkpoints/*.ckpt"))


def restore_datamodule(
    cfg: DictConfig,
    folder: Path,
    *,
    cache_dir: str | None = None,
    batch_size: int | None = None,
    dataset_root: Any = None,
) -> "TireidDataModule":
    """Build a run's data module with the tokenizer that the run left; nothing is read yet.

    Args:
        cfg: From `tireid.inference.saved_config.evaluation_config`; its folders are changed in
            place.
        folder: Of the run.
        cache_dir: The caller's cache, the only folder that is written to; None: the default one.
        batch_size: Images or captions at once; None: the run's.
        dataset_root: Where the data set stands now, if it moved.

    Raises:
        ValueError: If a setting of the data is wrong, or a root is given for data that are made
            where they are missing.
        FileNotFoundError: If the run left no tokenizer.
    """
    from tireid.data.datamodule import TireidDataModule  # late: with it comes Lightning

    workers = cfg.dataset.get("num_workers")
    changes: dict[str, Any] = {
        "tokenizer": restore_tokenizer(cfg, folder),
        "validation_split": "val",
        "num_workers": workers and min(workers, available_cores()),
    }
    if batch_size is not None:
        changes["eval_batch_size"] = batch_size
    if dataset_root is not None:
        if "root" not in cfg.dataset.read:
            raise ValueError(
                f"dataset_root: expected null for a run on {cfg.dataset.name}, whose files are "
                f"made where they are missing; got {dataset_root}"
            )
        cfg.dataset.root = cfg.dataset.read.root = dataset_root
    use_cache(cfg.dataset.read, cache_dir)
    cfg.paths.cache_dir = cache_dir
    return _built(lambda: build_datamodule(cfg, **changes), TireidDataModule, folder, "a data set")


def use_cache(read: DictConfig, cache_dir: str | None) -> Path | None:
    """Let a synthetic set be read where it stands whole, and be drawn in the caller's cache only.

    Args:
        read: Arguments of the reader; changed in place.
        cache_dir: The caller's cache.

    Returns:
        The folder of the set; None if it stands nowhere, or is no synthetic one.

    Raises:
        ValueError: If an argument is wrong.
    """
    if read.get("_target_") == READ_MIXED:
        read.cache_dir = cache_dir
    if read.get("_target_") != READ_SYNTHETIC:
        return None
    settings: Any = OmegaConf.to_container(read)
    arguments = {name: value for name, value in settings.items() if not name.startswith("_")}
    for place in (arguments.pop("cache_dir", None), cache_dir):
        read.cache_dir = place
        try:
            root = find_synthetic(place, **arguments)
        except TypeError as error:
            raise ValueError(f"dataset.read: expected a reader's arguments: {error}") from error
        if root is not None:
            return root
    return None


def _built(build: Callable[[], Any], kind: type[_Built], folder: Path, what: str) -> _Built:
    """Return what a folder's config builds, or name the config in the error."""
    expected = f"{folder / CONFIG_FILE}: expected {what}'s settings"
    try:
        built = build()
    except SETTINGS_ERRORS as error:
        reason = " ".join(str(error).split())[:_LONGEST_REASON]  # it may repeat an endless value
        raise ValueError(f"{expected}: {reason}") from error
    if not isinstance(built, kind):
        raise ValueError(f"{expected}, got those of a {type(built).__name__}")
    return built
