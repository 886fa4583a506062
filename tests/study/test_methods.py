"""Methods beside one another: what of a method's own recipe goes onto a base recipe, and budgets."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from barlowctl.errors import UserError
from barlowctl.eval import published
from barlowctl.recipe import catalog, load, objectives
from barlowctl.recipe.schema import Recipe
from barlowctl.study import budget, figure, methods, studies, table
from barlowctl.study.directory import StudyDirectory
from barlowctl.study.family import NAMES, Family
from barlowctl.study.length import at_length
from barlowctl.study.study import Study
from barlowctl.study.variant import Variant

OWN = {
    "[objective]\nlambd = 0.04": '[objective]\nname = "supervised"',
    "lr = 0.04": "lr = 0.1",
    "crop_scale = [0.4, 1.0]": "crop_scale = [0.3, 1.0]",
    "size = 20": "size = 24",
    "epochs = 10": "epochs = 12",
    "channels = [16, 32, 96, 192]": "channels = [8, 16, 32, 64]",
}


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
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
    return Family("fashion-mnist")


def overrides_of(name: str, base: Recipe, family: Family) -> tuple[str, ...]:
    settings = methods.settings_of(name, base, family)
    return settings.overrides if settings else ()


@pytest.fixture
def base() -> Recipe:
    return load.load("quickstart")


def test_a_variant_has_the_methods_own_settings_and_the_bases_images_backbone_and_length(
    family: Family, base: Recipe
) -> None:
    recipe = load.override(base, overrides_of("supervised", base, family))
    assert recipe.objective.name == "supervised"
    assert recipe.optimizer.lr == 0.1
    assert recipe.views.first.crop_scale == recipe.views.second.crop_scale == (0.3, 1.0)
    assert (recipe.views.size, recipe.train, recipe.data, recipe.eval) == (20, base.train, base.data, base.eval)
    assert recipe.model == base.model


def test_the_base_recipes_own_method_stays_as_it_is(family: Family, base: Recipe) -> None:
    changed = load.override(base, ["optimizer.lr=0.01"])
    assert overrides_of("barlow-twins", changed, family) == ()


def test_a_base_of_another_method_becomes_barlow_twins_with_its_settings(family: Family) -> None:
    base = load.load("fashion-mnist-supervised")
    recipe = load.override(base, overrides_of("barlow-twins", base, family))
    reference = load.load("fashion-mnist")
    assert recipe.objective == reference.objective
    assert (recipe.optimizer, recipe.model.projector) == (reference.optimizer, reference.model.projector)
    assert recipe.model.backbone_args == base.model.backbone_args


def test_table_1_has_the_papers_numbers_and_a_baseline(family: Family, base: Recipe) -> None:
    study = methods.compare(["supervised"], base, family)
    assert [(variant.name, variant.published[0]) for variant in study.variants] == [
        ("barlow-twins", 73.2),
        ("supervised", 76.5),
    ]
    assert study.baseline == "barlow-twins"


def test_a_figure_has_every_variant_of_each_method_against_its_own_baseline(family: Family, base: Recipe) -> None:
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


def test_names_and_families_that_are_not_there_are_refused_with_what_is(family: Family, base: Recipe) -> None:
    with pytest.raises(UserError, match="no method 'superviced', did you mean 'supervised'") as error:
        methods.parse("barlow-twins,superviced", family)
    assert "barlow-twins" in (error.value.allowed or "")
    assert methods.parse("supervised, barlow-twins,supervised", family) == ["supervised", "barlow-twins"]
    assert methods.parse("all", family) == family.names
    assert {"barlow-twins", "supervised", "swav", "multicrop-barlow-twins"} <= set(family.names)
    assert set(family.names) <= set(NAMES)
    with pytest.raises(UserError, match="no recipes 'quickstart-METHOD'"):
        overrides_of("supervised", base, Family("quickstart"))


def test_settings_of_a_folder_are_all_that_is_a_methods_own(tmp_path: Path, base: Recipe) -> None:
    catalog.copy("fashion-mnist-simsiam", tmp_path / "simsiam.toml")
    own = load.load("fashion-mnist-simsiam")
    recipe = load.override(base, overrides_of("simsiam", base, Family(str(tmp_path))))
    assert (recipe.objective, recipe.optimizer, recipe.views.first) == (own.objective, own.optimizer, own.views.first)
    assert recipe.model.projector == own.model.projector
    assert (recipe.train.epochs, recipe.data) == (base.train.epochs, base.data)


def test_a_recipe_of_another_method_than_its_name_says_is_refused(tmp_path: Path, base: Recipe) -> None:
    catalog.copy("fashion-mnist-simsiam", tmp_path / "byol.toml")
    with pytest.raises(UserError, match=r"byol\.toml' is of 'simsiam', and its name says 'byol'"):
        methods.compare(["byol"], base, Family(str(tmp_path)))


def test_what_does_not_go_with_the_base_names_the_method_and_its_recipe(tmp_path: Path, base: Recipe) -> None:
    catalog.copy("fashion-mnist", tmp_path / "mine.toml")
    catalog.copy("fashion-mnist-swav", tmp_path / "mine-swav.toml")
    for name, window in (("mine", 60), ("mine-swav", 80)):  # which is all that is SwAV's own in them
        with (tmp_path / f"{name}.toml").open("a") as file:
            file.write(f"[views.patches]\nwindow = {window}\n")
    narrow = load.override(base, ["views.patches.cell=70"])
    family = Family(str(tmp_path / "mine"))
    study = methods.compare(["swav"], narrow, family)
    what = r"\(settings of .*mine-swav\.toml\): .*window is 80, larger than cell 70"
    with pytest.raises(UserError, match=rf"^Table 1, variant 'swav' {what}"):
        study.variants[1].recipe(narrow, study.source)
    with pytest.raises(UserError, match=rf"^method 'swav' {what}"):
        methods.across(lambda recipe: studies.build("drop-aug", recipe), ["swav"], narrow, family)


def test_small_views_of_the_base_are_gone_where_a_method_has_none(base: Recipe) -> None:
    multicrop = load.load("fashion-mnist-multicrop-barlow-twins")
    changed = load.override(multicrop, overrides_of("simsiam", multicrop, Family("fashion-mnist")))
    assert changed.views.small.count == 0


def test_distortions_are_dropped_from_small_views_and_patches_too(base: Recipe) -> None:
    study = methods.across(
        lambda recipe: studies.build("drop-aug", recipe),
        ["pirl", "multicrop-barlow-twins"],
        base,
        Family("fashion-mnist"),
    )
    recipes = {variant.name: variant.recipe(base) for variant in study.variants}
    patches = recipes["pirl.crop-only"].views.patches
    assert (patches.jitter, patches.grayscale, patches.photometric, patches.flip, patches.blur) == (0, 0, 0, 0, 0)
    assert recipes["pirl.no-color"].views.patches.jitter == 0 < recipes["pirl.no-grayscale"].views.patches.jitter
    small = recipes["multicrop-barlow-twins.crop-only"].views.small
    assert (small.jitter, small.blur, small.erase) == (0, 0, 0)
    assert small.count > 0


def test_a_variant_says_where_its_settings_are_from(base: Recipe) -> None:
    study = methods.across(
        lambda recipe: studies.build("drop-aug", recipe), ["barlow-twins", "swav"], base, Family("fashion-mnist")
    )
    (variant,) = (variant for variant in study.variants if variant.name == "swav.no-grayscale")
    changed = "views.first.grayscale=0 views.second.grayscale=0"
    assert variant.changes == f"settings of fashion-mnist-swav {changed}"
    assert study.variants[1].changes == changed
    assert study.variants[0].changes == ""


# ---- budgets ---------------------------------------------------------------------------------------------


def lengths(study: Study, base: Recipe, images: int) -> list[int]:
    steps = []
    for variant in study.variants:
        recipe = load.override(base, variant.overrides)
        steps.append(round(recipe.train.epochs * (images // recipe.train.batch_size)))
    return steps


def test_a_budget_is_the_same_steps_images_or_cpu_seconds_for_each(base: Recipe) -> None:
    base = load.override(base, ["data.holdout=0", "eval.queries=off"])
    rows = (Variant("one"), Variant("large", ("train.batch_size=256",)))
    study = Study("s", "S", "-", rows, "one")

    def cost(recipe: Recipe) -> float:
        return 0.1 if recipe.train.batch_size == 256 else 0.07

    def limited(text: str) -> Study:
        return budget.limit(study, base, budget.parse(text), lambda recipe: 60000 - recipe.data.holdout, cost)

    assert lengths(limited("steps=1000"), base, 60000) == [1000, 1000]
    assert lengths(limited("images=128000"), base, 60000) == [1000, 500]
    assert lengths(limited("cpu-seconds=70"), base, 60000) == [1000, 700]
    recipe = load.override(base, limited("steps=1000").variants[0].overrides)
    assert recipe.train.warmup_epochs / recipe.train.epochs == pytest.approx(
        base.train.warmup_epochs / base.train.epochs, rel=1e-4
    )
    with pytest.raises(UserError, match="less than one step of 'large', of 256 images"):
        limited("images=127")


def test_a_budget_of_images_counts_those_that_steps_have() -> None:
    """1,000 images in batches of 600 are steps of 600 and 400; a batch of 4,096 is all 1,000."""
    base = load.load("quickstart", ["data.drop_last=false", "data.holdout=0", "eval.queries=off"])
    sizes = [Variant(str(size), (f"train.batch_size={size}",)) for size in (600, 4096)]
    study = Study("mine", "Mine", "mine.toml", tuple(sizes), "600")
    chosen = budget.parse("images=5000")
    limited = budget.limit(study, base, chosen, lambda recipe: 1000, lambda recipe: 1.0)
    assert [variant.recipe(base).train.epochs for variant in limited.variants] == [5, 5]
    with pytest.raises(UserError, match="less than one step of '4096', of 1000 images"):
        budget.limit(study, base, budget.parse("images=400"), lambda recipe: 1000, lambda recipe: 1.0)


def test_a_budget_drops_the_rates_at_the_same_shares() -> None:
    base = load.load("resnet50-supervised")  # at 30, 60, 90 and 100 of 105 epochs
    study = methods.compare(["supervised"], base, Family("resnet50"))
    limited = budget.limit(
        study, base, budget.parse(f"images={1281167 * 21}"), lambda recipe: 1281167, lambda recipe: 1.0
    )
    assert limited.variants[0].recipe(base).train.milestones == (6, 12, 18, 20)


def test_moments_within_a_training_go_with_its_length(base: Recipe) -> None:
    """SwAV's frozen prototypes: 1 of 400 epochs as published, so 0.0075 of 3 and, at half of that, 0.00375."""
    base = load.override(base, ["data.holdout=0", "eval.queries=off", "train.epochs=3"])
    study = methods.compare(["swav"], base, Family("resnet50"))
    recipe = {variant.name: variant.recipe(base) for variant in study.variants}["swav"]
    assert isinstance(recipe.objective, objectives.SwAV)
    assert recipe.objective.freeze_prototypes_epochs == pytest.approx(3 / 400)
    assert recipe.objective.queue_from_epoch == pytest.approx(15 * 3 / 400)
    half = at_length(recipe, 1.5)
    assert half == (
        "train.epochs=1.5",
        "objective.freeze_prototypes_epochs=0.00375",
        "objective.queue_from_epoch=0.05625",
        f"train.warmup_epochs={base.train.warmup_epochs / 2:.6g}",
    )


