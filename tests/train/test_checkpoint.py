"""Checkpoints: exact restoration, and every way in which a disk can let us down."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from barlowctl import output_paths
from barlowctl.errors import UserError
from barlowctl.train import checkpoint, tensor_files
from barlowctl.train.checkpoint import TrainingState, list_checkpoints, load_latest, save
from barlowctl.train.random_state import random_state, restore_random_state


def small_state(step: int = 1, **changes) -> TrainingState:
    values = {
        "step": step,
        "epoch": 2,
        "batch": 3,
        "recipe_digest": "abc",
        "model": {"w": torch.full((4, 3), float(step))},
    }
    return TrainingState(**{**values, **changes})


def network() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 1),
        nn.Dropout(0.3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
    )
    return net.to(memory_format=torch.channels_last)


OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "adamw-amsgrad": lambda p: torch.optim.AdamW(p, lr=torch.tensor(0.01), amsgrad=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=1e-4, nesterov=True),
    "sgd-no-momentum": lambda p: torch.optim.SGD(p, lr=0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, centered=True, momentum=0.5),
}


def train(net, optimizer, steps):
    for _ in range(steps):
        x = torch.randn(6, 3, 9, 9).to(memory_format=torch.channels_last)
        optimizer.zero_grad()
        net(x).square().sum().backward()
        # A norm reads memory in storage order: it shows when strides or alignment are not restored.
        total = torch.stack([p.grad.norm() + p.detach().norm() for p in net.parameters()]).sum()
        for p in net.parameters():
            p.grad.mul_(1 / total)
        optimizer.step()


def assert_same(left, right, path="") -> None:
    assert type(left) is type(right) or isinstance(left, dict), path
    if isinstance(left, torch.Tensor):
        assert left.dtype == right.dtype, path
        assert left.shape == right.shape, path
        assert left.stride() == right.stride(), path
        assert torch.equal(left, right), path
    elif isinstance(left, dict):
        assert list(left) == list(right), path
        for key in left:
            assert_same(left[key], right[key], f"{path}.{key}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), path
        for i, (a, b) in enumerate(zip(left, right, strict=True)):
            assert_same(a, b, f"{path}.{i}")
    else:
        assert left == right, path


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_stopped_run_continues_bit_identically(tmp_path: Path, name: str) -> None:
    net = network()
    groups = [{"params": [p for p in net.parameters() if p.ndim > 1]},
              {"params": [p for p in net.parameters() if p.ndim == 1], "weight_decay": 0.0}]  # fmt: skip
    optimizer = OPTIMIZERS[name](groups)
    train(net, optimizer, 3)
    state = small_state(model=net.state_dict(), optimizer=optimizer.state_dict(), random=random_state())
    save(tmp_path, state, keep=1)
    train(net, optimizer, 3)

    resumed = network()
    with torch.no_grad():
        for p in resumed.parameters():
            p.add_(1)
    resumed_optimizer = OPTIMIZERS[name](
        [
            {"params": [p for p in resumed.parameters() if p.ndim > 1]},
            {"params": [p for p in resumed.parameters() if p.ndim == 1]},
        ]
    )
    loaded = load_latest(tmp_path).state
    resumed.load_state_dict(loaded.model)
    resumed_optimizer.load_state_dict(loaded.optimizer)
    restore_random_state(loaded.random)
    train(resumed, resumed_optimizer, 3)

    assert_same(dict(net.state_dict()), dict(resumed.state_dict()))
    assert_same(optimizer.state_dict(), resumed_optimizer.state_dict())


def test_optimizer_state_keeps_types_zero_dim_steps_and_channels_last(tmp_path: Path) -> None:
    net = network()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    train(net, optimizer, 1)
    saved = optimizer.state_dict()
    save(tmp_path, small_state(optimizer=saved), keep=1)
    loaded = load_latest(tmp_path).state.optimizer
    assert_same(saved, loaded)
    assert loaded["state"][0]["step"].shape == ()
    assert loaded["state"][0]["exp_avg"].is_contiguous(memory_format=torch.channels_last)
    assert not loaded["state"][0]["exp_avg"].is_contiguous()
    assert loaded["param_groups"][0]["betas"] == (0.9, 0.999)


def strided(*shape: int) -> torch.Tensor:
    return torch.arange(float(torch.Size(shape).numel())).reshape(shape)


TENSORS = {
    "bfloat16": strided(5, 3).bfloat16(),
    "float64": strided(7).double() / 3,
    "int64 scalar": torch.tensor(7),
    "bool": torch.tensor([True, False]),
    "empty": torch.empty(0, 4),
    "also empty": torch.empty(0, 4),
    "channels_last": strided(4, 3, 2, 2).to(memory_format=torch.channels_last),
    "channels_last 1x1": strided(4, 3, 1, 1).to(memory_format=torch.channels_last),
    "bf16 channels_last": strided(4, 3, 2, 2).bfloat16().to(memory_format=torch.channels_last),
    "transposed": strided(4, 3).t(),
    "nan and minus zero": torch.tensor([float("nan"), -0.0, float("inf")]),
}


@pytest.mark.parametrize("name", TENSORS)
def test_each_tensor_comes_back_as_it_was(tmp_path: Path, name: str) -> None:
    save(tmp_path, small_state(model={"t": TENSORS[name]}), keep=1)
    back = load_latest(tmp_path).state.model["t"]
    assert back.dtype == TENSORS[name].dtype
    assert back.shape == TENSORS[name].shape
    assert back.stride() == TENSORS[name].stride()
    bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[back.element_size()]
    assert torch.equal(back.view(bits), TENSORS[name].view(bits))
    assert back.data_ptr() % 64 == 0 or not back.numel()


def test_holes_and_expanded_tensors_keep_their_values(tmp_path: Path) -> None:
    model = {"holes": strided(6, 4)[:, 1:3], "expanded": torch.ones(1, 3).expand(5, 3)}
    save(tmp_path, small_state(model=model), keep=1)
    back = load_latest(tmp_path).state.model
    assert torch.equal(back["holes"], model["holes"])
    assert torch.equal(back["expanded"], model["expanded"])


def test_shared_and_overlapping_tensors(tmp_path: Path) -> None:
    whole = strided(6, 4)
    model = {"a": whole, "tied": whole, "rows": whole[:2], "flat": whole.view(-1)}
    save(tmp_path, small_state(model=model), keep=1)
    back = load_latest(tmp_path).state.model
    assert set(back) == set(model)
    for key in model:
        assert torch.equal(back[key], model[key]), key
    assert back["tied"].data_ptr() == back["a"].data_ptr()
    assert back["rows"].data_ptr() != back["a"].data_ptr()


def test_extra_values_survive(tmp_path: Path) -> None:
    extra = {
        "scaler": {"scale": 65536.0, "growth": 2, "none": None},
        "lr": 0.1 + 0.2,
        "best": float("-inf"),
        "pair": (1, [True, "x"]),
        7: {"queue": torch.ones(2)},
    }
    save(tmp_path, small_state(extra=extra), keep=1)
    state = load_latest(tmp_path).state
    assert_same(extra, state.extra)
    assert (state.step, state.epoch, state.batch, state.recipe_digest) == (1, 2, 3, "abc")


def test_unknown_kinds_of_values_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"extra\.device is a device"):
        save(tmp_path, small_state(extra={"device": torch.device("cpu")}), keep=1)
    assert list(tmp_path.iterdir()) == []


def test_the_last_k_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 15, 100_000_000):
        save(tmp_path, small_state(step), keep=2)
    assert [p.name for p in list_checkpoints(tmp_path)] == ["step-00000015", "step-100000000"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000015", "step-100000000"]
    assert load_latest(tmp_path).state.step == 100_000_000


def test_to_keep_none_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    save(tmp_path, small_state(5), keep=1)
    with pytest.raises(ValueError, match="keep is 0, not at least 1"):
        save(tmp_path, small_state(10), keep=0)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000005"]


def test_a_left_future_is_removed_and_a_step_can_be_saved_again(tmp_path: Path) -> None:
    for step in (5, 10, 15):
        save(tmp_path, small_state(step), keep=3)
    again = small_state(10, model={"w": torch.zeros(1)})
    save(tmp_path, again, keep=3)
    assert [p.name for p in list_checkpoints(tmp_path)] == ["step-00000005", "step-00000010"]
    assert torch.equal(load_latest(tmp_path).state.model["w"], torch.zeros(1))


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "flipped weights": lambda d: flip(d / "model.safetensors", -1),
    "flipped header": lambda d: flip(d / "optimizer.safetensors", 12),
    "truncated": lambda d: (d / "model.safetensors").write_bytes((d / "model.safetensors").read_bytes()[:-3]),
    "empty": lambda d: (d / "model.safetensors").write_bytes(b""),
    "missing file": lambda d: (d / "random.safetensors").unlink(),
    "missing state": lambda d: (d / "state.json").unlink(),
    "state cut": lambda d: (d / "state.json").write_text('{"body": {"step"'),
    "state edited": lambda d: (d / "state.json").write_text(
        (d / "state.json").read_text().replace('"epoch": 2', '"epoch": 9')
    ),
    "state of another shape": lambda d: (d / "state.json").write_text("[1]"),
    "state not text": lambda d: (d / "state.json").write_bytes(b"\xff\x00\xfe"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_checkpoint_is_skipped_with_a_note(tmp_path: Path, name: str) -> None:
    save(tmp_path, small_state(1), keep=2)
    DAMAGE[name](save(tmp_path, small_state(2), keep=2))
    loaded = load_latest(tmp_path)
    assert loaded.state.step == 1
    assert len(loaded.notes) == 1
    assert "step-00000002" in loaded.notes[0]


def test_none_usable_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint in"):
        load_latest(tmp_path / "nowhere")
    flip(save(tmp_path, small_state(2), keep=2) / "model.safetensors", -1)
    with pytest.raises(UserError, match=r"none of the 1 checkpoint .*model\.safetensors was altered"):
        load_latest(tmp_path)


def test_a_checkpoint_of_another_format_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    save(tmp_path, small_state(2), keep=2)
    monkeypatch.undo()
    with pytest.raises(UserError, match="it has format 2, this version reads format 1"):
        load_latest(tmp_path)


def test_model_only_ignores_the_other_files(tmp_path: Path) -> None:
    path = save(tmp_path, small_state(2), keep=2)
    (path / "optimizer.safetensors").write_bytes(b"")
    state = load_latest(tmp_path, model_only=True).state
    assert torch.equal(state.model["w"], torch.full((4, 3), 2.0))
    assert state.optimizer == {}


def test_checkpoints_that_a_run_replaces_meanwhile_are_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was the newest when the folder was listed may be gone when it is read."""
    save(tmp_path, small_state(1), keep=1)
    read = checkpoint._read

    def late(path: Path, model_only: bool) -> TrainingState:
        if path.name.endswith("1"):
            save(tmp_path, small_state(2), keep=1)
        return read(path, model_only)

    monkeypatch.setattr(checkpoint, "_read", late)
    loaded = load_latest(tmp_path, model_only=True)
    assert (loaded.state.step, loaded.notes) == (2, ())


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, small_state(1), keep=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    large = small_state(2, model={"w": torch.zeros(100_000)})
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(UserError, match="step 2 could not be written"):
            save(tmp_path, large, keep=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]
    assert load_latest(tmp_path).state.step == 1


