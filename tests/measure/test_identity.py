"""Where a result is written, and what is said of the file that is there."""

from __future__ import annotations

import json
from pathlib import Path

from barlowctl.measure.identity import reserve, result_file

OURS = {"key": "aaaaaaaa", "weights": "a", "images": {}, "preprocessing": {"crop": 64}, "protocol": {}}
OTHER = {**OURS, "key": "bbbbbbbb", "preprocessing": {"crop": 224}}


def test_a_result_of_something_else_stays(tmp_path: Path) -> None:
    (tmp_path / "probe-flowers.json").write_text(json.dumps({"identity": OTHER}))
    file, note = result_file(tmp_path, "probe-flowers", OURS)
    assert file == tmp_path / "probe-flowers-aaaaaaaa.json"
    assert note == f"'{tmp_path}/probe-flowers.json' is of images prepared in another way, and stays as it is"


def test_a_measurement_that_was_killed_is_named_by_its_folder(tmp_path: Path) -> None:
    """Its file was named, which is not there."""
    folder = reserve(tmp_path / "probe-flowers.json", OTHER)
    file, note = result_file(tmp_path, "probe-flowers", OURS)
    assert file == tmp_path / "probe-flowers-aaaaaaaa.json"
    assert note == (
        f"'{folder}', a measurement that has not ended, is of images prepared in another way, and stays as it is"
    )
    assert result_file(tmp_path, "probe-flowers", OTHER) == (tmp_path / "probe-flowers.json", None)
