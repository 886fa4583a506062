"""Views and schedules as the first lines of a run say them."""

from __future__ import annotations

import pytest
import torch

from barlowctl.assemble import machine
from barlowctl.assemble.first_lines import describe_device, describe_ranks, describe_schedule, describe_views
from barlowctl.assemble.machine import Runtime
from barlowctl.assemble.precision import Precision
from barlowctl.assemble.resolve import resolve
from barlowctl.errors import UserError
from barlowctl.recipe import load


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ([], "2 of 28 pixels"),
        (["views.small.count=6", "views.small.size=16"], "2 of 28 pixels, 6 of 16 pixels"),
        (["objective.name=supervised"], "1 of 28 pixels"),
        (
            ["objective.name=pirl", "views.patches.cell=12", "views.patches.window=9"],
            "1 of 28 pixels, 9 patches of 9 pixels",
        ),
    ],
)
def test_views(changes: list[str], says: str) -> None:
    assert describe_views(load.load("fashion-mnist", ["views.size=28", *changes])) == says


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["train.warmup_epochs=1"], "warm-up of 1 epoch, then cosine to 0.001 of the peak"),
        (["train.warmup_epochs=10"], "warm-up of 10 epochs, then cosine to 0.001 of the peak"),
        (
            ["train.warmup_epochs=0", "train.schedule_every=epoch", "train.final_lr_scale=0"],
            "cosine once an epoch to 0 of the peak",
        ),
        (
            ["train.schedule=step", "train.milestones=[120,160]", "train.warmup_epochs=0"],
            "times 0.1 after epochs 120, 160",
        ),
        (
            ["train.schedule=constant", "train.warmup_epochs=2", "train.warmup_start_scale=0.0625"],
            "warm-up of 2 epochs from 0.0625 of the peak, then constant",
        ),
    ],
)
def test_schedules(changes: list[str], says: str) -> None:
    assert describe_schedule(load.load("resnet50", changes)) == says


def ranks_of(ranks: int, *changes: str) -> str:
    recipe = load.load("fashion-mnist", ["train.batch_size=192", *changes])
    return describe_ranks(resolve(recipe, torch.device("cpu"), 1, 10_000, ranks=ranks))["ranks"]


@pytest.mark.parametrize(
    ("ranks", "size", "says"),
    [(8, 4, "over groups of 4 ranks"), (8, 8, "over all ranks"), (4, 8, "over all ranks"), (8, 0, "over all ranks")],
)
def test_batch_norm_over_groups_of_ranks(ranks: int, size: int, says: str) -> None:
    changes = ("train.sync_batch_norm=true", f"train.sync_batch_norm_ranks={size}")
    assert ranks_of(ranks, *changes) == f"{ranks}, {192 // ranks} images each; batch norm {says}"


def test_groups_of_ranks_that_do_not_come_out_even_are_refused() -> None:
    with pytest.raises(UserError, match="sync_batch_norm_ranks is 4, and 6 ranks cannot be cut") as refused:
        ranks_of(6, "train.sync_batch_norm=true", "train.sync_batch_norm_ranks=4")
    assert refused.value.allowed == "0 (over all ranks), 2, 3, 6"
    assert refused.value.next == "--set train.sync_batch_norm_ranks=3"
    with pytest.raises(UserError, match="sync_batch_norm_ranks is 4, and sync_batch_norm is false"):
        ranks_of(8, "train.sync_batch_norm=false", "train.sync_batch_norm_ranks=4")


@pytest.mark.parametrize(
    ("of_the_recipe", "device"), [(0, "cpu, 2 threads (OMP_NUM_THREADS), "), (2, "cpu, 2 threads, ")]
)
def test_a_variable_that_leaves_cores_without_work_is_named(
    monkeypatch: pytest.MonkeyPatch, of_the_recipe: int, device: str
) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    recipe = load.load("resnet50", [f"train.cpu_threads={of_the_recipe}"])
    resolved = resolve(recipe, torch.device("cpu"), 2, 10_000, None)
    assert describe_device(resolved, Runtime(), Precision("fp32", "fp32")) == f"{device}fp32"
