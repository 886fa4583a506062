"""NT-Xent, the loss of SimCLR (Chen et al., ICML 2020, arXiv 2002.05709, section 2.1).

    S_ij = z_i · z_j / tau                        of all 2 N rows of both views, at unit length
    L    = 1 / (2 N) sum_i [log sum_{j != i} exp(S_ij) - S_i,p(i)]        p(i): the other view of i's image

Deviation: the authors' code (`objective.py`) adds the means over the two views, which is 2 L: the paper's L is meant
here. The published recipe writes that factor out (`objective.scale`).

Over several ranks N is the global batch, and every row is a negative of every other one, with its gradient. What that
costs on a rank with n rows: an all-gather of 2 N D numbers, one of 2 N, all-reduces of 3 and of 2 D + 1, all in the
forward pass; 3 (2 n) (2 N) D multiply-adds, but memory for `ENTRIES_AT_ONCE` entries of the table at a time. One that
is no larger is kept for the backward pass, which saves a third of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from barlowctl.distributed import ALONE, Ranks
from barlowctl.errors import UserError
from barlowctl.objective.batch_mean import WITHOUT_SINGLE
from barlowctl.objective.batch_statistics import full_precision, wide_dtype
from barlowctl.objective.similarity import agreed_shares, check_pair, in_one_block, row_blocks, unit_rows
from barlowctl.objective.spread import direction_spread

TEMPERATURE = 0.1
"""tau of the paper's ImageNet runs (Table 5: the best at long training and large batches)."""


class SimCLRTerms(NamedTuple):
    """Scalars over the global batch; only the loss carries a gradient.

    similarity: mean cosine of the two views of an image. accuracy: share of rows whose nearest row is that. spread: of
    the first view's directions, see `direction_spread`.
    """

    loss: Tensor
    similarity: Tensor
    accuracy: Tensor
    spread: Tensor


def nt_xent(
    z1: Tensor,
    z2: Tensor,
    *,
    temperature: float = TEMPERATURE,
    ranks: Ranks = ALONE,
    shares: Sequence[int] | None = None,
) -> SimCLRTerms:
    """NT-Xent of two `(N, D)` batches of embeddings, row b of both from the same image.

    Computed in float32 (float64 for float64 input) also under autocast. Over several ranks each gives its own rows,
    gets the loss of the whole batch, and the gradient of its rows without a factor of the number of ranks.

    Args:
        z1, z2: embeddings, floating point, N >= 2 over all ranks; brought to unit length in here.
        temperature: tau.
        ranks: those that share the batch; every one of them makes the same call.
        shares: how many rows each rank has; None: they ask one another.

    Raises:
        UserError: a single image, which has no negatives; shapes that differ; a temperature that is not positive.
    """
    check_pair(z1, z2, temperature=temperature)
    shares = agreed_shares(z1, ranks, shares)
    if sum(shares) < 2:
        raise UserError("a single image has no negatives", allowed="at least 2 images", next=WITHOUT_SINGLE)
    with full_precision(z1):
        unit1, unit2 = unit_rows(z1), unit_rows(z2)
        loss, similarity, accuracy = _NTXent.apply(unit1, unit2, temperature, ranks, shares)
    return SimCLRTerms(loss, similarity, accuracy, direction_spread(unit1, ranks))


class _NTXent(torch.autograd.Function):
    """With P_ij = exp(S_ij - lse_i), lse_i = log sum_{k != i} exp(S_ik), and S symmetric:

    dL/dz_i = 1 / (2 N tau) sum_{j != i} (P_ij + P_ji - 2 [j = p(i)]) z_j.

    P_ji = exp(S_ij - lse_j): own rows of S and everyone's `lse` are all it takes, so that what a row is to the others'
    rows, on this rank or on another, needs no second exchange. The blocks of S, where there are several, are formed
    again in the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, z1: Tensor, z2: Tensor, temperature: float, ranks: Ranks, shares: Sequence[int]
    ) -> tuple[Tensor, ...]:
        n, total, offset = len(z1), sum(shares), sum(shares[: ranks.rank])
        with full_precision(z1):
            pairs = ranks.gather(torch.cat([z1, z2], dim=1), shares)  # (N, 2 D)
            every = torch.cat(pairs.chunk(2, dim=1))  # (2 N, D): all first views, then all second ones
            own = torch.arange(offset, offset + n, device=z1.device)
            itself = torch.cat([own, own + total])  # where own rows are in `every`
            lse, positives, correct, table = _rows(every, itself, temperature)
        wide = wide_dtype(z1)
        sums = torch.stack([(lse - positives).sum(dtype=wide), positives.sum(dtype=wide), correct.sum(dtype=wide)])
        means = ranks.add(sums).div_(2 * total).to(z1.dtype)
        loss, similarity, accuracy = means[0], means[1] * temperature, means[2]
        if any(ctx.needs_input_grad):
            every_lse = ranks.gather(torch.stack(lse.chunk(2), dim=1), shares).t().reshape(-1)
            ctx.save_for_backward(every, itself, every_lse, table)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(similarity, accuracy)
        return loss, similarity, accuracy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        every, itself, lse, table = ctx.saved_tensors
        gradient = torch.empty(len(itself), every.shape[1], dtype=every.dtype, device=every.device)
        with full_precision(every):
            for rows in row_blocks(len(itself), len(every)):
                similarities, positive = _block(every, itself[rows], ctx.temperature, table)
                weights = (similarities - lse[itself[rows], None]).exp_()
                weights += (similarities - lse).exp_()
                weights.scatter_add_(1, positive, weights.new_full((1, 1), -2.0).expand_as(positive))
                torch.mm(weights, every, out=gradient[rows])
        gradient.mul_(grad / (len(every) * ctx.temperature))
        grad1, grad2 = gradient.chunk(2)
        return grad1, grad2, None, None, None


def _block(every: Tensor, itself: Tensor, temperature: float, table: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Rows `itself` of S, -inf where a row meets itself, and the column of each row's positive, `(b, 1)`.

    Args:
        table: those rows, where they were kept.
    """
    positive = ((itself + len(every) // 2) % len(every))[:, None]
    if table is not None:
        return table, positive
    similarities = (every[itself] @ every.t()).div_(temperature)
    return similarities.scatter_(1, itself[:, None], -torch.inf), positive


def _rows(every: Tensor, itself: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Of own rows: log sum over the others, S at the positive, and whether that is above all others (1 or 0).

    Then their rows of S, where that is one block.
    """
    blocks: list[tuple[Tensor, Tensor, Tensor]] = []
    table = None
    for rows in row_blocks(len(itself), len(every)):
        similarities, positive = _block(every, itself[rows], temperature)
        lse, at_positive = similarities.logsumexp(dim=1), similarities.gather(1, positive)
        others = similarities.scatter_(1, positive, -torch.inf).amax(dim=1)
        if in_one_block(len(itself), len(every)):
            table = similarities.scatter_(1, positive, at_positive)
        blocks.append((lse, at_positive[:, 0], (at_positive[:, 0] > others).to(every.dtype)))
    lse, at_positive, above = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    return lse, at_positive, above, table
