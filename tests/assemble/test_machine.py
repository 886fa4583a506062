"""What a machine can compute in."""

from __future__ import annotations

import pytest
import torch

from barlowctl.assemble import crew
from barlowctl.assemble.machine import Runtime, choose_device, memory_explained, usable_precision
from barlowctl.errors import UserError


@pytest.mark.parametrize(
    ("avx512_bf16", "amx", "used"), [(False, False, "fp32"), (True, False, "bf16"), (False, True, "bf16")]
)
def test_bf16_where_a_cpu_has_instructions_for_it(
    avx512_bf16: bool, amx: bool, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    cpu = torch.device("cpu")
    assert usable_precision("bf16", cpu) == used
    assert (usable_precision("fp16", cpu), usable_precision("fp32", cpu)) == ("fp32", "fp32")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_computes_in_what_the_recipe_says(precision: str) -> None:
    assert usable_precision(precision, torch.device("cuda")) == precision


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
