"""A study's directory: cells shared by equal recipes, finished ones kept, one process each; its tables and figures."""

from __future__ import annotations

import csv
import errno
import io
import json
import statistics
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from PIL import Image

from barlowctl.assemble.machine import Runtime
from barlowctl.cli.console import Console
from barlowctl.cli.study_command import StudyCommand
from barlowctl.cli.study_results import show_results
from barlowctl.errors import UserError
from barlowctl.plots import style
from barlowctl.recipe import load
from barlowctl.study import figure, studies, table
from barlowctl.study.cells import finished_of_all_layers, write_results
from barlowctl.study.directory import StudyDirectory, not_writable

OVERRIDES = ["model.projector=[64, 64]", "seed=3", "views.first.erase=0.2", "views.second.erase=0.2"]
BASE = load.load("quickstart", OVERRIDES)
# Two-sided 95 % quantiles of Student's t, from a table (degrees of freedom -> quantile).
STUDENT = {2: 4.303, 4: 2.776, 18: 2.101, 1000: 1.962}
T_AT_3723 = 2.859  # by integrating its density


def study_directory(out: Path, *names: str, seeds: int = 2) -> StudyDirectory:
    return StudyDirectory(out, BASE, tuple(studies.build(name, BASE) for name in names), tuple(range(seeds)))


def fill(directory: StudyDirectory, *, but: tuple[str, ...] = (), top1: Any = lambda cell: 80.0 + cell.seed) -> None:
    for cell in directory.cells:
        if cell.variant.name not in but:
            value = top1(cell)
            cell.finish({"measures": {"knn": value - 5, "linear_top1": value, "effective_rank": 10.0}, "seconds": {}})


def test_equal_recipes_share_a_cell_within_a_study_and_among_studies(tmp_path: Path) -> None:
    directory = study_directory(tmp_path, "loss", "asymmetry", "drop-aug", seeds=3)
    recipes = {load.digest(cell.recipe) for cell in directory.cells}
    assert len(recipes) == len(directory.cells)
    # 7 + 4 + 5 variants; the baseline three times; no-grayscale is the baseline, as the recipe has no grayscale
    assert BASE.views.first.grayscale == 0
    assert len(directory.cells) == 3 * (7 + 3 + 3)
    drop = directory.studies[2]
    assert directory.same_as(drop, drop.variants[1]) == "baseline"
    assert directory.same_as(drop, drop.variants[0]) is None
    assert directory.cells[0].seed == 0
    assert {cell.seed for cell in directory.cells[:13]} == {0}  # every row has its first seed before the second


def test_a_cell_is_found_again_whatever_study_is_named_first(tmp_path: Path) -> None:
    before = study_directory(tmp_path, "loss")
    before.cells[0].finish({"measures": {"knn": 1.0}, "seconds": {}})
    after = StudyDirectory(tmp_path, BASE, (studies.depth(BASE.model.projector),), (0,))
    base = next(v for v in after.studies[0].variants if v.name == "depth-2")
    assert after.cell(after.studies[0], base, 0).record == {"measures": {"knn": 1.0}, "seconds": {}}


