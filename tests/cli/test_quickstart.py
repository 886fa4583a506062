"""The shipped quickstart on the real Fashion-MNIST, a quarter of its length: it must beat its untrained backbone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from barlowctl.cli.app import run as barlowctl

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.slow
@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_an_epoch_of_quickstart_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert barlowctl(["data", "get", "fashion-mnist", "--quiet"]) == 0
    capsys.readouterr()
    sets = ["--set", "train.epochs=1", "--set", "eval.every_epochs=0"]
    assert barlowctl(["pretrain", "--recipe", "quickstart", "--json", *sets]) == 0
    result = json.loads(capsys.readouterr().out)
    assert barlowctl(["probe", result["run"], "--random-init", "--pixels", "--json", "--threads", "1"]) == 0
    measured = json.loads(capsys.readouterr().out)
    pixels, random_init = measured["floors"]
    assert (
        83.0 < pixels["knn"]["top1"] < 86.0
    )  # the published baseline is 84 to 85: data and protocol are what they claim
    assert measured["knn"]["top1"] > random_init["knn"]["top1"] + 3.0
    assert measured["linear"]["top1"] > random_init["linear"]["top1"] + 2.0
    for line in (
        "export --format timm",
        "export --format hub --out my-model",
    ):  # make quickstart's, and the tour's next
        assert barlowctl([*line.split(), "--json"]) == 0
        lines = json.loads(capsys.readouterr().out)["python"]
        namespace: dict[str, Any] = {}
        exec(lines, namespace)
        assert namespace["model"](torch.zeros(1, 1, 36, 36)).shape == (1, measured["features"])
    assert barlowctl(["probe", "my-model", "--data", "fashion-mnist", "--knn", "--json", "--threads", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["knn"]["top1"] == pytest.approx(measured["knn"]["top1"], abs=0.05)
