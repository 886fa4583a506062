"""The paper's studies as values, and one's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from barlowctl.errors import UserError
from barlowctl.recipe import load
from barlowctl.study import studies
from barlowctl.study.grid import read_grid
from barlowctl.study.study import Study
from barlowctl.study.variant import Variant

BASE = load.load("resnet50-300ep")


def all_studies() -> list[Study]:
    return [studies.build(name, BASE) for name in studies.NAMES]


@pytest.mark.parametrize("study", all_studies(), ids=lambda study: study.name)
def test_every_variant_is_a_valid_recipe_and_no_two_are_the_same(study: Study) -> None:
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


def test_figure_2_pairs_batch_sizes_with_the_papers_rates_and_numbers() -> None:
    study = studies.batch_size(BASE)
    variants = study.variants
    assert [variant.published[0] for variant in variants] == [69.7, 70.7, 71.4, 71.7, 71.4, 70.7]
    assert study.baseline == "2048"
    assert {series.label: series.points for series in study.series} == {
        "BYOL, its best": {"4096": 72.5},
        "SimCLR, its best": {"4096": 67.1},
    }
    recipes = [load.override(BASE, variant.overrides) for variant in variants]
    rates = {recipe.train.batch_size: recipe.optimizer.lr for recipe in recipes}
    assert rates == {128: 0.7, 256: 0.4, 512: 0.3, 1024: 0.25, 2048: 0.2, 4096: 0.2}
    assert load.override(BASE, variants[4].overrides) == BASE


@pytest.mark.parametrize(
    ("overrides", "devices"),
    [
        ((), 16),
        (("optimizer.weight_decay=4.8e-5", "optimizer.lr_biases=1.5e-4"), 32),
        (("train.gradient_scale=reference", "optimizer.weight_decay=1e-6", "optimizer.lr_biases=0.0048"), 1),
        (("train.batch_size=256", "optimizer.lr=0.4", "optimizer.lr_biases=6.0e-4"), 16),
    ],
)
def test_figure_2_moves_the_rate_of_biases_with_that_of_weights(overrides: tuple[str, ...], devices: int) -> None:
    """Issue 7 of the authors' repository: biases have 0.024 L, divided by the number of devices whose pair it is."""
    base = load.override(BASE, overrides)
    study = studies.batch_size(base)
    for variant in study.variants:
        optimizer = load.override(base, variant.overrides).optimizer
        assert optimizer.lr_biases == pytest.approx(0.024 * optimizer.lr / devices, rel=1e-3), variant.name
        assert optimizer.weight_decay == base.optimizer.weight_decay
    assert "issue 7" in (study.note or "")


CLIPPED = ("optimizer.name=lars", "optimizer.clip_trust_ratio=true", "optimizer.lr=0.3")


@pytest.mark.parametrize(
    ("optimizer", "growth"),
    [(("optimizer.name=sgd",), 4.0), (CLIPPED, 4.0), (("optimizer.name=adamw",), 2.0), (("optimizer.name=muon",), 2.0)],
)
def test_peak_rates_of_other_optimizers_follow_the_batch(optimizer: tuple[str, ...], growth: float) -> None:
    base = load.override(BASE, [*optimizer, "train.batch_size=256"])
    variants = {variant.name: variant for variant in studies.batch_size(base).variants}
    assert load.override(base, variants["256"].overrides) == base  # the baseline is the recipe itself
    large = load.override(base, variants["1024"].overrides)
    for key in ("lr", "lr_biases"):
        peak, before = (getattr(r.optimizer, key) * r.train.batch_size for r in (large, base))
        assert peak == pytest.approx(growth * before, rel=1e-3)


def test_the_baseline_is_the_recipe_whatever_it_is() -> None:
    odd = load.override(BASE, ["train.batch_size=96", "model.projector=[100, 100]", "optimizer.name=adamw"])
    mixed = load.override(BASE, ["model.projector=[512, 512, 128]"])
    projectors = ("projector", "projector-width", "depth")
    for base, names in ((odd, ("batch-size", *projectors)), (mixed, projectors)):
        for name in names:
            study = studies.build(name, base)
            variant = next(variant for variant in study.variants if variant.name == study.baseline)
            assert load.override(base, variant.overrides) == base, (name, study.baseline)
            assert variant.published == (None, None)
    assert [v.x for v in studies.build("batch-size", odd).variants] == [96, 128, 256, 512, 1024, 2048, 4096]
    note = studies.batch_size(load.override(BASE, ["optimizer.lr=0.35"])).note or ""
    assert "the recipe's own, 0.35 at 2048, is another" in note
    assert "tau 0.5 and" in (studies.build("loss", load.override(BASE, ["objective.temperature=0.5"])).note or "")