def test_a_study_of_all_layers_under_the_name_of_figure_4_is_found_under_its_own(tmp_path: Path) -> None:
    """A directory from when `projector` meant all layers alike: cells and files keep their numbers, not the name."""
    widths = studies.projector_width(BASE.model.projector)
    (few,) = studies.select([widths], ["width-16"])
    fill(StudyDirectory(tmp_path, BASE, (few,), (0,)), top1=lambda cell: 77.0)
    rows = [{"variant": name, "overrides": [], "x": 1.0} for name in ("width-16", "width-64")]
    before = {"study": "projector", "title": "Projector width", "source": "Figure 4", "rows": rows}
    (tmp_path / "projector.json").write_text(json.dumps(before))
    (tmp_path / "projector.csv").write_text("old")
    directory = study_directory(tmp_path, "projector", seeds=1)
    assert "width-16 (--projector-width shows it)" in (finished_of_all_layers(directory) or "")
    write_results(directory, figures=False)
    now = json.loads((tmp_path / "projector.json").read_text())
    assert (now["source"], {row["variant"][:5] for row in now["rows"]}) == ("Figure 4", {"last-"})
    document = json.loads((tmp_path / "projector-width.json").read_text())
    assert (document["study"], document["source"], document["rows"]) == ("projector-width", "beside Figure 4", rows)
    assert (tmp_path / "projector-width.csv").read_text() == "old"
    other = study_directory(tmp_path, "projector-width", seeds=1)
    assert finished_of_all_layers(other) is None
    write_results(other, figures=False)
    by_variant = {row["variant"]: row for row in json.loads((tmp_path / "projector-width.json").read_text())["rows"]}
    assert by_variant["width-16"]["linear_top1"] == 77.0


def test_studies_begun_at_the_same_time_share_their_cells(tmp_path: Path) -> None:
    """The second finds the folder that the first one will use, under whatever name, before a cell is in it."""
    first = StudyDirectory(tmp_path, BASE, (studies.build("lambd", BASE),), (0,))
    second = StudyDirectory(tmp_path, BASE, (studies.build("loss", BASE),), (0,))
    assert first.cells[2].path != second.cells[0].path  # what both would do alone
    first.open({})
    second.open({})
    assert second.cells[0].path == first.cells[2].path


def test_what_is_finished_stays_in_the_tables(tmp_path: Path) -> None:
    """Fewer seeds or variants than before: those of before are shown, and are not missing where they are not there."""
    whole = studies.build("loss", BASE)
    before = StudyDirectory(tmp_path, BASE, (whole,), (0, 1, 2))
    fill(before, but=("cross-entropy",))
    (few,) = studies.select([whole], ["only-invariance"])
    now = StudyDirectory(tmp_path, BASE, (few,), (0,)).with_finished([whole])
    rows = {row["variant"]: row for row in table.rows(now, now.studies[0])}
    assert list(rows) == [variant.name for variant in whole.variants if variant.name != "cross-entropy"]
    assert all(row["finished"] == [0, 1, 2] and not row["missing"] for row in rows.values())
    assert rows["only-invariance"]["linear_top1_sd"] == 1.0
    assert table.seeds_text(list(rows.values())) == "3 seeds"
    assert table.seeds_text([{"finished": [0]}, {"finished": []}]) == "1 seed"
    assert table.seeds_text([{"finished": [0, 1]}, {"finished": [0, 1, 7]}]) == "2 to 3 seeds"
    (base,) = studies.select([whole], ["baseline"])  # more seeds of one variant: the others lack nothing for it
    more = StudyDirectory(tmp_path, BASE, (base,), (0, 1, 2, 3)).with_finished([whole])
    missing = {row["variant"]: row["missing"] for row in table.rows(more, more.studies[0]) if row["missing"]}
    assert missing == {"baseline": [3]}
    every = StudyDirectory(tmp_path, BASE, (whole,), (0,))
    assert table.rows(every, whole)[-1]["missing"] == [0]


