"""Linear evaluation: multinomial logistic regression on frozen, cached features.

Protocol. Features are standardised per dimension with statistics of the training features. Every pair of
learning rate and weight decay is one head; all heads see the same batches in one pass (SGD, momentum
0.9, cosine to 0, from zero weights). The pair is chosen on a class-balanced tenth of the training set
that the heads did not see, then one head is trained with it on the whole training set and measured once
on the test set.

Deviation from the paper's ImageNet protocol (one learning rate, random crops, 100 epochs through the
backbone): features are those of the centre crop, computed once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from barlowctl.errors import UserError
from barlowctl.eval.knn import accuracy

MOMENTUM = 0.9
LOWEST_EXPONENT = -60.0
"""Of a class probability. exp(-60) is far below any effect but not denormal, which is slow to multiply."""


@dataclass(frozen=True)
class SweepRow:
    """One pair of settings and what it reached on the validation part of the training set."""

    lr: float
    weight_decay: float
    top1: float
    loss: float


@dataclass(frozen=True)
class LinearResult:
    """Accuracies are shares in [0, 1].

    Attributes:
        top1, top5: on the test set; top5 is 1 with five classes or fewer.
        lr, weight_decay: the chosen settings.
        validation_top1: what they reached on the held-out part of the training set.
        sweep: all settings that were tried.
        epochs, batch_size, seed: the rest of the protocol.
        scores: `(M, C)` logits of the test samples, on the CPU.
    """

    top1: float
    top5: float
    lr: float
    weight_decay: float
    validation_top1: float
    sweep: tuple[SweepRow, ...]
    epochs: int
    batch_size: int
    seed: int
    scores: Tensor = field(repr=False, compare=False)

    @property
    def lr_at_edge(self) -> bool:
        """Whether the best learning rate was the smallest or largest tried: a wider sweep may do better."""
        tried = {row.lr for row in self.sweep}
        return len(tried) > 1 and self.lr in (min(tried), max(tried))


@dataclass
class Heads:
    """H linear classifiers over the same standardised features.

    Attributes:
        mean, inverse_std: `(F,)`; the inverse is 0 where a feature is constant.
        weight: `(F, H * C)`, head by head; bias: `(H * C,)`.
        num_heads: H.
    """

    mean: Tensor
    inverse_std: Tensor
    weight: Tensor
    bias: Tensor
    num_heads: int

    @classmethod
    def zeros(cls, features: Tensor, *, num_heads: int, num_classes: int, device: torch.device) -> Heads:
        """Heads of zero weights; the statistics are those of `features` `(N, F)`."""
        total = sum((part.sum(0, dtype=torch.float64) for part in features.split(8192)), torch.zeros(()))
        mean = total / len(features)
        squares = sum(((part - mean).square().sum(0) for part in features.split(8192)), torch.zeros(()))
        std = (squares / len(features)).sqrt()
        # A feature that varies by no more than the rounding of float32 is constant.
        varies = std > 1e-6 * mean.abs().clamp_min(1e-30)
        inverse_std = torch.where(varies, 1.0 / torch.where(varies, std, 1.0), 0.0)
        columns = num_heads * num_classes
        return cls(
            mean=mean.float().to(device),
            inverse_std=inverse_std.float().to(device),
            weight=torch.zeros(features.shape[1], columns, device=device),
            bias=torch.zeros(columns, device=device),
            num_heads=num_heads,
        )

    def standardize(self, features: Tensor) -> Tensor:
        """`(N, F)` on any device -> `(N, F)` on the heads' device."""
        return (features.to(self.mean.device).float() - self.mean).mul_(self.inverse_std)

    def logits(self, standardized: Tensor) -> Tensor:
        """`(N, F)` -> `(N, H, C)`."""
        return torch.addmm(self.bias, standardized, self.weight).view(len(standardized), self.num_heads, -1)

    def predict(self, features: Tensor) -> Tensor:
        """Logits `(N, H, C)` on the CPU for features `(N, F)`, in chunks."""
        chunks = features.split(4096)
        return torch.cat([self.logits(self.standardize(chunk)).cpu() for chunk in chunks])


