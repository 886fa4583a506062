"""`barlowctl runs table`: what is written into a file is what a paper takes."""

from __future__ import annotations

import csv
import json
import shutil
import statistics
from pathlib import Path

import pytest

from barlowctl.cli.app import run as barlowctl

Captured = pytest.CaptureFixture[str]
MEASURED = shutil.ignore_patterns("probe*", "transfer*")
"""What other tests may have left in a run that all of them share."""


@pytest.fixture
def runs(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runs home with `a-0` and `a-1`, two seeds with a kNN of 40 and 43 at their end, and `b`, of another lambd."""
    home = tmp_path / "runs"
    for name, seed, lambd, knn in (("a-0", 0, 0.02, 40.0), ("a-1", 1, 0.02, 43.0), ("b", 0, 0.5, 30.0)):
        run = Path(shutil.copytree(trained, home / name, ignore=MEASURED))
        text = (run / "recipe.toml").read_text()
        text = text.replace("seed = 0", f"seed = {seed}", 1).replace("lambd = 0.02", f"lambd = {lambd}")
        (run / "recipe.toml").write_text(text)
        record = {"event": "evaluation", "step": 20, "epoch": 1, "knn": knn}
        with (run / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")
    monkeypatch.setenv("BARLOWCTL_RUNS", str(home))
    monkeypatch.chdir(tmp_path)
    return home


def test_seeds_are_a_row_in_latex_markdown_and_csv(runs: Path, capsys: Captured) -> None:
    for ending in ("tex", "md", "csv"):
        assert barlowctl(["runs", "table", "a-0", "a-1", "b", "--out", f"table.{ending}"]) == 0
    spread = statistics.stdev([40.0, 43.0])
    lines = Path("table.tex").read_text().splitlines()
    assert lines[0] == r"% needs \usepackage{booktabs}"
    assert r"runs & objective.lambd & seeds & online kNN \\" in lines
    assert rf"a & 0.02 & 2 & 41.50 $\pm$ {spread:.2f} \\" in lines
    assert r"b & 0.5 & 1 & 30.00 \\" in lines
    written = Path("table.md").read_text().splitlines()
    assert f"| a | 0.02 | 2 | 41.50 ± {spread:.2f} |" in written
    assert written[-4:-1] == ["", "- accuracies are in percent.", "- mean ± sample standard deviation over seeds."]
    assert written[-1].startswith("- online: ")
    rows = list(csv.DictReader(Path("table.csv").read_text().splitlines()))
    assert [(row["label"], row["runs"], row["online kNN n"]) for row in rows] == [
        ("a", "a-0 a-1", "2"),
        ("b", "b", "1"),
    ]
    assert float(rows[0]["online kNN sd"]) == pytest.approx(spread)
    assert rows[1]["online kNN sd"] == ""
    assert "mean ± sample standard deviation over seeds" in capsys.readouterr().out


def test_a_table_is_written_over_only_when_that_is_meant(runs: Path, capsys: Captured) -> None:
    Path("table.md").write_text("mine")
    assert barlowctl(["runs", "table", "--out", "table.md"]) == 2
    assert "next: barlowctl runs table --out table-2.md" in capsys.readouterr().err
    assert Path("table.md").read_text() == "mine"
    assert barlowctl(["runs", "table", "--out", "table.md", "--overwrite"]) == 0
    assert Path("table.md").read_text().startswith("| runs |")


def test_a_run_that_cannot_be_read_is_left_out_by_name(runs: Path, capsys: Captured) -> None:
    (runs / "a-1" / "run.json").write_text("{")
    assert barlowctl(["runs", "table", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["label"] for row in document["rows"]] == ["a-0", "b"]
    (note,) = [note for note in document["notes"] if note.startswith("left out: ")]
    assert str(runs / "a-1" / "run.json") in note


def test_columns_are_chosen_by_name(runs: Path, capsys: Captured) -> None:
    columns = ["--measures", "effective_rank,knn", "--settings", "optimizer.lr,train.batch_size"]
    assert barlowctl(["runs", "table", *columns, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (row, _) = document["rows"]
    assert row["runs"] == ["a-0", "a-1"]
    assert (row["optimizer.lr"], row["train.batch_size"]) == (2e-3, 128)
    assert row["Effective rank n"] == 2
    assert barlowctl(["runs", "table", *columns]) == 0
    header = capsys.readouterr().out.splitlines()[1].split("  ")
    assert [word.strip() for word in header if word.strip()] == [
        "runs", "optimizer.lr", "train.batch_size", "seeds", "Effective rank", "online kNN"
    ]  # fmt: skip
    assert barlowctl(["runs", "table", "--measures", "effective_rnk"]) == 2
    assert "next: barlowctl runs table --measures effective_rank" in capsys.readouterr().err
    assert barlowctl(["runs", "table", "--settings", "lambd"]) == 2
    assert "next: barlowctl runs table --settings objective.lambd" in capsys.readouterr().err


def transferred(run: Path, name: str, task: str, value: float, images: str, protocol: dict[str, object]) -> None:
    """A result of `transfer` in a run's folder."""
    identity = {"images": {"train": images, "test": "t"}, "protocol": protocol}
    result = {"task": task, "value": value, "identity": identity}
    (run / f"transfer-{name}.json").write_text(json.dumps(result))


def test_columns_of_one_name_say_what_they_are_of(runs: Path, capsys: Captured) -> None:
    fast, paper = {"name": "fast", "seeds": 1, "set": []}, {"name": "paper", "seeds": 1, "set": ["epochs=2"]}
    transferred(runs / "b", "inat18", "inat18", 40.0, "i", fast)
    transferred(runs / "b", "inat18-b", "inat18", 50.0, "i", paper)
    long = {"protocol": {"iterations": 9, "masks": True, "short_sides": [*range(9)]}}
    transferred(runs / "b", "coco", "coco", 0.2083, "c", long)
    transferred(runs / "b", "coco-b", "coco", 56.8, "other", {"protocol": {"iterations": 9, "masks": False}})
    transferred(runs / "b", "voc07", "voc07", 60.0, "v", {"pooling": "2x2"})
    assert barlowctl(["runs", "table", "b", "--out", "table.tex", "--overwrite"]) == 0
    lines = Path("table.tex").read_text().splitlines()
    assert r"runs & seeds & online kNN & coco AP & coco AP (2) & inat18 & inat18 (2) & voc07 \\" in lines
    assert r"b & 1 & 30.00 & 56.80 & 0.21 & 50.00 & 40.00 & 60.00 \\" in lines
    notes = [line.removeprefix("% ") for line in lines if line.startswith("% ") and ": " in line]
    first, second = ("masks false, short_sides as by default", "masks true, short_sides 9 values")
    images = [line.partition("images ")[2][:8] for line in notes if line.startswith("coco")]
    assert len(set(images)) == 2
    assert [line for line in notes if not line.startswith("online")] == [
        f"coco AP: images {images[0]}, {first}",
        f"coco AP (2): images {images[1]}, {second}",
        "inat18: protocol paper, set epochs=2",
        "inat18 (2): protocol fast, set as by default",
    ]
