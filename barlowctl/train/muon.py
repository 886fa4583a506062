"""Muon for weights, Adam for biases and norm parameters: the most progress per step in short runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw
from torch.optim.optimizer import ParamsT

from barlowctl.errors import UserError
from barlowctl.train.groupwise import GroupwiseOptimizer
from barlowctl.train.polar import orthogonalize

EPSILON = 1e-8  # of Adam


class Muon(GroupwiseOptimizer):
    """Momentum, orthogonalised (Jordan et al. 2024, "Muon: an optimizer for hidden layers").

    In a group with `adapt=True`, for each parameter p of shape (out, ...) with gradient g:

        m = momentum m + (1 - momentum) g
        u = (1 - momentum) g + momentum m                  (Nesterov)
        o = U S' Vᵀ of u = U S Vᵀ as a matrix (out, rest)    (singular values S' near 1)
        p = p - lr weight_decay p - lr sqrt(max(1, out / rest)) o

    In a group with `adapt=False` (biases, norm parameters), Adam with `betas`, bias-corrected, and the same
    decoupled weight decay. A convolution's weight (out, in, h, w) is the matrix (out, in h w), as in the
    author's own code; torch's Muon, which it equals on matrices, takes only those.

    State of a parameter: `m` of its shape; for Adam also `v`, and `step`.
    """

    def __init__(
        self,
        params: ParamsT,
        *,
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        adapt: bool = True,
    ) -> None:
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "betas": betas,
            "adapt": adapt,
        }
        super().__init__(params, defaults)
        for group in self.param_groups:
            if group["adapt"] and any(p.ndim < 2 for p in group["params"]):
                raise UserError("Muon orthogonalises matrices: a parameter has fewer than two dimensions")

    def update(self, group: dict[str, Any]) -> None:
        """See `GroupwiseOptimizer`."""
        params = [p for p in group["params"] if p.grad is not None]
        if not group["adapt"]:
            self._adam(params, group)
            return
        taken = 1.0 if self.found_inf is None else 1.0 - self.found_inf
        for p in params:
            assert p.grad is not None
            grad = p.grad if self.found_inf is None else torch.where(self.found_inf > 0.0, 0.0, p.grad)
            p.mul_(1.0 - taken * group["lr"] * group["weight_decay"])
            _orthogonal_step(p, grad, self.state[p], group, taken)

    def _adam(self, params: list[Tensor], group: dict[str, Any]) -> None:
        """torch's own, of many tensors in one call."""
        for p in params:
            state = self.state[p]
            if "m" not in state:
                state["m"], state["v"] = torch.zeros_like(p), torch.zeros_like(p)
                state["step"] = torch.zeros((), device=p.device)
        states = [self.state[p] for p in params]
        adamw(
            params,
            [p.grad for p in params if p.grad is not None],
            [state["m"] for state in states],
            [state["v"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            found_inf=self.found_inf,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=EPSILON,
            maximize=False,
        )


def _orthogonal_step(p: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any], taken: Any) -> None:
    """`taken`: 1, or 0 for a step that changes nothing (a gradient of zeros), a number or a tensor like the rate."""
    if "m" not in state:
        state["m"] = torch.zeros_like(p, memory_format=torch.preserve_format)
    momentum = group["momentum"]
    state["m"].lerp_(grad, taken * (1.0 - momentum))
    direction = orthogonalize(grad.lerp(state["m"], momentum).flatten(1))
    out, rest = direction.shape
    _add(p, direction.view(p.shape), -taken * group["lr"] * max(1.0, out / rest) ** 0.5)


def _add(p: Tensor, direction: Tensor, factor: Any) -> None:
    """`p += factor * direction`."""
    if isinstance(factor, Tensor):
        p.add_(direction * factor)
    else:
        p.add_(direction, alpha=factor)
