"""Images that are held out as queries: none of them, or too many, are refused with what fits the images there are."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

from barlowctl.assemble.data import open_images
from barlowctl.assemble.holdout import check_holdout, count, held_out, whole_groups
from barlowctl.data.beton.pack import pack
from barlowctl.data.sources import open_source
from barlowctl.errors import UserError
from barlowctl.recipe import load
from barlowctl.recipe.caution import cautions
from barlowctl.recipe.schema import Recipe
from tests.data.sources.test_hold_out import of_parquet
from tests.data.sources.test_sources import picture


def recipe_of(*overrides: str) -> Recipe:
    """The quickstart's, whose queries are held out."""
    return load.load("quickstart", ["train.batch_size=16", *overrides])


def changes(error: UserError) -> list[list[str]]:
    """What each line of the advice sets."""
    assert error.next is not None
    return [[word for word in shlex.split(line) if word != "--set"] for line in error.next.splitlines()]


def test_queries_of_none_are_refused_with_a_share_of_the_images_or_without_queries() -> None:
    recipe = recipe_of("data.holdout=0", "eval.linear=true", "train.keep_best=knn", "train.stop=alpha")
    with pytest.raises(UserError, match=r"^data\.holdout is 0, and eval\.queries is 'holdout'") as refused:
        check_holdout(80, recipe)
    some, none = changes(refused.value)
    assert some == ["data.holdout=8"]
    assert none == ["eval.queries=off", "eval.linear=false", "train.keep_best=off"]
    for change in (some, none):
        check_holdout(80, load.override(recipe, change))


def test_where_no_image_can_be_spared_there_are_no_queries() -> None:
    with pytest.raises(UserError) as refused:
        check_holdout(16, recipe_of("data.holdout=0"))
    assert changes(refused.value) == [["eval.queries=off"]]


def test_none_are_held_out_where_nothing_asks_about_them() -> None:
    check_holdout(80, recipe_of("data.holdout=0", "eval.queries=off"))
    check_holdout(80, recipe_of("data.holdout=8"))


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    """Twelve patients with one to three pictures each, 24 in all, of two classes."""
    for patient in range(12):
        for number in range(patient % 3 + 1):
            picture(tmp_path / f"cases/{'ab'[number % 2]}/patient{patient:02}_{number}.png")
    return tmp_path / "cases"


@pytest.mark.parametrize("seed", range(5))
def test_images_of_a_group_are_on_one_side(patients: Path, seed: int) -> None:
    source = open_images(str(patients))
    recipe = recipe_of("data.holdout=6", "data.holdout_groups=(patient[0-9]+)_", f"seed={seed}")
    train, held = held_out(source, recipe)
    assert sorted([*train, *held]) == list(range(24))
    of_train, of_held = ({source.name_of(row)[2:11] for row in rows} for rows in (train, held))
    assert not of_train & of_held
    assert len(of_train | of_held) == 12
    assert abs(len(held) - 6) <= 1
    assert count(source, 24, recipe) == (24, len(held))
    assert f"held out: {len(of_held)} of 12 groups, {len(held)} images" in source.scan_report.notes
    assert (np.diff(train) > 0).all()
    assert (np.diff(held) > 0).all()


def test_packed_rows_have_no_names_that_could_group_them(tmp_path: Path) -> None:
    of_parquet(tmp_path / "scans")
    pack(open_source(tmp_path / "scans"), tmp_path / "scans.beton")
    source = open_images(str(tmp_path / "scans.beton"))
    with pytest.raises(UserError, match=r"a part of names, .* have none: the first is row \d+$") as error:
        held_out(source, recipe_of("data.holdout=6", "data.holdout_groups=[0-9]+"))
    assert error.value.allowed is not None
    assert "`barlowctl data pack --hold-out 20 --groups-column COLUMN`" in error.value.allowed
    assert error.value.next == "--set data.holdout_groups="


def test_other_seeds_hold_out_other_groups(patients: Path) -> None:
    source = open_images(str(patients))
    changes = ["data.holdout=6", "data.holdout_groups=patient[0-9]+"]
    drawn = [held_out(source, recipe_of(*changes, f"seed={seed}"))[1].tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    ("sizes", "goal", "held"),
    [
        ([1] * 10, 4, {4}),
        ([5, 5], 1, {5}),  # none is nearer than no image at all: the smallest
        ([5, 3, 9], 1, {3}),
        ([3, 3], 100, {3}),  # one stays
        ([40, 2, 2, 2], 4, {4}),  # the large one is passed over
    ],
)
def test_whole_groups_come_near_the_number(sizes: list[int], goal: int, held: set[int]) -> None:
    for seed in range(10):
        chosen = whole_groups(np.array(sizes), goal, np.random.default_rng(seed))
        assert int(np.array(sizes)[chosen].sum()) in held


def test_without_groups_the_draw_is_what_it_was(patients: Path) -> None:
    source = open_images(str(patients))
    train, held = held_out(source, recipe_of("data.holdout=6", "seed=3"))
    order = np.random.Generator(np.random.Philox(key=3)).permutation(24)
    assert (train.tolist(), held.tolist()) == (sorted(order[6:]), sorted(order[:6]))
    assert load.digest(recipe_of("data.holdout=6")) != load.digest(recipe_of("data.holdout=6", "data.holdout_groups=a"))


def test_groups_that_leave_less_than_a_batch_are_answered_with_a_smaller_one() -> None:
    recipe = recipe_of("data.holdout=8", "data.holdout_groups=a")
    check_holdout(40, recipe, 20)
    with pytest.raises(UserError, match=r"^data\.holdout is 8 \(30 in whole groups\) of 40 images") as refused:
        check_holdout(40, recipe, 30)
    assert changes(refused.value) == [["train.batch_size=5"]]


def test_groups_of_nothing_are_noted() -> None:
    assert cautions(recipe_of("data.holdout=8", "data.holdout_groups=a")) == []
    (caution,) = cautions(recipe_of("data.holdout=0", "eval.queries=off", "data.holdout_groups=a"))
    assert caution.startswith("data.holdout_groups changes nothing where data.holdout is 0; --set data.holdout=")
