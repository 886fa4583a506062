"""Where files are to be written: every way in which it cannot be, before and after there is a result."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from safetensors import SafetensorError

from barlowctl import output_paths
from barlowctl.errors import UserError
from barlowctl.output_paths import NEXT, Outputs, check_file, check_folder, why_not_written


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


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28]"),  # pyarrow's
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_of_a_full_disk_the_room_is_said(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_paths, "free_bytes", lambda folder: 2_400_000)
    room = f"there is room for 2.4 MB in '{tmp_path}'"
    assert why_not_written(error, tmp_path) == f"No space left on device: {room}"
    takes = why_not_written(error, tmp_path, needed=94_000_000)
    assert takes == f"No space left on device: it takes 94 MB or more, and {room}"


def test_room_is_no_matter_of_other_errors(tmp_path: Path) -> None:
    assert why_not_written(PermissionError(13, "Permission denied"), tmp_path, needed=1) == "Permission denied"
    assert why_not_written(SafetensorError("I/O error: Read-only (os error 30)"), tmp_path) == "Read-only"
    assert why_not_written(OSError(errno.ENOSPC, "full"), tmp_path / ("a" * 300)) == os.strerror(errno.ENOSPC)


def test_what_is_not_written_is_reported_after_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_paths, "free_bytes", lambda folder: 8000)
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
    first = f"'{tmp_path / 'b'}' cannot be written: No space left on device: there is room for 0.008 MB in '{tmp_path}'"
    assert (
        caught.value.message
        == f"{first}; '{tmp_path / 'b'}' cannot be written: SafetensorError: I/O error; 'c' is taken"
    )
    more = Outputs()
    for name in ("a", "b"):
        with more.writing(tmp_path / name):
            raise OSError(28, "No space left on device")
    assert [problem.count("there is room") for problem in more.problems] == [1, 0]
    with pytest.raises(ZeroDivisionError), outputs.writing(tmp_path / "c"):  # a fault of ours is no full disk
        _ = 1 // 0


@pytest.mark.parametrize("flag", NEXT.keys())
def test_the_option_that_named_the_place_is_advised(tmp_path: Path, flag: str) -> None:
    outputs = Outputs()
    with outputs.writing(tmp_path / "a", flag=flag):
        raise OSError(28, "No space left on device")
    with outputs.writing(tmp_path / "b"):
        raise OSError(28, "No space left on device")
    with pytest.raises(UserError) as caught:
        outputs.check()
    assert caught.value.next == NEXT[flag]


def test_a_full_disk_is_one_error_with_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`probe` named seven files in as many sentences; --json still has each."""
    monkeypatch.setattr(output_paths, "free_bytes", lambda folder: 8000)
    outputs = Outputs()
    for name in "abcdef":
        with outputs.writing(tmp_path / name):
            if name == "b":
                raise UserError("'b' is taken")
            raise OSError(28, "No space left on device")
    with pytest.raises(UserError) as caught:
        outputs.check()
    assert caught.value.message == (
        f"'{tmp_path / 'a'}' and 4 more files cannot be written (c, d, e, ...): No space left on device: there is room "
        f"for 0.008 MB in '{tmp_path}'; 'b' is taken"
    )
    assert len(outputs.problems) == 6
