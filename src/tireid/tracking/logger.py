"""Log to W&B with Lightning's logger, made safe: no prompt, no error reaches the training."""

import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger as LightningWandbLogger
from lightning.pytorch.utilities import rank_zero_only

from tireid.console import say
from tireid.files import write_json, write_text
from tireid.runs.environment import source_diff
from tireid.runs.foreign import read_text
from tireid.runs.record import read_record
from tireid.runs.title import run_title
from tireid.tracking.artifacts import EXPORT, Artifact, kept
from tireid.tracking.session import (
    INSTALL,
    Mode,
    brief,
    find_mode,
    fitting,
    import_quietly,
    is_installed,
)

ID_FILE = "wandb_id.txt"  # in a run folder: the id of its current W&B run
STATE_FILE = "wandb/state.json"  # what an offline run needs to be continued, beside its files
_STATE = {"id": str | None, "rows": int, "best": {str: float | None}}
STEP = "trainer/global_step"
_STAGE = "WANDB_DATA_DIR"
_DIFF_FILE = "diff.patch"  # as W&B calls its own
BEST = "val/"  # prefix of the metrics whose best value stands in a run's summary
_SETTINGS = {
    "silent": True,
    "console": "wrap",  # into output.log
    "disable_code": True,
    "disable_git": True,  # it would take that of the current folder, which may be anything
    "finish_timeout_raises": True,
}