def test_the_chosen_variants_of_a_method_bring_its_baseline(base: Recipe) -> None:
    study = methods.across(
        lambda recipe: studies.build("drop-aug", recipe), ["barlow-twins", "byol"], base, Family("fashion-mnist")
    )
    (selected,) = studies.select([study], only=["byol.no-color"])
    assert [variant.name for variant in selected.variants] == ["baseline", "byol.baseline", "byol.no-color"]


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
    family: Family, base: Recipe, tmp_path: Path
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
    drawn_at = [list(container.lines[0].get_xdata()) for container in ours]
    assert [[round(x) for x in places] for places in drawn_at] == [[0, 1, 2, 3, 4]] * 2
    assert all(0.02 < right - left < 0.1 for left, right in zip(*drawn_at, strict=True))  # intervals do not hide others
    labels = [text.get_text() for text in axes.get_xticklabels()]
    assert labels == ["baseline", "no-grayscale", "no-color", "crop-and-blur", "crop-only"]
    assert {line.get_label() for line in axes.lines} >= {"BYOL, paper (ImageNet)", "SimCLR, paper (ImageNet)"}
    curve = replace(
        study, form="curve", axis="x", variants=tuple(replace(v, x=2.0 + i % 5) for i, v in enumerate(study.variants))
    )
    drawn = figure.plot(curve, table.rows(StudyDirectory(tmp_path, base, (curve,), (0, 1)), curve), base.name)
    assert len(drawn.axes[0].containers) == 2


