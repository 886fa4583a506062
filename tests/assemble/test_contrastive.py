"""From recipes to SimCLR and MoCo: the published heads, batch norm by parts, and what MoCo asks of a recipe."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from barlowctl.assemble.compiling import compile_networks
from barlowctl.assemble.methods import Context
from barlowctl.assemble.model import build_method
from barlowctl.assemble.plan import footprint
from barlowctl.assemble.resolve import check_share, resolve
from barlowctl.assemble.synthetic_steps import forward_flops
from barlowctl.distributed import Ranks
from barlowctl.errors import UserError
from barlowctl.methods import MoCo, SimCLR
from barlowctl.model.split_batch_norm import SplitBatchNorm
from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe
from barlowctl.train.step import TrainingStep

NARROW = ["model.backbone=resnet10t", "model.backbone_args={channels=[4,8,8,8], stem_width=4}"]
SIZES = ["views.size=32", "eval.resize=32", "eval.crop=32", "train.batch_size=16"]


def tiny(name: str, *overrides: str) -> Recipe:
    return load.load("quickstart", [*NARROW, *SIZES, f"objective.name={name}", *overrides])


def layers(head: nn.Module) -> list[str]:
    return [
        f"{part.in_features}>{part.out_features}{'' if part.bias is None else '+'}"
        if isinstance(part, nn.Linear)
        else type(part).__name__
        for part in head.children()
    ]


def test_simclrs_head_has_no_bias_and_ends_with_a_batch_norm_that_does_not_shift() -> None:
    method = build_method(tiny("simclr", "model.projector=[12,6]", "objective.scale=2", "objective.temperature=0.5"))
    assert isinstance(method, SimCLR)
    assert layers(method.projector) == ["8>12", "BatchNorm1d", "ReLU", "12>6", "BatchNorm1d"]
    last = method.projector[-1]
    assert (last.weight.requires_grad, last.bias.requires_grad, last.bias.abs().max().item()) == (True, False, 0.0)
    assert (method.scale, method.temperature) == (2.0, 0.5)
    plain = build_method(tiny("simclr", "model.projector=[12,6]", "model.projector_batch_norm=false"))
    assert isinstance(plain, SimCLR)
    assert layers(plain.projector) == ["8>12", "ReLU", "12>6"]


@pytest.mark.parametrize(
    ("name", "temperature", "widths", "head"),
    [("moco", 0.07, "[6]", ["8>6+"]), ("moco-v2", 0.2, "[12,6]", ["8>12+", "ReLU", "12>6+"])],
)
def test_mocos_heads_have_biases_and_no_batch_norm(name: str, temperature: float, widths: str, head: list[str]) -> None:
    method = build_method(tiny(name, f"model.projector={widths}"))
    assert isinstance(method, MoCo)
    assert layers(method.projector) == head
    assert (method.temperature, method.key_encoder.momentum) == (temperature, 0.999)
    assert tuple(method.queue.rows.shape) == (65536, 6)
    for ours, key in zip((*method.backbone.parameters(), *method.projector.parameters()), method.moving(), strict=True):
        assert torch.equal(ours, key)
        assert ours.requires_grad
        assert not key.requires_grad


def test_a_key_encoder_is_compiled_with_the_networks_that_it_follows() -> None:
    method = build_method(tiny("moco"))
    assert isinstance(method, MoCo)
    compile_networks(method)
    for network in (method.backbone, method.projector, *method.key_encoder.networks):
        assert network._compiled_call_impl is not None


def test_batch_norm_sees_the_groups_of_the_recipe_on_any_number_of_devices() -> None:
    def parts(*overrides: str, size: int = 1) -> tuple[set[int], bool]:
        method = build_method(tiny("moco", *overrides), Context(ranks=Ranks(0, size)))
        assert isinstance(method, MoCo)
        groups = {module.groups for module in method.modules() if isinstance(module, SplitBatchNorm)}
        return groups, method.shuffles

    assert parts() == (set(), False)  # on one device there is nothing to shuffle between
    assert parts(size=2) == (set(), True)
    assert parts("train.sync_batch_norm=true", size=2) == (set(), False)
    assert parts("train.sync_batch_norm=true", "train.sync_batch_norm_ranks=2", size=4) == (set(), True)
    assert parts("objective.batch_norm_groups=4") == ({4}, True)
    assert parts("objective.batch_norm_groups=4", size=2) == ({2}, True)
    assert parts("objective.batch_norm_groups=4", size=4) == (set(), True)


@pytest.mark.parametrize(
    ("overrides", "message", "advice"),
    [
        (["data.drop_last=false"], "MoCo's queue takes whole batches", "--set data.drop_last=true"),
        (["objective.queue=40"], "a queue of 40 entries", "--set objective.queue=32"),
        (
            ["objective.queue=48", "objective.symmetric=true"],
            "whole number of batches of 32",
            "--set objective.queue=32",
        ),
        (["objective.batch_norm_groups=16"], "cannot be cut into so many parts", "--set objective.batch_norm_groups=0"),
        (
            ["objective.batch_norm_groups=4", "train.micro_batch=4"],
            "4 images at a time on 1 device cannot",
            "--set objective.batch_norm_groups=0",
        ),
        (
            ["objective.batch_norm_groups=4", "train.sync_batch_norm=true"],
            "train.sync_batch_norm is true",
            "--set train.sync_batch_norm=false",
        ),
        (["model.predictor=[8]"], "MoCo has no predictor", "--set model.predictor=[]"),
    ],
)
def test_what_moco_refuses_of_a_recipe_and_what_helps(overrides: list[str], message: str, advice: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        build_method(tiny("moco", *overrides))
    assert refused.value.next == advice
    build_method(tiny("moco", *overrides, *advice.removeprefix("--set ").split(" --set ")))


def test_memory_counts_the_key_encoder_the_queue_and_the_copies_that_a_step_keeps() -> None:
    """Weights of both networks; the queue, its pointer and running statistics; two copies of all but the queue."""
    recipe = tiny("moco", "model.projector=[6]", "objective.queue=64")
    method = build_method(recipe)
    memory = footprint(resolve(recipe, torch.device("cpu"), 1, 10_000), method, "fp32")
    trained = 4 * sum(p.numel() for p in (*method.backbone.parameters(), *method.heads()["projector"].parameters()))
    statistics = sum(b.nbytes for b in method.backbone.buffers())
    assert (memory.parameters, memory.gradients, memory.optimizer) == (2 * trained, trained, trained)
    assert memory.buffers == 4 * 64 * 6 + 3 * (8 + 2 * statistics) + 2 * trained
    step = TrainingStep(method, None, to_input=lambda x: x, device=torch.device("cpu"), precision="fp32")
    assert memory.buffers == 4 * 64 * 6 + 3 * sum(t.nbytes for t in step._remember().tensors) - trained


def test_operations_are_counted_of_fewer_images_than_there_are_groups() -> None:
    assert forward_flops(
        tiny("moco", "objective.batch_norm_groups=8", "views.size=16", "eval.resize=16", "eval.crop=16")
    )


def test_a_plan_refuses_the_groups_that_its_ranks_cannot_share() -> None:
    recipe = tiny("moco", "objective.batch_norm_groups=4")
    check_share(recipe, 4)
    with pytest.raises(UserError, match="on 8 devices"):
        check_share(recipe, 8)


def test_groups_that_ranks_cannot_share_are_refused() -> None:
    with pytest.raises(UserError, match="on 3 devices"):
        build_method(tiny("moco", "objective.batch_norm_groups=4"), Context(ranks=Ranks(0, 3)))