@torch.inference_mode()
def linear_probe(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    *,
    num_classes: int,
    seed: int,
    lrs: Sequence[float] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
    weight_decays: Sequence[float] = (1e-6, 1e-4, 1e-3),
    epochs: int = 30,
    batch_size: int = 512,
    validation_share: float = 0.1,
    device: torch.device | str = "cpu",
) -> LinearResult:
    """Top-1 and top-5 of logistic regression on features, settings chosen without the test set.

    Args:
        train_features, test_features: `(N, F)` and `(M, F)`, floating point; kept where they are and moved
            to `device` batch by batch.
        train_labels, test_labels: integers in [0, num_classes).
        seed: of the validation split and the order of the batches. Same seed, same result (on a CPU).
        lrs, weight_decays: every pair is tried, for features standardised to variance 1.

    Raises:
        UserError: shapes or labels that do not fit, features that are not finite, fewer than two classes,
            no class with two training samples, or every setting diverged.
    """
    _check(train_features, train_labels, num_classes, "training")
    _check(test_features, test_labels, num_classes, "test")
    _check_dimensions(train_features, test_features)
    device = torch.device(device)
    train_labels, test_labels = train_labels.cpu().long(), test_labels.cpu().long()
    fitting, validation = balanced_split(train_labels, validation_share, seed=seed)
    pairs = [(lr, weight_decay) for weight_decay in weight_decays for lr in lrs]
    common = {"epochs": epochs, "batch_size": batch_size, "seed": seed}

    heads = fit_heads(train_features, train_labels, fitting, pairs, num_classes=num_classes, device=device, **common)
    sweep = _validate(heads, pairs, train_features[validation], train_labels[validation])
    best = max(sweep, key=lambda row: (row.top1, -row.loss))
    if best.top1 < 0.0:
        raise UserError("linear evaluation diverged at every learning rate", next="try smaller learning rates")

    everything = torch.arange(len(train_labels))
    chosen = [(best.lr, best.weight_decay)]
    head = fit_heads(train_features, train_labels, everything, chosen, num_classes=num_classes, device=device, **common)
    scores = head.predict(test_features)[:, 0]
    return LinearResult(
        top1=accuracy(scores, test_labels),
        top5=accuracy(scores, test_labels, top=5),
        lr=best.lr,
        weight_decay=best.weight_decay,
        validation_top1=best.top1,
        sweep=sweep,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        scores=scores,
    )


def balanced_split(labels: Tensor, share: float, *, seed: int) -> tuple[Tensor, Tensor]:
    """Indices `(fitting, validation)`, both ascending: of every class, `share` goes to validation.

    Rounded per class, at least one sample, and never the last one of a class.
    """
    generator = torch.Generator().manual_seed(seed)
    held_out = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        count = min(max(1, round(share * len(members))), len(members) - 1)
        order = torch.randperm(len(members), generator=generator)
        held_out[members[order[:count]]] = True
    if not held_out.any():
        raise UserError(
            "no class has two training samples, so none can be held out to choose the learning rate",
            next="use more labelled images",
        )
    return (~held_out).nonzero().flatten(), held_out.nonzero().flatten()


