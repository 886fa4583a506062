"""Locks of files: who holds one, who waits, who only looks. (Two open files exclude each other as two processes do.)"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from barlowctl.locks import holding, is_held, release, take


def test_only_one_holds_a_lock(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with holding(lock) as first:
        assert first is not None
        assert is_held(lock)
        with holding(lock, patience=0.0) as second:
            assert second is None
    assert not is_held(lock)
    with holding(lock, patience=0.0) as third:
        assert third is not None


def test_who_has_patience_gets_it_when_it_is_free(tmp_path: Path) -> None:
    lock, order = tmp_path / "lock", list[str]()

    def wait(name: str, patience: float) -> None:
        with holding(lock, patience=patience) as file:
            order.append(name if file else f"{name} gave up")

    with holding(lock):
        threads = [threading.Thread(target=wait, args=one) for one in (("a", float("inf")), ("b", 30.0), ("c", 0.05))]
        for thread in threads:
            thread.start()
        threads[2].join()
        assert order == ["c gave up"]
        time.sleep(0.05)
        assert order == ["c gave up"]
    for thread in threads:
        thread.join()
    assert sorted(order) == ["a", "b", "c gave up"]


def test_looking_makes_nothing_and_keeps_nobody_out_who_looks(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert not is_held(lock)
    assert not lock.exists()
    lock.touch()
    with open(lock) as file:
        assert take(file, shared=True)
        assert not is_held(lock)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def unsupported(file: object, kind: int) -> None:
        raise OSError(number, "no locks")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with holding(tmp_path / "lock", patience=0.0) as file:
        assert file is not None
        assert not is_held(tmp_path / "lock")


def test_other_errors_are_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(file: object, kind: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match="broken"), holding(tmp_path / "lock"):
        pass


def test_a_lock_that_is_released_is_free_though_another_process_has_the_file(tmp_path: Path) -> None:
    with open(tmp_path / "lock", "a+") as file, os.fdopen(os.dup(file.fileno())):  # as a fork leaves it
        assert take(file)
        file.close()
        assert is_held(tmp_path / "lock")
    with open(tmp_path / "lock", "a+") as file, os.fdopen(os.dup(file.fileno())):
        assert take(file)
        release(file)
        file.close()
        assert not is_held(tmp_path / "lock")
