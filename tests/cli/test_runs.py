"""`barlowctl runs`: what another terminal sees of runs that are finished, stopped, and going on."""

from __future__ import annotations

import fcntl
import json
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from barlowctl.cli.app import run as barlowctl
from barlowctl.cli.chart import chart
from barlowctl.plots.panels import curves

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def runs(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runs home with `first`, finished, and `second`: stopped half-way, with another seed."""
    home = tmp_path / "runs"
    for name in ("first", "second"):
        shutil.copytree(trained, home / name)
    second = home / "second"
    (second / "result.json").unlink()
    text = (second / "recipe.toml").read_text()
    (second / "recipe.toml").write_text(text.replace("seed = 0", "seed = 1", 1))
    lines = (second / "metrics.jsonl").read_text().splitlines(keepends=True)
    (second / "metrics.jsonl").write_text("".join(lines[: len(lines) // 2]) + '{"event": "st')
    newest = max((second / "checkpoints").glob("step-*"))
    newest.rename(newest.with_name("step-00000017"))  # where it was stopped, between two records
    about = json.loads((second / "run.json").read_text())
    (second / "run.json").write_text(json.dumps({**about, "started": "2999-01-01T00:00:00+0000"}))
    (home / "damaged").mkdir()
    (home / "damaged" / "run.json").write_text("{")
    monkeypatch.setenv("BARLOWCTL_RUNS", str(home))
    return home


def document(capsys: Captured, *arguments: str) -> dict:
    assert barlowctl(["runs", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_list_says_state_and_progress_newest_first(runs: Path, capsys: Captured) -> None:
    rows = document(capsys, "list")["runs"]
    assert [(run["name"], run["state"]) for run in rows] == [("second", "stopped"), ("first", "finished")]
    assert rows[1]["step"] == rows[1]["total_steps"] == 20
    assert rows[0]["step"] == 17
    records = map(json.loads, (runs / "first" / "metrics.jsonl").read_text().splitlines())
    curve = [record["knn"] for record in records if "knn" in record]
    assert (rows[1]["knn"], rows[1]["best_knn"]) == (curve[-1], max(curve))
    assert barlowctl(["runs", "list"]) == 0
    assert "20 of 20" in capsys.readouterr().out


def test_a_run_that_is_held_is_running(runs: Path, capsys: Captured) -> None:
    with open(runs / "second" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert document(capsys, "list")["runs"][0]["state"] == "running"
        assert document(capsys, "show", "second")["state"] == "running"
    assert document(capsys, "show", "second")["state"] == "stopped"


def test_looking_does_not_disturb_the_process_that_trains(runs: Path) -> None:
    from barlowctl.runs import rundir

    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            rundir.is_held(runs / "second")

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(20):
            with rundir.lock(runs / "second"):  # a UserError if looking held the lock
                assert rundir.is_held(runs / "second")
    finally:
        stop.set()
        thread.join()


def test_show_has_facts_values_and_curves(runs: Path, capsys: Captured) -> None:
    summary = document(capsys, "show", "first")
    assert summary["facts"]["recipe"] == "digits"
    assert {"loss", "invariance", "redundancy", "knn"} <= set(summary["values"])
    assert barlowctl(["runs", "show", str(runs / "first")]) == 0
    text = capsys.readouterr().out
    assert "finished, step 20 of 20" in text
    assert "step-00000020" in text
    assert document(capsys, "show")["name"] == "second"  # the newest


def test_compare_draws_terms_and_knn_of_several_runs(runs: Path, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "curves.png"
    comparison = document(capsys, "compare", "first", "second", "--out", str(out))
    assert set(comparison["curves"]) == {"loss", "invariance", "redundancy", "knn"}
    assert set(comparison["curves"]["loss"]) == {"first", "second"}
    assert comparison["runs"][1]["changes"] == {"seed": 1}
    with Image.open(out) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image, dtype=np.int64).reshape(-1, 3)
        for color in ((0, 114, 178), (213, 94, 0)):  # a line of each
            assert (np.abs(pixels - color).max(axis=1) < 20).sum() > 100
    for ending, start in (("pdf", b"%PDF-"), ("svg", b"<?xml")):
        document(capsys, "compare", "first", "second", "--out", str(out.with_suffix(f".{ending}")))
        assert out.with_suffix(f".{ending}").read_bytes().startswith(start)
    before = out.read_bytes()
    assert barlowctl(["runs", "compare", "first", "--out", str(out)]) == 2
    assert f"'{out}' exists and is not overwritten" in capsys.readouterr().err
    assert out.read_bytes() == before
    assert barlowctl(["runs", "compare", "first", "second"]) == 0
    text = capsys.readouterr().out
    assert "o first   x second" in text
    assert "second against first: seed = 1" in text
    same = document(capsys, "compare", str(runs / "first"), "first")
    assert len(same["curves"]["loss"]) == 1  # one run twice is one run


@pytest.mark.parametrize("command", ["compare", "table", "best"])
def test_every_folder_of_the_runs_home_may_be_named(command: str, runs: Path, capsys: Captured) -> None:
    """As `runs/*` does in a shell: that of probes of exports is left out, and alone it is refused."""
    (runs / "probes" / "export").mkdir(parents=True)
    names = [str(path) for path in sorted(runs.iterdir()) if path.name != "damaged"]
    assert barlowctl(["runs", command, *names]) == 0
    assert f"note: left out: '{runs / 'probes'}' holds probes of networks that are no runs" in capsys.readouterr().out
    assert barlowctl(["runs", command, str(runs / "probes")]) == 2
    assert f"error: '{runs / 'probes'}' is not a run" in capsys.readouterr().err


def test_terms_of_one_name_and_several_meanings_are_drawn_apart(runs: Path, capsys: Captured, tmp_path: Path) -> None:
    """A spread of projections is not drawn beside one of queries; whoever reads JSON has both under their key."""
    for name, meaning in (("first", "of the projections"), ("second", "of the queries")):
        about = json.loads((runs / name / "run.json").read_text())
        (runs / name / "run.json").write_text(json.dumps({**about, "terms": {"invariance": meaning}}))
    assert barlowctl(["runs", "compare", "first", "second", "--out", str(tmp_path / "curves.png")]) == 0
    text = capsys.readouterr().out
    charts = {chart.partition("\n")[0]: chart for chart in text.split("\n\n")[1:]}
    assert [
        ("o" in chart.replace("of", ""), "x" in chart)
        for title, chart in charts.items()
        if title.startswith("invariance: of the ")
        for chart in [chart.partition("\n")[2].partition("+--")[0]]
    ] == [(True, False), (False, True)]
    assert any("losses of different methods are not on one scale" in title for title in charts)
    assert set(document(capsys, "compare", "first", "second")["curves"]["invariance"]) == {"first", "second"}


def test_show_says_what_each_number_is(runs: Path, capsys: Captured) -> None:
    assert barlowctl(["runs", "show", "first"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "(of the features: 1 directions spread evenly, 0 collapsed)" in text
    assert "(effective rank of the embeddings, projector included" in text


def test_watch_follows_until_the_run_stops(runs: Path, capsys: Captured) -> None:
    metrics = runs / "second" / "metrics.jsonl"
    metrics.write_text("")
    shutil.rmtree(runs / "second" / "checkpoints")
    lock = open(runs / "second" / "lock", "w")  # noqa: SIM115 - closed by the thread
    fcntl.flock(lock, fcntl.LOCK_EX)

    def train() -> None:
        for step in (1, 2, 3):
            time.sleep(0.2)
            with open(metrics, "a") as file:
                file.write(json.dumps({"event": "step", "step": step, "epoch": 0, "loss": 10.0 / step}) + "\n")
        time.sleep(0.2)
        lock.close()

    thread = threading.Thread(target=train)
    thread.start()
    assert barlowctl(["runs", "watch", "second", "--every", "0.1"]) == 0
    thread.join()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines if line.startswith("step ")] == ["1", "2", "3"]
    assert lines[-2].startswith("second: stopped at step 3 of 20")
    assert lines[-1] == f"next: barlowctl pretrain --resume {runs / 'second'} --threads 1"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["show", "frist"], "did you mean 'first'"),
        (["compare", "first", "--out", "curves.txt"], "ends in .png"),
        (["watch", "nowhere"], "not a run"),
    ],
)
def test_wrong_input_is_refused(runs: Path, capsys: Captured, arguments: list[str], says: str) -> None:
    assert barlowctl(["runs", *arguments]) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert "Traceback" not in captured.err


def test_without_runs_the_next_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("BARLOWCTL_RUNS", str(tmp_path / "none"))
    assert barlowctl(["runs", "list"]) == 0
    assert "barlowctl pretrain --recipe quickstart" in capsys.readouterr().out
    assert barlowctl(["runs", "show"]) == 2
    assert "no run in" in capsys.readouterr().err


def test_charts_leave_out_what_is_not_finite() -> None:
    lines = chart("loss", {"a": [(1, 1.0), (2, float("nan")), (3, 3.0)], "b": []})
    assert sum(line.count("o") for line in lines[1:-2]) == 2
    assert chart("loss", {"a": []}) == ["loss: nothing recorded yet"]
    assert curves({"loss": {"a": [(1, 1.0), (2, float("inf"))]}}).size[0] > 0


def test_what_the_records_lost_is_said_wherever_they_are_shown(
    runs: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were left out without a word; bytes that are no text were an internal error of `report`."""
    file = runs / "first" / "metrics.jsonl"
    lines = file.read_bytes().splitlines()
    lines[2] = b"\xff\x00" + lines[2][:20]
    file.write_bytes(b"\n".join(lines) + b"\n")
    lost = f"metrics.jsonl lost records: line 3 of {len(lines)} cannot be read"
    for command in (["runs", "show", "first"], ["runs", "watch", "first"], ["runs", "compare", "first", "second"]):
        assert barlowctl(command) == 0
        assert f"note: first: {lost}" in " ".join(capsys.readouterr().out.split())
    assert document(capsys, "show", "first")["damage"] == lost
    assert barlowctl(["report", str(runs / "first"), "--no-previews"]) == 0
    assert f"note: first: {lost}" in " ".join("".join(capsys.readouterr()).split())
    assert lost in (runs / "first" / "report.html").read_text()
    half = document(capsys, "show", "second")
    assert half["damage"].endswith("cannot be read; steps 11 to 17, which were made, have no record")