def test_figure_2_of_methods_has_the_papers_line_in_the_color_of_barlow_twins(
    family: Family, base: Recipe, tmp_path: Path
) -> None:
    """Not in BYOL's; and no legend of points at sizes that were not trained."""
    study = methods.across(lambda recipe: studies.build("batch-size", recipe), ["barlow-twins", "byol"], base, family)
    for sizes, comparisons in (({"128", "256"}, []), ({"128", "4096"}, ["BYOL, its best, paper, right axis"])):
        (part,) = studies.select([study], sorted(sizes | {f"byol.{size}" for size in sizes}))
        rows = table.rows(StudyDirectory(tmp_path, base, (part,), (0,)), part)
        axes, right = figure.plot(part, rows, base.name).axes
        colors = {box.get_label(): box.lines[0].get_color() for box in axes.containers}  # type: ignore[attr-defined]
        paper, *others = right.get_lines()
        assert paper.get_label() == "Barlow Twins, paper, right axis"
        assert paper.get_color() == colors["barlow-twins, linear top-1"] != colors["byol, linear top-1"]
        assert [line.get_label() for line in others if "BYOL" in str(line.get_label())] == comparisons
        assert len(others) == 2 * len(comparisons)


def test_small_views_are_compared_beside_two_views(base: Recipe) -> None:
    study = methods.compare(["multicrop-barlow-twins"], base, Family("fashion-mnist"))
    assert [variant.name for variant in study.variants] == ["barlow-twins", "multicrop-barlow-twins"]
    recipe = load.override(base, study.variants[1].overrides)
    assert recipe.objective.name == "barlow-twins"
    assert recipe.views.small == load.load("fashion-mnist-multicrop-barlow-twins").views.small
    assert recipe.views.small.count > 0