class WandbLogger(LightningWandbLogger):
    """A run of W&B that starts when something is logged and ends with `finish`.

    Each logger has a run of its own. Its summary holds the best and the last value of each
    validation metric. Any error of wandb becomes one warning, after which nothing more is logged.

    Args:
        save_dir: The run folder; the files go into `wandb/` in it.
        project: Project of the run.
        entity: User or team; None: the user's default.
        name: Name in tables; None: from `describe`, and so are the next two.
        group: Runs that belong together.
        tags: Tags of the run.
        job_type: `train`, `teacher` or `export`.
        id: Id of the run; an earlier run with this id is continued.
        resume: As in `wandb.init`.
        required: Whether wandb must be installed.
        init_timeout: Seconds to wait for the server before the run is kept offline.
        finish_timeout: Seconds to wait for uploads at the end.

    Raises:
        ValueError: If wandb is required and not installed.
    """

    def __init__(
        self,
        save_dir: str,
        project: str = "tireid",
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        tags: Sequence[str] | None = None,
        job_type: str = "train",
        id: str | None = None,
        resume: str | None = "allow",
        required: bool = False,
        init_timeout: float | int = 20,
        finish_timeout: float | int = 300,
    ) -> None:
        if is_installed():
            super().__init__(save_dir=save_dir, project=project, id=id)
        elif required:
            raise ValueError(
                f"logger=wandb: expected wandb to be installed; {INSTALL}, or choose logger=csv"
            )
        else:  # the constructor of Lightning's logger would raise
            self._experiment, self._project, self._save_dir, self._id = None, project, save_dir, id
            self._log_model = False
        self.folder = Path(save_dir)
        self.job_type = job_type
        self.config: dict[str, Any] = {}
        self._arguments = {"project": project, "entity": entity, "id": id, "resume": resume}
        self._arguments |= {"name": name, "group": group, "tags": tags}
        self._timeouts = {"init_timeout": init_timeout, "finish_timeout": finish_timeout}
        self._ended = False
        self._mode = Mode("disabled")
        self._best: dict[str, float] = {}
        self._rows = 0  # logged so far

    def describe(
        self, name: str, group: str, tags: Sequence[str], config: Mapping[str, Any]
    ) -> None:
        """Describe the run before anything is logged; arguments of the constructor win.

        Args:
            name: Name in tables.
            group: Runs that belong together.
            tags: Tags of the run.
            config: The flat config.
        """
        for key, value in {"name": name, "group": group, "tags": list(tags)}.items():
            self._arguments[key] = self._arguments[key] or value
        self.config = dict(config)

    @property
    def experiment(self) -> Any:
        """The run, started if necessary; None if nothing is logged, as on other ranks."""
        if self._experiment is None and not self._ended and getattr(rank_zero_only, "rank", 0) == 0:
            with self._guarded(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of wandb's imports and older interfaces
                self._start()
            self._ended = self._experiment is None
        return self._experiment

    def _start(self) -> None:
        """Start a run, or continue the one with its id; offline if the server is not reached."""
        if not is_installed():
            if self.job_type == "train" and os.environ.get("WANDB_MODE") != "disabled":
                say(f"wandb is not installed, the run is logged to files only; {INSTALL}")
            return
        self._mode = find_mode()
        if self._mode.name == "disabled":
            return
        self._arguments = fitting(self._arguments)
        self.folder.mkdir(parents=True, exist_ok=True)
        state = read_record(self.folder, STATE_FILE, _STATE)
        if self._id is not None and state.get("id") == self._id:
            self._best, self._rows = _best(state["best"]), state["rows"]
        if self._mode.name != "offline":
            run = self._try_online()
            if run is not None:
                self._experiment = run
                self._best |= _best(dict(run.summary))
                return
            self._mode = Mode("offline", "the server was not reached")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it would use the network
        self._experiment = self._init("offline")

    def _try_online(self) -> Any:
        """Return a run on the server; None, without its files, if the server is not reached."""
        before = set(self.folder.glob("wandb/run-*"))
        try:
            return self._init(self._mode.name)
        except Exception as error:
            say(f"wandb: {brief(error)}; the run is kept offline")
            import_quietly().teardown()  # its service process still holds the run's id
            for path in set(self.folder.glob("wandb/run-*")) - before:
                shutil.rmtree(path, ignore_errors=True)
            return None

    def _init(self, mode: str) -> Any:
        wandb = import_quietly()
        run = wandb.init(
            **{name: value for name, value in self._arguments.items() if value},
            job_type=self.job_type,
            config=self.config,
            mode=mode,
            dir=str(self.folder.absolute()),
            reinit="create_new",
            settings=wandb.Settings(**_SETTINGS, **self._timeouts),
        )
        run.define_metric(STEP)
        run.define_metric("*", step_metric=STEP, step_sync=True)
        run.define_metric(f"{BEST}*", step_metric=STEP, step_sync=True, summary="none")
        if diff := source_diff(Path(__file__).parent):
            file = self.folder / "wandb" / _DIFF_FILE
            write_text(file, diff)
            run.save(str(file.absolute()), base_path=str(file.parent.absolute()), policy="now")
        return run

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: `describe` has the whole config."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics, and put the best and the last of the validation into the summary."""
        if self.experiment is None:
            return
        summary: dict[str, float] = {}
        for name, value in metrics.items():
            if name.startswith(BEST):
                self._best[name] = max(value, self._best.get(name, value))
                summary |= {name: self._best[name], f"last/{name}": value}
        self.log_row(metrics, step)
        if summary:
            self.update_summary(summary)

    def log_row(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Log values of any type that wandb knows, at a step of the optimizer."""
        if self.experiment is None:
            return
        row = dict(values) if step is None else {**values, STEP: step}
        # Offline, wandb's own counter would begin again in each part of a run.
        number = self._rows if self._mode.name == "offline" else None
        self._rows += 1
        state = {"id": self._id, "rows": self._rows, "best": self._best}
        with self._guarded():
            write_json(self.folder / STATE_FILE, state)
            self.experiment.log(row, commit=True, step=number)

    def update_summary(self, values: Mapping[str, Any]) -> None:
        """Set values of the run's summary."""
        if self.experiment is not None:
            with self._guarded():
                self.experiment.summary.update(dict(values))

    def log_artifact(self, made: Artifact, *, is_used: bool = False) -> None:
        """Log files without copying them; they must stay until they are uploaded.

        Args:
            made: The artifact.
            is_used: Whether the run took it, rather than made it.
        """
        if self.experiment is None:
            return
        with self._guarded():
            artifact = import_quietly().Artifact(
                made.name, made.kind, made.description, dict(made.metadata)
            )
            for inner, path in made.files.items():
                if path.is_file():
                    artifact.add_file(str(path), name=inner, policy="immutable", skip_cache=True)
            aliases = [*([] if is_used else ["latest"]), *made.aliases]
            # `use_artifact` wants a server, to whose run of this name it would do the same.
            self.experiment._log_artifact(
                artifact, aliases=aliases, is_user_created=is_used, use_after_commit=is_used
            )

    def finish(self, exit_code: int = 0) -> None:
        """End the run, and print in one line where it is.

        Args:
            exit_code: 0 for success.
        """
        run, self._experiment, self._ended = self._experiment, None, True
        if run is None:
            return
        with self._guarded():
            folder, url = Path(run.settings.sync_dir), run.url
            problem = ""
            try:
                run.finish(exit_code=exit_code)
            except TimeoutError:
                problem = "not all was uploaded; "
            if not url:
                reason = f" ({self._mode.reason})" if self._mode.reason else ""
                problem = problem or f"kept offline{reason}; "
            folder = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
            where = f"{problem}to upload: wandb sync {folder}" if problem else url
            say(f"wandb: {where}")

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Turn any W&B error into one warning and stop logging to it.

        Uploads are staged in the run folder, unless `WANDB_DATA_DIR` is set.
        """
        own = {} if _STAGE in os.environ else {_STAGE: str(self.folder.absolute() / "wandb")}
        os.environ.update(own)
        try:
            yield
        except Exception as error:
            self._experiment, self._ended = None, True
            warnings.warn(
                f"wandb: {type(error).__name__}: {brief(error)}; from here on the run is "
                "logged to files only",
                stacklevel=3,
            )
        finally:
            for name in own:
                os.environ.pop(name, None)


@contextmanager
def finish_at_exit(loggers: Sequence[Any]) -> Iterator[None]:
    """Finish the W&B runs of some loggers after the block, with the block's exit code."""
    code = 0
    try:
        yield
    except BaseException as error:
        code = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1
        raise
    finally:
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                logger.finish(code)


def wandb_logger_of(loggers: Sequence[Any]) -> WandbLogger | None:
    """Return the W&B logger among some loggers."""
    return next((logger for logger in loggers if isinstance(logger, WandbLogger)), None)


def log_images(folder: Path, settings: Mapping[str, Any], paths: Sequence[Path]) -> None:
    """Add images of a run folder to the W&B run that was logged from it, or say there is none.

    Args:
        folder: The run folder.
        settings: The run's config.
        paths: Image files below the folder; each is logged under its relative path.
    """
    if not _was_logged(folder, "the images"):
        return
    id = read_text(folder / ID_FILE, inside=folder).strip()
    logger = _logger_beside(folder, settings, id=id, job_type=settings["task"])
    with finish_at_exit([logger]):
        if logger.experiment is None:
            return
        logger.log_row(images_by_name(folder, paths), read_record(folder).get("steps"))


def log_export(folder: Path, settings: Mapping[str, Any], output: Path) -> None:
    """Log an export as a W&B run that used the model of a run folder, or say there is none.

    Args:
        folder: The run folder.
        settings: The run's config.
        output: Folder of the export.
    """
    if not _was_logged(folder, "the export"):
        return
    model = kept(folder)
    if model is None:
        say(f"wandb: the run in {folder} logged no model, so the export has no origin there")
        return
    files = {p.relative_to(output).as_posix(): p for p in output.rglob("*") if p.is_file()}
    logger = _logger_beside(folder, settings, job_type=EXPORT)
    with finish_at_exit([logger]):
        logger.log_artifact(model, is_used=True)
        logger.log_artifact(Artifact(f"{model.name}-export", EXPORT, files, (), model.metadata))


def _was_logged(folder: Path, what: str) -> bool:
    was_logged = (folder / ID_FILE).is_file() and (folder / "wandb").is_dir()
    if not was_logged:
        say(f"wandb: no run to add {what} to: expected {ID_FILE} and wandb/ in {folder}")
    return was_logged


def _logger_beside(folder: Path, settings: Mapping[str, Any], **arguments: Any) -> WandbLogger:
    """Return a logger that goes on with the project, names and tags of a run folder's."""
    config = (settings.get("logger") or {}).get("wandb") or {}
    names = ("project", "entity", "name", "group", "tags")
    given = {name: config[name] for name in names if config.get(name)}
    logger = WandbLogger(str(folder), **given, **arguments)
    title = run_title(settings, folder)
    logger.describe(title.name, title.group, title.tags, {})
    return logger


def images_by_name(folder: Path, paths: Sequence[Path]) -> dict[str, Any]:
    """Return images of wandb of the image files below a folder, by their paths without suffix."""
    image = import_quietly().Image
    return {str(path.relative_to(folder).with_suffix("")): image(str(path)) for path in paths}


def _best(summary: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in summary.items()
        if name.startswith(BEST) and isinstance(value, int | float)
    }
