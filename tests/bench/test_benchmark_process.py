"""Processes of a benchmark: what a Ctrl-C does to them, and in which order they take turns."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from barlowctl.bench import both_orders
from barlowctl.bench.benchmark_process import BenchmarkProcess, Measured, measure_in_turns

ROW = """
import time
from barlowctl.bench.channel import Channel

channel = Channel()
channel.ask()
channel.answer({})
channel.ask()
time.sleep(600)
"""


def test_an_interrupt_ends_the_round_in_progress(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A terminal's Ctrl-C goes to all of its group, so the row has one of its own; nobody waits for its round."""
    (tmp_path / "sleeping_row.py").write_text(ROW)
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    row = BenchmarkProcess("row", "sleeping_row", {}, polls=False, environment={"PYTHONPATH": paths})
    row.start()
    assert os.getpgid(row._process.pid) == row._process.pid != os.getpgid(0)
    interrupt = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            row.run(1, keep=True)
        assert row._process.wait(timeout=10) == -signal.SIGKILL  # `close` would let it end its round
    finally:
        interrupt.join()
        row.close()
    assert "Traceback" not in capfd.readouterr().err


class FavouredPlace:
    """A row on a machine where whoever is first in a round takes two seconds, and every other row takes 1."""

    def __init__(self, name: str, turns: list[str], rows: int) -> None:
        self.measured, self.optional, self._turns, self._rows = Measured(name), True, turns, rows

    def start(self) -> None: ...

    def run(self, number: int, *, keep: bool) -> None:
        first = len(self._turns) % self._rows == 0
        self._turns.append(self.measured.name)
        if keep:
            self.measured.answers.append({"seconds": 2.0 if first else 1.0})

    def close(self) -> None: ...


@pytest.mark.parametrize("rounds", [2, 5, 6])
def test_no_place_in_the_turns_makes_a_row_faster(rounds: int) -> None:
    """Two rows that cost the same are level in any number of rounds, where a median over five rounds says two times."""
    turns: list[str] = []
    rows = [FavouredPlace(name, turns, 2) for name in "AB"]
    first, second = measure_in_turns(rows, rounds, lambda text: None)  # type: ignore[arg-type]
    seconds = [[answer["seconds"] for answer in row.answers] for row in (first, second)]
    assert both_orders.middle(seconds[0]) == both_orders.middle(seconds[1]) == 1.5


def test_the_order_of_rows_turns_around_after_each_round() -> None:
    turns: list[str] = []
    rows = [FavouredPlace(name, turns, 3) for name in "ABC"]
    measure_in_turns(rows, 4, lambda text: None)  # type: ignore[arg-type]
    assert "".join(turns) == "ABC" + "ABC" + "CBA" + "ABC" + "CBA"  # the warm-up, then four rounds


def test_a_value_of_one_round_is_that_value() -> None:
    assert both_orders.ratios("ratio", [1.25], 2) == {
        "ratio": 1.25,
        "ratio_range": [1.25, 1.25],
        "ratio_by_order": [1.25],
    }
    assert both_orders.ratios("ratio", None, 2) == {"ratio": None, "ratio_range": None, "ratio_by_order": None}
