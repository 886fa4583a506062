"""A backbone that is divided among ranks (FSDP2) trains what a whole one does, and its checkpoints are whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from barlowctl.train import checkpoint
from tests.dist import divided, gang, work
from tests.dist.test_ranks import distance
from tests.dist.work import Run

pytestmark = pytest.mark.dist

WHOLE = Run(optimizer="adamw", lr=0.01, lr_biases=0.01, layer_decay=0.8, clip=0.5, rows=22)
DIVIDED = replace(WHOLE, shard=True)
BF16 = 2.0**-8  # its rounding, by which steps may differ once a weight's last bit does


def saved(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of the newest checkpoint."""
    state = checkpoint.load_latest(folder).state
    moments = {
        f"{number} {name}": value
        for number, values in state.optimizer["state"].items()
        for name, value in values.items()
        if isinstance(value, torch.Tensor)
    }
    return {**state.model, **moments, **state.random}


def assert_equal(ours: Path, theirs: Path, limit: float = 0.0) -> None:
    first, second = saved(ours), saved(theirs)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert value.shape == second[name].shape, name
        difference = (value.double() - second[name].double()).abs().max()
        assert difference <= limit * second[name].double().abs().max(), name


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"optimizer": "sgd", "clip": 0.0, "scale": "reference"},
        {"micro_batch": 4},
        {"deferred": True},
    ],
    ids=str,
)
def test_ten_steps_are_those_of_a_whole_backbone(tmp_path: Path, change: dict[str, object]) -> None:
    """Losses, norms of the gradient, weights and the optimizer's moments; layer-wise rates and clipping among it."""
    whole = gang.together(divided.train, 2, replace(WHOLE, **change), str(tmp_path / "whole"))  # type: ignore[arg-type]
    for values in gang.together(divided.train, 2, replace(DIVIDED, **change), str(tmp_path / "divided")):  # type: ignore[arg-type]
        assert len(values) == 20
        assert values == pytest.approx(whole[0], rel=1e-9)
    assert_equal(tmp_path / "divided", tmp_path / "whole", 1e-9)


def test_a_step_copies_nothing_from_the_host(tmp_path: Path) -> None:
    """Which parameters are divided goes to the device once, and not in each step, which would wait for it."""
    for counts in gang.together(divided.copies_from_host, 2, replace(DIVIDED, deferred=True), str(tmp_path)):
        assert len(counts) == 10
        assert counts[0] > 0, "what a first step copies is seen"
        assert counts[1:] == [0] * 9


def test_steps_in_bf16_are_those_of_a_whole_backbone(tmp_path: Path) -> None:
    """The same products of the same rounded numbers; only sums over ranks are of another order, in float32."""
    runs = (replace(run, dtype="float32", precision="bf16") for run in (WHOLE, DIVIDED))
    whole, parts = (gang.together(divided.train, 2, run, str(tmp_path / str(run.shard))) for run in runs)
    rounded = gang.together(divided.train, 2, replace(WHOLE, dtype="float32"), str(tmp_path / "fp32"))
    assert rounded[0][0] != pytest.approx(whole[0][0], rel=1e-5), "it was in bf16"
    for values in parts:
        assert values[:2] == pytest.approx(whole[0][:2], rel=1e-5)
        assert values == pytest.approx(whole[0], rel=BF16)


def test_ten_steps_of_every_method_without_a_moving_average_are_those_of_one_process(tmp_path: Path) -> None:
    """Losses, weights and gradients' norms, on a network with convolutions, batch norm and a number by itself."""
    run = replace(divided.METHODS_RUN, clip=0.5)
    expected = work.alone(divided.train_each, run, str(tmp_path / "alone"))
    assert len(expected) >= 6
    for rank in gang.together(divided.train_each, 2, replace(run, shard=True), str(tmp_path / "together")):
        assert rank.keys() == expected.keys()
        for name, values in expected.items():
            assert len(values) == 20
            assert distance(np.array(rank[name]), np.array(values)) <= 1e-9, name
    for name in expected:
        one, two = (checkpoint.load_latest(tmp_path / where / name).state.model for where in ("alone", "together"))
        for key, value in one.items():
            assert distance(two[key].numpy(), value.numpy()) <= 1e-9, (name, key)


def test_stopped_it_goes_on_bit_identically_and_on_any_number_of_ranks(tmp_path: Path) -> None:
    gang.together(divided.train, 2, DIVIDED, str(tmp_path / "uninterrupted"))
    for name in ("parts", "elsewhere"):
        for kind, text in gang.answers(gang.start(divided.train, 2, DIVIDED, str(tmp_path / name), 3)):
            assert (kind, "stopped at step 3 of 10" in text) == ("RunStopped", True)
    gang.together(divided.train, 2, DIVIDED, str(tmp_path / "parts"), None, True)
    assert_equal(tmp_path / "parts", tmp_path / "uninterrupted")
    work.alone(divided.train, WHOLE, str(tmp_path / "elsewhere"), None, True)  # drop path draws other numbers there


@pytest.mark.parametrize("deferred", [False, True], ids=["at once", "read later"])
@pytest.mark.parametrize("run", [WHOLE, DIVIDED], ids=["whole", "divided"])
def test_a_gradient_that_is_not_finite_on_one_rank_ends_all_where_its_step_began(
    tmp_path: Path, run: Run, deferred: bool
) -> None:
    name, run = "backbone.blocks.1.mlp.fc1.weight", replace(run, deferred=deferred)
    gang.answers(gang.start(divided.train, 2, run, str(tmp_path / "stopped"), 7 - deferred))
    for kind, text in gang.answers(gang.start(divided.train_poisoned, 2, run, str(tmp_path / "ended"), name, 7)):
        assert kind == "RunDiverged"
        assert text.startswith(f"the norm of the gradient of {name} is nan, while the loss is ")
        assert ", at step 7 (" in text
    assert checkpoint.load_latest(tmp_path / "ended").state.step == 7
    assert_equal(tmp_path / "ended", tmp_path / "stopped")


@pytest.mark.parametrize("when", ["forward", "backward"])
def test_a_rank_that_is_killed_while_others_gather_is_named(tmp_path: Path, when: str) -> None:
    """torch's own exchanges, within a pass, end as ours do."""
    (kind, text), (died, _) = gang.answers(gang.start(divided.train_until_killed, 2, DIVIDED, str(tmp_path), when))
    assert (kind, died) == ("RankLost", "died")
    assert "rank 1 is gone: its process " in text


def test_a_backbone_that_uses_weights_of_blocks_it_does_not_call_is_refused(tmp_path: Path) -> None:
    for kind, text in gang.answers(gang.start(divided.train_uncalled, 2, DIVIDED, str(tmp_path))):
        assert kind == "UserError"
        assert "weights of blocks that it does not call" in text
