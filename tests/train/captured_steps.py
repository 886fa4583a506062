"""Some steps of every method, kernel by kernel or captured as one graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from barlowctl.distributed import ALONE
from barlowctl.methods import Method
from barlowctl.train.optim import build_optimizer, set_learning_rates
from barlowctl.train.step import TrainingStep
from tests.dist import methods, work
from tests.methods import siamese_networks

STEPS = 9
NAMES = (*methods.MAKERS, *siamese_networks.MAKE)


def method_of(name: str, device: torch.device | str = "cpu") -> Method:
    """A method in float32, to be trained."""
    made = methods.MAKERS[name](ALONE) if name in methods.MAKERS else siamese_networks.make(name)
    return made.float().to(device).train()


def images(name: str, number: int) -> tuple[list[Tensor], Tensor]:
    """Views of a batch, and the numbers of its images."""
    if name in methods.MAKERS:
        (*_, batch) = work.Images(ALONE, 1, methods.ROWS, methods.SMALL.get(name, 0)).epoch(number)
        return list(batch.views), batch.indices
    drawn = torch.Generator().manual_seed(number)
    rows, sizes = siamese_networks.ROWS, siamese_networks.SIZES[name]
    views = [torch.randint(0, 256, (rows, size, size, 1), dtype=torch.uint8, generator=drawn) for size in sizes]
    return views, torch.arange(rows)


def step_of(method: Method, optimizer: str, device: torch.device, **settings: Any) -> TrainingStep:
    """A deferred step of a method."""
    built = build_optimizer(method, optimizer, lr=0.1, lr_biases=0.1, weight_decay=1e-3)
    set_learning_rates(built, 1.0)
    return TrainingStep(
        method,
        built,
        to_input=lambda views: views.permute(0, 3, 1, 2).float() / 255,
        device=device,
        precision="fp32",
        deferred=True,
        **settings,
    )


def trained(
    name: str, optimizer: str = "sgd", *, captures: bool, device: str = "cpu"
) -> tuple[list[float], dict[str, Tensor]]:
    """Losses of some steps, and the state after them. A captured one draws the same random numbers."""
    method, notes = method_of(name, device), list[str]()
    torch.manual_seed(11)
    step = step_of(method, optimizer, torch.device(device), notify=notes.append)
    step._captures = captures
    losses = []
    for number in range(STEPS):
        assert step.optimizer is not None
        set_learning_rates(step.optimizer, 1.0 - number / STEPS)
        views, indices = images(name, number)
        targets = step.targets(torch.full_like(indices, -1), indices, [len(indices)], number / STEPS)
        computed = step.compute([view.to(device) for view in views], targets)
        step.update(computed, with_norm=True)
        losses.append(computed.loss())
    assert notes == []
    assert (step._captured is not None) is captures
    return losses, {key: value.cpu() for key, value in method.state_dict().items()}
