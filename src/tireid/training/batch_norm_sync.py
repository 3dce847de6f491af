"""Batch norms that share the statistics of the global batch, as a plugin of Lightning's trainer."""

import torch.distributed as dist
from lightning.pytorch.plugins import LayerSync
from torch import nn

from tireid.encoders.batch_norm import replace_batch_norms, share_statistics


class BatchNormSync(LayerSync):
    """Share the statistics of a model's batch norms between all ranks while it is trained.

    A layer with an attribute `shared_statistics` is told by it; PyTorch's batch norms are replaced
    in place. On one rank nothing changes.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Share the statistics."""
        if dist.get_world_size() == 1:
            return model
        return share_statistics(replace_batch_norms(model), True)

    def revert(self, model: nn.Module) -> nn.Module:
        """Use each rank's own statistics again."""
        return share_statistics(model, False)
