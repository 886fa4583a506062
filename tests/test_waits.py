"""A wait is given to whoever listens once it has taken long, and only then."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from barlowctl import waits
from barlowctl.waits import Wait


class Heard:
    """A listener, and its texts."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.any = threading.Event()

    def __call__(self, text: str) -> None:
        self.texts.append(text)
        self.any.set()


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    monkeypatch.setattr(waits, "SECONDS", 0.1)
    listener = Heard()
    waits.listen(listener)
    yield listener
    waits.listen(None)


def test_a_long_wait_is_given_while_it_goes_on(heard: Heard) -> None:
    with Wait("counting ..."):
        assert heard.any.wait(10.0)
        assert heard.texts == ["counting ..."]


def test_a_short_one_is_not(heard: Heard) -> None:
    with Wait("counting ..."):
        pass
    assert not heard.any.wait(0.3)


def test_pieces_add_up_and_are_given_once(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(waits, "SECONDS", 60.0)
    monkeypatch.setattr(waits, "time", SimpleNamespace(monotonic=lambda: now[0]))
    wait = Wait("compiling ...")
    for _ in range(2):
        with wait, wait:  # one in the other counts once
            now[0] += 29.95
    assert not heard.texts
    for _ in range(3):
        with wait:
            assert heard.any.wait(10.0)
            now[0] += 100.0
    assert heard.texts == ["compiling ..."]


def test_what_lies_between_pieces_does_not_count(heard: Heard) -> None:
    wait = Wait("compiling ...")
    with wait:
        pass
    assert not heard.any.wait(0.3)


def test_nobody_need_listen(heard: Heard) -> None:
    waits.listen(None)
    with Wait("counting ..."):
        assert not heard.any.wait(0.3)