def test_figure_3_has_the_papers_numbers_of_the_other_methods_and_none_of_its_own_curve() -> None:
    study = studies.drop_augmentations()
    points = {series.label: list(series.points.values()) for series in study.series}
    assert points == {"BYOL": [72.5, 70.3, 63.4, 61.1, 59.4], "SimCLR": [67.9, 61.9, 45.7, 41.7, 40.3]}
    assert [variant.published[0] for variant in study.variants] == [71.4, None, None, None, None]


def test_figures_4_and_5_have_the_papers_values_and_no_numbers() -> None:
    figure = studies.build("projector", BASE)
    assert [variant.x for variant in figure.variants] == [2**power for power in range(4, 15)]
    assert figure.baseline == "last-8192"
    assert figure.source == "Figure 4"
    lambds = studies.build("lambd", BASE)
    assert [variant.x for variant in lambds.variants] == [0.002, 0.0035, 0.005, 0.0075, 0.01, 0.015, 0.02]
    assert all(variant.published == (None, None) for variant in (*figure.variants, *lambds.variants))
    assert [len(load.override(BASE, v.overrides).model.projector) for v in studies.depth([64] * 3).variants] == [
        1, 2, 3, 4,
    ]  # fmt: skip


@pytest.mark.parametrize("own", [(8192, 8192, 8192), (512, 256), (64,)])
def test_figure_4_is_the_last_layer_and_the_width_of_all_layers_another_study(own: tuple[int, ...]) -> None:
    base = load.override(BASE, [f"model.projector={list(own)}"])
    for name, expected in (
        ("projector", lambda width: (*own[:-1], width)),
        ("projector-width", lambda width: (width,) * len(own)),
    ):
        study = studies.build(name, base)
        projectors = {
            v.x: load.override(base, v.overrides).model.projector for v in study.variants if v.name != "recipe"
        }
        assert projectors == {
            float(width): expected(width) for width in sorted({*(2**p for p in range(4, 15)), own[-1]})
        }
        base_variant = next(variant for variant in study.variants if variant.name == study.baseline)
        assert load.override(base, base_variant.overrides) == base
    assert "not in the paper" in (studies.build("projector-width", base).note or "")


def test_another_width_of_the_projector_keeps_the_multiples_of_lambd() -> None:
    narrow = studies.lambd(0.04, 256)
    assert [variant.x for variant in narrow.variants] == [0.016, 0.028, 0.04, 0.06, 0.08, 0.12, 0.16]
    assert narrow.baseline == "lambd-0.04"


def test_selected_variants_keep_their_baseline() -> None:
    both = [studies.loss(), studies.build("projector-width", BASE)]
    (selected,) = studies.select(both, ["width-64"])
    assert [variant.name for variant in selected.variants] == ["width-64", "width-8192"]
    assert studies.select(both) == both
    selected = studies.select(both, without=["width-16384", "width-8192", "cross-entropy"])
    assert [variant.name for variant in selected[0].variants] == [v.name for v in both[0].variants[:-1]]
    assert [variant.x for variant in selected[1].variants] == [2**power for power in range(4, 14)]  # the baseline stays
    with pytest.raises(UserError, match="no variant is named 'widht-64', did you mean 'width-64'"):
        studies.select(both, ["widht-64"])


