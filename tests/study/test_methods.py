"""Methods beside one another: what of a method's own recipe goes onto a base recipe, and budgets."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from barlowctl.errors import UserError
from barlowctl.recipe import catalog, load
from barlowctl.recipe.schema import Recipe
from barlowctl.study import budget, figure, methods, studies, table
from barlowctl.study.directory import StudyDirectory
from barlowctl.study.study import Study, Variant

OWN = {
    "[objective]\nlambd = 0.04": '[objective]\nname = "supervised"',
    "lr = 0.04": "lr = 0.1",
    "crop_scale = [0.4, 1.0]": "crop_scale = [0.3, 1.0]",
    "size = 20": "size = 24",
    "epochs = 10": "epochs = 12",
    "channels = [16, 32, 96, 192]": "channels = [8, 16, 32, 64]",
}


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Shipped recipes with one of another method, `fashion-mnist-supervised`, that differs in more than its own."""
    folder = tmp_path / "recipes"
    shutil.copytree(catalog.shipped_directory(), folder)
    text = (folder / "fashion-mnist.toml").read_text()
    for before, after in OWN.items():
        assert before in text
        text = text.replace(before, after)
    (folder / "fashion-mnist-supervised.toml").write_text(
        text.replace('"fashion-mnist"\nd', '"fashion-mnist-supervised"\nd')
    )
    monkeypatch.setattr(catalog, "shipped_directory", lambda: folder)
    return "fashion-mnist"


@pytest.fixture
def base() -> Recipe:
    return load.load("quickstart")


def test_a_variant_has_the_methods_own_settings_and_the_bases_images_backbone_and_length(
    family: str, base: Recipe
) -> None:
    recipe = load.override(base, methods.overrides_of("supervised", base, family))
    assert recipe.objective.name == "supervised"
    assert recipe.optimizer.lr == 0.1
    assert recipe.views.first.crop_scale == recipe.views.second.crop_scale == (0.3, 1.0)
    assert (recipe.views.size, recipe.train, recipe.data, recipe.eval) == (20, base.train, base.data, base.eval)
    assert recipe.model == base.model


def test_the_base_recipes_own_method_stays_as_it_is(family: str, base: Recipe) -> None:
    changed = load.override(base, ["optimizer.lr=0.01"])
    assert methods.overrides_of("barlow-twins", changed, family) == ()


def test_a_base_of_another_method_becomes_barlow_twins_with_its_settings(family: str) -> None:
    base = load.load("fashion-mnist-supervised")
    recipe = load.override(base, methods.overrides_of("barlow-twins", base, family))
    reference = load.load("fashion-mnist")
    assert recipe.objective == reference.objective
    assert (recipe.optimizer, recipe.model.projector) == (reference.optimizer, reference.model.projector)
    assert recipe.model.backbone_args == base.model.backbone_args


def test_table_1_has_the_papers_numbers_and_a_baseline(family: str, base: Recipe) -> None:
    study = methods.compare(["supervised"], base, family)
    assert [(variant.name, variant.published[0]) for variant in study.variants] == [
        ("barlow-twins", 73.2),
        ("supervised", 76.5),
    ]
    assert study.baseline == "barlow-twins"


def test_a_figure_has_every_variant_of_each_method_against_its_own_baseline(family: str, base: Recipe) -> None:
    study = methods.across(
        lambda recipe: studies.build("drop-aug", recipe), ["supervised", "barlow-twins"], base, family
    )
    names = [variant.name for variant in study.variants]
    assert names[:2] == ["baseline", "no-grayscale"]
    assert names[5:7] == ["supervised.baseline", "supervised.no-grayscale"]
    last = study.variants[-1]
    assert (last.label, last.group, last.baseline) == ("crop-only", "supervised", "supervised.baseline")
    recipe = load.override(base, last.overrides)
    assert (recipe.objective.name, recipe.views.first.jitter, recipe.views.first.blur) == ("supervised", 0.0, 0.0)


def test_names_and_families_that_are_not_there_are_refused_with_what_is(family: str, base: Recipe) -> None:
    with pytest.raises(UserError, match="no method 'superviced', did you mean 'supervised'") as error:
        methods.parse("barlow-twins,superviced")
    assert "barlow-twins" in (error.value.allowed or "")
    assert methods.parse("supervised, barlow-twins,supervised") == ["supervised", "barlow-twins"]
    assert methods.parse("all") == list(methods.NAMES)
    with pytest.raises(UserError, match="no recipe 'quickstart-supervised'"):
        methods.overrides_of("supervised", base, "quickstart")


# ---- budgets ---------------------------------------------------------------------------------------------


