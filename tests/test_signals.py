"""When a signal breaks into what a run does, and when it waits."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest

from barlowctl.signals import handled, noted, shielded, signals_to_handle, stop_requests, urgent


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
