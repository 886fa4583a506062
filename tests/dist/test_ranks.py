"""Several processes on distinct shards against one process: loss, gradients, weights; and a rank that is gone."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from barlowctl.train import checkpoint
from tests.dist import gang, work
from tests.dist.work import Run
from tests.oracles import authors
from tests.oracles import loss as oracle

pytestmark = pytest.mark.dist

SIZES = (2, 4)
TOLERANCE = {"float64": 1e-9, "float32": 1e-4}
OPTIONS: list[dict[str, Any]] = [
    *({"form": form, "terms": terms} for form in ("gram", "primal") for terms in ("both", "invariance", "redundancy")),
    *({"form": form, "normalization": norm} for form in ("gram", "primal") for norm in ("feature", "none")),
    {"criterion": "cross-entropy"},
]
CASES = [
    (n, d, dtype, options)
    for (n, d), dtype, options in itertools.product(((24, 40), (26, 10)), ("float64", "float32"), OPTIONS)
]


def distance(actual: np.ndarray, expected: np.ndarray) -> float:
    """Relative to the largest entry."""
    return float(np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-30))


@pytest.mark.parametrize("size", SIZES)
def test_loss_and_gradient_of_every_form_are_those_of_one_process(size: int) -> None:
    expected = work.alone(work.loss_and_gradients, CASES)
    by_rank = gang.together(work.loss_and_gradients, size, CASES)
    for number, (case, alone) in enumerate(zip(CASES, expected, strict=True)):
        limit = TOLERANCE[case[2]]
        for rank in by_rank:
            for value, other in zip(rank[number][:3], alone[:3], strict=True):
                assert abs(value - other) <= limit * max(abs(other), 1e-3), case
        for view in (3, 4):
            rows = np.concatenate([rank[number][view] for rank in by_rank])
            assert distance(rows, alone[view]) <= limit, (case, view)


def test_the_loss_over_ranks_is_the_formula() -> None:
    """Not only equal to our own single process: equal to the oracle's formula and chain rule."""
    import torch

    z1, z2 = (z.numpy() for z in work.embeddings(24, 40, torch.float64))
    grads = oracle.gradient(z1, z2, lambd=0.02)
    cases = [(24, 40, "float64", {"form": form}) for form in ("gram", "primal")]
    by_rank = gang.together(work.loss_and_gradients, 2, cases)
    for number in range(2):
        assert by_rank[0][number][0] == pytest.approx(oracle.loss(z1, z2, lambd=0.02), rel=1e-10)
        for view in (0, 1):
            rows = np.concatenate([rank[number][3 + view] for rank in by_rank])
            assert distance(rows, grads[view]) < 1e-9


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_gradients_and_ten_lars_steps_are_those_of_one_process(tmp_path: Path, size: int, dtype: str) -> None:
    """Batch norm in both networks, shares that differ by one, distinct images on every rank."""
    run, limit = Run(dtype=dtype), TOLERANCE[dtype]
    expected = work.alone(work.gradients, run)
    for rank in gang.together(work.gradients, size, run):
        assert rank.keys() == expected.keys()
        for name in expected:
            assert distance(rank[name], expected[name]) <= limit, name
    weights = work.alone(work.train, run, str(tmp_path / "alone"))
    assert len(weights["loss"]) == 10
    for rank in gang.together(work.train, size, run, str(tmp_path / "together")):
        for name in weights:
            assert distance(rank[name], weights[name]) <= limit, name


def test_batch_norm_over_groups_of_ranks_is_that_of_one_process_on_each_groups_rows(tmp_path: Path) -> None:
    """Four ranks in groups of two: ten steps are those of one process whose batch norm sees each half by itself."""
    run = Run(rows=24, norm_parts=2)
    expected = work.alone(work.train, run, str(tmp_path / "alone"))
    by_rank = gang.together(work.train, 4, replace(run, norm_ranks=2), str(tmp_path / "together"))
    for rank in by_rank:
        for name in ("loss", "path"):
            assert distance(rank[name], expected[name]) <= 1e-9, name
    running = [name for name in expected if "running" in name]
    assert running
    for name in running:  # each group has its own, and one process the mean of them
        first, second, third, fourth = (rank[name] for rank in by_rank)
        assert (first == second).all()
        assert (third == fourth).all()
        assert distance((first + third) / 2, expected[name]) <= 1e-9, name
        assert distance(first, third) > 1e-6, name
    whole = work.alone(work.train, replace(run, norm_parts=1), str(tmp_path / "whole"))
    assert distance(whole["path"], expected["path"]) > 1e-3  # batch norm over all rows is another training


def test_micro_batches_over_ranks(tmp_path: Path) -> None:
    """Two passes on every rank: without batch norm, ten steps end where one pass in one process ends."""
    run = Run(norm=False)
    expected = work.alone(work.train, run, str(tmp_path / "alone"))
    for rank in gang.together(work.train, 2, replace(run, micro_batch=4), str(tmp_path / "together")):
        for name in expected:
            assert distance(rank[name], expected[name]) <= 1e-9, name


def test_the_reference_scale_is_one_over_w() -> None:
    expected = work.alone(work.gradients, Run())
    for rank in gang.together(work.gradients, 4, Run(scale="reference")):
        for name in expected:
            assert distance(4 * rank[name], expected[name]) <= 1e-9, name


