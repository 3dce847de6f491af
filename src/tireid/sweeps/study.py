"""A resumable hyperparameter study, stored by Optuna."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tireid.files import folder_lock
from tireid.runs.folder import claim
from tireid.runs.foreign import check, regular_file
from tireid.sweeps.overrides import override_text

STUDY_FILE = "study.db"
_TRIAL_LOCK = ".trial.lock"
_LONGEST_REASON = 300


def read_space(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return Optuna's distributions by override.

    Args:
        settings: By override: `{float: [low, high]}` or `{int: [low, high]}`, with `log: true` or
            `step` where wanted, or `{choice: [...]}`.

    Raises:
        ValueError: Names the override and what was expected.
    """
    if not settings:
        raise ValueError("tuning.space: expected at least one override, got none")
    return {str(name): _distribution(name, described) for name, described in settings.items()}


def _distribution(name: str, described: Any) -> Any:
    from optuna import distributions  # an extra, and slow to import

    try:
        (kind,) = described.keys() & {"float", "int", "choice"}
        values, options = described[kind], {k: v for k, v in described.items() if k != kind}
        if kind == "choice":
            choices = [override_text(value) for value in values]
            return distributions.CategoricalDistribution(choices, **options)
        low, high = values
        if not low < high or (kind == "int" and not all(isinstance(v, int) for v in values)):
            raise ValueError("not low < high of its kind")
        if kind == "int":
            return distributions.IntDistribution(low, high, **options)
        return distributions.FloatDistribution(low, high, **options)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"tuning.space.{name}: expected {{float: [low, high]}} or {{int: [low, high]}}, also "
            f"with log: true or step: ..., or {{choice: [...]}}, got {described!r} ({error})"
        ) from error


@dataclass(frozen=True, slots=True)
class Trial:
    """One point of the space.

    Attributes:
        number: Optuna's number of the trial.
        folder: The run folder.
        overrides: The trial's overrides, as on a command line. Floats have four significant digits.
        state: complete, failed or running.
        value: The metric; None unless the trial is complete.
    """

    number: int
    folder: Path
    overrides: tuple[str, ...]
    state: str = "running"
    value: float | None = None


class Study:
    """The trials of one study in a folder, proposed by Optuna's TPE and kept in SQLite.

    Proposals depend on the seed and on the results so far only: a study that was stopped continues
    as if it had not been. Several processes may share a folder. The lock of a trial tells whether
    its process lives; unlike Optuna's heartbeat, at once.

    Args:
        folder: The folder of the study; created if missing.
        space: Distributions by override, as `read_space` returns them.
        seed: The seed of the proposals.
        random_trials: Number of trials drawn at random before results are learned from.

    Raises:
        ValueError: If the study in the folder has another space, or cannot be read.
    """

    def __init__(
        self, folder: Path, space: Mapping[str, Any], *, seed: int, random_trials: int
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder = folder
        self._space = dict(space)
        self._sampler = lambda count: optuna.samplers.TPESampler(
            seed=seed + count, n_startup_trials=random_trials
        )
        self._states = optuna.trial.TrialState
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / STUDY_FILE
        if self._file.is_symlink() or self._file.exists():
            regular_file(self._file, inside=folder)
        with self._alone():
            self._study = optuna.create_study(
                study_name="tireid",
                storage=f"sqlite:///{self._file.absolute()}",
                direction="maximize",
                load_if_exists=True,
            )
            known = self._study.user_attrs.get("space", list(space))
        if check(known, [str], self._file, "space") != list(space):
            raise ValueError(
                f"{folder}: expected a study of {', '.join(space)}, got one of "
                f"{', '.join(known)}; set output=... to another folder"
            )
        with self._alone():
            self._study.set_user_attr("space", known)

    @contextlib.contextmanager
    def next(self, wanted: int) -> Iterator[Trial | None]:
        """Hold the next trial while the block runs; None if there are as many as wanted.

        A trial whose process died is tried again first, in its folder.

        Args:
            wanted: Number of trials: complete, failed and running.
        """
        with contextlib.ExitStack() as held:
            with self._alone():
                self._retry_the_dead()
                trial = self._ask(wanted)
                if trial is not None:
                    held.enter_context(claim(trial.folder, _TRIAL_LOCK))
            yield trial

    def tell(self, trial: Trial, value: float | None) -> None:
        """Record the metric of a trial; None: it failed."""
        with self._alone():
            state = self._states.FAIL if value is None else self._states.COMPLETE
            self._study.tell(trial.number, value, state)

    def trials(self) -> list[Trial]:
        """Return all trials but those that were tried again, the best first.

        Raises:
            ValueError: If the study cannot be read.
        """
        with self._alone():
            return self._trials()

    def _trials(self) -> list[Trial]:
        names = {"COMPLETE": "complete", "FAIL": "failed"}
        trials = [
            Trial(
                trial.number,
                self.folder / trial.user_attrs["folder"],
                tuple(trial.user_attrs["overrides"]),
                names.get(trial.state.name, "running"),
                trial.value if trial.state.name == "COMPLETE" else None,
            )
            for trial in self._counted()
            if "overrides" in trial.user_attrs
        ]
        return sorted(trials, key=lambda t: (t.value is None, -(t.value or 0.0), t.number))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the study against others; whatever its file makes Optuna raise names the file."""
        with folder_lock(self.folder / ".lock", on_wait=lambda: None):
            try:
                yield
            except Exception as error:
                reason = str(error).strip().partition("\n")[0] or type(error).__name__
                raise ValueError(
                    f"{self._file}: expected a study that can be read and written, got "
                    f"{reason[:_LONGEST_REASON]}; set output=... to another folder"
                ) from error

    def _counted(self) -> list[Any]:
        """Return the trials that are complete, failed or running and were not tried again."""
        trials = self._study.get_trials(deepcopy=False)
        retried = {trial.user_attrs.get("retries") for trial in trials}
        return [t for t in trials if t.state.name != "WAITING" and t.number not in retried]

    def _retry_the_dead(self) -> None:
        """Mark trials as failed whose process is gone, and enqueue them again."""
        for dead in self._study.get_trials(deepcopy=False, states=(self._states.RUNNING,)):
            name = dead.user_attrs.get("folder")
            if name is not None:
                with claim(self.folder / name, _TRIAL_LOCK) as free:
                    if not free:
                        continue
            self._study.tell(dead.number, state=self._states.FAIL)
            again = {"retries": dead.number} | ({} if name is None else {"folder": name})
            self._study.enqueue_trial(dead.params, user_attrs=again)

    def _ask(self, wanted: int) -> Trial | None:
        count = len(self._counted())
        if count >= wanted:
            return None
        self._study.sampler = self._sampler(count)
        asked = self._study.ask(self._space)
        name = asked.user_attrs.get("folder") or f"trial_{count:03d}"
        asked.set_user_attr("folder", name)
        overrides = [f"{key}={_text(value)}" for key, value in asked.params.items()]
        asked.set_user_attr("overrides", overrides)
        return Trial(asked.number, self.folder / name, tuple(overrides))


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
