"""Log to Weights & Biases: online where the user is logged in, else offline; never in the way."""

import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from tireid.tracking.offline import has_ended, read_offline_run
from tireid.tracking.session import (
    BEST,
    INSTALL,
    STEP,
    Mode,
    begin,
    first_line,
    import_quietly,
    is_installed,
    say,
)


class WandbLogger(Logger):
    """One run of Weights & Biases, begun when something is logged and ended by `finish`.

    Runs of one process are apart. Whatever fails here is told once, and training goes on.

    Args:
        save_dir: The run folder; all files go into `wandb/` in it.
        project: Project that the run belongs to.
        entity: User or team; None: the user's own setting.
        name: Shown in tables; None: as `describe` says, like the next two.
        group: Runs that belong together.
        tags: Words to find the run by.
        job_type: `train` or `teacher`.
        id: Of the run; an earlier one with it is continued.
        resume: As in `wandb.init`.
        required: Whether wandb must be installed.
        init_timeout: Seconds to wait for the server before the run is kept offline.
        finish_timeout: Seconds to wait for what is still to be uploaded at the end.

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
        super().__init__()
        if required and not is_installed():
            raise ValueError(
                f"logger=wandb: expected wandb to be installed; {INSTALL}, or choose logger=csv"
            )
        self.folder = Path(save_dir)
        self.job_type = job_type
        self.config: dict[str, Any] = {}
        self._given: dict[str, Any] = {"name": name, "group": group, "tags": tags}
        self._place = {"project": project, "entity": entity, "id": id, "resume": resume}
        self._timeouts = {"init_timeout": init_timeout, "finish_timeout": finish_timeout}
        self._run: Any = None
        self._ended = False
        self._mode = Mode("disabled")
        self._best: dict[str, float] = {}
        self._earlier_step: int | None = None

    def describe(
        self, name: str, group: str, tags: Sequence[str], config: Mapping[str, Any]
    ) -> None:
        """Say what the run is, before anything is logged; what the config gave stays.

        Args:
            name: Shown in tables.
            group: Runs that belong together.
            tags: Words to find the run by.
            config: All settings, on one level.
        """
        told = {"name": name, "group": group, "tags": list(tags)}
        self._given = {key: self._given[key] or value for key, value in told.items()}
        self.config = dict(config)

    @property
    def name(self) -> str:
        """The project."""
        return str(self._place["project"])

    @property
    def version(self) -> str | None:
        """The run's id."""
        return self._place["id"]

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.folder)

    @property
    def experiment(self) -> Any:
        """The run, as `run`."""
        return self.run

    @property
    def run(self) -> Any:
        """The run, begun if need be; None where nothing is logged."""
        if self._run is None and not self._ended and getattr(rank_zero_only, "rank", 0) == 0:
            with self._unharmed(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of wandb's imports, and on its older interfaces
                self._run = self._begin()
            self._ended = self._run is None
        return self._run

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: `describe` has all settings."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log a row; of metrics of the validation split, keep the best and the last apart."""
        self.log_row(metrics, step)
        told: dict[str, float] = {}
        for name, value in metrics.items():
            if name.startswith(BEST):
                self._best[name] = max(value, self._best.get(name, value))
                told |= {name: self._best[name], f"last/{name}": value}
        if told:
            self.update_summary(told)

    @rank_zero_only
    def log_row(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Log values of any kind that wandb knows, at a step of the optimiser."""
        if self.run is None:
            return
        at = {} if step is None else {STEP: step}
        with self._unharmed(), self._files_in_the_run_folder():
            self._run.log({**values, **at}, commit=True, **self._next_step())

    @rank_zero_only
    def update_summary(self, values: Mapping[str, Any]) -> None:
        """Set what stands for the run in a table."""
        if self.run is not None:
            with self._unharmed():
                self._run.summary.update(dict(values))

    @rank_zero_only
    def log_artifact(
        self,
        name: str,
        kind: str,
        files: Mapping[str, Path],
        *,
        aliases: Sequence[str],
        metadata: Mapping[str, Any],
    ) -> None:
        """Log files as they lie; they are not copied, so they must stay until they are uploaded.

        Args:
            name: Of the bundle.
            kind: Its type, such as `model`.
            files: By their name in the bundle; those that are missing are left out.
            aliases: Names of this version of it.
            metadata: What is to be known of it.
        """
        if self.run is None:
            return
        with self._unharmed(), self._files_in_the_run_folder():
            artifact = import_quietly().Artifact(name, type=kind, metadata=dict(metadata))
            for inner, path in files.items():
                if path.is_file():
                    artifact.add_file(str(path), name=inner, policy="immutable", skip_cache=True)
            self._run.log_artifact(artifact, aliases=list(aliases))

    @rank_zero_only
    def finish(self, exit_code: int = 0) -> None:
        """End the run, and say in one line where it is.

        Args:
            exit_code: Other than 0: it failed, or was stopped.
        """
        run, self._run, self._ended = self._run, None, True
        if run is None:
            return
        late = ""
        with self._unharmed():
            folder, url = Path(run.settings.sync_dir), run.url
            try:
                run.finish(exit_code=exit_code)
            except TimeoutError:
                late = "not all was uploaded; "
            if not url:
                _wait_for_end(folder)
            folder = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
            if url and not late:
                say(f"wandb: {url}")
            else:
                why = f" ({self._mode.reason})" if self._mode.reason else ""
                say(f"wandb: {late or f'kept offline{why}; '}to upload: wandb sync {folder}")

    def _begin(self) -> Any:
        given = {name: value for name, value in (self._place | self._given).items() if value}
        begun = begin(
            self.folder, self._timeouts, **given, job_type=self.job_type, config=self.config
        )
        if begun is None:
            return None
        self._mode, self._best, self._earlier_step = begun.mode, begun.best, begun.last_step
        return begun.run

    def _next_step(self) -> dict[str, int]:
        """Let the first row of a part come after the last of the part before."""
        step, self._earlier_step = self._earlier_step, None
        return {} if step is None else {"step": step + 1}

    @contextmanager
    def _files_in_the_run_folder(self) -> Iterator[None]:
        """Have wandb put what waits for its upload into the run folder, unless told where."""
        name = "WANDB_DATA_DIR"
        if name in os.environ:
            yield
            return
        os.environ[name] = str(self.folder.absolute() / "wandb")
        try:
            yield
        finally:
            os.environ.pop(name, None)

    @contextmanager
    def _unharmed(self) -> Iterator[None]:
        """Let nothing that fails in wandb reach the training: tell it, and log no more."""
        try:
            yield
        except Exception as error:
            self._run, self._ended = None, True
            warnings.warn(
                f"wandb: {type(error).__name__}: {first_line(error)}; the run is logged to files "
                "only from here",
                stacklevel=3,
            )


@contextmanager
def finished(loggers: Sequence[Any]) -> Iterator[None]:
    """End the runs of some loggers with the block, with the exit code that it ends with."""
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
    """Return the one of some loggers that logs to Weights & Biases."""
    return next((one for one in loggers if isinstance(one, WandbLogger)), None)


def _wait_for_end(folder: Path, seconds: float = 5.0) -> None:
    """Wait until wandb's own process has written all it was told; it answers a little earlier."""
    deadline = time.monotonic() + seconds
    while not has_ended(folder) and time.monotonic() < deadline:
        time.sleep(0.02)


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
