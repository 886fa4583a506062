"""Recipes that take more memory than there is are refused by the key that is to blame, with one that works."""

from __future__ import annotations

import pytest
import torch

from barlowctl import memory
from barlowctl.assemble.first_lines import describe
from barlowctl.assemble.machine import Runtime
from barlowctl.assemble.memory import check_step, less_memory, may_be_too_large
from barlowctl.assemble.model import build_method
from barlowctl.assemble.plan import check_memory, footprint, plan, rows_of
from barlowctl.assemble.resolve import resolve
from barlowctl.errors import UserError
from barlowctl.model import Footprint
from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe
from tests.short_timings import short_timings  # noqa: F401 - a fixture

GIB = 2**30


def recipe_of(*overrides: str) -> Recipe:
    """The quickstart's, with a small projector."""
    return load.load("quickstart", ["model.projector=[32,16]", *overrides])


@pytest.mark.parametrize(
    ("overrides", "blamed", "change"),
    [
        (["objective.name=swav", "objective.prototypes=2147483647"], "objective.prototypes is 2147483647", "3000"),
        (["objective.name=swav", "objective.queue=2147483647"], "objective.queue is 2147483647", "0"),
        (["objective.name=moco", "objective.queue=2147483520"], "objective.queue is 2147483520", "65536"),
        (["model.projector=[2147483647,2147483647]"], "model.projector is", "[8192,8192,8192]"),
        (["model.predictor=[1000000000]"], "model.predictor is", "[]"),
        (["objective.name=pirl", "model.projector=[10000000]"], "model.projector is", "[8192,8192,8192]"),
    ],
)
def test_networks_that_no_memory_holds_are_refused_before_they_are_drawn(
    overrides: list[str], blamed: str, change: str
) -> None:
    recipe = recipe_of(*overrides)
    state = torch.get_rng_state()
    with pytest.raises(UserError, match=r"this machine has .* of memory") as refused:
        build_method(recipe)
    assert refused.value.message.startswith(blamed)
    key = blamed.partition(" ")[0]
    assert refused.value.next is not None
    assert refused.value.next.replace("'", "") == f"--set {key}={change}"
    load.override(recipe, [f"{key}={change}"])
    assert torch.equal(torch.get_rng_state(), state)


def test_the_check_of_networks_draws_nothing() -> None:
    recipe = recipe_of("objective.name=pirl")
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    build_method(recipe)
    assert torch.equal(torch.rand(3), expected)


def of_step(activations: float, rest: float = 0.0) -> Footprint:
    """An estimate, in GiB."""
    return Footprint(parameters=int(rest * GIB), gradients=0, optimizer=0, activations=int(activations * GIB))


def test_a_step_that_no_memory_holds_is_refused_with_as_many_images_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "total", lambda: 10 * GIB)
    recipe = recipe_of("train.batch_size=1024")
    check_step(recipe, of_step(19.0), 1024)
    with pytest.raises(
        UserError, match="a step of 1,024 images at a time takes about 40 GiB, 20 GiB at the least"
    ) as error:
        check_step(recipe, of_step(40.0), 1024)
    assert error.value.next == "--set train.micro_batch=256\n--set train.activation_checkpointing=true"
    with pytest.raises(UserError):
        check_step(recipe, of_step(19.0), 1024, processes=2)  # each has its own


def test_weights_that_leave_no_room_are_no_matter_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "total", lambda: 10 * GIB)
    with pytest.raises(UserError) as error:
        check_step(recipe_of(), of_step(0.1, rest=11.0), 128)
    assert error.value.next is not None
    assert "model.backbone" in error.value.next
    swav = recipe_of("objective.name=swav", "objective.queue=1000000")
    with pytest.raises(UserError, match=r"objective\.queue is 1000000") as error:
        check_step(swav, of_step(0.1), 128)
    assert error.value.next == "--set objective.queue=0"
    patches = ("views.patches.grid=3", "views.patches.cell=10", "views.patches.window=8")
    wide = ("objective.name=pirl", "objective.negatives=1048576", "model.projector=[2048]", *patches)
    with pytest.raises(UserError, match=r"objective\.negatives is 1048576: a step .* takes about 10 GiB") as error:
        check_step(recipe_of(*wide), of_step(0.1, rest=2.0), 128)
    assert error.value.next == "--set objective.negatives=32000"


def test_what_ran_out_in_a_step_is_answered_by_what_is_large() -> None:
    assert less_memory(recipe_of("objective.name=swav", "objective.queue=1000000")) == "--set objective.queue=0"
    assert less_memory(recipe_of("train.micro_batch=64")).startswith("--set train.micro_batch=32\n")
    assert less_memory(recipe_of("train.batch_size=6")).startswith("--set train.batch_size=4\n")


