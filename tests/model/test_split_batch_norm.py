"""Batch norm of parts of a batch: each part as torch's own has it, and running statistics in the mean."""

from __future__ import annotations

import copy

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from barlowctl.model import build_backbone, split_batch_norm
from barlowctl.model.split_batch_norm import SplitBatchNorm

NORMS = {
    "vectors": (lambda: nn.BatchNorm1d(5), (11, 5)),
    "images": (lambda: nn.BatchNorm2d(5), (6, 5, 2, 3)),
    "no affine": (lambda: nn.BatchNorm1d(5, affine=False), (11, 5)),
    "cumulative": (lambda: nn.BatchNorm2d(5, momentum=None), (6, 5, 2, 3)),
    "untracked": (lambda: nn.BatchNorm2d(5, track_running_stats=False), (6, 5, 2, 3)),
    "timm's, with its activation": (lambda: BatchNormAct2d(5), (6, 5, 2, 3)),
}


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("groups", [2, 3])
def test_each_part_is_what_torch_makes_of_it_alone(name: str, groups: int) -> None:
    make, shape = NORMS[name]
    alone = [make().double()]
    for p in alone[0].parameters():
        nn.init.uniform_(p, 0.5, 1.5)
    ours = split_batch_norm(copy.deepcopy(alone[0]), groups)
    alone += [copy.deepcopy(alone[0]) for _ in range(groups - 1)]
    assert isinstance(ours, SplitBatchNorm)
    assert list(ours.state_dict()) == list(alone[0].state_dict())
    generator = torch.Generator().manual_seed(0)
    ends = [shape[0] * number // groups for number in range(groups + 1)]  # uneven where it must be
    for _ in range(2):
        x = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        expected = torch.cat([norm(x[a:b]) for norm, a, b in zip(alone, ends[:-1], ends[1:], strict=True)])
        actual = ours(x)
        torch.testing.assert_close(actual, expected)
        weights = torch.arange(actual.numel(), dtype=torch.float64).view_as(actual).sin()
        gradients = (torch.autograd.grad((out * weights).sum(), x)[0] for out in (actual, expected))
        torch.testing.assert_close(*gradients)
        for key in ours.state_dict():
            if key.startswith("running"):
                mean = torch.stack([norm.state_dict()[key] for norm in alone]).mean(dim=0)
                for norm in alone:
                    norm.state_dict()[key].copy_(mean)  # all parts go on from the one that is kept
                torch.testing.assert_close(ours.state_dict()[key], mean)
    if name != "untracked":  # which has no other statistics than those of the batch
        torch.testing.assert_close(ours.eval()(x), alone[0].eval()(x))


def test_one_group_is_the_network_as_it_is_and_more_are_in_every_batch_norm() -> None:
    network = build_backbone("resnet18", in_chans=1, stem="cifar")
    names, classes = list(network.state_dict()), [type(module) for module in network.modules()]
    assert [type(module) for module in split_batch_norm(network, 1).modules()] == classes
    split = split_batch_norm(network, 4)
    assert list(split.state_dict()) == names
    assert not any(isinstance(module, nn.BatchNorm2d) for module in split.modules())
    assert sum(isinstance(module, SplitBatchNorm) for module in split.modules()) == 20


def test_a_batch_of_fewer_images_has_fewer_parts() -> None:
    """Of one image a part would have no variance: such a batch is one whose operations are counted."""
    norm = nn.BatchNorm1d(5)
    x = torch.randn(4, 5)
    torch.testing.assert_close(split_batch_norm(norm, 8)(x), torch.cat([norm(x[:2]), norm(x[2:])]))
