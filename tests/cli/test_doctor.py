"""`barlowctl doctor` as a person and as a script meet it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from barlowctl import doctor
from barlowctl.cli import app

GOOD = doctor.Check("torch", "ok", "2.15.0")
LESS = doctor.Check("loader", "warn", "plain (torchvision): simplejpeg is not installed", "pip install simplejpeg")
BAD = doctor.Check("timm", "fail", "not installed", "pip install --upgrade barlowctl")


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> list[doctor.Check]:
    """What the checks will find, to be filled by the test."""
    checks: list[doctor.Check] = []
    monkeypatch.setattr(doctor, "checks", lambda **folders: list(checks))
    return checks


def test_a_ready_machine(results: list[doctor.Check], capsys: pytest.CaptureFixture[str]) -> None:
    results += [GOOD, LESS]
    assert app.run(["doctor"]) == 0
    output = capsys.readouterr().out
    assert "2.15.0" in output
    assert "pip install simplejpeg" in output
    assert "ready; works with less: loader" in output


def test_a_failed_check_is_exit_code_2(results: list[doctor.Check], capsys: pytest.CaptureFixture[str]) -> None:
    results += [GOOD, LESS, BAD]
    assert app.run(["doctor"]) == 2
    output = capsys.readouterr().out
    assert "not ready: timm" in output
    assert "pip install --upgrade barlowctl" in output


def test_json_is_one_document(results: list[doctor.Check], capsys: pytest.CaptureFixture[str]) -> None:
    results += [GOOD, BAD]
    assert app.run(["doctor", "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert document == {
        "ready": False,
        "checks": [
            {"name": "torch", "status": "ok", "value": "2.15.0", "advice": ""},
            {
                "name": "timm",
                "status": "fail",
                "value": "not installed",
                "advice": "pip install --upgrade barlowctl",
            },
        ],
    }


def test_quiet_shows_what_is_wrong_only(results: list[doctor.Check], capsys: pytest.CaptureFixture[str]) -> None:
    results += [GOOD, BAD]
    assert app.run(["doctor", "--quiet"]) == 2
    output = capsys.readouterr().out
    assert "timm" in output
    assert "torch" not in output


def test_quiet_and_fine_shows_nothing(results: list[doctor.Check], capsys: pytest.CaptureFixture[str]) -> None:
    results += [GOOD]
    assert app.run(["doctor", "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_this_machine_for_real(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "barlowctl", "doctor", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    document = json.loads(done.stdout)
    assert done.returncode == (0 if document["ready"] else 2)
    assert {"python", "torch", "cuda", "loader", "jpeg", "data home", "memory", "cores"} <= {
        check["name"] for check in document["checks"]
    }
