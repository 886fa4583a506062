"""What a machine can compute in."""

from __future__ import annotations

import pytest
import torch

from barlowctl.assemble import crew
from barlowctl.assemble.machine import Runtime, choose_device, memory_explained
from barlowctl.errors import UserError


def test_memory_that_runs_out_is_explained() -> None:
    said = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.10 GiB"
    with (
        pytest.raises(UserError, match=r"the GPU's memory ran out: CUDA out of memory") as raised,
        memory_explained("x"),
    ):
        raise torch.OutOfMemoryError(said)
    assert raised.value.next == "x"
    with pytest.raises(UserError, match="the machine's memory ran out: you tried to allocate"), memory_explained("x"):
        torch.empty(1 << 60)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), memory_explained("x"):
        torch.ones(2, 3) @ torch.ones(2, 3)


def test_processes_take_the_gpus_in_turn_or_shares_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "cores", lambda: 8)
    assert crew.places(4, Runtime(device="cpu"), 0) == [crew.Place("cpu", 2)] * 4
    assert crew.places(4, Runtime(device="cpu"), 1) == [crew.Place("cpu", 1)] * 4
    assert [crew.places_at_once(n, Runtime(device="cpu"), 2) for n in (1, 4, 9)] == [1, 4, 4]
    assert crew.places_at_once(4, Runtime(device="cpu"), 0) == 1  # one process uses all cores
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [place.device for place in crew.places(3, Runtime(), 0)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert crew.places_at_once(3, Runtime(), 0) == 2
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    assert current == [torch.device("cuda", 1)]  # streams and events that name no device are on it
    with pytest.raises(UserError, match="which is one device"):
        crew.places(2, Runtime(device="cuda:1"), 0)
