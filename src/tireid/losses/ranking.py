"""LGUR's ranking loss: a hinge over randomly drawn semi-hard negatives, in both directions."""

from functools import partial
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from tireid.losses.draws import keyed_uniform
from tireid.losses.gather import gather_with_gradient
from tireid.losses.precision import dot_products, full_precision
from tireid.structures import Ids, Scalar

Columns = Literal["corrected", "official"]
Reduction = Literal["sum", "mean"]


class Triplets(NamedTuple):
    """One negative for each anchor, and whether the anchor counts.

    Attributes:
        negative: Index into the batch of the negative of anchor i.
        used: False where anchor i has no negative and adds nothing to the loss.
    """

    negative: Int[Tensor, " batch"]
    used: Bool[Tensor, " batch"]


def mine_semi_hard(
    similarity: Float[Tensor, "batch batch"],
    pids: Ids,
    *,
    margin: float,
    generator: Generator | None = None,
    draws: Float[Tensor, "batch batch"] | None = None,
) -> Triplets:
    """Draw for each row one negative that is less similar than the positive, within the margin.

    Candidates of row i are the columns j of another identity with
    `0 < similarity[i, j] - similarity[i, i] + margin < margin`; one is drawn uniformly. Where no
    row of the batch has a candidate, the last row takes the first column of another identity.

    Args:
        similarity: Similarity of rows and columns; the positive of row i is on the diagonal.
        pids: Identity of each row and column.
        margin: Margin of the hinge, in units of similarity.
        generator: Generator of the draws, on the device of `similarity`.
        draws: Uniform random numbers in [0, 1) in place of those of a generator; of the candidates
            of a row the highest is taken.

    Source:
        The official code draws with numpy on the host, without a seed:
        https://github.com/ZhiyinShao-H/LGUR/blob/a0ba2e7294de3583e86c554b12f2a3a7ae7175a6/loss/RankingLoss.py#L34-L59
        Here the draw is seeded and stays on the device.
    """
    gap = similarity.detach() - similarity.detach().diagonal()[:, None] + margin
    other = pids[:, None] != pids[None, :]
    candidates = other & (gap > 0) & (gap < margin)
    if draws is None:
        draws = torch.rand(similarity.shape, generator=generator, device=similarity.device)
    negative = draws.masked_fill(~candidates, -1.0).argmax(dim=1)
    used = candidates.any(dim=1)

    is_last = torch.arange(len(pids), device=pids.device) == len(pids) - 1
    fallback = ~used.any() & is_last & other[-1].any()
    negative = torch.where(fallback, other[-1].to(torch.int8).argmax(), negative)
    return Triplets(negative, used | fallback)


def ranking_loss(
    row_features: Float[Tensor, "batch ..."],
    column_features: Float[Tensor, "batch ..."],
    pids: Ids,
    *,
    margin: float = 0.3,
    columns: Columns = "corrected",
    reduction: Reduction = "sum",
    generator: Generator | None = None,
    key: tuple[int, int] | None = None,
    triplets: tuple[Triplets, Triplets] | None = None,
) -> Scalar:
    """Push one semi-hard negative of each anchor below its positive, for rows and columns.

    Args:
        row_features: Features of one modality, not normalised; parts are concatenated first.
        column_features: Features of the other modality, not normalised; row i of both is one pair.
        pids: Identity of each pair.
        margin: Margin of the hinge, in units of cosine similarity; 0.3 in the official code.
        columns: Which similarity the column half reads. Negatives are mined on the transposed
            matrix; `official` then reads the matrix as it stands, so it compares with another
            pair's similarity; `corrected` reads the transposed one.
        reduction: `sum` over anchors, as in the official code, or the `mean` over the batch.
        generator: Generator of the draws, first for the rows, then for the columns.
        key: Seed and number of the draw, in place of a generator, see `keyed_uniform`.
        triplets: Negatives of rows and of columns, to be used instead of a draw.

    Returns:
        Sum of the hinges of rows and of columns, float32 or better.

    Source:
        https://github.com/ZhiyinShao-H/LGUR/blob/a0ba2e7294de3583e86c554b12f2a3a7ae7175a6/loss/RankingLoss.py#L61-L79
        Departs from it by `columns="corrected"`.
    """
    with full_precision(row_features, column_features) as (rows, cols):
        similarity = dot_products(
            F.normalize(rows.flatten(1), dim=-1), F.normalize(cols.flatten(1), dim=-1)
        )
        if triplets is None:
            row_draws, column_draws = None, None
            if key is not None:
                size, device = len(pids), similarity.device
                row_draws, column_draws = keyed_uniform(
                    *key, number=2, rows=size, columns=size, device=device
                )
            mine = partial(mine_semi_hard, margin=margin, generator=generator)
            row_triplets = mine(similarity, pids, draws=row_draws)
            column_triplets = mine(similarity.mT, pids, draws=column_draws)
        else:
            row_triplets, column_triplets = triplets

        # Paper: not available. Official code: mines on the transposed matrix but indexes the
        # untransposed one, a line its ancestor SSAN still had. Here: `corrected` transposes.
        column_matrix = similarity if columns == "official" else similarity.mT
        loss = _hinge(similarity, row_triplets, margin) + _hinge(
            column_matrix, column_triplets, margin
        )
        return loss / len(pids) if reduction == "mean" else loss


def _hinge(similarity: Tensor, triplets: Triplets, margin: float) -> Tensor:
    negative = similarity.gather(1, triplets.negative[:, None]).squeeze(1)
    return (F.relu(margin - similarity.diagonal() + negative) * triplets.used).sum()


class RankingLoss(nn.Module):
    """`ranking_loss` over the global batch, with its constants and a seeded draw.

    Args:
        margin: Margin of the hinge, in units of cosine similarity.
        columns: `corrected` or `official`, see `ranking_loss`.
        reduction: `sum` or `mean`, see `ranking_loss`.
        seed: Seed of the draws. The draw of a call depends on it and on `draw` alone, so that
            a resumed run continues as if it had never stopped.

    Attributes:
        draws: Tells callers to pass the number of the draw.
    """

    draws = True

    def __init__(
        self,
        *,
        margin: float = 0.3,
        columns: str = "corrected",
        reduction: str = "sum",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if columns not in ("corrected", "official"):
            raise ValueError(f"columns: expected 'corrected' or 'official', got {columns!r}")
        if reduction not in ("sum", "mean"):
            raise ValueError(f"reduction: expected 'sum' or 'mean', got {reduction!r}")
        if not 0 < margin <= 2:
            raise ValueError(f"margin: expected a cosine distance in (0, 2], got {margin}")
        self.margin = margin
        self.columns: Columns = columns
        self.reduction: Reduction = reduction
        self.seed = seed

    def forward(
        self,
        row_features: Float[Tensor, "batch ..."],
        column_features: Float[Tensor, "batch ..."],
        pids: Ids,
        *,
        draw: int,
    ) -> Scalar:
        """Gather the global batch, then compute `ranking_loss` on it.

        Args:
            row_features: This process's features of one modality, not normalised.
            column_features: This process's features of the other modality, not normalised.
            pids: Identities of this process's pairs.
            draw: Number of the draw; equal on all processes, different for every call of a run.
        """
        return ranking_loss(
            gather_with_gradient(row_features),
            gather_with_gradient(column_features),
            gather_with_gradient(pids),
            margin=self.margin,
            columns=self.columns,
            reduction=self.reduction,
            key=(self.seed, draw),
        )
