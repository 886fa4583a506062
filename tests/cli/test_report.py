"""`barlowctl report`: one page that holds everything, and stands alone."""

from __future__ import annotations

import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from barlowctl.cli.app import run as barlowctl

Captured = pytest.CaptureFixture[str]
VOID = {"meta", "img"}


class Reader(HTMLParser):
    """Checks that tags nest, and keeps the text and what the page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.fetched: list[str] = []
        self.counts: dict[str, int] = {}

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.fetched += [value or "" for key, value in attributes if key in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text())
    assert reader.open == []
    assert all(value.startswith("data:") for value in reader.fetched)  # nothing from anywhere else
    return reader


def test_images_in_a_folder_that_is_not_utf_8(recipe: Path, trained: Path, tmp_path: Path, capsys: Captured) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run, ignore=shutil.ignore_patterns("probe-*"))
    result = json.loads((run / "run.json").read_text())
    result["facts"] = {**result["facts"], "data": os.fsdecode(b"/bilder/l\xe4ufe: 400 images")}
    (run / "run.json").write_text(json.dumps(result))
    assert barlowctl(["report", str(run), "--no-images", "--out", "r.html", "--threads", "1"]) == 0
    assert r"/bilder/l\udce4ufe: 400 images" in read(Path("r.html")).text


def test_one_run_with_its_probes(recipe: Path, trained: Path, tmp_path: Path, capsys: Captured) -> None:
    run = tmp_path / "<b>run"
    shutil.copytree(trained, run, ignore=shutil.ignore_patterns("probe-*"))
    assert barlowctl(["probe", str(run), "--pixels", "--threads", "1", "--quiet"]) == 0
    transferred = {"task": "voc07", "metric": "mAP (11 points)", "value": 12.345, "protocol": "SVMs"}
    (run / "transfer-voc07.json").write_text(json.dumps(transferred))
    capsys.readouterr()
    assert barlowctl(["report", str(run), "--threads", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    page = read(run / "report.html")
    assert result["bytes"] == (run / "report.html").stat().st_size
    probe = json.loads((run / "probe-digits.json").read_text())
    for text in (
        "<b>run",  # escaped, so it is text
        f"{probe['linear']['top1']:.2f}",
        f"{probe['floors'][0]['knn']['top1']:.2f}",
        "12.35",
        "Barlow Twins",
        "73.2",  # Table 1
        "Nearest neighbours",
        "Singular values of C",
        'dataset = "digits"',
    ):
        assert text in page.text, text
    assert page.counts["svg"] >= 12  # curves and spectra
    assert page.counts["img"] == 5  # C first and last, views, neighbours, confusion
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = [record for record in metrics if record["event"] == "evaluation"][-1]
    assert f"kNN: {last['knn']:.4g} at step 20" in page.text.replace("run: ", "kNN: ")


def test_detectors_have_all_their_scores_beside_the_papers(
    recipe: Path, trained: Path, tmp_path: Path, capsys: Captured
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run, ignore=shutil.ignore_patterns("probe-*"))
    about = {"task": "coco", "metric": "AP", "value": 21.5, "head": "fpn", "protocol": "SGD, 9 iterations"}
    scores = {"AP": 21.5, "AP50": 40.25, "mask AP75": None}
    spread = {"AP": 0.5, "AP50": 1.25, "mask AP75": None}
    beside = {"name": "random backbone", "scores": {"AP": 3.0, "AP50": 6.5}}
    result = {**about, "scores": scores, "scores_sd": spread, "floors": [beside], "published": {}}
    (run / "transfer-coco.json").write_text(json.dumps(result))
    assert barlowctl(["report", str(run), "--no-images", "--out", "r.html", "--threads", "1"]) == 0
    page = read(Path("r.html")).text
    for row in (
        "runcocoAP21.50 ± 0.50fpn head; SGD, 9 iterations",
        "runcocoAP5040.25 ± 1.25the same detector",
        "runcocomask AP75not reportedthe same detector",
        "random backbonecocoAP3.00fpn head; SGD, 9 iterations",
        "random backbonecocoAP506.50the same detector",
        "The paper's table 4: detection",
        "Barlow Twins56.882.663.439.259.042.534.356.036.5",
    ):
        assert row in page, row


def test_several_runs_and_what_differs(recipe: Path, trained: Path, tmp_path: Path, capsys: Captured) -> None:
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    text = (other / "recipe.toml").read_text()
    (other / "recipe.toml").write_text(text.replace("lambd = 0.02", "lambd = 0.5"))
    (other / "result.json").unlink()  # stopped
    with open(other / "metrics.jsonl", "a") as stream:
        stream.write('{"event": "step", "st')  # cut short
    out, probes = tmp_path / "both.html", tmp_path / "runs" / "probes"  # which `report runs/*` names too
    probes.mkdir(parents=True)
    assert barlowctl(["report", str(trained), str(other), str(probes), "--no-images", "--out", str(out)]) == 0
    assert f"note: left out: '{probes}' holds probes of networks that are no runs" in capsys.readouterr().out
    page = read(out)
    assert "objective.lambd0.020.5" in page.text
    assert "not finished" in page.text
    assert re.search(r"run.*other", page.text)


def test_without_the_images_the_rest_remains(trained: Path, tmp_path: Path, capsys: Captured) -> None:
    """No data home here, and no file where it was: the dataset is not found, which is said."""
    out, run = tmp_path / "page.html", shutil.copytree(trained, tmp_path / "run")
    about = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**about, "data": {**about["data"], "path": "/nowhere/train.beton"}}))
    assert barlowctl(["report", str(run), "--out", str(out)]) == 0
    assert "no previews or neighbours: 'digits' is no data set" in capsys.readouterr().out
    assert "no previews or neighbours" in read(out).text


def test_refusals(trained: Path, tmp_path: Path, capsys: Captured) -> None:
    assert barlowctl(["report", str(tmp_path)]) == 2
    assert "is not a run" in capsys.readouterr().err
    (tmp_path / "page.html").write_text("of other runs")
    assert barlowctl(["report", str(trained), "--out", str(tmp_path / "page.html")]) == 2
    assert "exists and is not overwritten" in capsys.readouterr().err
    assert (tmp_path / "page.html").read_text() == "of other runs"
    assert barlowctl(["report", str(trained), "--out", "page.pdf"]) == 2
    assert "ends in .html" in capsys.readouterr().err
    assert barlowctl(["report"]) == 2
    assert "no finished run" in capsys.readouterr().err


def test_a_page_of_several_runs_takes_no_place_of_another(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("report.html").write_text("of other runs")
    assert barlowctl(["report", str(trained), str(trained), "--no-images", "--threads", "1"]) == 0
    assert "written to report-2.html" in capsys.readouterr().out
    assert Path("report.html").read_text() == "of other runs"
