"""Runs that differ in their seed alone: which are taken together, and what is measured of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from barlowctl.errors import UserError
from barlowctl.recipe import load
from barlowctl.runs import history
from barlowctl.study.seed_groups import Group, Measure, grouped, measures_of


def make(
    folder: Path,
    name: str,
    *overrides: str,
    knn: float = 50.0,
    finished: bool = True,
    images: str = "a" * 12,
    sha256: str = "",
) -> history.History:
    """A run of 20 steps as its files tell it."""
    recipe = load.load("quickstart", overrides)
    run = folder / name
    (run / "checkpoints" / "step-00000020").mkdir(parents=True)
    (run / "recipe.toml").write_text(load.dump(recipe))
    about = {"recipe": recipe.model_dump(mode="json"), "data": {"fingerprint": {"images": 9, "digest": images}}}
    if sha256:
        about["network"] = {"name": recipe.model.backbone, "module": "mine", "file": "mine.py", "sha256": sha256}
    (run / "run.json").write_text(json.dumps(about))
    records = [
        {"event": "evaluation", "step": step, "epoch": 1, "knn": value} for step, value in ((10, 1.0), (20, knn))
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    if finished:
        (run / "result.json").write_text(json.dumps({"finished": "2026-11-30", "steps": 20}))
    return history.read(run)


def probed(run: history.History, value: float | None, *, step: int = 20, data: str = "digits", **identity: Any) -> None:
    result = {"step": step, "name": data, "identity": identity, "linear": {"top1": value}, "knn": {"top1": 1.0}}
    (run.path / f"probe-{data}.json").write_text(json.dumps(result))


def by_label(groups: list[Group]) -> dict[str, Group]:
    return {group.label: group for group in groups}


def test_a_group_is_of_one_recipe_and_has_mean_and_deviation_over_its_seeds(tmp_path: Path) -> None:
    runs = [
        make(tmp_path, f"a-s{seed}", f"seed={seed}", knn=value) for seed, value in ((2, 53.0), (0, 50.0), (1, 54.0))
    ]
    other = make(tmp_path, "b-s0", "objective.lambd=0.5", "name=other", knn=40.0)
    groups, notes = grouped([*runs, other])
    assert notes == []
    a, b = groups
    assert [run.name for run in a.runs] == ["a-s0", "a-s1", "a-s2"]
    knn = Measure("online", "knn")
    assert a.mean(knn) == pytest.approx(157 / 3)
    assert a.deviation(knn) == pytest.approx((13 / 3) ** 0.5)
    assert (b.mean(knn), b.deviation(knn)) == (40.0, None)
    assert (a.label, b.label) == ("a", "b-s0")
    assert a.settings.keys() == b.settings.keys() == {"objective.lambd"}
    assert b.settings["objective.lambd"] == 0.5


def test_settings_are_those_of_which_two_groups_that_have_them_differ(tmp_path: Path) -> None:
    runs = [
        make(tmp_path, "a"),
        make(tmp_path, "b", "objective.lambd=0.5"),
        make(tmp_path, "c", "objective.name=simclr"),
        make(tmp_path, "d", images="b" * 12),
    ]
    groups = by_label(grouped(runs)[0])
    assert list(groups["b"].settings) == ["objective.name", "objective.lambd", "images"]
    assert groups["c"].settings == {"objective.name": "simclr", "images": "a" * 8}  # its temperature is nobody else's
    assert groups["d"].settings["images"] == "b" * 8


def test_runs_of_another_version_of_somebodys_code_are_another_group(tmp_path: Path) -> None:
    """Of one recipe, whose mean would be of two methods."""
    runs = [make(tmp_path, f"a-s{seed}", f"seed={seed}", sha256="a" * 64) for seed in (0, 1)]
    assert not grouped(runs)[0][0].settings
    runs += [make(tmp_path, "b-s2", "seed=2", sha256="b" * 64), make(tmp_path, "c", "model.backbone=resnet50")]
    groups, notes = grouped(runs)
    assert ([len(group.runs) for group in groups], notes) == ([2, 1, 1], [])
    assert [group.settings.get("own code") for group in groups] == ["a" * 8, "b" * 8, None]


def test_what_would_bend_a_mean_is_left_out_and_said(tmp_path: Path) -> None:
    first = make(tmp_path, "first", knn=50.0)
    again = make(tmp_path, "again", knn=90.0)
    stopped = make(tmp_path, "stopped", "seed=1", knn=90.0, finished=False)
    probed(first, 99.0, step=10)
    (group,), notes = grouped([first, again, stopped])
    assert group.values == {Measure("online", "knn"): [50.0]}
    assert notes == [
        "again is left out: first is the same recipe with the same seed",
        "stopped is left out: stopped at step 20",
        "first: probe-digits.json is left out: of step 10, not 20",
    ]
    with pytest.raises(UserError, match="no run of these is finished"):
        grouped([stopped])


def test_accuracies_of_probe_and_transfer_are_measures_and_what_is_not_reported_is_none(tmp_path: Path) -> None:
    run, other = make(tmp_path, "s0"), make(tmp_path, "s1", "seed=1")
    probed(run, 80.0)
    probed(other, None)
    (run.path / "transfer-voc07.json").write_text(json.dumps({"task": "voc07", "name": "voc", "value": 44.5}))
    ((group,), _) = grouped([run, other])
    values = {measure.key: value for measure, value in group.values.items()}
    assert values == {"knn": [50.0, 50.0], "probe.knn": [1.0, 1.0], "probe.linear": [80.0], "transfer.voc07": [44.5]}


def test_numbers_that_were_measured_in_different_ways_are_not_averaged(tmp_path: Path) -> None:
    run, other = make(tmp_path, "s0"), make(tmp_path, "s1", "seed=1")
    probed(run, 80.0, protocol={"epochs": 1})
    probed(other, 90.0, protocol={"epochs": 2})
    (groups, _) = grouped([run, other])
    linear = [measure for measure in measures_of(groups) if measure.key == "probe.linear"]
    assert [groups[0].mean(measure) for measure in linear] == [80.0, 90.0]


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (["bt-s0", "bt-s1"], "bt"),
        (["bt_seed_0", "bt_seed_1"], "bt"),
        (["classes-0", "classes-1"], "classes"),
        (["quickstart-20261125-101500", "quickstart-20261125-112000"], "quickstart"),
        (["0", "1"], "quickstart"),
    ],
)
def test_a_group_is_called_what_the_names_of_its_runs_share(tmp_path: Path, names: list[str], label: str) -> None:
    runs = [make(tmp_path, name, f"seed={seed}") for seed, name in enumerate(names)]
    assert grouped(runs)[0][0].label == label
