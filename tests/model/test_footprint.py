"""The memory estimate against what autograd really saves on the CPU, and against counting by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from barlowctl.model import InputNormalization, build_backbone, build_projector, estimate_memory


class TwoViews(nn.Module):
    """A method in miniature: two views in, one number out."""

    def __init__(self) -> None:
        super().__init__()
        self.normalize = InputNormalization((0.5,), (0.25,))
        self.backbone = build_backbone("resnet18", in_chans=1, stem="cifar", channels=[8, 8, 16, 16])
        self.projector = build_projector(16, (32, 32))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        z1, z2 = (self.projector(self.backbone(self.normalize(view))) for view in (first, second))
        return (z1.T @ z2).square().sum()


def really_saved(module: nn.Module, *arguments: Tensor, autocast: torch.dtype | None = None) -> int:
    own = {p.untyped_storage().data_ptr() for p in [*module.parameters(), *module.buffers()]}
    saved: dict[int, Tensor] = {}

    def remember(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    enabled = autocast is not None
    with (
        torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor),
        torch.autocast("cpu", dtype=autocast or torch.bfloat16, enabled=enabled),
    ):
        output = module(*arguments)
    result = sum(t.untyped_storage().nbytes() for key, t in saved.items() if key not in own)
    del output
    return result


def views(batch: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(batch, 16, 16, 1, dtype=torch.uint8), torch.zeros(batch, 16, 16, 1, dtype=torch.uint8)


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_activations_are_what_autograd_saves(autocast: torch.dtype | None) -> None:
    module = TwoViews()
    for batch in (2, 6):
        expected = really_saved(module, *views(batch), autocast=autocast)
        estimate = estimate_memory(module, lambda n=batch: views(n), optimizer_slots=1, autocast=autocast)
        assert estimate.activations == pytest.approx(expected, rel=0.02)


def test_activations_counted_by_hand() -> None:
    # Linear saves its input; ReLU its output, which is the next layer's input; square saves its input.
    module = nn.Sequential(nn.Linear(3, 5, bias=False), nn.ReLU(), nn.Linear(5, 7, bias=False))

    class Squared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = module

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x).square().sum()

    estimate = estimate_memory(Squared(), lambda: (torch.zeros(10, 3),), optimizer_slots=2)
    assert estimate.activations == 4 * 10 * (3 + 5 + 7)
    weights = 4 * (3 * 5 + 5 * 7)
    assert (estimate.parameters, estimate.gradients, estimate.optimizer) == (weights, weights, 2 * weights)
    assert estimate.total == 4 * 10 * (3 + 5 + 7) + 4 * weights


def test_frozen_parameters_have_no_gradients() -> None:
    module = nn.Linear(3, 5)
    module.weight.requires_grad_(False)
    estimate = estimate_memory(module, lambda: (torch.zeros(2, 3),), optimizer_slots=1)
    assert estimate.parameters == 4 * (15 + 5)
    assert estimate.gradients == estimate.optimizer == 4 * 5


def test_buffers_count_and_what_is_kept_beside_them() -> None:
    module = nn.Linear(3, 5)
    module.register_buffer("queue", torch.zeros(7, 2))
    estimate = estimate_memory(module, lambda: (torch.zeros(2, 3),), optimizer_slots=1, copies=[torch.zeros(11)])
    assert estimate.buffers == 4 * (14 + 11)
    assert estimate.total == 3 * 4 * 20 + estimate.activations + estimate.buffers


def test_an_enormous_batch_costs_nothing_and_changes_nothing() -> None:
    module = TwoViews().eval()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    estimate = estimate_memory(module, lambda: views(1 << 20), optimizer_slots=1)
    assert estimate.activations > 1 << 34
    assert not any(part.training for part in module.modules())
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert all(p.grad is None for p in module.parameters())


def test_tensors_that_modules_share_are_put_back_and_counted_once() -> None:
    """A module in two places, and a parameter in two modules."""
    shared, first, second = nn.Linear(8, 8), nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
    second.weight = first.weight
    network = nn.Sequential(shared, nn.Sequential(shared, first), second)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    estimate = estimate_memory(network, lambda: (torch.zeros(4, 8),), optimizer_slots=1)
    assert estimate.parameters == 4 * (8 * 8 + 8 + 8 * 8)
    assert estimate.activations == 4 * 4 * 8 * 4  # what goes into each of four
    assert first.weight is second.weight
    assert network[0] is network[1][0]
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
