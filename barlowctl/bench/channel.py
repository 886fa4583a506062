"""How a benchmark's process (`benchmark_process`) is asked for rounds and answers, from within that process."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any


class Channel:
    """Questions on standard input, one JSON object a line, and answers where standard output was."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # what libraries print must not get between the answers

    def ask(self) -> dict[str, Any] | None:
        """The next question; None: there will be no more."""
        line = sys.stdin.readline()
        return json.loads(line) if line else None

    def answer(self, values: Mapping[str, Any]) -> None:
        """Answer the last question."""
        self._answers.write(json.dumps(values) + "\n")
        self._answers.flush()

    def fail(self, error: Exception) -> None:
        """Answer that it could not be done."""
        self.answer({"error": f"{type(error).__name__}: {error}"})


def serve(build: Callable[[dict[str, Any]], Callable[[int], int]]) -> None:
    """Build a pipeline from the settings, then run rounds as asked and answer with images and seconds.

    Args:
        build: settings -> a function that runs round n and returns how many images it made.
    """

    def build_timed(settings: dict[str, Any]) -> Callable[[int], dict[str, Any]]:
        run = build(settings)

        def timed(number: int) -> dict[str, Any]:
            begin = time.perf_counter()
            images = run(number)
            return {"images": images, "seconds": time.perf_counter() - begin}

        return timed

    serve_answers(build_timed)


def serve_answers(build: Callable[[dict[str, Any]], Callable[[int], Mapping[str, Any]]]) -> None:
    """Build what is measured from the settings, then run rounds as asked.

    Args:
        build: settings -> a function that runs round n and returns what it measured.
    """
    channel = Channel()
    run: Callable[[int], Mapping[str, Any]] | None = None
    while (question := channel.ask()) is not None:
        try:
            if run is not None:
                channel.answer(run(question["round"]))
            else:
                run = build(question)
                channel.answer({"ready": True})
        except Exception as error:
            channel.fail(error)