def test_a_list_of_values_in_a_grid_is_answered_with_what_a_grid_holds(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[baseline]\n[several]\n"objective.lambd" = [0.01, 0.02]\n')
    study = read_grid(tmp_path / "mine.toml")
    with pytest.raises(UserError, match=r"objective.lambd is \[0.01, 0.02\]") as refused:
        study.variants[1].recipe(BASE, study.source)
    assert refused.value.next == f"correct [several] of {tmp_path / 'mine.toml'}"
    assert refused.value.allowed is not None
    assert "one value of objective.lambd in each table" in refused.value.allowed


@pytest.mark.parametrize(
    ("line", "says", "better"),
    [
        ('"optimizer.lr" = -1', "optimizer.lr is -1. Allowed: a number from 1e-12 to 1,000,000.", ""),
        ('"train.epoch" = 200', "unknown key 'train.epoch', did you mean 'train.epochs'? ", ": train.epochs = 200"),
        ('"optimizer.name" = "adamm"', "optimizer.name is 'adamm', did you mean", ': optimizer.name = "adamw"'),
        ('"views.first.crop_scale" = [2, 3]', "views.first.crop_scale ends", ": views.first.crop_scale = [1, 1]"),
        ('"nothing" = 1', "unknown key 'nothing'. Allowed in a recipe: name, ", ""),
    ],
)
def test_a_wrong_value_of_a_grid_is_to_be_mended_there(line: str, says: str, better: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(f"[baseline]\n[odd]\n{line}\n")
    study = read_grid(file)
    with pytest.raises(UserError) as refused:
        study.variants[1].recipe(BASE, study.source)
    assert refused.value.message.startswith(f"mine.toml, variant 'odd': {says}")  # nobody typed --set
    assert refused.value.next == f"correct [odd] of {file}{better}"


def test_a_variant_of_the_paper_that_does_not_go_with_the_recipe_can_be_left_out() -> None:
    variant = Variant("wide", ("views.patches.window=80", "views.patches.cell=70"))
    with pytest.raises(UserError, match=r"^Figure 0, variant 'wide': views.patches.window is 80, larger") as refused:
        variant.recipe(BASE, "Figure 0")
    assert refused.value.next == "--without wide"
    with pytest.raises(UserError) as refused:  # the recipe itself can be another
        Variant("low", ("views.patches.cell=10",)).recipe(BASE)
    assert refused.value.next == "--set views.patches.window=10"


def test_asymmetry_is_of_methods_with_a_stop_gradient() -> None:
    with pytest.raises(UserError, match=r"the study 'asymmetry' is of the Barlow Twins loss, .* is VICReg"):
        studies.build("asymmetry", load.load("fashion-mnist-vicreg"))
    assert studies.build("asymmetry", load.load("fashion-mnist-simsiam")).baseline == "baseline"


def test_a_grid_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'title = "Crops"\n[baseline]\n[small]\n"views.first.crop_scale" = [0.08, 0.5]\n'
        '[small.optimizer]\nname = "sgd"\n'
    )
    study = read_grid(file)
    assert study.title == "Crops"
    recipe = load.override(BASE, study.variants[1].overrides)
    assert recipe.views.first.crop_scale == (0.08, 0.5)
    assert recipe.optimizer.name == "sgd"
    assert study.baseline == "baseline"
    refusals = {
        "x = 1\n": "not a variant",
        "": "no variants",
        "[a\n": "not valid TOML",
        "title = 3\n[a]\n": "title is 3",
        '["../a"]\n': "cannot be named",
    }
    for text, says in refusals.items():
        file.write_text(text)
        with pytest.raises(UserError, match=says):
            read_grid(file)
    with pytest.raises(UserError, match="cannot be read"):
        read_grid(tmp_path / "none.toml")
    for taken in ("loss", "study"):  # study.json says what the directory is of
        (tmp_path / f"{taken}.toml").write_text("[a]\n")
        with pytest.raises(UserError, match=f"would be named '{taken}'"):
            read_grid(tmp_path / f"{taken}.toml")


def test_a_study_has_its_baseline() -> None:
    with pytest.raises(ValueError, match="no variant 'nobody', which is its baseline"):
        replace(studies.loss(), baseline="nobody")


def test_a_note_says_what_lambd_is_where_widths_vary() -> None:
    """It was said to stay the recipe's where `auto` makes it 0.115 at 16 dimensions and 0.0036 at 16384."""
    fixed, follows = (load.override(BASE, [f"objective.lambd={lambd}"]) for lambd in ("0.02", "auto"))
    for name in ("projector", "projector-width"):
        assert "lambd stays the recipe's" in str(studies.build(name, fixed).note)
        assert "lambd goes with the width (objective.lambd is auto)" in str(studies.build(name, follows).note)
