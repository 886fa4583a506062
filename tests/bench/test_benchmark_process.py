"""Processes of a benchmark: what a Ctrl-C does to them."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from barlowctl.bench.benchmark_process import BenchmarkProcess

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
