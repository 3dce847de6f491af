"""The division of the training pairs as a part of a run: when it is made, kept and restored."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tireid.losses.gather import gather_with_gradient, process_count
from tireid.methods.base import TrainingPass
from tireid.methods.rde.division import DivisionSettings, divide
from tireid.structures import Ids, PairBatch

STATE = "division"  # its key in a checkpoint


PairLosses = tuple[Float[Tensor, " global_batch"], Float[Tensor, " global_batch"]]


class Trust:
    """Which training pairs are trusted in an epoch; None: all of them.

    The division depends on the weights that an epoch begins with, so it is a part of the run's
    checkpoints. It draws nothing from the global generators.

    Args:
        settings: How pairs are divided.
        seed: Key of the coins.
    """

    def __init__(self, settings: DivisionSettings, seed: int) -> None:
        self.settings = settings
        self._seed = seed
        self._epoch = -1
        self._kept: Bool[Tensor, " pairs"] | None = None

    def of(self, index: Ids) -> Bool[Tensor, " batch"] | None:
        """Return which pairs of a batch are trusted."""
        return None if self._kept is None else self._kept[index]

    def state(self) -> dict[str, Any]:
        """Return what `load_state` takes, as tensors and plain values."""
        return {"epoch": self._epoch, "kept": None if self._kept is None else self._kept.cpu()}

    def load_state(self, state: Any) -> None:
        """Restore a division.

        Raises:
            ValueError: If it is none.
        """
        kept: Any = state.get("kept") if isinstance(state, dict) else 0
        is_kept = kept is None or (isinstance(kept, Tensor) and kept.dtype == torch.bool)
        if not is_kept or not isinstance(state.get("epoch"), int):
            raise ValueError(
                f"{STATE}: expected an epoch and, for each pair, whether it is trusted, got "
                f"{type(state).__name__} {str(state)[:60]}"
            )
        self._epoch, self._kept = state["epoch"], kept

    def begin_epoch(
        self,
        epoch: int,
        method: nn.Module,
        pair_losses: Callable[[PairBatch], PairLosses],
        training_pass: Callable[..., TrainingPass],
    ) -> None:
        """Divide the pairs with the weights of now, unless this epoch's division is there.

        Args:
            epoch: Number of the epoch.
            method: The method that is trained.
            pair_losses: Returns the loss of each pair of the global batch, by either embedding.
            training_pass: As `RetrievalModule.begin_epoch` gets it.

        Raises:
            ValueError: If a restored division is of other pairs.
        """
        if not self.settings.enabled or epoch < self.settings.warmup_epochs:
            return
        key = -1 - epoch  # no epoch of the training, which must see other draws
        pairs = training_pass(key, augmented=self.settings.inputs == "augmented")
        if self._epoch != epoch:
            self._kept = self._divide(method, pair_losses, pairs, epoch)
            self._epoch = epoch
        elif self._kept is None or self._kept.shape != (len(pairs),):
            found = "none" if self._kept is None else tuple(self._kept.shape)
            raise ValueError(
                f"{STATE}: expected one value for each of {len(pairs)} pairs, got {found}"
            )
        self._kept = self._kept.to(_device(method))

    @torch.no_grad()
    def _divide(
        self,
        method: nn.Module,
        pair_losses: Callable[[PairBatch], PairLosses],
        pairs: TrainingPass,
        epoch: int,
    ) -> Bool[Tensor, " pairs"]:
        """Compute the losses of all pairs, in evaluation mode, and divide the pairs by them.

        Pairs that a shortened epoch (debug=fast) does not reach are trusted.
        """
        found = torch.full((2, len(pairs)), torch.nan)
        method.train(False)
        for batch, losses in pairs.compute(lambda batch: torch.stack(pair_losses(batch))):
            found[:, gather_with_gradient(batch.index).cpu()] = losses.float().cpu()
        method.train(True)
        reached = ~found[0].isnan()
        kept = torch.ones(len(pairs), dtype=torch.bool)
        first, second = found[:, reached]
        kept[reached] = divide((first, second), self.settings, seed=self._seed, epoch=epoch)
        if process_count() > 1:  # the losses are equal, but for the last bit of unlike processors
            kept = kept.to(_device(method))
            dist.broadcast(kept, src=0)
        return kept


def _device(method: nn.Module) -> torch.device:
    return next(method.parameters()).device
