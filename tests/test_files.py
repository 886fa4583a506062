"""Files and folders appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from barlowctl import files
from barlowctl.files import atomic_write, folder_made


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_file_is_replaced_at_the_end_of_the_block(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_text("old")
    with atomic_write(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".png"  # some writers choose the format by it
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert content(tmp_path) == {"a.png": "new"}
    files.write_text(path, "\ud800 text", errors="backslashreplace")
    assert content(tmp_path) == {"a.png": "\\ud800 text"}


def test_a_folder_that_nothing_came_to_be_in_is_gone_again(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for folder in ("there", "there/a/b"):
        with pytest.raises(OSError, match="full"), folder_made(tmp_path / folder):
            raise OSError("full")
        assert list((tmp_path / "there").iterdir()) == []  # and the folder that was there before stays

    def one_of_two() -> None:
        with folder_made(tmp_path / "c" / "d"):
            (tmp_path / "c" / "whole").write_text("")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        one_of_two()
    assert list((tmp_path / "c").iterdir()) == [tmp_path / "c" / "whole"]
    with folder_made(tmp_path / "e" / "f"):
        pass
    assert (tmp_path / "e" / "f").is_dir()


@pytest.mark.parametrize("named", [True, False])
def test_an_error_of_the_disk_names_the_file(tmp_path: Path, named: bool) -> None:
    """Of a full disk the system names no file; and whoever reads of a temporary name does not know it."""

    def full() -> None:
        with atomic_write(tmp_path / "a.json") as temporary:
            raise OSError(28, "No space left on device", *([str(temporary)] if named else []))

    with pytest.raises(OSError) as raised:
        full()
    assert (raised.value.errno, raised.value.filename) == (28, str(tmp_path / "a.json"))


def test_a_copy_without_room_names_what_is_written_and_not_what_is_read(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    (tmp_path / "source").write_bytes(bytes(100_000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def copy() -> None:
        with atomic_write(tmp_path / "copy") as temporary:
            shutil.copyfile(tmp_path / "source", temporary)

    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError) as raised:
            copy()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert raised.value.filename == str(tmp_path / "copy")
    assert os.listdir(tmp_path) == ["source"]


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_fails_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, kind: str, error: type[BaseException]
) -> None:
    def fill(place: Path, text: str) -> None:
        if kind == "folder":
            place.mkdir()
        (place / "x" if kind == "folder" else place).write_text(text)

    fill(tmp_path / "a", "old")
    before = content(tmp_path)

    def failing() -> None:
        with atomic_write(tmp_path / "a") as temporary:
            fill(temporary, "new")
            raise error

    with pytest.raises(error):
        failing()
    assert content(tmp_path) == before
    assert os.listdir(tmp_path) == ["a"]


def folder_with(place: Path, **texts: str) -> Path:
    place.mkdir()
    for name, text in texts.items():
        (place / name).write_text(text)
    return place


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "a", x="old", y="old")
    with atomic_write(folder) as temporary:
        folder_with(temporary, x="new")
    assert content(tmp_path) == {"a/x": "new"}
    assert os.listdir(tmp_path) == ["a"]


def test_the_old_folder_is_back_where_the_new_one_cannot_have_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_with(tmp_path / "a", x="old")
    rename, calls = os.rename, list[str]()

    def failing(source: Path, target: Path) -> None:
        calls.append(Path(target).name)
        if len(calls) == 2:
            raise PermissionError(13, "Permission denied", str(source), None, str(target))
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(PermissionError) as caught, atomic_write(folder) as temporary:
        folder_with(temporary, x="new")
    assert str(caught.value) == f"[Errno 13] Permission denied: '{folder}'"
    assert content(tmp_path) == {"a/x": "old"}
    assert os.listdir(tmp_path) == ["a"]


def test_nothing_is_replaced_where_it_must_be_new(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "a")  # empty: a rename would replace it
    with pytest.raises(FileExistsError), atomic_write(folder, new=True) as temporary:
        folder_with(temporary, x="new")
    assert content(tmp_path) == {}
    with atomic_write(tmp_path / "b", new=True) as temporary:
        folder_with(temporary, x="new")
    assert content(tmp_path) == {"b/x": "new"}


def test_an_error_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        files.write_text(tmp_path / "nowhere" / "a.txt", "")
    assert caught.value.filename == str(tmp_path / "nowhere" / "a.txt")


def test_a_link_is_replaced_and_a_device_written_to(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("other")
    (tmp_path / "link").symlink_to(tmp_path / "other")
    files.write_text(tmp_path / "link", "new")
    assert content(tmp_path) == {"other": "other", "link": "new"}
    (tmp_path / "null").symlink_to("/dev/null")
    files.write_text(tmp_path / "null", "new")
    assert (tmp_path / "null").is_symlink()


def test_the_longest_names_can_be_written(tmp_path: Path) -> None:
    for name in ("ö" * 127, "a" * 255, "a." + "b" * 253):
        files.write_text(tmp_path / name, "new")
        assert (tmp_path / name).read_text() == "new"


def test_it_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = list[str]()
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda file: (done.append(Path(os.readlink(f"/proc/self/fd/{file}")).name), fsync(file))
    )
    monkeypatch.setattr(os, "replace", lambda source, target: (done.append("renamed"), replace(source, target)))
    with atomic_write(tmp_path / "a") as temporary:
        folder_with(temporary, x="1", y="2")
    assert set(done[:2]) == {"x", "y"}
    assert done[2:] == [temporary.name, "renamed", tmp_path.name]
    done.clear()
    files.write_text(tmp_path / "b", "", durable=False)
    assert done == ["renamed"]


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    folder_with(tmp_path / f"{files.PARTIAL}a-00", x="half")
    (tmp_path / f"{files.PARTIAL}b-00").write_text("half")
    (tmp_path / "c").write_text("whole")
    files.remove_partial(tmp_path)
    assert content(tmp_path) == {"c": "whole"}


def test_a_folder_loses_its_name_before_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, seen = folder_with(tmp_path / "a", x="1"), list[str]()
    monkeypatch.setattr(files, "remove", lambda path: seen.extend([*os.listdir(tmp_path), *os.listdir(path)]))
    files.remove_at_once(folder)
    assert seen[0].startswith(files.PARTIAL)
    assert seen[1:] == ["x"]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_who_may_read_a_file_is_what_the_umask_says(mask: int, mode: int, tmp_path: Path) -> None:
    """safetensors makes files that only their owner may read: on a shared disk nobody else could load the weights."""

    def write(path: Path) -> None:
        path.touch(mode=0o600)

    before = os.umask(mask)
    try:
        with atomic_write(tmp_path / "one") as temporary:
            write(temporary)
        with atomic_write(tmp_path / "folder") as temporary:
            temporary.mkdir()
            write(temporary / "two")
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("one", "folder/two")] == [mode, mode]
