"""A disk without room: what a command was to write is not there, not in part, and no empty folder either."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from barlowctl import files
from barlowctl.cli.app import run as barlowctl

COMMANDS = {
    "ablate": "ablate --drop-aug --recipe digits.toml --out new/study --threads 1",
    "budget": "ablate --methods all --budget cpu-seconds=60 --recipe digits.toml --out new/study --threads 1",
    "probe": "probe RUN --out new/probes --threads 1",
    "probe --semi": "probe RUN --semi 10 --out new/probes --threads 1",
    "transfer": "transfer RUN --data labelled --out new/transfer --threads 1",
    "transfer --protocol paper": "transfer RUN --data labelled --protocol paper --out new/transfer --threads 1",
    "embed": "embed RUN --data photos --map new/a/map.png --map new/b/map.html --out new/c/x.npz --threads 1",
    "map": "embed RUN --data photos --map new/a/map.html --threads 1",
    "neighbours": "embed RUN --data photos --neighbours 0 --neighbours-out new/b/n.png --threads 1",
    "patches": "embed RUN --data photos --patches new/a/x.safetensors --threads 1",
    "pictures": "embed RUN --data photos --patches new/a/x.png --neighbours 0 --neighbours-out new/b/n.png --threads 1",
    "pretrain": "pretrain --recipe digits.toml --out new/runs/a --threads 1",
    "export": "export RUN --format hub --out new/exports/a",
    "report": "report RUN --out new/pages/a.html --threads 1",
    "preview": "data preview --recipe digits.toml --out new/pictures/a.png",
    "pack": "data pack photos new/packed/a.beton",
    "compare": "runs compare RUN RUN --out new/pictures/a.png",
    "recipe": "recipes copy digits.toml mine.toml",
}


ADVISED = {
    "embed": "with --out",
    "map": "with --map",
    "neighbours": "with --neighbours-out",
    "pictures": "with --patches",
    "patches": "with --patches",
    "probe": "with --out",
    "probe --semi": "with --out",
    "transfer --protocol paper": "with --out",
    "recipe": "as FILE|FOLDER",
    "report": "with --out",
}
"""Command -> with which option, or as which word, its `next:` names another place."""


@pytest.fixture
def full(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders of images, and a disk on which names can be made, and nothing be written."""
    for index in range(36):
        file = Path(("photos", "labelled/train", "labelled/val")[index % 3], "ab"[index % 2], f"{index}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(index).integers(0, 256, (20, 20), dtype=np.uint8)).save(file)

    def no_room(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for step in ("_readable_as_usual", "_flush"):
        monkeypatch.setattr(files, step, no_room)


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_is_left(name: str, full: None, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(Path.cwd().rglob("*"))
    assert barlowctl(COMMANDS[name].replace("RUN", str(trained)).split()) == 2
    captured = capsys.readouterr()
    assert "No space left on device" in captured.err
    assert captured.err.startswith("error: ")
    assert name not in ADVISED or captured.err.endswith(f"name another place {ADVISED[name]}\n")
    lines = "".join(line for line in captured.err.splitlines() if not line.startswith("error: "))
    assert not re.search("(drawn|written) to", captured.out + lines)
    assert sorted(Path.cwd().rglob("*")) == before
