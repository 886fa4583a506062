"""What became of the weights that a run started from: measured before the first step, and said in the end."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from barlowctl.assemble.gain import ANSWERS, describe, file_of, paired_error, since_start


def test_the_error_is_that_of_mcnemars_test() -> None:
    """Against the formula in the two counts that differ: sqrt(b + c - (b - c)^2 / n) / n, n - 1 for the sample."""
    random = np.random.default_rng(0)
    before, after = (random.random(500) < share for share in (0.7, 0.8))
    after |= before & (random.random(500) < 0.9)
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    n = 500
    expected = 100.0 * math.sqrt((gained + lost - (gained - lost) ** 2 / n) / (n - 1) / n)
    error = paired_error(*(torch.from_numpy(answers.astype(np.uint8)) for answers in (before, after)))
    assert error == pytest.approx(expected, rel=1e-12)


def test_other_queries_have_no_error() -> None:
    assert paired_error(torch.ones(4), torch.ones(5)) is None
    assert paired_error(torch.ones(1), torch.ones(1)) is None


@pytest.mark.parametrize(
    ("start", "end", "error", "says"),
    [
        (80.0, 83.2, 0.5, "gained 3.20 ± 0.50 points"),
        (80.0, 77.0, 0.5, "lost 3.00 ± 0.50 points"),
        (80.0, 80.9, 0.5, "+0.90 ± 0.50 points, which may be chance"),
        (80.0, 79.1, None, "-0.90 points (the queries were not the same ones"),
    ],
)
def test_gained_lost_or_chance(start: float, end: float, error: float | None, says: str) -> None:
    assert says in describe(start, end, error, 4000)


def write(run: Path, *evaluations: dict[str, float]) -> None:
    (run / "diagnostics").mkdir(parents=True)
    lines = [{"event": "evaluation", "epoch": -1, **values} for values in evaluations]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_first_and_the_last_evaluation_are_compared(tmp_path: Path) -> None:
    write(tmp_path, {"step": 0, "knn": 50.0}, {"step": 4, "knn": 0.0}, {"step": 8, "knn": 75.0})
    for step, answers in ((0, [1, 1, 0, 0]), (4, [0, 0, 0, 0]), (8, [1, 1, 1, 0])):
        save_file({ANSWERS: torch.tensor(answers, dtype=torch.uint8)}, file_of(tmp_path, step))
    values = since_start(tmp_path)
    assert (values["knn_start"], values["knn_gain"]) == (50.0, 25.0)
    assert values["knn_gain_error"] == pytest.approx(100 * np.std([0, 0, 1, 0], ddof=1) / 2)
    assert "4 queries" in values["since_start"]
    file_of(tmp_path, 0).write_bytes(b"damaged")
    assert since_start(tmp_path)["knn_gain_error"] is None


def test_without_labels_nothing_is_called_a_gain(tmp_path: Path) -> None:
    write(tmp_path, {"step": 0, "effective_rank": 20.0}, {"step": 8, "effective_rank": 30.04})
    assert since_start(tmp_path) == {
        "since_start": "no labelled queries, so nothing says whether it gained or lost; effective rank 20.0 at the "
        "start, 30.0 at the end"
    }


def test_a_run_that_did_not_measure_its_start_has_nothing_to_say(tmp_path: Path) -> None:
    write(tmp_path, {"step": 4, "knn": 1.0})
    assert since_start(tmp_path) == {}
    assert since_start(tmp_path / "none") == {}
