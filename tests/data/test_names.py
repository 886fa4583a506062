"""Names as text: any name comes back, and what is written is one line of UTF-8."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from barlowctl.data.names import as_found, require_text, written
from barlowctl.errors import UserError
from barlowctl.runs import rundir


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a b/ü,'\".jpg", "a b/ü,'\".jpg"),
        (os.fsdecode(b"caf\xe9.jpg"), r"caf\xe9.jpg"),
        ("two\nlines\r\t.jpg", r"two\nlines\r\t.jpg"),
        (r"caf\xe9.jpg", r"caf\\xe9.jpg"),
        ("a\u2028b\x85c\x1b[31m", r"a\u2028b\u0085c\x1b[31m"),
        ("\ud83d", r"\ud83d"),
    ],
)
def test_a_name_is_written_and_read_back(name: str, text: str) -> None:
    assert written(name) == text
    assert as_found(text) == name


def test_any_bytes_come_back() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        name = os.fsdecode(rng.choice([0xE9, 0xC3, 0xA9, 0x5C, 0x6E, 0x78, 0x0A, 0x61], 12).astype(np.uint8).tobytes())
        text = written(name)
        assert os.fsencode(as_found(text)) == os.fsencode(name)
        assert len(text.encode().decode().splitlines()) == 1


def test_a_place_for_weights_is_text(tmp_path: Path) -> None:
    require_text(tmp_path / "ü \n1")
    with pytest.raises(UserError, match=r"l\\xe4ufe' is not UTF-8"):
        rundir.create(tmp_path / os.fsdecode(b"l\xe4ufe"), "x", {})
    assert list(tmp_path.iterdir()) == []


def test_text_that_was_never_written_so_is_left_alone() -> None:
    assert as_found(r"C:\photos\a.jpg") == r"C:\photos\a.jpg"