def test_only_one_process_has_a_cell(tmp_path: Path) -> None:
    cell = study_directory(tmp_path, "loss").cells[0]
    script = f"""
import pathlib, sys
from barlowctl.study import studies
from barlowctl.study.directory import StudyDirectory
from barlowctl.plots import style
from barlowctl.recipe import load
base = load.load("quickstart", {OVERRIDES!r})
directory = StudyDirectory(pathlib.Path({str(tmp_path)!r}), base, (studies.build("loss", base),), (0, 1))
with directory.cells[0].claim() as free:
    print(free, flush=True)
    sys.stdin.read()
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "True"
    with cell.claim() as free:
        assert not free
    assert cell.claimed
    process.kill()
    process.communicate()
    with cell.claim() as free:
        assert free  # a killed process holds nothing
    assert not cell.claimed


def test_a_directory_is_of_one_recipe_and_its_images(tmp_path: Path) -> None:
    directory = study_directory(tmp_path / "s", "loss")
    directory.open({"train": "abc"})
    directory.open({"train": "abc"})
    study_directory(tmp_path / "s", "lambd", seeds=5).open({"train": "abc"})  # more studies and seeds: welcome
    with pytest.raises(UserError, match="other images"):
        directory.open({"train": "abd"})
    other = load.override(BASE, ["train.epochs=9"])
    with pytest.raises(UserError, match="another recipe"):
        StudyDirectory(tmp_path / "s", other, directory.studies, (0,)).open({"train": "abc"})
    assert load.digest(load.load(str(tmp_path / "s" / "recipe.toml"))) == load.digest(BASE)


def test_a_directory_knows_its_images_and_learns_them_of_an_earlier_version(tmp_path: Path) -> None:
    directory = study_directory(tmp_path / "s", "loss")
    assert directory.dataset is None
    old = {"train": "/photos/train", "test": "/photos/test"}  # what versions before noted of a folder
    directory.open(old)
    now = {"train": "1f", "test": "2e"}
    directory.open(now, dataset="/photos", earlier=old)
    assert directory.dataset == "/photos"
    with pytest.raises(UserError, match=r"/photos as it was then.*the test images differ"):
        directory.open({"train": "1f", "test": "3d"}, dataset="/photos", earlier=old)
    other = load.override(BASE, ["train.epochs=9"])
    assert StudyDirectory(tmp_path / "s", other, directory.studies, (0,)).dataset is None


def test_the_table_has_mean_spread_difference_and_margin(tmp_path: Path) -> None:
    directory = study_directory(tmp_path, "asymmetry", seeds=3)
    values = {"baseline": (80.0, 82.0, 84.0), "stop-gradient": (70.0, 71.0, 75.0)}
    fill(directory, top1=lambda cell: values.get(cell.variant.name, (81.0, 83.0, 82.0))[cell.seed])
    rows = {row["variant"]: row for row in table.rows(directory, directory.studies[0])}
    base, stop = rows["baseline"], rows["stop-gradient"]
    assert (base["linear_top1"], base["linear_top1_sd"]) == (82.0, pytest.approx(2.0))
    assert stop["linear_top1_difference"] == pytest.approx(72.0 - 82.0)
    assert stop["linear_top1_sd"] == pytest.approx(statistics.stdev(values["stop-gradient"]))
    # Welch by hand: variances 4 and 7, three values each: (11/3)^2 / ((16 + 49) / 18) = 3.723 degrees of freedom
    error = (4 / 3 + 7 / 3) ** 0.5
    assert stop["linear_top1_margin"] == pytest.approx(T_AT_3723 * error, rel=5e-3)
    assert (stop["published_top1"], stop["published_difference"]) == (70.5, pytest.approx(-0.9))
    assert table.verdict(stop) == "same sign"
    assert table.verdict(rows["predictor"]) == "not resolved"
    assert table.verdict(base) is None
    assert table.verdict({**stop, "published_difference": 1.0}) == "opposite sign"


@pytest.mark.parametrize(("seeds", "freedom"), [(2, 2), (3, 4), (10, 18), (501, 1000)])
def test_margins_of_equal_spreads_are_students(seeds: int, freedom: int) -> None:
    values = [float(number) for number in range(seeds)]
    error = (2 * statistics.variance(values) / seeds) ** 0.5
    assert table.margin(values, values) == pytest.approx(STUDENT[freedom] * error, rel=2e-3)
    assert table.margin(values, [1.0]) is None
    assert table.margin([80.0, 80.0], [80.01, 80.01]) is None  # no spread: nothing is known of other seeds


def test_a_difference_of_differences_is_of_four_samples() -> None:
    values = [80.0, 81.0]
    error = (4 * statistics.variance(values) / 2) ** 0.5
    assert table.margin(values, values, values, values) == pytest.approx(STUDENT[4] * error, rel=2e-3)


def test_an_incomplete_study_says_what_is_missing_and_what_failed(tmp_path: Path) -> None:
    directory = study_directory(tmp_path, "loss")
    fill(directory, but=("cross-entropy", "only-redundancy"))
    failed = [cell for cell in directory.cells if cell.variant.name == "only-redundancy"]
    failed[0].finish({"failed": "the loss is not finite", "seconds": {}})
    rows = table.rows(directory, directory.studies[0])
    text = table.markdown(directory.studies[0], rows)
    assert "Missing: only-redundancy (seed 1); cross-entropy (seeds 0, 1)." in text
    assert "Failed: only-redundancy, seed 0: the loss is not finite" in text
    assert text.count("| only-redundancy | 0/2, 1 failed | - |") == 2  # accuracies beside the paper's, then embeddings
    assert "| baseline | 2/2 | 75.50 ± 0.71 | 80.50 ± 0.71 |" in text
    latex = table.latex(directory.studies[0], rows, "tiny")
    assert "on recipe tiny, 2 seeds; needs \\usepackage{booktabs}\n\\begin{tabular}{lrrrrrrr}\n" in latex
    assert "\nbaseline & 2/2 & 75.50 $\\pm$ 0.71 & 80.50 $\\pm$ 0.71 & " in latex
    assert latex.count("\\begin{tabular}") == latex.count("\\bottomrule\n\\end{tabular}\n") == 2
    assert "\n% Failed: only-redundancy, seed 0: the loss is not finite\n" in latex
    records = list(csv.DictReader(io.StringIO(table.as_csv(rows))))
    assert float(records[0]["linear_top1"]) == 80.5
    assert records[-1]["missing"] == "0 1"
    assert records[-1]["published_top1"] == "63.3"
    json.dumps(table.document(directory, directory.studies[0], rows))


def test_every_measured_column_stands_in_one_of_the_tables(tmp_path: Path) -> None:
    directory = study_directory(tmp_path, "loss")
    for number, cell in enumerate(directory.cells):
        cell.finish({"measures": dict.fromkeys(table.COLUMNS, 50.0 + number), "seconds": {}})
    rows = table.rows(directory, directory.studies[0])
    headers = [header for header, _ in table.tables(rows)]
    assert all(header[:2] == ["variant", "seeds"] and len(header) <= 9 for header in headers)
    beyond = [name for header in headers for name in header[2:]]
    assert sorted(beyond) == sorted([*table.COLUMNS.values(), "difference", "paper", "paper diff.", "verdict"])
    for row in rows:
        for column in ("rankme", "lidar", "feature_lidar", "alpha"):
            del row[column]
    assert len(table.tables(rows)) == len(headers) - 1


@pytest.mark.parametrize("name", studies.NAMES)
def test_every_study_is_drawn_complete_and_in_part(tmp_path: Path, name: str) -> None:
    directory = study_directory(tmp_path, name)
    study = directory.studies[0]
    assert (
        figure.save(study, table.rows(directory, study), "digits", tmp_path / name) == []
    )  # nothing measured: no figure
    fill(directory, but=(study.variants[1].name,))
    png, svg, pdf = figure.save(study, table.rows(directory, study), "digits", tmp_path / name)
    with Image.open(png) as picture:
        assert picture.width > 900
        assert len(picture.convert("RGB").resize((200, 120)).getcolors(24_000) or []) > 10
    assert xml.etree.ElementTree.parse(svg).getroot().tag.endswith("svg")
    assert pdf.read_bytes().startswith(b"%PDF-")
    assert b"/Type3" not in pdf.read_bytes()  # a kind of font that journals refuse
    before = svg.read_bytes(), pdf.read_bytes()
    figure.save(study, table.rows(directory, study), "digits", tmp_path / name)
    assert (svg.read_bytes(), pdf.read_bytes()) == before  # the same study, the same files


def test_published_points_are_drawn_where_the_paper_prints_them(tmp_path: Path) -> None:
    """Read back from the axes: Fig. 2's six numbers and the two comparisons, level with ours at the baseline."""
    directory = StudyDirectory(tmp_path, BASE, (studies.build("batch-size", BASE),), (0, 1))
    fill(directory)
    axes, right = figure.plot(directory.studies[0], table.rows(directory, directory.studies[0]), "digits").axes
    published = {line.get_label(): list(line.get_ydata()) for line in right.get_lines()}
    assert published[f"{figure.PAPER_LABEL}, right axis"] == [69.7, 70.7, 71.4, 71.7, 71.4, 70.7]
    assert published["BYOL, its best, paper, right axis"] == [72.5]
    assert right.get_ylim()[0] - axes.get_ylim()[0] == pytest.approx(69.7 - 80.5)  # baseline: batch 128
    for name in ("projector", "lambd"):
        one = StudyDirectory(tmp_path, BASE, (studies.build(name, BASE),), (0, 1))
        fill(one)
        assert len(figure.plot(one.studies[0], table.rows(one, one.studies[0]), "digits").axes) == 1


