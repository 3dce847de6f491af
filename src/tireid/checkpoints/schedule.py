"""Decide when the last checkpoint is due."""

import time


class CheckpointSchedule:
    """A checkpoint is due after each epoch, some minutes or some steps, and once a step.

    Args:
        minutes: Time between two checkpoints within an epoch; None: no such rule.
        every_n_train_steps: Steps between two checkpoints; None: no such rule.
    """

    def __init__(self, minutes: float | int | None, every_n_train_steps: int | None) -> None:
        self.minutes = minutes
        self.every_n_train_steps = every_n_train_steps
        self._step = 0
        self._time = 0.0
        self._epoch_ended = False

    def start(self, step: int | None) -> None:
        """Start the clock.

        Args:
            step: The step of the checkpoint that the run resumes from; None: there is none.
        """
        self._time = time.monotonic()
        if step is not None:
            self._step = step

    def epoch_ended(self) -> None:
        """Make a checkpoint due."""
        self._epoch_ended = True

    def written(self, step: int) -> None:
        """Restart the clock after a checkpoint of this step."""
        self._step, self._time, self._epoch_ended = step, time.monotonic(), False

    def is_written(self, step: int) -> bool:
        """Return whether the latest checkpoint is of this step."""
        return step == self._step

    def is_due(self, step: int) -> bool:
        """Return whether a checkpoint of this step is to be written now."""
        if self.is_written(step):
            return False
        late = self.minutes is not None and time.monotonic() - self._time >= 60 * self.minutes
        counted = self.every_n_train_steps is not None and step % self.every_n_train_steps == 0
        return late or counted or self._epoch_ended
