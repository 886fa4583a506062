"""Optimizers as somebody writes them: SGD from its formula, with any mistake; and how they are forgotten."""

from __future__ import annotations

import sys

from barlowctl.recipe.optimizers import REGISTERED

SOURCE = '''
import torch

import barlowctl

barlowctl.register_optimizer("torch-adamw")(torch.optim.AdamW)


@barlowctl.register_optimizer("own-sgd")
class SGD(torch.optim.Optimizer):
    """v <- m v + g + w p; p <- p - lr v."""

    elementwise = True

    def __init__(self, params, lr: float, momentum: float = 0.5, weight_decay: float = 0.0, *, fault: str = ""):
        if fault == "init":
            raise KeyError("nothing")
        if fault == "dropped":
            params = params[1:]
        if fault == "added":
            params = [*params, {**params[0], "params": [torch.nn.Parameter(torch.ones(2))]}]
        if fault == "flat":
            params = [p for group in params for p in group["params"]]
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.fault, self.momenta, self.rate, self.steps = fault, {}, lr, 0

    @torch.no_grad()
    def step(self):
        self.steps += 1
        if self.fault == "step" or (self.fault == "later" and self.steps > 7):
            raise ValueError("no step")
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None or (self.fault == "still" and group["name"] == "biases"):
                    continue
                state = self.momenta.setdefault(p, {}) if self.fault == "outside" else self.state[p]
                gradient = p.grad + group["weight_decay"] * p
                if self.fault == "norm":
                    gradient = gradient / gradient.norm()
                if "velocity" not in state:
                    state["velocity"] = torch.zeros_like(p)
                state["velocity"].mul_(group["momentum"]).add_(gradient)
                p -= (self.rate if self.fault == "rate" else group["lr"]) * state["velocity"]
                if self.fault == "unsaved":
                    state["device"] = p.device


@barlowctl.register_optimizer("own-function")
def made(params, lr, *, kind: str) -> SGD:
    return {"sgd": SGD, "lbfgs": Closure, "none": lambda params, lr: None}[kind](params, lr=lr)


class Closure(SGD):
    def step(self, closure):
        return super().step()
'''


def forget() -> None:
    """As in a process that has not imported the module."""
    REGISTERED.clear()
    sys.modules.pop("own_optimizers_of_mine", None)
