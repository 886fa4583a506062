"""LARS, layer-wise adaptive rate scaling, as in the authors' code, and its variants of SimCLR and of SwAV."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT
from torch.optim.sgd import sgd

from barlowctl.errors import UserError, did_you_mean
from barlowctl.train import fused_lars
from barlowctl.train.groupwise import GroupwiseOptimizer

LarsVariant = Literal["barlow-twins", "simclr", "larc"]
LARC_EPSILON = 1e-8


class LARS(GroupwiseOptimizer):
    """Layer-wise adaptive rate scaling (You et al. 2017, arXiv 1708.03888), in the authors' order of steps.

    For each parameter p with gradient g, and per-group settings:

        dp = g + weight_decay * p
        if adapt:  dp = dp * eta |p| / |dp|       (factor 1 where either norm is 0)
        if clip:   that factor becomes min(factor / lr, 1): the step is min(eta |p| / |dp|, lr) dp (LARC)
        mu = momentum * mu + dp
        p  = p - lr * mu

    `variant` "barlow-twins" (BYOL's and VICReg's code too) is this. Two others differ in one thing each:

        "simclr"   mu = momentum * mu + lr * dp,  p = p - mu       another path wherever lr changes
        "larc"     factor eta |p| / (|g| + weight_decay |p| + 1e-8), and dp = g (without decay) where |p| or |g| is 0

    Sources: `lars_optimizer.py` of google-research/simclr ("classic momentum"); apex's `LARC.py`, which SwAV uses.

    The authors leave biases and norm parameters (`ndim == 1`) out of weight decay and adaptation by
    looking at each tensor; here that is a property of the group: `adapt=False`, `weight_decay=0`.
    State of a parameter: `mu`, of its shape and dtype.
    """

    def __init__(
        self,
        params: ParamsT,
        *,
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.9,
        eta: float = 0.001,
        adapt: bool = True,
        clip: bool = False,
        variant: LarsVariant = "barlow-twins",
    ) -> None:
        if variant not in get_args(LarsVariant):
            raise UserError(
                f"unknown variant of LARS '{variant}'{did_you_mean(variant, get_args(LarsVariant))}",
                allowed=", ".join(get_args(LarsVariant)),
                next="--set optimizer.lars_variant=barlow-twins",
            )
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "eta": eta,
            "adapt": adapt,
            "clip": clip,
            "variant": variant,
        }
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """torch's, also from a checkpoint of before there were variants."""
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("variant", "barlow-twins")

    def prepare(self) -> None:
        """Compile what its steps on a CPU are made of: the first call ever takes seconds.

        Whoever times a step does this before.
        """
        if any(p.device.type == "cpu" for group in self.param_groups for p in group["params"]):
            fused_lars.prepare()

    def update(self, group: dict[str, Any]) -> None:
        """See `GroupwiseOptimizer`."""
        params = [p for p in group["params"] if p.grad is not None]
        for same in _by_device_and_dtype(params):
            self._update(same, group)

    def _update(self, params: list[Tensor], group: dict[str, Any]) -> None:
        updates: list[Tensor] = [p.grad for p in params if p.grad is not None]
        if any(update.is_sparse for update in updates):
            raise UserError("LARS does not take sparse gradients", next="use sparse=False in the embedding")
        for p in params:
            if "mu" not in self.state[p]:
                self.state[p]["mu"] = torch.zeros_like(p, memory_format=torch.preserve_format)
        momenta = [self.state[p]["mu"] for p in params]
        if self.found_inf is None and fused_lars.takes(params, updates, momenta, group["lr"]):
            fused_lars.step(params, updates, momenta, group, LARC_EPSILON)
            return
        gradients = updates
        if group["weight_decay"] != 0.0:
            updates = list(torch._foreach_add(updates, params, alpha=group["weight_decay"]))
        if group["adapt"]:
            cap = group["lr"] if group["clip"] else None
            if group["variant"] == "larc":
                ratios = _larc_ratios(params, gradients, group["eta"], group["weight_decay"], cap)
            else:
                ratios = _trust_ratios(params, updates, group["eta"], cap)
            updates = list(torch._foreach_mul(updates, ratios))
        rate = group["lr"]
        if group["variant"] == "simclr":
            updates, rate = list(torch._foreach_mul(updates, rate)), 1.0
        if self.found_inf is not None:
            _momentum_step(params, updates, momenta, group["momentum"], rate, self.found_inf)
            return
        torch._foreach_mul_(momenta, group["momentum"])
        torch._foreach_add_(momenta, updates)
        torch._foreach_add_(params, momenta, alpha=-rate)


def _momentum_step(
    params: list[Tensor],
    updates: list[Tensor],
    momenta: list[Tensor],
    momentum: float,
    rate: Any,
    found_inf: Tensor,
) -> None:
    """`mu = momentum * mu + dp`, `p = p - rate * mu` in one kernel over all tensors, nothing where `found_inf` is 1."""
    sgd(
        params,
        updates,
        list(momenta),
        fused=True,
        grad_scale=None,
        found_inf=found_inf,
        weight_decay=0.0,
        momentum=momentum,
        lr=rate,
        dampening=0.0,
        nesterov=False,
        maximize=False,
    )


def _trust_ratios(params: list[Tensor], updates: list[Tensor], eta: float, lr: Any) -> list[Tensor]:
    """`eta |p| / |dp|` as 0-dimensional tensors, 1 where either norm is 0; clipped when `lr` is given."""
    param_norms = torch.stack(torch._foreach_norm(params))
    update_norms = torch.stack(torch._foreach_norm(updates))
    defined = (param_norms > 0.0) & (update_norms > 0.0)
    ratios = eta * param_norms / torch.where(defined, update_norms, 1.0)
    return list(torch.where(defined, _clipped(ratios, lr), 1.0).unbind())


def _larc_ratios(params: list[Tensor], gradients: list[Tensor], eta: float, decay: float, lr: Any) -> list[Tensor]:
    """`eta |p| / (|g| + decay |p| + 1e-8)`, each 0-dimensional; clipped when `lr` is given.

    Where a norm is 0 the factor on `g + decay p` is what makes it g: 1 where p is 0, 0 where g is.
    """
    param_norms = torch.stack(torch._foreach_norm(params))
    gradient_norms = torch.stack(torch._foreach_norm(gradients))
    ratios = eta * param_norms / (gradient_norms + decay * param_norms + LARC_EPSILON)
    defined = (param_norms > 0.0) & (gradient_norms > 0.0)
    return list(torch.where(defined, _clipped(ratios, lr), (gradient_norms > 0.0).to(ratios.dtype)).unbind())


def _clipped(ratios: Tensor, lr: Any) -> Tensor:
    """Trust ratios that let a step be at most `lr` times the gradient; None: as they are."""
    if lr is None:
        return ratios
    rate = torch.as_tensor(lr, dtype=ratios.dtype, device=ratios.device)
    return torch.where(rate > 0.0, torch.minimum(ratios, rate) / rate, 1.0)


def _by_device_and_dtype(params: Iterable[Tensor]) -> list[list[Tensor]]:
    groups: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for p in params:
        groups.setdefault((p.device, p.dtype), []).append(p)
    return list(groups.values())
