"""The Barlow Twins loss (Zbontar et al., ICML 2021, arXiv 2103.03230) and its ablations (Table 5).

    C_ij = sum_b z1[b,i] z2[b,j] / N                                    eq. 2, z standardised
    L    = sum_i (1 - C_ii)² + lambd * sum_i sum_{j != i} C_ij²         eq. 1

The same value is computed in two ways (`form`): from the `D x D` matrix ("primal"), or from the two
`N x N` Gram matrices ("gram"), which is cheaper when the batch is smaller than the embedding. Over several
ranks N is the global batch, of which each rank holds its own rows (`docs/scale.md`).

Deviation: N is the number of rows that are there. The authors divide by the nominal batch size, in the last, smaller
batch of an epoch too, where their C is a fraction of a correlation (`docs/objective.md`, "The last batch").
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, TypedDict, get_args

import torch
from torch import Tensor

from barlowctl.distributed import ALONE, Ranks
from barlowctl.errors import UserError, did_you_mean, instead
from barlowctl.objective.batch_mean import WITHOUT_SINGLE
from barlowctl.objective.batch_statistics import center, full_precision, standardize
from barlowctl.objective.correlation import cross_entropy_terms, gram_terms, primal_terms
from barlowctl.objective.devices import check_devices
from barlowctl.objective.settings import check_positive, check_weights

Form = Literal["auto", "primal", "gram"]
Terms = Literal["both", "invariance", "redundancy"]
Normalization = Literal["batch", "feature", "none"]
Criterion = Literal["cross-correlation", "cross-entropy"]


LAMBD = 0.0051
"""The authors' code's weight of the redundancy term (0.005 in the paper)."""


class LossOptions(TypedDict, total=False):
    """The keyword arguments of `barlow_twins_loss`."""

    lambd: float
    form: Form
    terms: Terms
    normalization: Normalization
    criterion: Criterion
    temperature: float
    ranks: Ranks


class LossTerms(NamedTuple):
    """Scalars. The two terms carry no weight: with both in use, `loss = invariance + lambd * redundancy`."""

    loss: Tensor
    invariance: Tensor
    redundancy: Tensor


OPERATIONS_PER_NUMBER_SENT = 10_000
"""Multiply-adds that a device does in the time that one float32 takes over the wire: 60e12 flop/s against
25 GB/s is 4,800; 300e12 against 50 GB/s is 12,000. It decides between the forms only for 3 D / 4 < N < D."""


def form_costs(n: int, d: int, ranks: int = 1, views: int = 2) -> dict[Literal["primal", "gram"], float]:
    """Multiply-adds a rank spends on each form, forward and backward, what it sends included.

    For `n` samples over all ranks, of `d` dimensions: primal `3 n d² / W`, and an all-reduce of `d²` numbers
    that passes `2 (W - 1) / W` of them through each rank; Gram `4 n² d / W`, and an all-gather of `2 n d`
    numbers of which `(W - 1) / W` reach each rank. Alone the Gram matrices are symmetric: `3 n² d` (see
    `symmetric_gram`). With more views the primal form takes that for each of `2 views - 3` pairs, the Gram form for
    each two views (see `multi_crop`).
    """
    pairs, twos = 2 * views - 3, views / 2
    products = 3 if ranks == 1 else 4
    foreign = (ranks - 1) / ranks * OPERATIONS_PER_NUMBER_SENT
    return {
        "primal": pairs * (3 * n * d * d / ranks + 2 * d * d * foreign),
        "gram": twos * (products * n * n * d / ranks + 2 * n * d * foreign),
    }


def choose_form(n: int, d: int, ranks: int = 1, views: int = 2) -> Literal["primal", "gram"]:
    """The form that costs less for `n` samples (over all ranks) of `d` dimensions: see `form_costs`.

    Of two views on one rank: Gram when n <= d. Over ranks up to an n between 3/4 d and d, nearer to d with more
    ranks, where the wire decides: at d = 8192 up to 0.85 d over 2 ranks, 0.95 d over 8.
    """
    costs = form_costs(n, d, ranks, views)
    return "gram" if costs["gram"] <= costs["primal"] else "primal"


def barlow_twins_loss(
    z1: Tensor,
    z2: Tensor,
    *,
    lambd: float = LAMBD,
    form: Form = "auto",
    terms: Terms = "both",
    normalization: Normalization = "batch",
    criterion: Criterion = "cross-correlation",
    temperature: float = 0.1,
    ranks: Ranks = ALONE,
    shares: Sequence[int] | None = None,
) -> LossTerms:
    """Barlow Twins loss of two `(N, D)` batches of embeddings, row b of both from the same image.

    Computed in float32 (float64 for float64 input) also under autocast. Both terms are always
    returned; a term that is not part of the loss carries no gradient.

    Over several ranks each gives its own rows, gets the loss of the whole batch, and the gradient of its
    rows without a factor of the number of ranks (see `distributed`).

    Args:
        z1, z2: embeddings `(N, D)`, floating point, N >= 2 over all ranks; standardised in here.
        lambd: weight of the redundancy term (0.005 in the paper, 0.0051 in the authors' code).
        form: "primal" (`D x D`), "gram" (two `N x N`), or "auto": what `choose_form` says.
        terms: Table 5, rows 2 and 3: keep one term only ("redundancy" keeps its weight `lambd`).
        normalization: what is done to the embeddings and to the matrix, see `normalize`.
        criterion: "cross-entropy" is the last row of Table 5; it needs the primal form and D >= 2.
        temperature: tau of "cross-entropy".
        ranks: those that share the batch; every one of them makes the same call.
        shares: how many rows each rank has; None: they ask one another.

    Raises:
        UserError: fewer than two samples, shapes that differ, or an unknown option.
    """
    check_options(form, terms, normalization, criterion, temperature, z1.shape[-1])
    check_embeddings(z1, z2, ranks)
    shares = ranks.shares(len(z1)) if shares is None else shares
    n, d = sum(shares), z1.shape[1]
    dtype = torch.promote_types(torch.promote_types(z1.dtype, z2.dtype), torch.float32)
    with full_precision(z1):
        a, b = (normalize(z.to(dtype), normalization, ranks) for z in (z1, z2))
        count = 1.0 if normalization == "feature" else float(n)
        if criterion == "cross-entropy":
            invariance, redundancy = cross_entropy_terms(a, b, count=count, temperature=temperature, ranks=ranks)
        elif (choose_form(n, d, ranks.size) if form == "auto" else form) == "gram":
            invariance, redundancy = gram_terms(a, b, count=count, ranks=ranks, shares=shares)
        else:
            invariance, redundancy = primal_terms(a, b, count=count, ranks=ranks)
    return weigh(invariance, redundancy, lambd, terms)


def weigh(invariance: Tensor, redundancy: Tensor, lambd: float, terms: Terms) -> LossTerms:
    """The loss of both terms, or of one (Table 5, rows 2 and 3)."""
    if terms == "invariance":
        return LossTerms(invariance, invariance, redundancy.detach())
    if terms == "redundancy":
        return LossTerms(lambd * redundancy, invariance.detach(), redundancy)
    return LossTerms(invariance + lambd * redundancy, invariance, redundancy)


def normalize(z: Tensor, normalization: Normalization, ranks: Ranks = ALONE) -> Tensor:
    """Embeddings `(N, D)` as the matrix C is built from.

    - "batch": mean 0 and variance 1 along the batch; `C = z1ᵀ z2 / N`, the cross-correlation.
    - "none": mean 0 along the batch, no scaling; `C = z1ᵀ z2 / N`, the cross-covariance (row 6 of
      Table 5; it belongs with a projector without batch norm).
    - "feature": as "batch", then every sample scaled to unit length along the features, where no mean
      is subtracted; `C = z1ᵀ z2`, the unnormalised covariance (row 4 of Table 5).

    The paper gives "feature" in words only. We read "unnormalised" as eq. 2 without its denominator,
    a plain sum over the batch: the diagonal then adds up to at most N. Divided by N it would add up to
    at most 1, every C_ii would be near 1 / D, and the redundancy term (of order 1 / N, against D) would
    be switched off, which by row 2 of the table costs 14 points where row 4 lost 1.6.
    """
    if normalization == "none":
        return center(z, ranks)
    standardized = standardize(z, ranks)
    if normalization == "feature":
        return torch.nn.functional.normalize(standardized, dim=1)
    return standardized


def check_options(form: str, terms: str, normalization: str, criterion: str, temperature: float, width: int) -> None:
    """Refuse what the loss of embeddings of that width cannot be.

    Raises:
        UserError: an unknown option, or options that exclude one another.
    """
    check_option("form", form, get_args(Form))
    check_option("terms", terms, get_args(Terms))
    check_option("normalization", normalization, get_args(Normalization))
    check_option("criterion", criterion, get_args(Criterion))
    if not temperature > 0.0:
        raise UserError(f"temperature is {temperature}, but must be positive", allowed="a number above 0")
    if criterion == "cross-entropy" and (form == "gram" or width == 1):
        reason = "form is 'gram'" if form == "gram" else f"the embeddings have {width} dimension"
        raise UserError(
            f"the cross-entropy criterion needs the primal form and at least 2 dimensions, but {reason}",
            next="use form 'auto' and a wider projector",
        )


def check_known(called: str, options: Iterable[str]) -> None:
    """Refuse options that the loss does not have, in the name of what was called with them.

    Raises:
        TypeError: as Python's own, with the nearest option.
    """
    for name in options:
        if name not in LossOptions.__annotations__:
            meant = did_you_mean(name, LossOptions.__annotations__)
            raise TypeError(f"{called}() got an unexpected keyword argument '{name}'{meant}")


def settings_of(called: str, options: LossOptions) -> dict[str, Any]:
    """The loss's settings, the defaults among them, where they are `options`: refused if it cannot have them.

    Args:
        called: what is called with them.

    Raises:
        UserError: a value that an option has not, or options that exclude one another.
        TypeError: an unknown option.
    """
    check_known(called, options)
    bound = inspect.signature(barlow_twins_loss).bind((), (), **options)
    bound.apply_defaults()
    settings = {name: bound.arguments[name] for name in LossOptions.__annotations__}
    check_weights(lambd=settings["lambd"])
    check_positive(temperature=settings["temperature"])
    checked = ("form", "terms", "normalization", "criterion", "temperature")
    check_options(**{name: settings[name] for name in checked}, width=2)
    return settings


def check_option(name: str, value: str, allowed: Sequence[str]) -> None:
    """Refuse a value that an option of a loss has not.

    Raises:
        UserError: it is not one of those allowed.
    """
    if value not in allowed:
        nearest = instead("", str(value), allowed).strip()
        raise UserError(
            f"unknown {name} '{value}'{did_you_mean(str(value), allowed)}",
            allowed=", ".join(allowed),
            next=f"{name}='{nearest}'",
        )


def check_embeddings(z1: Tensor, z2: Tensor, ranks: Ranks) -> None:
    """Refuse what no batch of pairs is.

    Raises:
        UserError: not two equal `(N, D)` of floating point on one device, or, on one rank, fewer than 2 samples. (Over
            ranks nobody asks here: a run whose last batch is too small for its ranks is refused before it begins.)
    """
    shapes = f"{tuple(z1.shape)} and {tuple(z2.shape)}"
    if z1.ndim != 2 or z2.ndim != 2:
        raise UserError(f"the embeddings have shapes {shapes}", allowed="two matrices (samples, dimensions)")
    if z1.shape != z2.shape:
        raise UserError(f"the embeddings of the two views differ in shape: {shapes}", allowed="equal shapes")
    if not (z1.is_floating_point() and z2.is_floating_point()):
        raise UserError(f"the embeddings are {z1.dtype} and {z2.dtype}", allowed="floating point tensors")
    check_devices(z1, z2)
    if z1.shape[0] < 2 and ranks.size == 1:
        raise UserError(
            f"the loss needs at least 2 samples to correlate over, got {z1.shape[0]}",
            next=WITHOUT_SINGLE,
        )
    if z1.shape[1] < 1:
        raise UserError("the embeddings have 0 dimensions", allowed="at least 1")
