"""BYOL, SimSiam and SwAV in training: two passes have the gradient of one, and a resumed run is bit-identical."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from barlowctl.distributed import ALONE
from barlowctl.errors import RunStopped
from barlowctl.methods import BYOL
from barlowctl.train import after_epoch, engine
from barlowctl.train.events import Notice
from tests.methods.siamese_networks import (
    MAKE,
    SIZES,
    Views,
    make,
    one_gradient,
    optimizer_of,
    settings,
    to_input,
    train,
)


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("micro_batch", [4, 9])
def test_two_passes_have_the_gradient_of_one(name: str, micro_batch: int) -> None:
    """Without batch norm; terms too, prototypes' gradients among it."""
    terms, expected = one_gradient(make(name, norm=False), SIZES[name], micro_batch=0)
    again, actual = one_gradient(make(name, norm=False), SIZES[name], micro_batch=micro_batch)
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(actual[key], value, rtol=1e-9, atol=1e-12, msg=key)
    for one, other in zip(again, terms, strict=True):
        assert one.item() == pytest.approx(other.item(), rel=1e-12)


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("stop_at", [2, 7])
def test_a_resumed_run_is_bit_identical(tmp_path: Path, name: str, stop_at: int) -> None:
    """Target network, prototypes that are still kept or not any more, queue half full."""
    whole = train(ALONE, name, str(tmp_path / "whole"))
    with pytest.raises(RunStopped):
        train(ALONE, name, str(tmp_path / "parts"), stop_at)
    resumed = train(ALONE, name, str(tmp_path / "parts"), resume=True)
    assert resumed["terms"].tolist() == whole["terms"][stop_at:].tolist()
    for key in whole.keys() - {"terms"}:
        assert resumed[key].tobytes() == whole[key].tobytes(), key


@pytest.mark.parametrize(("steps", "expected"), [(1, 1), (1000, 0)])
def test_what_a_method_sees_to_be_wrong_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, expected: int
) -> None:
    """After an epoch, with its mean loss and the newest terms; not before training has come some hundred steps far."""
    monkeypatch.setattr(after_epoch, "ALARM_STEPS", steps)
    method = make("swav")
    calls: list[tuple[set[str], float]] = []

    def alarm(values: dict[str, float], progress: float) -> str:
        calls.append((set(values), progress))
        return "something is wrong"

    method.alarm = alarm  # type: ignore[method-assign, assignment]
    events: list[object] = []
    engine.train(
        method, Views(SIZES["swav"]), optimizer_of(method), settings(), to_input=to_input,
        device=torch.device("cpu"), emit=events.append, checkpoints=tmp_path, recipe_digest="d",
    )  # fmt: skip
    assert [event.text for event in events if isinstance(event, Notice)] == ["something is wrong"] * expected
    assert [progress for _, progress in calls] == [0.5] * expected
    assert all({"loss", "entropy", "spread"} <= names for names, _ in calls)


def test_micro_batches_count_once_in_the_running_statistics_of_both_networks() -> None:
    """Three pieces of two views go through each network twice, and their statistics are kept once."""
    method = make("byol")
    assert isinstance(method, BYOL)
    one_gradient(method, SIZES["byol"], micro_batch=4)
    for norm in (method.backbone[1], method.target.networks[0][1]):  # type: ignore[index]
        assert norm.num_batches_tracked == 6
