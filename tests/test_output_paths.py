"""Where files are to be written: every way in which it cannot be, before and after there is a result."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from safetensors import SafetensorError

from barlowctl.errors import UserError
from barlowctl.output_paths import Outputs, check_file, check_folder


def refused(path: Path, *, folder: bool = False) -> str:
    with pytest.raises(UserError) as caught:
        (check_folder if folder else check_file)(path)
    assert caught.value.next == "name another place with --out"
    return caught.value.message


def test_what_can_be_made_is_not_made_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_file(tmp_path / "a" / "b" / "c.npz")
    check_file(Path("c.npz"))
    check_folder(tmp_path / "a" / "b")
    check_folder(Path())
    assert list(tmp_path.iterdir()) == []


def test_a_file_above_or_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    assert f"'{tmp_path / 'file'}' is no folder" in refused(tmp_path / "file" / "a" / "b.npz")
    assert f"'{tmp_path / 'file'}' is no folder" in refused(tmp_path / "file", folder=True)
    assert "it is a folder" in refused(tmp_path / "folder")
    assert "is no folder" in refused(tmp_path / "nowhere" / "a.npz")
    assert "cannot be written" in refused(tmp_path / ("x" * 300) / "a.npz")


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    assert "there is no permission to write there" in refused(tmp_path / "a.npz")


def test_what_is_not_written_is_reported_after_the_result(tmp_path: Path) -> None:
    outputs = Outputs()
    with outputs.writing(tmp_path / "a"):
        (tmp_path / "a").write_text("")
    outputs.check()
    for error in (OSError(28, "No space left on device"), SafetensorError("I/O error"), UserError("'c' is taken")):
        with outputs.writing(tmp_path / "b"):
            raise error
    assert outputs.files == [str(tmp_path / "a")]
    with pytest.raises(UserError) as caught:
        outputs.check()
    first = f"'{tmp_path / 'b'}' cannot be written: No space left on device"
    assert (
        caught.value.message
        == f"{first}; '{tmp_path / 'b'}' cannot be written: SafetensorError: I/O error; 'c' is taken"
    )
    with pytest.raises(ZeroDivisionError), outputs.writing(tmp_path / "c"):  # a fault of ours is no full disk
        _ = 1 // 0
