"""`make gpu-check`: what it runs exists, fits its time, and ends on one page whatever happens."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from barlowctl.cli.app import commands
from barlowctl.recipe import load
from benchmarks import gpu_check

CHECKOUT = Path(__file__).resolve().parents[1]
BUDGET = 25.0  # minutes, of all sections but the run on Fashion-MNIST


@pytest.mark.parametrize("rehearse", [False, True])
def test_every_command_is_one_that_barlowctl_has(rehearse: bool, tmp_path: Path) -> None:
    root = commands()
    for section in gpu_check.sections(rehearse, tmp_path):
        for command in section.commands:
            if command[:3] != gpu_check.BARLOWCTL:
                assert command[1:3] == ("-m", "pytest")
                continue
            words, known = list(command[3:]), root
            while hasattr(known, "commands"):
                known = known.commands[words.pop(0)]
            context = known.make_context("barlowctl", list(words), resilient_parsing=False)
            settings = context.params.get("overrides") or []
            if "recipe" in context.params:
                load.load(context.params["recipe"], settings)


def test_it_takes_less_than_its_time(tmp_path: Path) -> None:
    assert sum(section.minutes for section in gpu_check.sections(rehearse=False) if not section.alone) <= BUDGET
    names = [section.name for section in gpu_check.sections(False, tmp_path)]
    assert names[0] == "tests"
    assert names[-1] == "run"


def test_a_page_holds_what_was_printed_and_how_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    good = (sys.executable, "-c", "print('ours: ready\\nours: round 1 of 5, 48 images/s\\nours: 2.5 ms')")
    bad = (sys.executable, "-c", "print('before it broke'); raise SystemExit(3)")
    slow = (sys.executable, "-c", "print('begun', flush=True); import time; time.sleep(60)")
    listed = [
        gpu_check.Section("first", "what works", 1.0, (good, bad)),
        gpu_check.Section("second", "what takes too long", 0.025, (slow,)),
        gpu_check.Section("third", "what comes after it", 1.0, (good,)),
    ]
    shows = (sys.executable, "-c", "import os; print(os.environ['TUNED'])")
    listed.append(gpu_check.Section("tuned", "another setting", 1.0, (shows,), {"TUNED": "yes"}, alone=True))
    runs: list[Path] = []

    def sections(rehearse: bool, fashion_mnist: Path | None, folder: Path) -> list[gpu_check.Section]:
        runs.append(folder)
        (folder / "run").mkdir()
        return listed

    monkeypatch.setattr(gpu_check, "sections", sections)
    monkeypatch.setattr(sys, "argv", ["gpu_check", "--rehearse", "--out", str(page)])
    assert gpu_check.main() == 1
    text = page.read_text()
    printed = [part.strip().splitlines() for part in text.split("```")[1::2]]
    assert printed == [["ours: 2.5 ms"], ["before it broke"], ["begun"], ["ours: 2.5 ms"]]
    ended = [line.rpartition(" (")[2] for line in text.splitlines() if line.startswith("`python")]
    assert [line.partition("exit code ")[2] for line in ended] == ["", "3)", "124)", ""]
    assert text.index("what takes too long") < text.index("what comes after it")
    monkeypatch.setattr(sys, "argv", ["gpu_check", "--rehearse", "--only", "tuned", "--out", str(page)])
    assert gpu_check.main() == 0
    assert "```\nyes\n```" in page.read_text()
    assert "`TUNED=yes python -c" in page.read_text()
    assert len(runs) == 2
    assert not any(folder.exists() for folder in runs)  # what was trained goes when it ends
    assert "failed: first, second" in capsys.readouterr().out


def test_a_machine_without_a_gpu_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.missing(rehearse=True) is None
    assert "GPU_CHECK=--rehearse" in gpu_check.missing(rehearse=False)


def test_an_interpreter_without_torch_is_named(tmp_path: Path) -> None:
    """-S: without site-packages."""
    done = subprocess.run(
        [sys.executable, "-S", str(CHECKOUT / "benchmarks" / "gpu_check.py"), "--rehearse"],
        cwd=tmp_path,
        env={"PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "cannot import 'torch'" in done.stderr
    assert "PYTHON=" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