@pytest.mark.parametrize(
    "backbone", ["resnet26", pytest.param("densenet121", marks=pytest.mark.slow), "vit_tiny_patch16_224"]
)
def test_what_is_let_through_without_an_estimate_would_not_be_refused(
    backbone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides = ["views.size=32", "eval.resize=32", "eval.crop=32"]
    if backbone.startswith("vit"):
        sides.append("model.image_size=32")
    recipe = recipe_of(f"model.backbone={backbone}", "model.backbone_args={}", "model.stem=default", *sides)
    resolved = resolve(recipe, torch.device("cpu"), 1, 60000)
    method = build_method(recipe)
    estimate = footprint(resolved, method, "fp32")
    pixels = 128 * sum(size**2 for size in recipe.sizes)
    rooms = [estimate.total * share // 8 for share in range(1, 80)]
    answers = []
    for room in rooms:
        monkeypatch.setattr(memory, "total", lambda room=room: room)
        answers.append(may_be_too_large(recipe, method, pixels))
        if not answers[-1]:
            check_step(recipe, estimate, 128)
    assert set(answers) == {True, False}


def test_a_run_on_the_cpu_is_checked_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_of("train.batch_size=50000", "data.holdout=0", "eval.queries=off")
    resolved = resolve(recipe, torch.device("cpu"), 1, 60000)
    method = build_method(recipe)
    monkeypatch.setattr(memory, "total", lambda: 8 * GIB)
    with pytest.raises(UserError, match="a step of 50,000 images at a time takes") as error:
        check_memory(resolved, method, "fp32")
    assert error.value.next is not None
    change = error.value.next.splitlines()[0].removeprefix("--set ")
    fits = resolve(load.override(recipe, [change]), torch.device("cpu"), 1, 60000)
    check_memory(fits, method, "fp32")


def test_a_warm_up_that_ends_after_the_last_step_is_refused() -> None:
    lengths = ["train.epochs=0.5", "train.warmup_epochs=0.5", "train.batch_size=16"]
    recipe = recipe_of(*lengths, "data.holdout=0", "eval.queries=off")
    with pytest.raises(UserError, match=r"0\.5 epochs is 2\.5 steps, and 0\.5 epochs of 5 steps are 2") as error:
        resolve(recipe, torch.device("cpu"), 1, 80)
    assert error.value.next is not None
    resolve(load.override(recipe, [error.value.next.removeprefix("--set ")]), torch.device("cpu"), 1, 80)
    resolve(recipe, torch.device("cpu"), 1, 64)  # 4 steps: both are 2


def test_a_plan_may_be_for_a_larger_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """`pretrain --recipe resnet50 --dry-run` on a laptop."""
    recipe, here = recipe_of("train.batch_size=4096"), Runtime(device="cpu", threads=1)
    assert "this machine" not in plan(recipe, here)["facts"]
    monkeypatch.setattr(memory, "total", lambda: GIB // 8)
    planned = plan(recipe, here)
    assert planned["memory"]["total"] > GIB // 8
    assert "does not hold the run as it is: a step of 4,096 images" in planned["facts"]["this machine"]
    assert "--set train.micro_batch=" in planned["facts"]["this machine"]


def test_a_batch_of_more_images_than_there_are_is_planned_as_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """2,048 of 60,000 images in 60,000, in 1,000 and in 400 of 8 ranks: what a step has, and what the plan says."""
    recipe = recipe_of("data.drop_last=false", "train.batch_size=2048", "train.epochs=3", "data.holdout=0",
                       "eval.queries=off")  # fmt: skip
    many, few = (resolve(recipe, torch.device("cpu"), 1, images) for images in (60_000, 1_000))
    assert (many.batch, rows_of(many), many.images_seen) == (2048, 2048, 180_000)
    assert (few.batch, rows_of(few), few.images_seen) == (1000, 1000, 3000)
    assert rows_of(resolve(recipe, torch.device("cpu"), 1, 403, ranks=8)) == 51  # of 50.4 on average
    method = build_method(recipe)
    activations = [footprint(resolved, method, "fp32").activations for resolved in (many, few)]
    assert activations[1] / activations[0] == pytest.approx(1000 / 2048, rel=0.1)
    assert "batch" not in describe(many, method)
    lines = describe(few, method)
    assert "at batch 1000 and" in lines["objective"]
    assert (
        lines["batch"]
        == "a step has all 1,000 images, fewer than train.batch_size, 2,048, which the learning rates are for"
    )
    monkeypatch.setattr(memory, "total", lambda: GIB // 8)
    with pytest.raises(UserError, match="a step of 1,000 images at a time takes"):
        check_memory(few, method, "fp32")


def test_a_plan_says_where_the_estimate_alone_is_more_than_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """30 GiB a step were planned on a machine of 24, of which nothing was said."""
    recipe, here = recipe_of("train.batch_size=4096"), Runtime(device="cpu", threads=1)
    estimate = plan(recipe, here)["memory"]["total"]
    monkeypatch.setattr(memory, "total", lambda: estimate)
    assert "this machine" not in plan(recipe, here)["facts"]
    monkeypatch.setattr(memory, "total", lambda: estimate * 3 // 4)
    line = plan(recipe, here)["facts"]["this machine"]
    assert "which may be too little for a step; --set train.micro_batch=3072 or " in line