def test_of_a_full_disk_the_checkpoint_says_what_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = small_state(
        2, model={"w": torch.zeros(2_000_000)}, optimizer={"state": {0: {"m": torch.zeros(500_000)}}}, random={}
    )

    def full(tensors: object, path: Path) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(tensor_files, "save_file", full)
    monkeypatch.setattr(output_paths, "free_bytes", lambda folder: 4_000_000)
    with pytest.raises(UserError) as raised:
        save(tmp_path / "run" / "checkpoints", state, keep=1)
    room = f"there is room for 4 MB in '{tmp_path / 'run' / 'checkpoints'}'"
    assert raised.value.message.endswith(f": No space left on device: it takes 10 MB or more, and {room}")
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


def test_a_crash_while_writing_leaves_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, small_state(1), keep=1)

    def crash(source: str, target: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, small_state(2), keep=1)
    monkeypatch.undo()
    assert load_latest(tmp_path).state.step == 1
    (tmp_path / ".partial-step-00000002-1a2b").mkdir()  # what a killed process leaves
    assert load_latest(tmp_path).state.step == 1
    save(tmp_path, small_state(3), keep=1)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000003"], "leftovers are removed"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="': Not a directory"):
        save(tmp_path / "file" / "checkpoints", small_state(1), keep=1)


def test_no_pickle_and_plain_json(tmp_path: Path) -> None:
    path = save(tmp_path, small_state(1), keep=1)
    assert sorted(p.name for p in path.iterdir()) == [
        "model.safetensors", "optimizer.safetensors", "random.safetensors", "state.json",
    ]  # fmt: skip
    body = json.loads((path / "state.json").read_text())["body"]
    assert body["step"] == 1
    assert body["recipe_digest"] == "abc"