def test_every_row_of_table_1_is_a_method_that_can_be_compared(base: Recipe) -> None:
    assert sorted(methods.TABLE_1.values(), key=str) == sorted((row.values for row in published.LINEAR.rows), key=str)
    names = methods.parse("all", Family("fashion-mnist"))
    rows = {variant.name: variant for variant in methods.compare(names, base, Family("fashion-mnist")).variants}
    assert {name: rows[name].published for name in methods.TABLE_1} == methods.TABLE_1
    assert set(rows) == set(methods.parse("all", Family("resnet50"))) == set(NAMES)
    with_small_views = rows["swav-multicrop"].recipe(base)
    assert (rows["swav"].published[0], rows["swav-multicrop"].published[0]) == (71.8, 75.3)
    assert with_small_views.views.small == load.load("fashion-mnist-swav-multicrop").views.small
    assert (with_small_views.objective.name, with_small_views.views.small.count) == ("swav", 2)


@pytest.mark.parametrize("method", ["swav", "barlow-twins"])
def test_a_base_with_small_views_stands_beside_the_same_method_without(method: str) -> None:
    family = Family("fashion-mnist")
    name = {"swav": "swav-multicrop", "barlow-twins": "multicrop-barlow-twins"}[method]
    base = load.load(family.find(name))
    study = methods.compare([method], base, family)
    assert [(variant.name, variant.published[0]) for variant in study.variants] == [
        (name, methods.TABLE_1.get(name, (None,))[0]),
        (method, methods.TABLE_1[method][0]),
    ]
    plain, own = study.variants[1].recipe(base), load.load(family.find(method))
    assert study.variants[0].recipe(base) == base
    assert (plain.objective.name, plain.optimizer, plain.views.first) == (method, own.optimizer, own.views.first)
    assert plain.views.small.count == 0
