"""When a run's last checkpoint is due."""

import time


class CheckpointSchedule:
    """Due after each epoch, after some minutes, and after a number of steps, once a step.

    Args:
        minutes: Time between two checkpoints within an epoch; None: no such rule.
        every_n_train_steps: Steps between two checkpoints; None: no such rule.
    """

    def __init__(self, minutes: float | int | None, every_n_train_steps: int | None) -> None:
        self.minutes = minutes
        self.every_n_train_steps = every_n_train_steps
        self._step = 0
        self._at = 0.0
        self._epoch_ended = False

    def start(self, step: int | None) -> None:
        """Begin to count.

        Args:
            step: The one that a checkpoint is there of; None: there is none.
        """
        self._at = time.monotonic()
        if step is not None:
            self._step = step

    def epoch_ended(self) -> None:
        """Remember that a checkpoint is due."""
        self._epoch_ended = True

    def written(self, step: int) -> None:
        """Count from here."""
        self._step, self._at, self._epoch_ended = step, time.monotonic(), False

    def is_written(self, step: int) -> bool:
        """Return whether there is a checkpoint of a step."""
        return step == self._step

    def is_due(self, step: int) -> bool:
        """Return whether a checkpoint of a step is to be written now."""
        if self.is_written(step):
            return False
        late = self.minutes is not None and time.monotonic() - self._at >= 60 * self.minutes
        counted = self.every_n_train_steps is not None and step % self.every_n_train_steps == 0
        return late or counted or self._epoch_ended