@torch.inference_mode()
def fit_heads(
    features: Tensor,
    labels: Tensor,
    members: Tensor,
    pairs: Sequence[tuple[float, float]],
    *,
    num_classes: int,
    epochs: int,
    batch_size: int,
    seed: int,
    device: torch.device,
) -> Heads:
    """One head per pair (learning rate, weight decay), trained at once on the rows `members` of `features`.

    Minimises `mean cross-entropy + weight_decay / 2 * |weight|²` (no decay on the bias) by SGD in torch's
    convention: v = 0.9 v + gradient, w = w - lr_t v, with lr_t = lr (1 + cos(pi t / T)) / 2.
    """
    statistics_of = features if len(members) == len(features) else features[members]
    heads = Heads.zeros(statistics_of, num_heads=len(pairs), num_classes=num_classes, device=device)
    del statistics_of
    lr = torch.tensor([lr for lr, _ in pairs], device=device).repeat_interleave(num_classes)
    decay = torch.tensor([decay for _, decay in pairs], device=device).repeat_interleave(num_classes)
    weight_momentum, bias_momentum = torch.zeros_like(heads.weight), torch.zeros_like(heads.bias)
    generator = torch.Generator().manual_seed(seed)
    total_steps = epochs * math.ceil(len(members) / batch_size)
    step = 0
    for _ in range(epochs):
        order = members[torch.randperm(len(members), generator=generator)]
        for batch in order.split(batch_size):
            x = heads.standardize(features[batch.to(features.device)])
            residual = _residuals(heads.logits(x), labels[batch].to(device))
            rate = lr * (0.5 * (1.0 + math.cos(math.pi * step / total_steps)))
            weight_momentum.mul_(MOMENTUM).addmm_(x.t(), residual).addcmul_(heads.weight, decay)
            bias_momentum.mul_(MOMENTUM).add_(residual.sum(0))
            heads.weight.addcmul_(weight_momentum, rate, value=-1)
            heads.bias.addcmul_(bias_momentum, rate, value=-1)
            step += 1
    return heads


def _residuals(logits: Tensor, labels: Tensor) -> Tensor:
    """Gradient of the mean cross-entropy by the logits: (softmax - one-hot) / N. `(N, H, C)` -> `(N, H * C)`."""
    n, num_heads, _ = logits.shape
    p = (logits - logits.amax(dim=2, keepdim=True)).clamp_min_(LOWEST_EXPONENT).exp_()
    p.div_(p.sum(dim=2, keepdim=True))
    own = labels[:, None, None].expand(n, num_heads, 1)
    p.scatter_add_(2, own, p.new_tensor(-1.0).expand_as(own))
    return p.div_(n).view(n, -1)


def _validate(
    heads: Heads, pairs: Sequence[tuple[float, float]], features: Tensor, labels: Tensor
) -> tuple[SweepRow, ...]:
    """Top-1 and mean cross-entropy of every head; a head that diverged has top1 -1 and infinite loss."""
    logits = heads.predict(features)
    rows = []
    for index, (lr, weight_decay) in enumerate(pairs):
        scores = logits[:, index].contiguous()
        top1, loss = -1.0, math.inf
        if scores.isfinite().all():
            top1 = accuracy(scores, labels)
            loss = float(torch.nn.functional.cross_entropy(scores, labels))
        rows.append(SweepRow(lr=lr, weight_decay=weight_decay, top1=top1, loss=loss))
    return tuple(rows)


def _check(features: Tensor, labels: Tensor, num_classes: int, which: str) -> None:
    if features.ndim != 2 or labels.shape != features.shape[:1] or len(features) == 0:
        raise UserError(
            f"linear evaluation with {which} features {tuple(features.shape)} and labels {tuple(labels.shape)}",
            allowed="a matrix (samples, features) and one label per sample",
        )
    if num_classes < 2:
        raise UserError(f"linear evaluation needs at least 2 classes, got {num_classes}")
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= num_classes:
        raise UserError(
            f"the {which} labels go from {lowest} to {highest}, with {num_classes} classes",
            allowed=f"0 to {num_classes - 1}; -1 means unlabelled",
            next="leave unlabelled images out, or evaluate on labelled data with --data",
        )
    if not features.isfinite().all():
        raise UserError(f"linear evaluation: the {which} features contain NaN or infinity")


def _check_dimensions(train_features: Tensor, test_features: Tensor) -> None:
    if train_features.shape[1] != test_features.shape[1]:
        raise UserError(
            f"training features have {train_features.shape[1]} dimensions, test features {test_features.shape[1]}",
            next="extract both with the same backbone",
        )
