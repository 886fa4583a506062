"""docs/study: its recipe and studies are valid, and its page is made from whatever of a study is there."""

from __future__ import annotations

import csv
import json
import re
import statistics
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from barlowctl.errors import UserError
from barlowctl.recipe import load
from barlowctl.study import methods, studies
from barlowctl.study.cells import write_results
from barlowctl.study.directory import Cell, StudyDirectory
from barlowctl.study.family import Family, fitting, name_of
from barlowctl.study.table import margin


@pytest.fixture
def generator(script_of: Callable[[str], ModuleType]) -> Any:
    return script_of("study/generate.py")


def record(cell: Cell) -> dict[str, Any]:
    return {"variant": cell.variant.name, "overrides": list(cell.variant.overrides), "seed": cell.seed}


def test_the_page_is_made_from_what_is_there_and_says_what_is_missing(
    generator: Any, checkout: Path, tmp_path: Path
) -> None:
    base = load.load(str(checkout / "docs" / "study" / "recipe.toml"))
    directory = StudyDirectory(tmp_path / "s", base, (studies.loss(), studies.build("lambd", base)), (0, 1))
    with pytest.raises(SystemExit, match="make study"):
        generator.generate(tmp_path / "s", tmp_path)
    for cell in directory.cells:
        if cell.variant.name in ("baseline", "only-invariance"):
            value = (90.0 if cell.variant.name == "baseline" else 80.0) + 0.1 * cell.seed
            seconds = {"train": 3600.0, "train_cpu": 1800.0, "measure": 360.0}
            cell.finish(record(cell) | {"measures": {"knn": value, "linear_top1": value}, "seconds": seconds})
    write_results(directory)
    generator.main([str(tmp_path / "s"), str(tmp_path / "page")])
    text = (tmp_path / "page" / "results.md").read_text()
    # 7 rows of the loss and 7 of lambd, whose third is the baseline, times 2 seeds; 3 rows are finished
    assert "6 of 28 rows times seeds are measured. **22 are missing" in text
    assert "Training took 4.0 hours of wall time (2.0 CPU-hours), measuring 0.4 hours" in text
    # each of two rows has 0 and 0.1 above its mean: the same spread, pooled over the one that is near the baseline
    assert "linear top-1 is 0.07 (1 degrees of freedom)" in text
    assert "| Table 5 | only-invariance | -10.00 | 0.30 | - | -14.1 | same sign |" in text
    assert "| Table 5 | cross-entropy | - | - | - | -8.1 | missing |" in text
    assert "Missing: only-redundancy (seeds 0, 1)" in text
    assert "after 120 steps" not in text
    rows = (tmp_path / "page" / "cells.csv").read_text().splitlines()
    assert rows[0] == "variant,seed,knn,linear_top1,train_cpu_seconds,overrides"
    assert rows[1:3] == ['baseline,0,90,90,1800.0,""', 'only-invariance,0,80,80,1800.0,"objective.terms=invariance"']
    for link in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (tmp_path / "page" / link).is_file()


def test_cells_of_an_earlier_recipe_are_not_counted(generator: Any, checkout: Path, tmp_path: Path) -> None:
    """A variant whose settings changed has a new folder beside the old one, which no row of the study is of."""
    base = load.load(str(checkout / "docs" / "study" / "recipe.toml"))
    out, family = tmp_path / "s", Family("fashion-mnist")
    directory = StudyDirectory(out, base, (methods.compare(["barlow-twins", "supervised"], base, family),), (0, 1))
    for cell in directory.cells:
        measures = {"linear_top1": 90.0 + 0.2 * cell.seed}
        cell.finish(record(cell) | {"measures": measures, "seconds": {"train": 3600.0, "train_cpu": 1800.0}})
        earlier = cell.path.parent.with_name(f"{cell.variant.name}-00000000") / cell.path.name
        earlier.mkdir(parents=True)
        old = record(cell) | {"measures": {"linear_top1": 90.0 + 3 * cell.seed}, "seconds": {"train": 7200.0}}
        (earlier / "cell.json").write_text(json.dumps(old))
        (earlier / "early.json").write_text(json.dumps({"variant": "baseline", "steps": 120, "after": {}}))
    write_results(directory)
    text = generator.generate(out, tmp_path)
    assert "Training took 4.0 hours" in text
    assert "linear top-1 is 0.14 (2 degrees of freedom)" in text  # 0.2 / sqrt(2)
    assert "after 120 steps" not in text
    rows = list(csv.DictReader((tmp_path / "cells.csv").read_text().splitlines()))
    names, values = ["barlow-twins", "supervised"] * 2, ["90", "90", "90.2", "90.2"]
    assert [row["variant"] for row in rows] == names
    assert [row["linear_top1"] for row in rows] == values
    table = out / "methods.json"
    table.write_text(table.read_text().replace('"cells": ', '"before": '))
    with pytest.raises(UserError, match="do not name their cells"):
        generator.generate(out, tmp_path)


