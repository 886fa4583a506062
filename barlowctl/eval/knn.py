"""k nearest neighbours on frozen features, weighted as is usual in the field.

Protocol (Wu et al. 2018, arXiv 1805.01978; kept by MoCo, DINO and others): cosine similarity s between
a query and the labelled bank, the k most similar vote for their class with weight exp(s / T), T = 0.07.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from barlowctl.amounts import counted
from barlowctl.errors import UserError

SIMILARITIES_AT_ONCE = 1 << 26
"""Entries of the block of similarities held at a time: 256 MiB in float32."""
SMALLEST, LARGEST = 1e-6, 1e10
"""Of a row's largest number, between which float32 holds its square."""


@dataclass(frozen=True)
class Votes:
    """What k neighbours say about each query.

    Attributes:
        k: the number of neighbours asked for.
        neighbours: the number that voted: `k`, or the size of the bank when that is smaller.
        scores: `(Q, num_classes)` float32 on the CPU, share of the votes; rows add up to 1.
    """

    k: int
    neighbours: int
    scores: Tensor

    @property
    def predictions(self) -> Tensor:
        """`(Q,)` int64: the class with most votes, the smaller number in a tie."""
        return (self.scores == self.scores.amax(dim=1, keepdim=True)).int().argmax(dim=1)

    @property
    def note(self) -> str | None:
        """Why fewer neighbours voted than were asked for, or None."""
        if self.neighbours == self.k:
            return None
        return f"k is {self.k} but the bank holds {self.neighbours} samples: all of them vote"


@torch.inference_mode()
def knn_predict(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    *,
    k: Sequence[int] = (20, 200),
    temperature: float = 0.07,
    num_classes: int,
) -> dict[int, Votes]:
    """Weighted votes for every k, from one search for the largest.

    Args:
        bank: `(N, F)` features that vote, on any device; similarities are computed there in float32.
        bank_labels: `(N,)` integers in [0, num_classes).
        queries: `(Q, F)` features.
        k: numbers of neighbours; one larger than N is lowered to N, which `Votes.note` reports.
        temperature: T of the weights; smaller: nearer neighbours count for more.

    Memory beyond the inputs is about 0.5 GB at most, whatever N and Q.

    Raises:
        UserError: shapes that do not fit, no k, labels outside the classes (unlabelled: -1), features
            that are not finite.
    """
    _check(bank, bank_labels, queries, k, temperature, num_classes)
    bank = unit_rows(bank.float())
    labels = bank_labels.cpu().long()
    largest = min(max(k), len(bank))
    rows = max(1, SIMILARITIES_AT_ONCE // len(bank))
    nearest: list[tuple[Tensor, Tensor]] = []
    with torch.autocast(device_type=bank.device.type, enabled=False):
        for chunk in queries.split(rows):
            chunk = unit_rows(chunk.to(bank.device).float())
            similarity, index = (chunk @ bank.t()).topk(largest, dim=1)
            nearest.append((similarity.cpu(), index.cpu()))
    similarity = torch.cat([s for s, _ in nearest])
    voters = labels[torch.cat([i for _, i in nearest])]
    outcome = {}
    for requested in k:
        used = min(requested, largest)
        scores = _votes(similarity[:, :used], voters[:, :used], temperature, num_classes)
        outcome[requested] = Votes(k=requested, neighbours=used, scores=scores)
    return outcome


def unit_rows(features: Tensor) -> Tensor:
    """`(N, F)` float32, finite -> the rows at length 1, whatever their scale; zeros stay zeros.

    Rows of a usual scale are those of `torch.nn.functional.normalize`, to the bit; it makes zeros of rows of 1e20,
    whose squares float32 does not hold, and leaves rows of 1e-13 short.
    """
    largest = torch.maximum(features.amax(dim=1, keepdim=True), -features.amin(dim=1, keepdim=True))
    unusual = (largest > LARGEST) | ((largest < SMALLEST) & (largest > 0.0))
    if unusual.any():
        features = features / torch.where(unusual, largest, 1.0)
    return torch.nn.functional.normalize(features, dim=1)


def _votes(similarity: Tensor, labels: Tensor, temperature: float, num_classes: int) -> Tensor:
    """Shares of the votes `(Q, num_classes)`; weights are relative to the nearest, so none overflows."""
    weights = torch.softmax(similarity / temperature, dim=1)
    return torch.zeros(len(labels), num_classes).scatter_add_(1, labels, weights)


def accuracy(scores: Tensor, labels: Tensor, *, top: int = 1) -> float:
    """Share of rows of `scores` `(Q, classes)` whose label is among the `top` largest, in [0, 1].

    Of equal scores the smaller class number comes first, so the result does not depend on chance.
    With `top` at least the number of classes it is 1. A row that is not finite counts as wrong.
    """
    if len(scores) == 0 or scores.shape[:1] != labels.shape:
        raise UserError(
            f"accuracy of scores {tuple(scores.shape)} against labels {tuple(labels.shape)}",
            allowed="one label per row, at least one row",
        )
    labels = labels.to(scores.device).long()
    own = scores.gather(1, labels[:, None])
    before = torch.arange(scores.shape[1], device=scores.device) < labels[:, None]
    rank = ((scores > own) | ((scores == own) & before)).sum(dim=1)
    return float(((rank < top) & scores.isfinite().all(dim=1)).double().mean())


def _check(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, k: Sequence[int], temperature: float, classes: int
) -> None:
    if bank.ndim != 2 or queries.ndim != 2 or bank.shape[1] != queries.shape[1]:
        raise UserError(
            f"kNN of queries {tuple(queries.shape)} in a bank {tuple(bank.shape)}",
            allowed="two matrices (samples, features) with equally many features",
        )
    if len(bank) == 0 or len(queries) == 0 or bank_labels.shape != bank.shape[:1]:
        raise UserError(
            f"kNN with {len(queries)} queries, {len(bank)} features and {bank_labels.numel()} labels in the bank",
            allowed="at least one of each, one label per feature vector",
        )
    if not k or min(k) < 1 or not temperature > 0.0:
        raise UserError(f"kNN with k {tuple(k)} and temperature {temperature}", allowed="positive numbers")
    lowest, highest = int(bank_labels.min()), int(bank_labels.max())
    if lowest < 0 or highest >= classes:
        raise UserError(
            f"labels in the kNN bank go from {lowest} to {highest}, with {classes} classes",
            allowed=f"0 to {classes - 1}; -1 means unlabelled",
            next="leave unlabelled images out, or evaluate on labelled data with --data",
        )
    for name, features in (("bank", bank), ("queries", queries)):
        if not features.isfinite().all():
            raise UserError(f"kNN: the features of the {name} contain NaN or infinity")


def nearest(bank: Tensor, queries: Tensor, *, top: int) -> tuple[Tensor, Tensor]:
    """Cosine similarities and positions `(Q, top)` of the most similar rows of `bank` `(N, F)`, best first.

    Raises:
        UserError: fewer images than neighbours asked for.
    """
    if not 1 <= top <= len(bank):
        raise UserError(f"{top} nearest of {counted(len(bank), 'image')}", allowed=f"1 to {len(bank)}")
    a, b = (unit_rows(rows.float()) for rows in (queries, bank))
    similarity, index = (a @ b.t()).topk(top, dim=1)
    return similarity, index