def test_a_figure_has_edges_where_there_are_axes(tmp_path: Path) -> None:
    edges = []
    settings: Any = style.matplotlib_settings()  # its stubs name every key
    for name in ("batch-size", "lambd"):
        one = StudyDirectory(tmp_path, BASE, (studies.build(name, BASE),), (0, 1))
        fill(one)
        with matplotlib.rc_context(settings):
            drawn = figure.plot(one.studies[0], table.rows(one, one.studies[0]), "digits")
        edges += [[edge for edge, line in axes.spines.items() if line.get_visible()] for axes in drawn.axes]
    assert edges == [["left", "bottom"], ["left", "right", "bottom"], ["left", "bottom"]]


def test_rows_and_steps_have_the_papers_points_in_their_places(tmp_path: Path) -> None:
    directory = study_directory(tmp_path, "loss", "drop-aug")
    fill(
        directory,
        top1=lambda cell: {"only-redundancy": 60.0, "crop-only": 75.0}.get(cell.variant.name, 80.0) + cell.seed,
    )
    loss, drop = (figure.plot(study, table.rows(directory, study), "digits").axes[0] for study in directory.studies)
    paper = [line for line in loss.get_lines() if line.get_label() == figure.PAPER_LABEL]
    points = {float(line.get_ydata()[0]): float(line.get_xdata()[0]) for line in paper}  # type: ignore[index,arg-type]
    names = [label.get_text() for label in loss.get_yticklabels()]
    papers_points = {names[round(place)]: value for place, value in points.items()}
    assert papers_points == pytest.approx(
        {"baseline": 0, "only-invariance": -14.1, "only-redundancy": -71.3, "feature-normalization": -1.6,
         "no-bn-in-mlp": -0.2, "no-bn-no-normalization": -18.0, "cross-entropy": -8.1}
    )  # fmt: skip
    ours = {names[round(float(box.lines[0].get_ydata()[0]))]: float(box.lines[0].get_xdata()[0])
            for box in loss.containers}  # type: ignore[attr-defined]  # fmt: skip
    assert ours["only-redundancy"] == pytest.approx(-20.0)
    assert ours["cross-entropy"] == 0.0
    lines = {line.get_label(): list(line.get_ydata()) for line in drop.get_lines()}
    assert lines["BYOL, paper (ImageNet)"] == pytest.approx([0, -2.2, -9.1, -11.4, -13.1])
    assert lines["SimCLR, paper (ImageNet)"] == pytest.approx([0, -6.0, -22.2, -26.2, -27.6])
    (box,) = drop.containers
    assert list(box.lines[0].get_ydata()) == [0, 0, 0, 0, -5]  # type: ignore[attr-defined]


