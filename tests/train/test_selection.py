"""`train.keep_best` and `train.stop`: which state stays, when a run ends, and that a resume comes to the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from barlowctl.criteria import CRITERIA, best
from barlowctl.errors import RunStopped
from barlowctl.train import checkpoint
from barlowctl.train.events import Evaluated, Notice, StepDone
from barlowctl.train.selection import END, KEEP, Selection
from tests.train.test_engine import BATCHES, SETTINGS, Recorder, final_bytes, train

LONG = replace(SETTINGS, epochs=8, keep_checkpoints=2, keep_best="knn")


def measured(*values: float | None) -> Callable[[], dict[str, float]]:
    """An online evaluation that comes to these values, one after another; None: it has no kNN."""
    remaining = iter(values)

    def evaluate() -> dict[str, float]:
        value = next(remaining)
        return {} if value is None else {"knn": value}

    return evaluate


def steps(folder: Path) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in checkpoint.list_checkpoints(folder / "checkpoints")]


def test_the_best_state_stays_beside_the_newest(tmp_path: Path) -> None:
    result, _ = train(tmp_path, settings=LONG, evaluate=measured(50, 70, 60, 65, 70, 10, 20, 30))
    assert steps(tmp_path) == [2 * BATCHES, 7 * BATCHES, 8 * BATCHES]  # of two that are as good, the earlier
    assert result["best"] == {"by": "knn", "value": 70, "step": 10, "epoch": 2}
    assert "stopped_early" not in result
    off, _ = train(tmp_path / "off", settings=replace(LONG, keep_best="off"), evaluate=measured(*[9.0] * 8))
    assert steps(tmp_path / "off") == [35, 40]
    assert "best" not in off


def test_a_best_state_that_is_overtaken_goes(tmp_path: Path) -> None:
    train(tmp_path, settings=LONG, evaluate=measured(80, 10, 10, 10, 10, 90, 10, 10))
    assert steps(tmp_path) == [30, 35, 40]
    train(tmp_path / "few", settings=replace(LONG, keep_checkpoints=1), evaluate=measured(*range(8)))
    assert steps(tmp_path / "few") == [40]  # the best one is the newest: nothing beside it


def test_the_best_state_is_saved_where_no_checkpoint_is_due(tmp_path: Path) -> None:
    settings = replace(LONG, checkpoint_every_epochs=4)
    train(tmp_path, settings=settings, evaluate=measured(10, 20, 30, 20, 25, 29, 10, 10))
    assert steps(tmp_path) == [15, 20, 40]
    assert checkpoint.load(tmp_path / "checkpoints" / "step-00000015").state.step == 15


def test_a_start_that_stays_the_best_is_kept_and_resumed_from(tmp_path: Path) -> None:
    settings = replace(LONG, epochs=3, keep_checkpoints=1, evaluate_start=True)
    result, recorder = train(tmp_path / "whole", settings=settings, evaluate=measured(90, 10, 20, 30))
    assert steps(tmp_path / "whole") == [0, 15]
    assert result["best"] == {"by": "knn", "value": 90, "step": 0, "epoch": 0}
    assert [event.epoch for event in recorder.of(Evaluated)] == [-1, 0, 1, 2]
    parts = tmp_path / "parts"
    with pytest.raises(RunStopped):
        train(parts, settings=settings, evaluate=measured(90), stop_at=3)
    assert steps(parts) == [0, 3]
    resumed, _ = train(parts, settings=settings, evaluate=measured(10, 20, 30), resume=True)
    assert (steps(parts), resumed["best"]) == ([0, 15], result["best"])
    assert final_bytes(parts) == final_bytes(tmp_path / "whole")


def test_a_run_ends_when_its_measure_improves_no_more(tmp_path: Path) -> None:
    settings = replace(LONG, keep_best="off", stop="knn", stop_after=2)
    result, recorder = train(tmp_path, settings=settings, evaluate=measured(50, 60, 60, 59, 99))
    assert len(recorder.of(StepDone)) == result["steps"] == 4 * BATCHES
    assert result["epochs"] == 4
    assert steps(tmp_path)[-1] == 20
    assert result["stopped_early"] == (
        "knn has not improved for 2 evaluations; the best, 60, was after epoch 2 (step 10)"
    )
    # the steps it made are those of a run that goes on
    whole, of_whole = train(tmp_path / "whole", settings=replace(LONG, keep_best="off"))
    losses = [event.values["loss"] for event in recorder.of(StepDone)]
    assert losses == [event.values["loss"] for event in of_whole.of(StepDone)][:20]
    assert whole["epochs"] == 8


def test_a_run_that_has_made_all_its_steps_has_not_stopped_early(tmp_path: Path) -> None:
    """The measure has not improved for long enough when the last evaluation says so: nothing was left to stop."""
    settings = replace(LONG, epochs=3, keep_best="off", stop="knn", stop_after=2)
    result, _ = train(tmp_path, settings=settings, evaluate=measured(50, 40, 30))
    assert (result["steps"], result["epochs"]) == (3 * BATCHES, 3)
    assert "stopped_early" not in result


def test_alpha_improves_towards_1_and_what_lacks_the_measure_does_not_count() -> None:
    recorder = Recorder()
    selection = Selection.of("off", "alpha", 2)
    decisions = [
        selection.decide(step, step, values, recorder)
        for step, values in enumerate(
            [{"alpha": 3.0}, {"alpha": 0.8}, {}, {"alpha": 1.3}, {"knn": 1.0}, {"alpha": 0.7}]
        )
    ]
    assert decisions == [0, 0, 0, 0, 0, END]
    assert [notice.text for notice in recorder.of(Notice)] == [
        "train.stop is alpha, which the evaluation after epoch 3 lacks: not counted"
    ]


def test_the_start_is_named_as_what_it_is() -> None:
    recorder = Recorder()
    selection = Selection.of("lidar", "knn", 2)
    decisions = [selection.decide(5 * n, n - 1, {"knn": 90.0 - n}, recorder) for n in range(3)]
    assert decisions == [0, 0, END]
    assert selection.result(early=True)["stopped_early"] == (
        "knn has not improved for 2 evaluations; the best, 90, was before the first step (step 0)"
    )
    assert [notice.text for notice in recorder.of(Notice)] == [
        "train.keep_best is lidar, which the evaluation before the first step lacks: not counted"
    ]


def test_an_evaluation_that_is_made_again_counts_once() -> None:
    selection = Selection.of("knn", "knn", 2)
    assert selection.decide(5, 0, {"knn": 9.0}, Recorder()) == KEEP
    again = Selection.of("knn", "knn", 2, selection.state())
    for _ in range(3):
        assert again.decide(5, 0, {"knn": 9.0}, Recorder()) == KEEP
    assert again.decide(10, 1, {"knn": 8.0}, Recorder()) == 0
    assert again.decide(15, 2, {"knn": 8.0}, Recorder()) == END


@pytest.mark.parametrize("stop_at", [3, 10, 13, 19])
def test_a_resumed_run_keeps_and_ends_as_one_that_was_never_stopped(tmp_path: Path, stop_at: int) -> None:
    """The kNN is a function of the step, as a measurement of the weights is."""
    settings = replace(LONG, keep_checkpoints=1, stop="knn", stop_after=3)
    course = {5: 40.0, 10: 70.0, 15: 60.0, 20: 65.0, 25: 10.0, 30: 99.0}

    def run(folder: Path, **options: Any) -> tuple[dict[str, Any], Recorder]:
        at = [0]
        own, recorder = options.pop("before", 0), None

        class Knn:
            def __call__(self) -> dict[str, float]:
                at[0] += 1
                return {"knn": course[5 * (own + at[0])]}

        result, recorder = train(folder, settings=settings, evaluate=Knn(), **options)
        return result, recorder

    whole, _ = run(tmp_path / "whole")
    parts = tmp_path / "parts"
    with pytest.raises(RunStopped):
        run(parts, stop_at=stop_at)
    done = stop_at // BATCHES
    at_boundary = stop_at % BATCHES == 0
    # what the interrupted process had measured is in its records, which a resume reads
    resumed, _ = run(parts, resume=True, before=done, evaluated={"knn": course[stop_at]} if at_boundary else None)
    assert steps(parts) == steps(tmp_path / "whole") == [10, 25]
    assert (resumed["best"], resumed["stopped_early"]) == (whole["best"], whole["stopped_early"])
    assert final_bytes(parts) == final_bytes(tmp_path / "whole")


def test_the_best_of_records() -> None:
    records = [
        {"step": 1, "epoch": 0, "alpha": 2.0},
        {"step": 2, "epoch": 1, "alpha": float("nan")},
        {"step": 3, "epoch": 2},
        {"step": 4, "epoch": 3, "alpha": 0.0},
        {"step": 5, "epoch": 4, "alpha": 2.0},
    ]
    chosen = best(CRITERIA["alpha"], records)
    assert chosen == (1, 0, 2.0, (4, 5))  # 0 and 2 are as near to 1
    assert best(CRITERIA["knn"], records) is None


def test_events_are_said_before_a_state_is_kept_for_them(tmp_path: Path) -> None:
    """Whoever reads the records of a run that was killed finds the evaluation that its best state is of."""
    _, recorder = train(tmp_path, settings=replace(LONG, checkpoint_every_epochs=8, epochs=2), evaluate=measured(1, 2))
    kinds = [
        type(event).__name__ for event in recorder.events if type(event).__name__ in ("Evaluated", "CheckpointSaved")
    ]
    assert kinds == ["Evaluated", "CheckpointSaved", "CheckpointSaved", "Evaluated"]
    assert recorder.of(Evaluated)[0].values == {"knn": 1}
