"""Networks that follow others as moving averages: the key encoder of MoCo, the target network of BYOL."""

from __future__ import annotations

import copy
import math
from typing import Literal, get_args

import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn

from barlowctl.errors import UserError
from barlowctl.objective.barlow_twins import check_option
from barlowctl.objective.settings import check_numbers

Schedule = Literal["constant", "cosine"]


class MovingAverage(nn.Module):
    """Copies of networks, one behind the other, whose parameters follow the networks': `p <- m p + (1 - m) q`.

    Only parameters are averaged, those of batch norm (its scale and shift) among them. Buffers are the copies' own: in
    training mode, in which they are whenever their method is, running statistics come from what passes through them.
    They skip no residual branches: drop path is of what is trained, as in DINO (`main_dino.py`, the teacher).

    A copy is computed without a graph, takes no gradient, and is no head: the optimizer never sees it. What changes
    its parameters is `follow` alone, in place and by tensors, so that a step that holds it can be captured as a CUDA
    graph; a method says by `moving` that `parameters()` of it are to be put back when a step is taken back.

    Args:
        networks: what is copied, in the order in which they are applied; the copies begin as they are.
        momentum: m of every step; of a cosine its first value.
        schedule: "cosine": m rises to 1 as the training goes on, see `share`.
    """

    def __init__(self, *networks: nn.Module, momentum: float, schedule: Schedule = "constant") -> None:
        super().__init__()
        check_numbers(momentum=momentum)
        check_option("schedule", schedule, get_args(Schedule))
        if not 0.0 <= momentum <= 1.0:
            raise UserError(f"the momentum of a moving average is {momentum:g}", allowed="0 to 1")
        self.networks = nn.Sequential(*(copy.deepcopy(network) for network in networks)).requires_grad_(False)
        for part in self.networks.modules():
            if isinstance(part, DropPath):
                part.drop_prob = 0.0
        self.momentum, self.schedule = momentum, schedule

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """What the copies make of the first one's input; a constant."""
        out: Tensor = self.networks(x)
        return out

    def share(self, progress: Tensor) -> float | Tensor:
        """1 - m at `progress` (see `Targets.progress`), of a cosine a 0-dimensional tensor.

        Constant: `1 - momentum`. Cosine: `(1 - momentum) (1 + cos(pi progress)) / 2`, which falls from
        `1 - momentum` to 0 (Grill et al. 2020, arXiv 2006.07733, section 3.2).
        """
        if self.schedule == "constant":
            return 1.0 - self.momentum
        return torch.cos(progress * math.pi).add_(1.0).mul_(0.5 * (1.0 - self.momentum))

    def begin(self, *networks: nn.Module) -> None:
        """Be what `networks`, those that were copied, are now, buffers included."""
        for own, network in zip(self.networks, networks, strict=True):
            own.load_state_dict(network.state_dict())

    @torch.no_grad()
    def follow(self, *networks: nn.Module, progress: Tensor) -> None:
        """One step of the average, towards what `networks`, those that were copied, are now."""
        own: list[Tensor] = list(self.parameters())
        online: list[Tensor] = [p for network in networks for p in network.parameters()]
        if len(own) != len(online):
            raise ValueError(f"{len(own)} parameters cannot follow {len(online)}")
        if not own:
            return
        share = self.share(progress)
        if isinstance(share, float):
            torch._foreach_lerp_(own, online, share)
            return
        steps = list(torch._foreach_sub(online, own))  # no lerp takes its weight from a device for a list at once
        torch._foreach_mul_(steps, share)
        torch._foreach_add_(own, steps)
