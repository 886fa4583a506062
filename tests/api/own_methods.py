"""Methods as somebody writes them: Barlow Twins from its formula, with any mistake; and how they are forgotten."""

from __future__ import annotations

import sys

from barlowctl.recipe.objectives import METHODS, OURS

SOURCE = '''
from typing import NamedTuple

import torch
from torch import Tensor, nn

import barlowctl
from barlowctl.methods import Method, gathered


class Terms(NamedTuple):
    loss: Tensor
    invariance: Tensor
    redundancy: Tensor


def standardized(z):
    return (z - z.mean(0)) / (z.var(0, unbiased=False) + 1e-5).sqrt()


@barlowctl.register_method("own-twins")
class Twins(Method):
    """Equations 1 and 2 of the paper."""

    title = "Twins of mine"
    views = 2
    decorrelates = True
    terms = {"invariance": "what the distortions change", "redundancy": "what dimensions share"}

    def __init__(self, backbone: nn.Module, projector: nn.Module, ranks, *, lambd: float = 0.0051, fault: str = ""):
        super().__init__()
        self.backbone, self.projector, self.ranks = backbone, projector, ranks
        self.lambd, self.fault, self.steps = lambd, fault, 0
        if fault == "init":
            raise KeyError("nothing")
        if fault in ("unlisted", "empty"):
            self.scale = nn.Parameter(torch.ones(2 if fault == "unlisted" else 0))
        if fault == "tensor":
            self.queue = [torch.zeros(3)]
        if fault == "backbone":
            self.backbone = nn.Sequential(backbone)

    def embeddings(self, views):
        z = self.embed_each(lambda view: self.projector(self.backbone(view)), views)
        return torch.stack(z) if self.fault == "stacked" else z

    def compare(self, embeddings, targets):
        rows = embeddings if self.fault == "alone" else [gathered(z, self.ranks, targets.shares) for z in embeddings]
        z1, z2 = (standardized(z.float()) for z in rows)
        c = z1.T @ z2 / len(z1)
        on = (1 - c.diagonal()).square().sum()
        off = c.square().sum() - c.diagonal().square().sum()
        loss = on + self.lambd * off
        if self.fault == "number":
            return loss.item()
        if self.fault == "detached":
            return Terms(loss.detach(), on.detach(), off.detach())
        if self.fault == "nan":
            return Terms(loss * float("nan"), on.detach(), off.detach())
        if self.fault == "order":
            return Others(loss, off.detach(), on.detach())
        return Terms(loss, on.detach(), off.detach())

    def heads(self):
        return {"projector": self.projector} if self.fault != "heads" else [self.projector]

    def describe(self, batch, ranks=1):
        return f"lambd {self.lambd:g} by the formula"

    def after_step(self, progress):
        self.steps += 1
        if self.fault == "later" and self.steps > 13:
            raise ValueError("thirteen is enough")
        if self.fault == "grown":
            self.memory = torch.zeros(2)


class Others(NamedTuple):
    loss: Tensor
    redundancy: Tensor
    invariance: Tensor


@barlowctl.register_method("own-function")
def made(backbone, features, ranks, *, width: int, activation=nn.GELU, sides: list[int] = [1], title=None) -> Twins:
    return Twins(backbone, nn.Linear(features, width), ranks)


class OneView(Twins):
    views, labels = 1, True


@barlowctl.register_method("own-unsaid")
def unsaid(backbone, projector, ranks):
    return OneView(backbone, projector, ranks)


@barlowctl.register_method("own-nothing")
def nothing(backbone):
    return backbone
'''


def forget() -> None:
    """As in a process that has not imported the module."""
    for name in set(METHODS) - set(OURS):
        del METHODS[name]
    sys.modules.pop("own_methods_of_mine", None)
