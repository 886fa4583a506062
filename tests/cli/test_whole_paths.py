"""What a file says of files and folders holds wherever it is read from: commands typed with relative names."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from barlowctl.cli.app import run as barlowctl

KEPT_AS_TYPED = {"subject", "network", "command", "protocol", "name"}
"""Names for people, and the command line, whose folder stands beside it."""


def texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from texts(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner, key)
    elif isinstance(value, str) and value:
        yield key, value


def test_files_name_files_and_folders_by_their_whole_paths(
    recipe: Path, tmp_path: Path, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(digits / "digits", tmp_path / "pics")
    training = ["--recipe", "digits.toml", "--out", "mine", "--set", "train.epochs=1", "--data", "pics", "--json"]
    measured = ["mine", "--data", "pics", "--threads", "1"]
    assert barlowctl(["pretrain", *training, "--threads", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["run"] == "mine"  # printed as it was typed
    assert barlowctl(["probe", *measured]) == 0
    assert barlowctl(["transfer", *measured, "--protocol", "fast"]) == 0
    assert barlowctl(["embed", *measured, "--out", "features.safetensors"]) == 0
    relative, count = [], 0
    for file in sorted([*tmp_path.rglob("*.json"), *tmp_path.rglob("features.safetensors")]):
        if file.suffix == ".json":
            values = json.loads(file.read_text())
        else:
            with safe_open(file, "pt") as opened:
                values = opened.metadata()
        for key, text in texts(values):
            count += os.path.isabs(text)
            if key not in KEPT_AS_TYPED and len(text) < 200 and not os.path.isabs(text) and (tmp_path / text).exists():
                relative.append((file.name, key, text))
    assert relative == []
    result = json.loads((tmp_path / "mine" / "result.json").read_text())
    about = json.loads((tmp_path / "mine" / "run.json").read_text())
    assert (result["run"], about["folder"]) == (str(tmp_path / "mine"), str(tmp_path))
    assert str(tmp_path / "pics" / "train.beton") in (tmp_path / "mine" / "probe-pics.json").read_text()
    assert count > 10
