"""A file of maps: written one map at a time, read by safetensors as any other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from barlowctl.errors import UserError
from barlowctl.eval import map_file
from barlowctl.eval.map_file import check_names, write_maps

NAMES = ["a/1.png", 'b "2".png', "c\\\\3.png", "d 4.png"]


def map_of(number: int) -> np.ndarray:
    return np.random.default_rng(number).normal(size=(3, number + 1, 2)).astype(np.float32)


def test_safetensors_reads_what_was_written_piece_by_piece(tmp_path: Path) -> None:
    path, metadata = tmp_path / "maps.safetensors", {"network": "x"}
    with write_maps(path, NAMES, metadata) as file:
        for number in (2, 0, 3):  # any order; one is left out
            file.add(NAMES[number], map_of(number))
            assert not path.exists()
        unreadable = json.dumps([NAMES[1]])
        file.finish({"labels": np.array([1, 0, 2], dtype=np.int32)}, {**metadata, "unreadable": unreadable})
    tensors = load_file(path)
    assert tensors.keys() == {"labels", *(f"maps/{NAMES[number]}" for number in (0, 2, 3))}
    for number in (0, 2, 3):
        np.testing.assert_array_equal(tensors[f"maps/{NAMES[number]}"], map_of(number))
    with safe_open(path, "pt") as opened:  # torch's way maps the file, and is strict about places
        assert opened.metadata() == {"network": "x", "unreadable": unreadable}
        assert opened.get_tensor("labels").tolist() == [1, 0, 2]
        assert opened.get_tensor(f"maps/{NAMES[3]}").shape == (3, 4, 2)


def test_the_header_has_room_for_whatever_becomes_of_the_images(tmp_path: Path) -> None:
    """Each of many names in the header, with the largest numbers; or all of them in the list of unreadable ones."""
    names = [f'{number}"\\é' + "x" * (number % 7) for number in range(300)]
    room = check_names(tmp_path / "x.safetensors", names, {})
    entry = {"dtype": "F32", "shape": [65536, 8192, 8192], "data_offsets": [10**18, 10**18 + 1]}
    assert len(json.dumps({f"maps/{name}": entry for name in names})) < room
    assert len(json.dumps({"__metadata__": {"unreadable": json.dumps(names)}})) < room


def test_nothing_is_left_of_a_file_that_was_not_finished(tmp_path: Path) -> None:
    def broken_off() -> None:
        with write_maps(tmp_path / "maps.safetensors", NAMES, {}) as file:
            file.add(NAMES[0], map_of(0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert list(tmp_path.iterdir()) == []


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with write_maps(tmp_path / "m", NAMES, {}) as file:
        file.add(NAMES[0], map_of(0))
        with pytest.raises(UserError, match="two images are called"):
            file.add(NAMES[0], map_of(1))
    monkeypatch.setattr(map_file, "LONGEST_HEADER", 1500)
    with pytest.raises(UserError, match="maps of 4 images are too many for one file"):
        check_names(tmp_path / "m", NAMES, {})
