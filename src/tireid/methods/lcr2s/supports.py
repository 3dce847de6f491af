"""Support sets of LCR2S from the batch or from a memory of past batches."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from tireid.losses.gather import gather_with_gradient, own_rows, process_count
from tireid.methods.lcr2s.fusion import Filled, Support, is_count
from tireid.structures import Features, Ids

Slots = Int[Tensor, "batch slots"]  # rows of a pool; -1 = empty slot


def draw_slots(
    candidates: Bool[Tensor, "batch pool"], priorities: Float[Tensor, "..."], count: int
) -> Slots:
    """Return for each row up to `count` of its candidates, those of the highest priority.

    Args:
        candidates: True = may be drawn.
        priorities: Random numbers of at least 0, one for each candidate of each row or of the pool.
        count: Number of slots; -1 stands in those that remain empty.
    """
    ranked = priorities.expand(candidates.shape).masked_fill(~candidates, -1.0)
    top = ranked.topk(min(count, candidates.shape[1]), dim=1)
    slots = top.indices.masked_fill(top.values < 0, -1)
    return F.pad(slots, (0, count - slots.shape[1]), value=-1)


def batch_supports(pids: Ids, image_ids: Ids, count: int, generator: Generator) -> Slots:
    """Draw rows of the global batch that show the anchor's identity in another image.

    Without replacement; slots stay empty where the batch holds too few. The draw of an anchor does
    not depend on the number of ranks.

    Args:
        pids: Identities of this rank's share.
        image_ids: Keys of its images.
        count: Number of slots.
        generator: On the device of `pids`; in the same state on all ranks.

    Returns:
        For each pair of this rank, rows of the gathered batch; -1 = empty slot.
    """
    all_pids, all_image_ids = gather_with_gradient(pids), gather_with_gradient(image_ids)
    candidates = _other_views(pids, image_ids, all_pids, all_image_ids)
    total = len(all_pids)
    priorities = torch.rand(total, total, generator=generator, device=pids.device)
    return draw_slots(candidates, own_rows(priorities), count)


def take_slots(features: Float[Tensor, "pool dim"], slots: Slots) -> tuple[Support, Filled]:
    """Return the features of each slot, and which slots are filled; those of others are rubbish."""
    valid = slots >= 0
    if len(features) == 0:
        return features.new_zeros(*slots.shape, features.shape[1]), valid
    return F.embedding(slots.clamp(min=0), features), valid


def shares_of_processes(
    keys: Int[Tensor, " distinct"] | None, slots: Slots
) -> Float[Tensor, " distinct"] | None:
    """Return 1 / n for each distinct support sample that n ranks have in their shares.

    So weighted, all ranks' samples count together as those of one rank would, where each is
    there once.

    Args:
        keys: Keys of the samples, the same on all ranks; None: not known.
        slots: For each pair of this rank, rows of `keys`; -1 = empty slot.

    Returns:
        None where nothing is to be weighted. 0 for one sample where a rank has none, so that it
        can run an encoder along with the others.
    """
    if keys is None or process_count() == 1:
        return None
    if len(keys) == 0:
        keys = keys.new_zeros(1)
    mine = torch.where(slots >= 0, F.embedding(slots.clamp(min=0), keys[:, None])[..., 0], -1)
    held = gather_with_gradient(mine.flatten()[None])  # (ranks, batch * slots)
    holders = (keys[:, None, None] == held).any(dim=2).sum(dim=1)
    is_mine = (keys[:, None] == mine.flatten()).any(dim=1)
    return torch.where(is_mine, 1.0 / holders.clamp(min=1), 0.0)


def drop_supports(valid: Filled, whole: float, each: float, generator: Generator) -> Filled:
    """Empty filled slots at random.

    Args:
        valid: True = a filled slot, of this rank's share.
        whole: Probability that an anchor loses its whole support.
        each: Probability that a slot is emptied, else.
        generator: On the device of `valid`; in the same state on all ranks.
    """
    total = len(gather_with_gradient(valid))
    draws = torch.rand(total, valid.shape[1] + 1, generator=generator, device=valid.device)
    draws = own_rows(draws)
    return valid & (draws[:, :1] >= whole) & (draws[:, 1:] >= each)


class FeatureMemory(nn.Module):
    """The latest feature of each image or caption that has passed, for supports from anywhere.

    Its buffers are part of the state, so that a resumed run draws what an unbroken one would.

    Args:
        capacity: Number of rows; item k has row k modulo `capacity`, where the later one stays.
        dim: Width of the features.
        max_age: Steps after which a feature is no longer drawn while the module is in training
            mode; None: never. A frozen teacher's memory does not age.

    Raises:
        ValueError: If a number is not positive.
    """

    features: Tensor
    pid: Tensor
    image_id: Tensor
    written: Tensor

    def __init__(self, capacity: int, dim: int, *, max_age: int | None = None) -> None:
        super().__init__()
        for name, value in (("capacity", capacity), ("max_age", max_age)):
            if not is_count(value) and not (name == "max_age" and value is None):
                raise ValueError(f"memory.{name}: expected an integer > 0, got {value!r}")
        self.max_age = max_age
        self.register_buffer("features", torch.zeros(capacity, dim))
        for name in ("pid", "image_id", "written"):  # a step of -1: never written
            self.register_buffer(name, torch.full((capacity,), -1))

    @torch.no_grad()
    def write(self, keys: Ids, features: Features, pids: Ids, image_ids: Ids, step: int) -> None:
        """Keep the features of all ranks' shares.

        Args:
            keys: Positions of the items in their split.
            features: Kept without gradient.
            pids: Identity of each item.
            image_ids: Image of each item.
            step: Number of the training step.
        """
        rows = gather_with_gradient(keys) % len(self.features)
        # Of items with the same row the last one stays. A device that writes in any order must not
        # take the feature of one and the identity of another.
        last = ((rows[:, None] == rows) * torch.arange(len(rows), device=rows.device)).amax(dim=1)
        for buffer, values in (
            (self.features, features.detach().to(self.features.dtype)),
            (self.pid, pids),
            (self.image_id, image_ids),
        ):
            buffer.index_copy_(0, rows, gather_with_gradient(values)[last])
        self.written.index_fill_(0, rows, step)

    def draw(self, pids: Ids, image_ids: Ids, count: int, generator: Generator, step: int) -> Slots:
        """Draw rows of `features` that show the anchor's identity in another image.

        Without replacement; anchors of one identity share the order of their draws.

        Args:
            pids: Identity of each anchor.
            image_ids: Image of each anchor.
            count: Number of slots; -1 stands in those that remain empty.
            generator: On the device of `pids`.
            step: Number of the training step.
        """
        usable = self.written >= 0
        if self.max_age is not None and self.training:
            usable = usable & (self.written >= step - self.max_age)
        candidates = _other_views(pids, image_ids, self.pid, self.image_id) & usable
        priorities = torch.rand(len(usable), generator=generator, device=pids.device)
        return draw_slots(candidates, priorities, count)


def _other_views(
    pids: Tensor, image_ids: Tensor, pool_pids: Tensor, pool_image_ids: Tensor
) -> Tensor:
    return (pids[:, None] == pool_pids) & (image_ids[:, None] != pool_image_ids)
