"""Other systems than Linux, faked: what works there is said, and what does not is refused in one sentence."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from barlowctl.cli import app
from barlowctl.doctor import software, system

# What Windows lacks, and its name, as barlowctl meets them; the libraries are those of this machine.
WINDOWS = """
import platform, signal, sys
import numba, timm, torchvision, torch
sys.modules["fcntl"] = sys.modules["resource"] = None
for name in ("SIGUSR1", "SIGHUP", "SIGCHLD", "SIGQUIT"):
    delattr(signal, name)
platform.system, platform.machine = lambda: "Windows", lambda: "AMD64"
from barlowctl.cli.app import main
main(sys.argv[1:])
"""


def on(monkeypatch: pytest.MonkeyPatch, name: str, machine: str) -> None:
    monkeypatch.setattr(platform, "system", lambda: name)
    monkeypatch.setattr(platform, "machine", lambda: machine)


def test_linux_is_as_it_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, "Linux", "x86_64")
    check = system.check_system()
    assert (check.status, check.value, check.advice) == ("ok", "Linux x86_64", "")


@pytest.mark.parametrize(
    ("mps", "value"),
    [
        (True, "macOS arm64: the CPU is used, and Apple's GPU (MPS) is not"),
        (False, "macOS arm64: the CPU is used"),
    ],
)
def test_macos_with_and_without_mps(monkeypatch: pytest.MonkeyPatch, mps: bool, value: str) -> None:
    on(monkeypatch, "Darwin", "arm64")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    check = system.check_system()
    assert (check.status, check.value) == ("warn", value)
    assert "run on Linux only" in check.advice


def test_the_device_of_a_mac_is_what_the_doctor_says(monkeypatch: pytest.MonkeyPatch) -> None:
    from barlowctl.assemble.machine import choose_device
    from barlowctl.errors import UserError

    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(UserError, match="--device is 'mps'"):
        choose_device("mps")


def test_advice_fits_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    on(monkeypatch, "Darwin", "arm64")
    assert software.check_compiler().advice.endswith(": xcode-select --install")
    on(monkeypatch, "Linux", "aarch64")
    assert software.check_compiler().advice.endswith(": install g++ with the package manager of this system")


def test_another_system_is_one_without_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, "FreeBSD", "amd64")
    assert system.check_system().status == "warn"


def test_windows_is_refused_before_a_command_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(app, "system", lambda: "Windows")
    assert app.run(["runs", "list"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: barlowctl does not run on Windows",
        "allowed: Linux, macOS, WSL 2",
        "next: barlowctl doctor",
    ]


@pytest.mark.slow
def test_the_doctor_works_without_what_windows_lacks(tmp_path: Path) -> None:
    environment = {**os.environ, "BARLOWCTL_DATA": str(tmp_path / "data")}
    done = subprocess.run(
        [sys.executable, "-c", WINDOWS, "doctor", "--json"],
        capture_output=True, text=True, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert (checks["system"]["status"], checks["system"]["value"]) == ("fail", "Windows AMD64: not supported")
    assert "wsl --install" in checks["system"]["advice"]
    assert checks["torch"]["status"] == "ok"