def test_make_study_names_a_study_that_can_be_run(checkout: Path) -> None:
    """The Makefile's flags against the command's own: every option exists, every variant that is left out too."""
    text = (checkout / "Makefile").read_text()
    flags = re.search(r"^STUDY := ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    assert flags is not None
    words = flags[1].replace("\\\n", " ").split()
    base = load.load(str(checkout / "docs" / "study" / "recipe.toml"))
    # Figure 4 itself was not run.
    all_studies = [studies.build(name, base) for name in studies.NAMES if name != "projector"]
    selected = studies.select(all_studies, without=words[words.index("--without") + 1].split(","))
    assert [study.name for study in selected] == [study.name for study in all_studies]
    named = {name.removeprefix("--") for name in words if name.startswith("--")}
    assert set(studies.NAMES) - {"depth", "projector"} <= named
    cells = StudyDirectory(Path("nowhere"), base, tuple(selected), (0,)).cells
    assert f"{len(cells)} cells a seed" in (checkout / "docs" / "study" / "README.md").read_text()
    assert json.dumps(sorted({cell.recipe.train.batch_size for cell in cells})) == "[128, 256, 512, 1024, 2048, 4096]"


def test_the_early_look_is_a_table_over_seeds(generator: Any, checkout: Path, tmp_path: Path) -> None:
    base = load.load(str(checkout / "docs" / "study" / "recipe.toml"))
    directory = StudyDirectory(tmp_path / "s", base, (studies.loss(),), (0, 1))
    for cell in directory.cells[:1] + directory.cells[len(directory.cells) // 2 :][:1]:
        cell.finish(record(cell) | {"measures": {"knn": 88.0, "linear_top1": 89.0}, "seconds": {}})
        then = {"knn": 84.0 + cell.seed, "effective_rank": 9.0, "mean_diagonal": 0.5, "rms_off_diagonal": 0.1}
        early = {
            "variant": cell.variant.name,
            "steps": 120,
            "after": then,
            "before": {"knn": 80.0, "linear_top1": 82.0 + 2 * cell.seed},
        }
        (cell.path / "early.json").write_text(json.dumps(early))
    write_results(directory)
    text = generator.generate(tmp_path / "s", tmp_path)
    assert "## Table 5's variants after 120 steps" in text
    line = "| baseline | 2 | 0.500 ± 0.000 | 0.100 ± 0.000 | 9.0 ± 0.0 | 84.50 ± 0.71 | 88.00 |"
    assert line in text
    assert "kNN 80.00 ± 0.00, linear top-1 83.00 ± 1.41" in text


@pytest.mark.parametrize("target", ["METHODS", "FIGURE_3"])
def test_make_names_studies_of_methods_that_can_be_run(checkout: Path, target: str) -> None:
    """The Makefile's flags against the command's own, on both base recipes, and every recipe that they need."""
    text = (checkout / "Makefile").read_text()
    flags = re.search(rf"^{target} := (.*)$", text, re.MULTILINE)
    assert flags is not None
    words = flags[1].split()
    text_of_names = words[words.index("--methods") + 1]
    for file in ("recipe.toml", "colour.toml"):
        base = load.load(str(checkout / "docs" / "study" / file))
        family = fitting(base)
        names = methods.parse(text_of_names, family)
        study = (
            methods.across(partial(studies.build, "drop-aug"), names, base, family)
            if "--drop-aug" in words
            else methods.compare(names, base, family)
        )
        cells = StudyDirectory(Path("nowhere"), base, (study,), (0,)).cells
        assert {name_of(cell.recipe) for cell in cells} == set(names)


def test_a_method_without_a_matrix_c_has_no_number_there(generator: Any, checkout: Path, tmp_path: Path) -> None:
    base = load.load(str(checkout / "docs" / "study" / "recipe.toml"))
    study = methods.compare(["barlow-twins", "supervised"], base, Family("fashion-mnist"))
    for cell in StudyDirectory(tmp_path / "s", base, (study,), (0,)).cells:
        c = None if cell.variant.name == "supervised" else 0.9
        measures = {"linear_top1": 90.0, "mean_diagonal": c}
        cell.finish(record(cell) | {"measures": measures, "seconds": {"train_cpu": 6.0}})
    write_results(StudyDirectory(tmp_path / "s", base, (study,), (0,)))
    generator.generate(tmp_path / "s", tmp_path)
    rows = list(csv.DictReader((tmp_path / "cells.csv").read_text().splitlines()))
    assert [row["mean_diagonal"] for row in rows] == ["0.9", "nan"]
    assert 'objective.name="supervised"' in rows[1]["overrides"]


def test_a_row_that_is_the_baseline_is_not_compared_with_it(generator: Any, checkout: Path, tmp_path: Path) -> None:
    """Grey images are grey already: without grayscale a recipe is the same one."""
    base = load.load(str(checkout / "docs" / "study" / "recipe.toml"))
    drop = methods.across(partial(studies.build, "drop-aug"), ["barlow-twins", "byol"], base, Family("fashion-mnist"))
    for cell in StudyDirectory(tmp_path / "s", base, (drop,), (0, 1)).cells:
        cell.finish(record(cell) | {"measures": {"linear_top1": 80.0 + cell.seed}, "seconds": {"train_cpu": 6.0}})
    write_results(StudyDirectory(tmp_path / "s", base, (drop,), (0, 1)))
    text = generator.generate(tmp_path / "s", tmp_path)
    assert "| Figure 3 | byol.no-grayscale | +0.00 | - | - | -2.2 | the baseline's recipe |" in text
    assert "| Figure 3 | byol.no-color | +0.00 | 3.04 | 1.73 | -9.1 | not resolved |" in text


def test_figure_3_of_the_page_is_of_its_cells(checkout: Path) -> None:
    """Every number of the table, and by how much less BYOL loses than the others do."""
    folder = checkout / "docs" / "study"
    page = (folder / "README.md").read_text().partition("## Figure 3 with three methods")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:2] == "| "]
    variants = (
        ("baseline", "no-color", "crop-only"),
        ("baseline", "no-grayscale", "no-color", "crop-and-blur", "crop-only"),
    )
    expected = []
    for study, names in zip(("figure-3", "colour"), variants, strict=True):
        values: dict[str, list[float]] = {}
        for cell in csv.DictReader((folder / study / "cells.csv").read_text().splitlines()):
            values.setdefault(cell["variant"], []).append(float(cell["linear_top1"]))
        of = [{name: values[method + name] for name in names} for method in ("", "byol.", "simclr.")]
        expected.append([f"{statistics.mean(v['baseline']):.2f} ± {statistics.stdev(v['baseline']):.2f}" for v in of])
        expected += [[f"{gain(v[name], v['baseline']):+.1f} ± {half(v, name):.1f}" for v in of] for name in names[1:]]
        if study == "figure-3":
            for name, other in product(("no-color", "crop-only"), (of[0], of[2])):
                less = gain(of[1][name], of[1]["baseline"]) - gain(other[name], other["baseline"])
                assert f"{less:.2f} ± {half(of[1], name, other):.2f}" in page
    assert [row[1:] for row in rows[1:9]] == expected


def gain(values: list[float], base: list[float]) -> float:
    return statistics.mean(values) - statistics.mean(base)


def half(values: dict[str, list[float]], name: str, *others: dict[str, list[float]]) -> float:
    interval = margin(*(of[variant] for of in (values, *others) for variant in (name, "baseline")))
    assert interval is not None
    return interval
