"""`train.shard`: what is refused with its reason, and what a rank's memory is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import barlowctl
from barlowctl.assemble.first_lines import describe_ranks
from barlowctl.assemble.methods import Context
from barlowctl.assemble.model import build_method
from barlowctl.assemble.resolve import Resolved, resolve
from barlowctl.assemble.sharding import divided
from barlowctl.errors import UserError
from barlowctl.model import Footprint
from barlowctl.recipe import load
from barlowctl.recipe.objectives import METHODS
from barlowctl.recipe.optimizers import REGISTERED


def resolved(*changes: str, ranks: int = 2) -> Resolved:
    recipe = load.load("fashion-mnist", ["train.shard=true", "optimizer.name=adamw", *changes])
    return resolve(recipe, torch.device("cpu"), 1, 10_000, ranks=ranks)


@pytest.mark.parametrize(
    ("changes", "reason", "follow"),
    [
        (["optimizer.name=lars"], "optimizer.name is 'lars', which needs whole tensors", "train.shard=false"),
        (["optimizer.name=muon"], "optimizer.name is 'muon', which needs whole tensors", "train.shard=false"),
        (["objective.name=byol"], "in BYOL a moving average follows the backbone", "train.shard=false"),
        (["objective.name=moco"], "in MoCo a moving average follows the backbone", "train.shard=false"),
        (["train.freeze=layer1"], "parts of the backbone are frozen", "train.shard=false"),
        (["train.freeze_backbone_epochs=1"], "parts of the backbone are frozen", "train.shard=false"),
        (["train.compile=true"], "train.compile is true", "train.compile=false"),
        (["train.precision=fp16"], "train.precision is fp16", "train.precision=bf16"),
    ],
)
@pytest.mark.parametrize("ranks", [1, 2])
def test_what_cannot_be_divided_is_refused(changes: list[str], reason: str, follow: str, ranks: int) -> None:
    with pytest.raises(UserError) as refused:
        resolved(*changes, ranks=ranks)
    assert reason in refused.value.message
    assert refused.value.next == f"--set {follow}"


def test_an_optimizer_of_somebodys_own_says_that_it_can_be_divided() -> None:
    for name, optimizer in (("whole", torch.optim.NAdam), ("by-number", torch.optim.AdamW)):
        barlowctl.register_optimizer(name)(optimizer)
    try:
        assert resolved("optimizer.name=by-number").shards
        with pytest.raises(
            UserError, match="the optimizer 'whole' does not say that its step takes every number"
        ) as no:
            resolved("optimizer.name=whole")
        assert no.value.allowed.startswith("a class with elementwise = True")
        assert no.value.next == "--set train.shard=false"
    finally:
        REGISTERED.clear()


def test_one_process_has_nothing_to_divide_it_among() -> None:
    alone, several = resolved(ranks=1), resolved(ranks=4)
    assert (alone.settings("fp32").shard, several.settings("fp32").shard) == (False, True)
    assert describe_ranks(alone)["sharding"] == "none: this is one process (train.shard)"
    assert "over 4 ranks (FSDP2)" in describe_ranks(several)["sharding"]


@pytest.mark.parametrize("name", METHODS)
def test_methods_say_whether_a_moving_average_follows_the_backbone(name: str) -> None:
    recipe = load.load("fashion-mnist", [f"objective.name={name}"])
    method = build_method(recipe, Context(images=1000, classes=10))
    assert recipe.objective.averages == (len(method.backbones()) > 1)


def test_memory_of_a_rank() -> None:
    """A stem of 40 numbers and three blocks of 100, over two ranks: half of 340, the stem, a block and the next one."""
    blocks = nn.Sequential(*(nn.Linear(10, 10, bias=False) for _ in range(3)))
    backbone = nn.Sequential(nn.Linear(4, 10, bias=False), blocks)
    whole = Footprint(
        parameters=4 * 400, gradients=4 * 400, optimizer=4 * 800, activations=7, buffers=5
    )  # a head of 60
    part = divided(whole, backbone, 2)
    assert part.parameters == 4 * (60 + 170 + 40 + 200)
    assert part.gradients == 4 * (60 + 170 + 40 + 100)
    assert part.optimizer == 4 * 2 * (60 + 170)
    assert (part.activations, part.buffers) == (7, 5)
