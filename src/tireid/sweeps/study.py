"""A search's memory: which trials there were, kept in a file, and which settings come next."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tireid.files import folder_lock
from tireid.runs.folder import claim
from tireid.sweeps.space import Dimension

STUDY_FILE = "study.db"
_TRIAL_LOCK = ".trial.lock"


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting that is tried.

    Attributes:
        number: Of the study.
        folder: Its run folder.
        overrides: What is set, as on a command line.
        state: complete, failed or running.
        value: The metric; None where there is none.
    """

    number: int
    folder: Path
    overrides: tuple[str, ...]
    state: str = "running"
    value: float | None = None


class Study:
    """Trials of one search in a folder, by Optuna's TPE over sqlite.

    What is proposed depends on the seed and on the results so far only, so that a search that was
    stopped goes on as if it had not been. Several processes may share a folder.

    Args:
        folder: Of the study; made if missing.
        space: What is set.
        seed: Of the proposals.
        random_trials: Drawn at random before results are learned from.

    Raises:
        ValueError: If Optuna is not installed, or the study in the folder has another space.
    """

    def __init__(
        self, folder: Path, space: Sequence[Dimension], *, seed: int, random_trials: int
    ) -> None:
        try:
            import optuna  # an extra, and slow to import
        except ImportError as error:
            raise ValueError(
                "expected Optuna to be installed, which proposes the trials; "
                "pip install 'tireid[sweep]'"
            ) from error
        self._optuna = optuna
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder = folder
        self._space = space
        self._seed = seed
        self._random_trials = random_trials
        folder.mkdir(parents=True, exist_ok=True)
        with self._alone():
            self._study = optuna.create_study(
                study_name="tireid",
                storage=f"sqlite:///{(folder / STUDY_FILE).absolute()}",
                direction="maximize",
                load_if_exists=True,
            )
            self._check_space()

    @contextlib.contextmanager
    def next(self, wanted: int) -> Iterator[Trial | None]:
        """Hold the next trial while the block runs; None where there are as many as wanted.

        A trial whose process died is tried again first, in its folder.

        Args:
            wanted: Number of trials, complete, failed and running.
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
        state = self._optuna.trial.TrialState
        with self._alone():
            if value is None:
                self._study.tell(trial.number, state=state.FAIL)
            else:
                self._study.tell(trial.number, value)

    def trials(self) -> list[Trial]:
        """Return all trials but those that were tried again, the best first."""
        names = {"COMPLETE": "complete", "FAIL": "failed"}
        found = [
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
        return sorted(found, key=lambda t: (t.value is None, -(t.value or 0.0), t.number))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with folder_lock(self.folder / ".lock", on_wait=lambda: None):
            yield

    def _counted(self) -> list[Any]:
        """Return the trials that are complete, failed or running; not those that died."""
        return [
            trial
            for trial in self._study.get_trials(deepcopy=False)
            if trial.state.name != "WAITING" and not trial.user_attrs.get("died")
        ]

    def _check_space(self) -> None:
        names = [dimension.name for dimension in self._space]
        known = self._study.user_attrs.get("space")
        if known is None:
            self._study.set_user_attr("space", names)
        elif known != names:
            raise ValueError(
                f"{self.folder}: expected a study of {', '.join(names)}, got one of "
                f"{', '.join(known)}; set output=... to another folder"
            )

    def _retry_the_dead(self) -> None:
        """Mark trials as failed whose process is gone, and have them tried again."""
        state = self._optuna.trial.TrialState
        for dead in self._study.get_trials(deepcopy=False, states=(state.RUNNING,)):
            name = dead.user_attrs.get("folder")
            if name is not None:
                with claim(self.folder / name, _TRIAL_LOCK) as free:
                    if not free:
                        continue
            trial = self._optuna.trial.Trial(self._study, dead._trial_id)
            trial.set_user_attr("died", True)
            self._study.tell(dead.number, state=state.FAIL)
            if name is not None and dead.params:
                self._study.enqueue_trial(dead.params, user_attrs={"folder": name})

    def _ask(self, wanted: int) -> Trial | None:
        count = len(self._counted())
        if count >= wanted:
            return None
        self._study.sampler = self._optuna.samplers.TPESampler(
            seed=self._seed + count, n_startup_trials=self._random_trials
        )
        asked = self._study.ask()
        name = asked.user_attrs.get("folder") or f"trial_{count:03d}"
        asked.set_user_attr("folder", name)
        overrides = [f"{dimension.name}={dimension.draw(asked)}" for dimension in self._space]
        asked.set_user_attr("overrides", overrides)
        return Trial(asked.number, self.folder / name, tuple(overrides))
