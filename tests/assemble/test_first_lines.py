"""Views and schedules as the first lines of a run say them."""

from __future__ import annotations

import pytest

from barlowctl.assemble.first_lines import describe_schedule, describe_views
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
