"""How the encoders of a model are trained: frozen, adapted, in less memory."""

from tireid.encoders.blocks import ENCODERS, freeze_blocks
from tireid.encoders.low_memory import encode_in_pieces, recompute_blocks
from tireid.encoders.low_rank import adapt
from tireid.methods.base import RetrievalModule


def prepare_encoders(
    model: RetrievalModule,
    *,
    frozen_blocks: int,
    lora_rank: int,
    checkpoint_activations: bool,
    micro_batch: int,
) -> None:
    """Change the encoders of a model that has its weights, as its training asks for.

    Args:
        model: A method.
        frozen_blocks: First blocks of transformers that keep their weights; 0: none.
        lora_rank: Width of the products that are trained in place of blocks; 0: blocks are trained.
        checkpoint_activations: Whether blocks are computed again in the backward pass.
        micro_batch: Samples that an encoder computes at a time; 0: all of the batch.

    Raises:
        ValueError: If the encoders have no blocks, or cannot divide a batch.
    """
    freeze_blocks(model, model.parameter_groups(), frozen_blocks)
    adapt(model, model.parameter_groups(), lora_rank)
    encoders = [m for name, m in model.named_modules() if name.rpartition(".")[2] in ENCODERS]
    if checkpoint_activations:
        recompute_blocks(encoders)
    if micro_batch:
        for encoder in encoders:
            encode_in_pieces(encoder, micro_batch)
