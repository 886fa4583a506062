"""When a signal breaks into what a run does, and when it waits."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import pytest

from barlowctl.signals import (
    Ended,
    ended_as_by_interrupt,
    handled,
    left_alone,
    noted,
    shielded,
    signals_to_handle,
    stop_requests,
    urgent,
)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Whatever a test does, every handler is as it was."""
    before = {number: signal.getsignal(number) for number in signals_to_handle()}
    yield
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_the_first_signal_is_a_request(number: int) -> None:
    with stop_requests() as stop:
        assert not stop()
        signal.raise_signal(number)
        assert stop()


def test_another_interrupt_breaks_in_once() -> None:
    with stop_requests() as stop:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # while the state is saved
        assert stop()


def test_a_second_sigterm_waits_like_the_first() -> None:
    with stop_requests() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # a KeyboardInterrupt here would leave the block
        assert stop()


def test_signals_can_be_only_noted() -> None:
    with noted() as come:
        assert not come()
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
        assert come()


def test_what_is_not_handled_reaches_whoever_did_before() -> None:
    inner = list[int]()
    with noted() as outer, handled(lambda number, frame: inner.append(number), leaving=(signal.SIGINT,)):
        signal.raise_signal(signal.SIGTERM)
        assert (inner, outer()) == ([signal.SIGTERM], False)
        signal.raise_signal(signal.SIGINT)
        assert (inner, outer()) == ([signal.SIGTERM], True)


def raised_in(block: AbstractContextManager[None], number: int | None) -> list[str]:
    """What is reached of a block in which a signal arrives before its end."""
    reached = []
    try:
        with block:
            reached.append("begun")
            if number is not None:
                signal.raise_signal(number)
            reached.append("done")
        reached.append("after")
    except KeyboardInterrupt:
        reached.append("interrupted")
    return reached


def test_a_shielded_block_is_done_before_the_interrupt() -> None:
    with stop_requests():
        signal.raise_signal(signal.SIGINT)
        assert raised_in(shielded(), signal.SIGINT) == ["begun", "done", "interrupted"]
        assert raised_in(shielded(), signal.SIGINT) == ["begun", "done", "after"]


def test_what_is_urgent_ends_at_the_first_signal_and_does_not_begin_after_it() -> None:
    with stop_requests():
        assert raised_in(urgent(), signal.SIGTERM) == ["begun", "interrupted"]
        assert raised_in(urgent(), None) == ["interrupted"]


def test_nohup_is_respected() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signal.SIGHUP not in signals_to_handle()
        with stop_requests() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_nothing_is_installed_where_signals_are_left_alone() -> None:
    before = {number: signal.getsignal(number) for number in signals_to_handle()}
    with left_alone(), stop_requests() as stop:
        assert {number: signal.getsignal(number) for number in before} == before
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert not stop()
    with stop_requests():
        assert signal.getsignal(signal.SIGINT) != before[signal.SIGINT]


def test_an_interrupt_that_is_not_ours_waits_for_the_end_of_a_shielded_block() -> None:
    with left_alone(), stop_requests():
        assert raised_in(shielded(), signal.SIGINT) == ["begun", "done", "interrupted"]
        assert raised_in(shielded(), None) == ["begun", "done", "after"]
        with shielded():
            assert raised_in(shielded(), None) == ["begun", "done", "after"]
    assert raised_in(shielded(), signal.SIGINT) == ["begun", "done", "interrupted"]


def test_whoever_handles_interrupts_is_told_of_one_that_was_held_back() -> None:
    with noted() as come, left_alone(), stop_requests():
        with shielded():
            signal.raise_signal(signal.SIGINT)
            assert not come()
        assert come()


def test_a_thread_has_no_signals() -> None:
    def work() -> list[str]:
        with left_alone(), stop_requests():
            return raised_in(shielded(), None)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result() == ["begun", "done", "after"]


ASKING = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP]


def usual(number: int) -> Any:
    """How Python leaves a signal when it starts."""
    return signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL


@pytest.mark.parametrize("number", ASKING)
def test_a_command_is_ended_as_by_an_interrupt(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [10.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with handled_as(number, usual(number)):
        with ended_as_by_interrupt():
            with pytest.raises(Ended) as caught:
                signal.raise_signal(number)
            assert caught.value.number == number
            signal.raise_signal(number)  # while it clears up
            now[0] = 12.0
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
        assert signal.getsignal(number) is usual(number)


def swallow(number: int) -> None:
    """What some libraries do around an import that they can do without."""
    with suppress(BaseException):
        signal.raise_signal(number)


def report_only(number: int) -> None:
    """A signal in a callback whose exceptions Python reports, and drops."""
    thing = type("Thing", (), {})()
    reference = weakref.ref(thing, lambda gone: signal.raise_signal(number))
    del thing
    assert reference() is None


def lose_and_wait(lose: Callable[[int], None], number: int) -> None:
    lose(number)
    for _ in range(1000):
        time.sleep(0.02)


@pytest.mark.parametrize("lose", [swallow, report_only])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("on_windows", [False, True])
def test_a_signal_whose_exception_is_lost_comes_again(
    lose: Callable[[int], None],
    number: int,
    on_windows: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if on_windows:
        monkeypatch.delattr(signal, "pthread_kill")
    with handled_as(number, usual(number)), ended_as_by_interrupt():
        with pytest.raises(Ended) as caught:
            lose_and_wait(lose, number)
        assert caught.value.number == number
    assert capsys.readouterr().err == ""


def test_a_signal_does_not_come_again_once_it_has_ended_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    timers = list[object]()
    monkeypatch.setattr(threading, "Timer", lambda *arguments: timers.append(arguments))
    with handled_as(signal.SIGTERM, signal.SIG_DFL):
        with pytest.raises(Ended), ended_as_by_interrupt():
            signal.raise_signal(signal.SIGTERM)
        gc.collect()
    assert timers == []


def test_an_ignored_signal_stays_ignored() -> None:
    with handled_as(signal.SIGHUP, signal.SIG_IGN), ended_as_by_interrupt():
        signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_a_forked_process_dies_of_the_signal() -> None:
    with handled_as(signal.SIGTERM, signal.SIG_DFL), ended_as_by_interrupt():
        if (child := os.fork()) == 0:
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


@contextmanager
def handled_as(number: int, handler: Any) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)
