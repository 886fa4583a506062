"""Errors are provoked, the printed `next:` is typed as it stands, and the error does not come again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from barlowctl.assemble import machine
from tests.advice import followed
from tests.advice.scenario import follow
from tests.advice.scenarios import SCENARIOS


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory, trained: Path) -> Path:
    """A folder with: a finished run `runs/done`, an unfinished one `runs/stopped`, images with spaces in their path."""
    place = tmp_path_factory.mktemp("furnished")
    shutil.copytree(trained, place / "runs/done")
    shutil.copytree(trained, place / "runs/stopped")
    (place / "runs/stopped/result.json").unlink()
    for split in ("train", "test"):
        for name in "ab":
            folder = place / "my images" / split / name
            folder.mkdir(parents=True)
            for number in range(3):
                pixels = np.random.default_rng(ord(name) + number + 10 * (split == "test"))
                Image.fromarray(pixels.integers(0, 255, (24, 32, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    shutil.copytree(place / "my images/train/a", place / "one folder")
    shutil.copytree(place / "one folder", place / "with a bad one")
    whole = (place / "one folder/0.png").read_bytes()
    (place / "with a bad one/bad.png").write_bytes(whole[: len(whole) // 2])
    (place / "there.beton").write_bytes(b"")
    (place / "taken").mkdir()
    (place / "taken/file").touch()
    return place


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * one.slow) for name, one in SCENARIOS.items()]
)
def test_following_the_advice_leads_on(
    name: str, recipe: Path, furnished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    apt = Path("system/apt-get")  # a test installs nothing, and says the same on a system without it
    apt.parent.mkdir()
    apt.write_text("#!/bin/sh\n")
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{apt.parent.resolve()}:{os.defpath}")  # no sbatch, wherever the tests run
    monkeypatch.setattr(machine, "usable_cores", lambda: 1)  # the suite shares a small machine
    monkeypatch.setenv("BARLOWCTL_DATA", shutil.copytree(os.environ["BARLOWCTL_DATA"], "home"))  # may be packed into
    shutil.copytree(furnished, ".", dirs_exist_ok=True)
    followed.check(name, follow(SCENARIOS[name], capsys, monkeypatch))
