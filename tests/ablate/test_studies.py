"""The paper's studies as values, and the runner: finished cells stay, killed ones are run again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from barlowctl.ablate import runner, studies
from barlowctl.errors import UserError
from barlowctl.recipe import load

BASE = load.load("resnet50-300ep")


def all_studies() -> list[studies.Study]:
    return [
        studies.loss(),
        studies.asymmetry(BASE.model.projector),
        studies.drop_augmentations(),
        studies.batch_size("lars"),
        studies.projector(3),
        studies.depth(8192),
        studies.lambd(),
    ]


@pytest.mark.parametrize("study", all_studies(), ids=lambda study: study.name)
def test_every_variant_is_a_valid_recipe_and_no_two_are_the_same(study: studies.Study) -> None:
    recipes = [load.override(BASE, variant.overrides) for variant in study.variants]
    digests = {load.digest(recipe) for recipe in recipes}
    assert len(digests) == len(recipes)


def test_published_numbers_are_the_papers() -> None:
    table5 = {variant.name: variant.published for variant in studies.loss().variants}
    assert table5 == {
        "baseline": (71.4, 90.2),
        "only-invariance": (57.3, 80.5),
        "only-redundancy": (0.1, 0.5),
        "feature-normalization": (69.8, 88.8),
        "no-bn-in-mlp": (71.2, 89.7),
        "no-bn-no-normalization": (53.4, 76.7),
        "cross-entropy": (63.3, 85.7),
    }
    table6 = [variant.published for variant in studies.asymmetry((8192,)).variants]
    assert table6 == [(71.4, 90.2), (70.5, 89.0), (70.2, 89.0), (61.3, 83.5)]


def test_figure_3_removes_one_distortion_after_another() -> None:
    steps = [load.override(BASE, variant.overrides).views for variant in studies.drop_augmentations().variants]
    for view in ("first", "second"):
        probabilities = [
            (v.grayscale, v.jitter, v.solarize, v.flip, v.blur) for v in (getattr(step, view) for step in steps)
        ]
        full = probabilities[0]
        assert probabilities[1] == (0, *full[1:])
        assert probabilities[2] == (0, 0, *full[2:])
        assert probabilities[3] == (0, 0, 0, 0, full[4])
        assert probabilities[4] == (0, 0, 0, 0, 0)


def test_figure_2_pairs_batch_sizes_with_the_papers_rates() -> None:
    variants = studies.batch_size("lars").variants
    recipes = [load.override(BASE, variant.overrides) for variant in variants]
    rates = {recipe.train.batch_size: recipe.optimizer.lr for recipe in recipes}
    assert rates == {128: 0.7, 256: 0.4, 512: 0.3, 1024: 0.25, 2048: 0.2, 4096: 0.2}
    other = studies.batch_size("adamw").variants[0]
    assert load.override(BASE, other.overrides).optimizer.lr == BASE.optimizer.lr


def test_a_grid_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'title = "Crops"\n[baseline]\n[small]\n"views.first.crop_scale" = [0.08, 0.5]\n'
        '[small.optimizer]\nname = "sgd"\n'
    )
    study = studies.grid(file)
    assert study.title == "Crops"
    recipe = load.override(BASE, study.variants[1].overrides)
    assert recipe.views.first.crop_scale == (0.08, 0.5)
    assert recipe.optimizer.name == "sgd"
    for text, says in (("x = 1\n", "not a variant"), ("", "no variants"), ("[a\n", "not valid TOML")):
        file.write_text(text)
        with pytest.raises(UserError, match=says):
            studies.grid(file)
    with pytest.raises(UserError, match="cannot be read"):
        studies.grid(tmp_path / "none.toml")


class Cells:
    """Stands in for training: accuracy from variant and seed, and a record of what was run."""

    def __init__(self, dies_at: tuple[str, int] | None = None) -> None:
        self.ran: list[tuple[str, int]] = []
        self.dies_at = dies_at

    def __call__(self, variant: studies.Variant, seed: int, path: Path) -> Mapping[str, float]:
        self.ran.append((variant.name, seed))
        path.mkdir(parents=True, exist_ok=True)
        if (variant.name, seed) == self.dies_at:
            raise KeyboardInterrupt
        return {"knn": len(variant.name) + 2.0 * seed, "linear_top1": 50.0 + seed}


def run_all(cells: list[runner.Cell], run_cell: Cells) -> None:
    for cell in cells:
        runner.run_once(cell, run_cell)


def test_a_killed_study_goes_on_where_it_was(tmp_path: Path) -> None:
    study = studies.asymmetry((64,))
    cells = runner.cells(study, range(2), tmp_path)
    assert len(cells) == 8
    first = Cells(dies_at=("stop-gradient", 1))
    with pytest.raises(KeyboardInterrupt):
        run_all(cells, first)
    second = Cells()
    run_all(cells, second)
    assert second.ran[0] == ("stop-gradient", 1)
    assert sorted(first.ran[:-1] + second.ran) == sorted((v.name, seed) for v in study.variants for seed in (0, 1))
    third = Cells()
    run_all(cells, third)
    assert third.ran == []


def test_the_table_has_mean_spread_and_difference(tmp_path: Path) -> None:
    study = studies.asymmetry((64,))
    cells = runner.cells(study, range(3), tmp_path)
    run_all(cells, Cells())
    rows = runner.table(study, cells)
    baseline, stop = rows[0], rows[1]
    assert baseline["knn"] == pytest.approx(len("baseline") + 2.0)
    assert baseline["knn_std"] == pytest.approx(2.0)  # sample standard deviation of 0, 2, 4
    assert stop["knn_difference"] == pytest.approx(len("stop-gradient") - len("baseline"))
    assert (stop["published_top1"], stop["published_top5"]) == (70.5, 89.0)
    runner.write_table(tmp_path / "table.json", study, "digits", rows)
    assert json.loads((tmp_path / "table.json").read_text())["rows"] == rows


def test_a_directory_holds_one_study(tmp_path: Path) -> None:
    runner.check_same_study(studies.loss(), "abc", tmp_path / "s")
    runner.check_same_study(studies.loss(), "abc", tmp_path / "s")
    with pytest.raises(UserError, match="recipe_digest"):
        runner.check_same_study(studies.loss(), "abd", tmp_path / "s")
    with pytest.raises(UserError, match="study"):
        runner.check_same_study(studies.lambd(), "abc", tmp_path / "s")