@pytest.mark.parametrize("w_ref", [4, 32])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_w_ref_recipe_follows_the_authors_formulation_step_by_step(tmp_path: Path, w_ref: int, size: int) -> None:
    """The authors on w_ref devices with the printed numbers; ours on any with W_ref written into two of them."""
    printed = Run(rows=64, lr=0.5, lr_biases=0.4, weight_decay=3e-3)
    expected = authors.trajectory(printed, w_ref)
    ours = replace(printed, lr_biases=0.4 / w_ref, weight_decay=3e-3 * w_ref)
    if size == 1:
        actual = work.alone(work.train, ours, str(tmp_path))
    else:
        actual = gang.together(work.train, size, ours, str(tmp_path))[0]
    np.testing.assert_allclose(actual["loss"], expected.losses, rtol=1e-9)
    np.testing.assert_allclose(actual["path"], expected.path, rtol=0, atol=1e-9)
    if size == 1:  # the printed numbers are not the same run
        other = work.alone(work.train, printed, str(tmp_path / "printed"))
        assert np.abs(other["path"] - expected.path).max() > 1e-3


def test_the_reference_scale_with_the_printed_numbers_is_the_authors_run(tmp_path: Path) -> None:
    printed = Run(rows=64, lr=0.5, lr_biases=0.4, weight_decay=3e-3, scale="reference")
    expected = authors.trajectory(printed, 4)
    actual = gang.together(work.train, 4, printed, str(tmp_path))[0]
    np.testing.assert_allclose(actual["path"], expected.path, rtol=0, atol=1e-9)


def test_gradients_in_several_buckets_and_of_unused_parameters() -> None:
    for rank in gang.together(work.unused_parameters, 2):
        assert rank["unused"]
        assert len(rank["grads"]) == 5
        assert all((grad == 3.0).all() for grad in rank["grads"])


def test_collectives_keep_the_order_of_ranks() -> None:
    for rank in gang.together(work.collectives, 3):
        assert rank["shares"] == [1, 2, 3]
        assert rank["gathered"][:, 0].tolist() == [0, 1, 1, 2, 2, 2]
        assert rank["sum"].tolist() == [3, 3]
        assert [value["rank"] for value in rank["objects"]] == [0, 1, 2]
        assert rank["first"] == "from 0"
        assert rank["copied"] == 0.0
        assert rank["strides"] == (48, 1, 12, 3)


@pytest.mark.parametrize(
    ("how", "says"), [("killed", "rank 2 is gone"), ("fails", "rank 2 failed: ValueError: no such image")]
)
def test_a_rank_that_is_gone_stops_the_others_with_the_reason(how: str, says: str) -> None:
    replies = gang.answers(gang.start(work.lose_a_rank, 3, how, limit=600.0), timeout=300.0)  # less than the limit
    for kind, text in replies[:2]:
        assert kind == "RankLost", replies
        assert says in text
    assert replies[2][0] == ("died" if how == "killed" else "ValueError")


def test_a_rank_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    members = gang.start(work.lose_a_rank, 2, "silent", limit=10.0)  # it would be silent for a thousand
    replies = gang.answers(members[:1], timeout=300.0)
    members[1][0].kill()
    assert replies[0][0] == "RankLost"
    assert "rank 1 is gone or does not answer" in replies[0][1]


@pytest.mark.parametrize("train", [work.train, work.train_transformer])
def test_two_processes_stopped_by_a_signal_to_one_resume_bit_identically(train: Any, tmp_path: Path) -> None:
    """Dropout and drop path too: every rank's random state is saved and put back."""
    run = Run(dtype="float32", dropout=0.3)
    whole = gang.together(train, 2, run, str(tmp_path / "whole"))
    for kind, text in gang.answers(gang.start(train, 2, run, str(tmp_path / "parts"), 3)):
        assert kind == "RunStopped", text
        assert "stopped at step 3 of 10" in text
    resumed = gang.together(train, 2, run, str(tmp_path / "parts"), None, True)
    for before, after in zip(whole, resumed, strict=True):
        assert before["loss"][3:].tolist() == after["loss"].tolist()
        for name in before.keys() - {"loss", "path"}:
            assert before[name].tobytes() == after[name].tobytes(), name


@pytest.mark.parametrize("sizes", [(1, 2), (2, 1), (2, 4)])
def test_another_number_of_ranks_goes_on_with_the_same_batches(tmp_path: Path, sizes: tuple[int, int]) -> None:
    run = Run()
    whole = work.alone(work.train, run, str(tmp_path / "whole"))
    before, after = sizes
    half = replace(run, epochs=2)
    if before == 1:
        with pytest.raises(Exception, match="stopped at step 4"):
            work.alone(work.train, half, str(tmp_path / "parts"), 4)
    else:
        gang.answers(gang.start(work.train, before, half, str(tmp_path / "parts"), 4))
    assert checkpoint.load_latest(tmp_path / "parts").state.step == 4
    if after == 1:
        resumed = work.alone(work.train, run, str(tmp_path / "parts"), None, True)
    else:
        resumed = gang.together(work.train, after, run, str(tmp_path / "parts"), None, True)[0]
    assert len(resumed["loss"]) == 6
    for name in whole.keys() - {"loss", "path"}:
        assert distance(resumed[name], whole[name]) <= 1e-9, name


def test_all_ranks_stop_early_at_the_same_step_with_the_best_state_kept(tmp_path: Path) -> None:
    """Rank 0 alone evaluates; what it decides, every rank does: saving is a call that all of them make."""
    (steps, result), (other_steps, other) = gang.together(work.stop_early, 2, Run(epochs=6), str(tmp_path))
    assert steps == other_steps == 20
    assert (result["steps"], result["epochs"]) == (other["steps"], other["epochs"]) == (20, 4)
    assert result["stopped_early"].startswith("knn has not improved for 2 evaluations; the best, 60, ")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-00000010", "step-00000020"]