def lengths(study: Study, base: Recipe, images: int) -> list[int]:
    found = []
    for variant in study.variants:
        recipe = load.override(base, variant.overrides)
        found.append(round(recipe.train.epochs * (images // recipe.train.batch_size)))
    return found


def test_a_budget_is_the_same_steps_images_or_cpu_seconds_for_each(base: Recipe) -> None:
    base = load.override(base, ["data.holdout=0", "eval.queries=off"])
    rows = (Variant("one"), Variant("large", ("train.batch_size=256",)))
    study = Study("s", "S", "-", rows, "one")

    def cost(recipe: Recipe) -> float:
        return 0.1 if recipe.train.batch_size == 256 else 0.07

    def limited(text: str) -> Study:
        return budget.limit(study, base, budget.parse(text), 60000, cost)

    assert lengths(limited("steps=1000"), base, 60000) == [1000, 1000]
    assert lengths(limited("images=128000"), base, 60000) == [1000, 500]
    assert lengths(limited("cpu-seconds=70"), base, 60000) == [1000, 700]
    recipe = load.override(base, limited("steps=1000").variants[0].overrides)
    assert recipe.train.warmup_epochs / recipe.train.epochs == pytest.approx(
        base.train.warmup_epochs / base.train.epochs, rel=1e-4
    )
    with pytest.raises(UserError, match="less than one step of 'large', of 256 images"):
        limited("images=127")


@pytest.mark.parametrize(
    ("text", "says"),
    [("hours=3", "--budget 'hours=3'"), ("step=3", "did you mean 'steps'"), ("steps=no", "'no' is no number of steps")],
)
def test_a_budget_that_is_none_is_refused(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        budget.parse(text)
    assert "cpu-seconds=N" in (error.value.allowed or "")


def test_the_cost_of_a_step_is_timed_once_and_kept(
    base: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[str] = []
    monkeypatch.setattr(budget, "time_step", lambda recipe, *rest: timed.append(recipe.name) or 0.25)
    lines: list[str] = []
    for seed in (0, 1):
        costs = budget.StepCosts(tmp_path / "study", None, None, lines.append)  # type: ignore[arg-type]
        assert costs(load.override(base, [f"seed={seed}"])) == 0.25
    assert timed == ["quickstart"]
    assert lines == ["barlow-twins: 0.25 CPU-seconds a step"]


# ---- tables and figures ----------------------------------------------------------------------------------


def test_each_method_is_compared_with_its_own_baseline_and_drawn_as_a_line(
    family: str, base: Recipe, tmp_path: Path
) -> None:
    study = methods.across(
        lambda recipe: studies.build("drop-aug", recipe), ["barlow-twins", "supervised"], base, family
    )
    directory = StudyDirectory(tmp_path, base, (study,), (0, 1))
    levels = {"barlow-twins": 80.0, "supervised": 60.0}
    for cell in directory.cells:
        value = levels[cell.variant.group or ""] - 2.0 * ("crop" in cell.variant.name) + 0.1 * cell.seed
        cell.finish(
            {"measures": {"linear_top1": value, "knn": value - 1.0}, "seconds": {"train": 5.0, "train_cpu": 4.0}}
        )
    rows = {row["variant"]: row for row in table.rows(directory, study)}
    assert rows["supervised.crop-only"]["linear_top1_difference"] == pytest.approx(-2.0)
    assert rows["crop-only"]["linear_top1_difference"] == pytest.approx(-2.0)
    assert rows["supervised.baseline"]["linear_top1_margin"] is None
    header, _ = table.formatted(list(rows.values()))
    assert "CPU seconds" in header
    drawn = figure.plot(study, list(rows.values()), base.name)
    axes = drawn.axes[0]
    ours = [container for container in axes.containers if "linear top-1" in container.get_label()]
    assert [container.get_label().split(",")[0] for container in ours] == ["barlow-twins", "supervised"]
    assert list(ours[1].lines[0].get_xdata()) == [0, 1, 2, 3, 4]
    labels = [text.get_text() for text in axes.get_xticklabels()]
    assert labels == ["baseline", "no-grayscale", "no-color", "crop-and-blur", "crop-only"]
    assert {line.get_label() for line in axes.lines} >= {"BYOL, paper (ImageNet)", "SimCLR, paper (ImageNet)"}
    curve = replace(
        study, form="curve", axis="x", variants=tuple(replace(v, x=2.0 + i % 5) for i, v in enumerate(study.variants))
    )
    drawn = figure.plot(curve, table.rows(StudyDirectory(tmp_path, base, (curve,), (0, 1)), curve), base.name)
    assert len(drawn.axes[0].containers) == 2


def test_small_views_are_compared_beside_two_views(base: Recipe) -> None:
    study = methods.compare(["multicrop-barlow-twins"], base, "fashion-mnist")
    assert [variant.name for variant in study.variants] == ["barlow-twins", "multicrop-barlow-twins"]
    recipe = load.override(base, study.variants[1].overrides)
    assert recipe.objective.name == "barlow-twins"
    assert recipe.views.small == load.load("fashion-mnist-multicrop-barlow-twins").views.small
    assert recipe.views.small.count > 0
