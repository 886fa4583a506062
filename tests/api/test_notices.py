"""What should be known of images and of a training, for who works in Python and sees no lines of a command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import barlowctl
from barlowctl import events
from barlowctl.api.training import pretrain
from barlowctl.cli.app import run as command
from barlowctl.runs import history

BLACK = "nearly black: 64 of 64 images"
SMALL: dict[str, Any] = {
    "data.holdout": 0, "eval.queries": "off", "train.epochs": 1, "train.batch_size": 32, "train.precision": "fp32",
}  # fmt: skip


def dark(count: int) -> np.ndarray:
    """As scikit-learn's digits are: floats from 0 to 16."""
    return np.random.default_rng(0).integers(0, 17, (count, 8, 8)).astype(np.float64)


def test_a_run_keeps_what_is_said_while_it_trains(
    recipe: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of images in memory what `data pack` says of them, the second time too, when they are packed already."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BARLOWCTL_DATA", str(tmp_path / "home"))
    seen: list[events.Event] = []
    for name in ("first", "second"):
        run = pretrain(recipe, data=dark(64), overrides=SMALL, out=name, on_event=seen.append)
        assert any(notice.startswith(BLACK) for notice in run.notices)
        assert any("0 is black, 255 is white" in notice for notice in run.notices)
    texts = [event.text for event in seen if isinstance(event, events.Notice)]
    assert set(texts) == set(run.notices)
    assert command(["runs", "show", "./second", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["notices"] == run.notices
    assert command(["runs", "show", "./second"]) == 0
    assert f"note: {BLACK}" in capsys.readouterr().out
    with open(run.path / history.NOTICES, "ab") as file:
        file.write(b'{"time": "2026')
    assert barlowctl.load("second").notices == run.notices
    (run.path / history.NOTICES).unlink()
    assert barlowctl.load("second").notices == []


def test_what_is_measured_has_notes_on_its_images(trained: Path, tmp_path: Path) -> None:
    run = barlowctl.load(shutil.copytree(trained, tmp_path / "run"))
    embeddings = run.features(list(dark(64)))
    assert len(embeddings.notes) == 2
    assert embeddings.notes[1].startswith("nearly black: 32 of 32 images")
    assert repr(embeddings) == "Embeddings(64 x 32, 2 notes)"
    assert run.features([np.arange(64, dtype=np.uint8).reshape(8, 8) * 4]).notes == ()
    with pytest.raises(barlowctl.UserError, match="images of 8 bands") as refused:
        run.features(dark(64))
    assert "three axes are one image; of 64 grey images a list" in str(refused.value.allowed)
    labels = [number % 2 for number in range(64)]
    probed = run.probe({"train": (dark(64), labels), "test": (dark(60), labels[:60])}, measures=["knn"])
    assert any(note.startswith("nearly black") for note in probed.notes)
    assert f"{len(probed.notes)} notes)" in repr(probed)
