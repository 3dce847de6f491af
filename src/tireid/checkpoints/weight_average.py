"""The moving average of the weights, which is validated, tested and kept in place of the last."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from tireid.runs.checkpoint import weights_fault

STATE = "current_weights"  # its key in a checkpoint


class WeightAverage(Callback):
    """Keep an exponential moving average of the trained parameters (EMA), one update a step.

    It begins with the weights that training begins with. Training goes on with the current weights;
    a validation sees the average, with the current statistics of batch norms. A checkpoint's
    `state_dict` is the average, so that all that reads it later takes it; beside it stand the
    current weights, which a resumed run continues with.

    Args:
        decay: Weight of the average so far, in [0, 1); 0: no average is kept.
    """

    def __init__(self, decay: float = 0.0) -> None:
        self.decay = decay
        self._steps = 0
        self._swapped = False
        self._other: dict[str, Tensor] = {}  # the average; while it is swapped in, the current

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin the average, unless it was restored."""
        self._steps = trainer.global_step
        if self.decay and not self._other:
            self._other = {name: p.detach().clone() for name, p in _trained(pl_module).items()}

    @torch.no_grad()
    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Take the weights of a step into the average."""
        if not self.decay or trainer.global_step == self._steps:
            return  # a part of a batch is no step
        self._steps = trainer.global_step
        parameters = _trained(pl_module)
        for name, average in self._other.items():
            average.lerp_(parameters[name], 1 - self.decay)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validate the average."""
        if trainer.state.fn == TrainerFn.FITTING and self._other:
            self._swap(pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Go on with the current weights, before the best checkpoint is written."""
        if self._swapped:
            self._swap(pl_module)

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write the average as the weights, and the current weights beside it."""
        if not self._other:
            return
        own = {name: p.detach() for name, p in _trained(pl_module).items()}
        average, current = (own, self._other) if self._swapped else (self._other, own)
        # By place: tied parameters stand in a state dict under several names.
        places = {own[name].data_ptr(): tensor for name, tensor in average.items()}
        weights = checkpoint["state_dict"]
        checkpoint["state_dict"] = {
            name: places.get(tensor.data_ptr(), tensor) for name, tensor in weights.items()
        }
        checkpoint[STATE] = current

    @torch.no_grad()
    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the restored weights as the average, and continue with the current ones.

        Raises:
            ValueError: If the current weights are missing, damaged, or another model's.
        """
        if not self.decay or trainer.state.fn != TrainerFn.FITTING:
            return
        parameters = _trained(pl_module)
        _check(checkpoint.get(STATE), parameters)
        self._other = {name: p.detach().clone() for name, p in parameters.items()}
        for name, parameter in parameters.items():
            parameter.copy_(checkpoint[STATE][name])

    @torch.no_grad()
    def _swap(self, module: L.LightningModule) -> None:
        for name, parameter in _trained(module).items():
            current = parameter.clone()
            parameter.copy_(self._other[name])
            self._other[name].copy_(current)
        self._swapped = not self._swapped


def _trained(module: L.LightningModule) -> dict[str, nn.Parameter]:
    method: Any = module.method
    return {name: p for name, p in method.named_parameters() if p.requires_grad}


def _check(state: Any, parameters: dict[str, nn.Parameter]) -> None:
    fault = weights_fault(state) if isinstance(state, dict) else "none"
    if not fault and state.keys() != parameters.keys():
        fault = f"other names, such as {min(state.keys() ^ parameters.keys())}"
    for name, parameter in [] if fault else parameters.items():
        if state[name].shape != parameter.shape:
            fault = f"{name} of shape {tuple(state[name].shape)}, not {tuple(parameter.shape)}"
    if fault:
        raise ValueError(
            f"{STATE}: expected the weights that an averaged training goes on with, got {fault}; "
            "resume from another checkpoint, or set ckpt_path=null"
        )
