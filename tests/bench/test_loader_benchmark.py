"""The benchmark of the loader: real rows in turns on a few images, and arithmetic that can be checked by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from barlowctl.bench import loader as module
from barlowctl.bench.benchmark_process import BenchmarkProcess, Measured
from barlowctl.bench.photographs import write_photographs
from barlowctl.bench.process_tree import cpu_seconds, members, memory_bytes
from barlowctl.cli.app import run
from barlowctl.data.beton.reader import Beton
from barlowctl.errors import UserError

KEYS = {"name", "images_per_second", "cpu_ms_per_image", "ratio_cpu", "ratio_wall", "peak_mb", "n"}


@pytest.mark.parametrize("measured", ["ours", pytest.param("ours,authors", marks=pytest.mark.slow)])
def test_rows_are_measured_on_made_images(measured: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--samples", "24", "--per-round", "16", "--batch", "8", "--size", "48", "--rounds", "2", "--workers", "1"]
    assert run(["bench", "loader", "--rows", measured, "--json", *flags]) == 0
    document = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in document["rows"]}
    assert list(rows) == sorted(measured.split(","))
    for row in rows.values():
        assert set(row) >= KEYS
        assert row["n"] == 2
        assert row["images_per_second"] > 0
        assert 30 < row["peak_mb"] < 4000
    if "authors" in rows:
        assert rows["authors"]["ratio_cpu"] == rows["authors"]["ratio_wall"] == 1.0
        assert rows["ours"]["ratio_cpu"] > 1.0
    assert document["set"]["images"] == 24
    assert document["round"] == {"images": 16, "batch": 8, "size": 48, "workers": 1}


LAYOUTS = {"class folders": "jpegs/{0}/{1}", "a pile": "jpegs/{1}", "splits": "jpegs/train/{0}/{1}"}


def own_images(tmp_path: Path, layout: str) -> list[Path]:
    """All that lies below `jpegs`: twelve pictures."""
    write_photographs(tmp_path / "made", 12)
    for path in (tmp_path / "made").rglob("*.jpg"):
        target = tmp_path / LAYOUTS[layout].format(path.parent.name, path.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    return sorted((tmp_path / "jpegs").rglob("*"))


FEW = ["--per-round", "8", "--batch", "4", "--size", "32", "--rounds", "1", "--samples", "8"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_own_images_are_packed_for_the_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    before = own_images(tmp_path, layout)

    def process(name: str, pipeline: str, settings: dict[str, Any], *, optional: bool) -> tuple[str, dict[str, Any]]:
        assert (pipeline, optional) == (module.PIPELINE, False)
        return name, settings

    def measure(processes: list[tuple[str, dict[str, Any]]], rounds: int, progress: object) -> list[Measured]:
        ((name, settings),) = processes
        assert Beton.open(Path(settings["packed"])).num_samples == 8
        assert len(list(Path(settings["folder"]).rglob("*.jpg"))) == 8
        return [Measured(name, [10.0] * rounds, [2.0] * rounds, 1 << 20)]

    monkeypatch.setattr(module, "BenchmarkProcess", process)
    monkeypatch.setattr(module, "measure_in_turns", measure)
    assert run(["bench", "loader", "--data", str(tmp_path / "jpegs"), "--rows", "ours-geometric", *FEW]) == 0
    output = capsys.readouterr().out
    assert "ours-geometric" in output
    assert "8 JPEGs" in output
    assert sorted((tmp_path / "jpegs").rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "rows"),
    [
        ("class folders", ["ours-geometric"]),
        ("class folders", ["ours-geometric", "ours-multi-crop"]),
        ("a pile", ["ours-geometric"]),
        ("splits", ["ours-geometric"]),
    ],
)
def test_own_images_and_no_reference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: str, rows: list[str]
) -> None:
    before = own_images(tmp_path, layout)
    assert run(["bench", "loader", "--data", str(tmp_path / "jpegs"), "--rows", ",".join(rows), *FEW]) == 0
    output = capsys.readouterr().out
    assert all(row in output for row in rows)
    assert "8 JPEGs" in output
    assert sorted((tmp_path / "jpegs").rglob("*")) == before


def test_a_folder_without_jpegs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "loader", "--data", str(tmp_path)]) == 2
    assert "there are no JPEGs below" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--rows", "our"], "there is no row 'our', did you mean 'ours'?"),
        (["--rows", "our"], "next: barlowctl bench loader --rows ours"),
        (["--data", "nowhere"], "nowhere is not a folder"),
    ],
)
def test_bad_input(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "loader", *flags]) == 2
    assert message in capsys.readouterr().err


def test_what_is_not_installed_is_left_out_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_is_installed", lambda name: name != "lightly")
    chosen, left_out = module.choose_rows([])
    assert chosen == [row for row in module.ROWS if row != "lightly"]
    assert left_out == {"lightly": "lightly is not installed"}
    with pytest.raises(UserError, match="needs lightly") as refused:
        module.choose_rows(["ours", "lightly"])
    assert refused.value.allowed == f"{', '.join(chosen)}; others once pip has installed what they need"


def test_a_pipeline_that_fails_is_named(tmp_path: Path) -> None:
    from barlowctl.bench.benchmark_process import measure_in_turns

    processes = [BenchmarkProcess("ours", module.PIPELINE, {"folder": "x", "packed": str(tmp_path / "no.beton")})]
    with pytest.raises(UserError, match="the pipeline 'ours' failed"):
        measure_in_turns(processes, 1, lambda text: None)


@pytest.mark.slow
def test_an_optional_pipeline_that_fails_leaves_the_others_running(tmp_path: Path) -> None:
    from barlowctl.bench.benchmark_process import measure_in_turns

    write_photographs(tmp_path / "jpegs", 8)
    settings = {"folder": str(tmp_path / "jpegs"), "images": 8, "batch": 4, "size": 32, "workers": 0}
    processes = [
        BenchmarkProcess("ours", module.PIPELINE, {**settings, "packed": str(tmp_path / "no.beton")}, optional=True),
        BenchmarkProcess("authors", module.PIPELINE, {**settings, "packed": ""}),
    ]
    reason: list[str] = []
    broken, works = measure_in_turns(processes, 1, reason.append)
    assert broken.failed is not None
    assert "no.beton" in broken.failed
    assert reason[0] == f"ours: {broken.failed}"
    assert works.failed is None
    assert len(works.rates) == 1


def test_a_process_that_the_system_killed_is_told_from_one_that_ended(tmp_path: Path) -> None:
    for name, ending in (("killed", "os.kill(os.getpid(), 9)"), ("left", "os._exit(1)")):
        (tmp_path / f"{name}.py").write_text(f"import os\n{ending}\n")
        process = BenchmarkProcess("ours", name, {}, environment={"PYTHONPATH": str(tmp_path)})
        with pytest.raises(UserError) as raised:
            process.start()
        reason = "its process was killed: not enough memory?" if name == "killed" else "its process ended"
        assert raised.value.message == f"the pipeline 'ours' failed: {reason}"


def test_ratios_are_taken_round_by_round() -> None:
    theirs = Measured("authors", rates=[10.0, 20.0, 10.0], cpu_ms=[8.0, 4.0, 6.0], peak=2_000_000)
    ours = Measured("ours", rates=[40.0, 40.0, 30.0], cpu_ms=[1.0, 1.0, 2.0], peak=1_000_000)
    first, second = module.summarize([theirs, ours])
    assert first["ratio_cpu_range"] == [1.0, 1.0]
    assert (second["ratio_cpu"], second["ratio_cpu_range"]) == (4.75, [3.0, 8.0])
    assert second["ratio_cpu_by_order"] == [5.5, 4.0]  # rounds 1 and 3, and round 2
    assert (second["ratio_wall"], second["ratio_wall_range"]) == (2.75, [2.0, 4.0])
    assert (second["images_per_second"], second["cpu_ms_per_image"], second["peak_mb"]) == (37.5, 1.25, 1)
    assert module.summarize([ours])[0]["ratio_cpu"] is None


def test_a_process_tree_is_counted_with_its_children() -> None:
    script = (
        "import subprocess, sys; child = [sys.executable, '-c', 'x = bytearray(10**8)\\nwhile True: pass'];"
        "p = subprocess.Popen(child); print(p.pid, flush=True); input(); p.kill()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        while cpu_seconds(process.pid) < 0.3:
            pass
        assert set(members(process.pid)) == {process.pid, child}
        assert memory_bytes(process.pid) > 10**8
        assert cpu_seconds(process.pid) > 0.25
        process.communicate("\n")


def test_the_photographs_are_near_imagenets_size(tmp_path: Path) -> None:
    from PIL import Image

    write_photographs(tmp_path / "jpegs", 20)
    sizes = []
    for path in sorted((tmp_path / "jpegs").glob("?/*.jpg")):
        with Image.open(path) as image:
            sizes.append(image.size)
    assert len(sizes) == 20
    assert all(330 < min(size) < 420 < max(size) < 560 for size in sizes)
    assert any(height > width for width, height in sizes)
