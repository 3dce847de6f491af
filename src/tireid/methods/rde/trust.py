"""The division of the training pairs as a part of a run: when it is made, kept and restored."""

from collections.abc import Callable
from itertools import islice
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from jaxtyping import Bool, Float
from torch import Tensor

from tireid.losses.gather import gather_with_gradient, process_count
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
        self, module: L.LightningModule, pair_losses: Callable[[PairBatch], PairLosses]
    ) -> None:
        """Divide the pairs with the weights of now, unless this epoch's division is there.

        Args:
            module: The method that is trained.
            pair_losses: Returns the loss of each pair of the global batch, by either embedding.

        Raises:
            ValueError: If a restored division is of other pairs.
        """
        epoch = module.current_epoch
        if not self.settings.enabled or epoch < self.settings.warmup_epochs:
            return
        data: Any = getattr(module.trainer, "datamodule")  # noqa: B009 -- set by Trainer's connector
        key = -1 - epoch  # no epoch of the training, which must see other draws
        loader = data.training_pass(key, augmented=self.settings.inputs == "augmented")
        count = len(loader.dataset)
        if self._epoch != epoch:
            self._kept = self._divide(module, pair_losses, loader, epoch)
            self._epoch = epoch
        elif self._kept is None or self._kept.shape != (count,):
            found = "none" if self._kept is None else tuple(self._kept.shape)
            raise ValueError(f"{STATE}: expected one value for each of {count} pairs, got {found}")
        self._kept = self._kept.to(module.device)

    @torch.no_grad()
    def _divide(
        self,
        module: L.LightningModule,
        pair_losses: Callable[[PairBatch], PairLosses],
        loader: Any,
        epoch: int,
    ) -> Bool[Tensor, " pairs"]:
        """Compute the losses of all pairs, in evaluation mode, and divide the pairs by them.

        Pairs that a shortened epoch (debug=fast) does not reach are trusted.
        """
        trainer, count = module.trainer, len(loader.dataset)
        found = torch.full((2, count), torch.nan)
        module.train(False)
        for batch in islice(loader, int(trainer.num_training_batches) + 1):
            batch = trainer.strategy.batch_to_device(batch)
            with trainer.precision_plugin.forward_context():
                losses = torch.stack(pair_losses(batch))
            found[:, gather_with_gradient(batch.index).cpu()] = losses.float().cpu()
        module.train(True)
        reached = ~found[0].isnan()
        kept = torch.ones(count, dtype=torch.bool)
        first, second = found[:, reached]
        kept[reached] = divide((first, second), self.settings, seed=self._seed, epoch=epoch)
        if process_count() > 1:  # the losses are equal, but for the last bit of unlike processors
            kept = kept.to(module.device)
            dist.broadcast(kept, src=0)
        return kept