def test_without_matplotlib_there_are_tables_and_the_way_to_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = study_directory(tmp_path, "asymmetry")
    fill(directory)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    files, why = write_results(directory)
    assert {file.name for file in files} == {f"asymmetry.{ending}" for ending in ("json", "csv", "md", "tex")}
    assert why is not None
    assert "pip install 'barlowctl[plots]'" in why


@pytest.mark.parametrize("damage", ["{", "[]", "\udcff"])
def test_a_damaged_record_is_named(tmp_path: Path, damage: str) -> None:
    directory = study_directory(tmp_path, "asymmetry")
    directory.open({"train": "here"})
    directory.cells[0].finish({"measures": {"knn": 1.0}, "seconds": {}})
    for file, read in (
        (tmp_path / "study.json", lambda: directory.open({})),
        (directory.cells[0].path / "cell.json", None),
    ):
        file.write_bytes(damage.encode(errors="surrogateescape"))
        with pytest.raises(UserError, match=file.name) as raised:
            read() if read else directory.cells[0].record
        assert str(file) in str(raised.value.next)


def test_the_tables_of_another_s_study_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A colleague's folder, which may be read: nothing was shown where the files could not be written."""
    directory = study_directory(tmp_path, "asymmetry", seeds=1)
    directory.open({"train": "here"})
    fill(directory)

    def refused(path: Path, text: str, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("barlowctl.study.cells.write_text", refused)
    command = StudyCommand(Console(), directory, directory.studies, Runtime(), None, 1)
    show_results(command, elsewhere=True)
    text = " ".join(capsys.readouterr().out.split())
    assert "stop-gradient 1/1 75.00 80.00" in text
    assert f"note: no files were written: '{tmp_path}' cannot be written to: Permission denied" in text
    assert text.endswith("4 of 4 cells are finished")
    with pytest.raises(PermissionError):
        show_results(command)
    for refused_file, folder in (
        (tmp_path / "study.json", tmp_path),
        (tmp_path / "cells" / "a" / "x", tmp_path / "cells" / "a"),
    ):
        error = PermissionError(errno.EACCES, "Permission denied", str(refused_file))
        assert not_writable(tmp_path, error).message == f"'{folder}' cannot be written to: Permission denied"


def test_what_changes_the_meaning_of_a_number_stands_below_the_table(tmp_path: Path) -> None:
    directory = study_directory(tmp_path, "loss", seeds=1)
    of_all, of_one = "kNN: k is 20 but the bank holds 9 images: all of them vote", "no kNN: all features are the same"
    for number, cell in enumerate(directory.cells):
        notes = [of_all, of_one] if number == 1 else [of_all]
        cell.finish({"measures": {"knn": None if number == 1 else 50.0}, "notes": notes, "seconds": {}})
    study = directory.studies[0]
    sentences = table.notes(study, table.rows(directory, study))
    assert f"Note on all variants: {of_all}." in sentences
    assert f"Note on {directory.cells[1].variant.name}: {of_one}." in sentences
    assert of_all in table.markdown(study, table.rows(directory, study))


def test_a_title_is_whole_whatever_a_recipe_is_called(tmp_path: Path) -> None:
    """It ran out of the figure, and two dollars made a formula of what stood between them."""
    settings: Any = style.matplotlib_settings()  # its stubs name every key
    for name, letters in (("loss", 84 - len("no-bn-no-normalization")), ("batch-size", 84)):
        directory = study_directory(tmp_path / name, name)
        fill(directory)
        study = directory.studies[0]
        recipe = f"{'x' * 70} $\\broken$"
        rows = table.rows(directory, study)
        with matplotlib.rc_context(settings):
            title = figure.plot(study, rows, recipe).axes[0].get_title(loc="left")
        assert max(map(len, title.splitlines())) <= letters
        assert r"\$\broken\$" in title
        assert figure.save(study, rows, recipe, tmp_path / f"{name}-figure")
