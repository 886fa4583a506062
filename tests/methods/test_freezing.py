"""Frozen parts and a backbone that waits for its heads: what moves, what does not, in both networks of a method."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from barlowctl.distributed import ALONE
from barlowctl.methods import Method, Targets
from barlowctl.train.optim import build_optimizer
from barlowctl.train.step import TrainingStep
from tests.dist import methods

STEPS, ALONE_FOR = 10, 0.35  # the heads alone: steps 0 to 3


def to_input(view: Tensor) -> Tensor:
    return view.permute(0, 3, 1, 2).double() / 255


def moco_adapted() -> Method:
    method = methods.moco(ALONE)
    for network in method.backbones():
        parts = list(network.children())[:2]
        method.freeze(parts, [p for part in parts for p in part.parameters()])
    method.heads_alone = ALONE_FOR
    return method


ADAPTED: dict[str, Callable[[], Method]] = {
    "barlow-twins": lambda: methods.adapted_barlow_twins(ALONE),
    "byol": lambda: methods.adapted_byol(ALONE),
    "moco": moco_adapted,
}


def state(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def changed(before: dict[str, Tensor], module: nn.Module) -> set[str]:
    return {key for key, value in module.state_dict().items() if not torch.equal(value, before[key])}


def take(step: TrainingStep, number: int) -> None:
    generator = torch.Generator().manual_seed(number)
    views = [torch.randint(0, 256, (methods.ROWS, 6, 6, 1), dtype=torch.uint8, generator=generator) for _ in range(2)]
    targets = step.targets(torch.full((methods.ROWS,), -1), torch.arange(methods.ROWS), [methods.ROWS], number / STEPS)
    step.update(step.compute(views, targets))


@pytest.mark.parametrize("name", ADAPTED)
def test_the_heads_come_first_and_the_frozen_part_never_moves(name: str) -> None:
    method = ADAPTED[name]().train()
    networks = method.backbones()
    assert len(networks) == (1 if name == "barlow-twins" else 2)  # and the moving average
    optimizer = build_optimizer(method, "sgd", lr=0.1, lr_biases=0.1, weight_decay=1e-2)
    step = TrainingStep(
        method, optimizer, to_input=to_input, device=torch.device("cpu"), precision="fp32", deferred=False
    )
    start, heads = [state(network) for network in networks], state(method.heads()["projector"])
    for number in range(STEPS):
        take(step, number)
        waits = number < 4
        changes = [changed(*pair) for pair in zip(start, networks, strict=True)]
        if waits:
            assert changes == [set()] * len(networks), number
            assert all(p.grad is None for p in method.backbone.parameters())
            assert not any(m.training for network in networks for m in network.modules())
        else:
            frozen = [key for keys in changes for key in keys if key.startswith(("0.", "1."))]
            assert not frozen, number  # the convolution; batch norm: its parameters, its statistics, its counter
            assert not any(m.training for network in networks for m in list(network.children())[:2])
            assert networks[0][2].training  # type: ignore[index]
        assert changed(heads, method.heads()["projector"])
    assert changed(start[0], networks[0])
    assert (len(networks) == 1) or changed(start[1], networks[1])  # what is not frozen follows


def test_evaluation_and_training_mode_leave_the_frozen_part_as_it_is() -> None:
    method = methods.adapted_barlow_twins(ALONE).train()
    assert not method.backbone[1].training  # type: ignore[index]
    assert method.training
    assert method.projector.training  # type: ignore[union-attr]
    method.eval()
    assert not method.training
    method.freeze_for_now(0.1)
    assert not method.training  # the mode is the caller's
    method.train()
    assert not any(module.training for module in method.backbone.modules())
    method.freeze_for_now(0.4)
    assert method.backbone.training
    assert not method.backbone[1].training  # type: ignore[index]
    assert [p.requires_grad for p in method.backbone.parameters()] == [False] * 3 + [True] * 2


def test_a_step_that_is_taken_back_before_the_backbone_moves_leaves_nothing_behind() -> None:
    method = methods.adapted_byol(ALONE).train()
    before = state(method)
    optimizer = build_optimizer(method, "lars", lr=0.1, lr_biases=0.1, weight_decay=1e-2)
    step = TrainingStep(
        method, optimizer, to_input=to_input, device=torch.device("cpu"), precision="fp32", deferred=False
    )
    views = [torch.randint(0, 256, (methods.ROWS, 6, 6, 1), dtype=torch.uint8) for _ in range(2)]
    step.compute(views, step.targets(torch.full((24,), -1), torch.arange(24), [24], 0.0))
    assert changed(before, method)  # batch norm of the heads has counted the batch
    step.undo()
    assert not changed(before, method)


def test_a_method_that_freezes_nothing_trains_everything() -> None:
    method = methods.vicreg(ALONE).train()
    assert not method.freeze_for_now(0.0)
    assert all(module.training for module in method.modules())
    assert all(p.requires_grad for p in method.parameters())
    loss = method([torch.rand(8, 1, 6, 6).double() for _ in range(2)], Targets.unlabelled(8)).loss
    loss.backward()
    assert all(p.grad is not None for p in method.backbone.parameters())
