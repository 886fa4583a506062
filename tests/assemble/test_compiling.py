"""`train.compile`: what is compiled, and what is said of how long it took."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._dynamo.callback import CallbackTrigger, callback_handler
from torch._dynamo.utils import counters

from barlowctl import compiled_code
from barlowctl.assemble import compiling
from barlowctl.assemble.first_lines import describe_compiling
from barlowctl.assemble.machine import check_compiler
from barlowctl.assemble.methods import Context
from barlowctl.assemble.model import begin_method
from barlowctl.assemble.resolve import resolve
from barlowctl.errors import UserError
from barlowctl.recipe.load import load
from barlowctl.train.events import EpochDone, Event, Notice, StepDone


@pytest.mark.parametrize(
    ("hits", "graphs", "survives", "text"),
    [
        (0, 6, True, "compiled in 41 s, kept for later runs"),
        (0, 6, False, "compiled in 41 s, not kept for later runs"),
        (6, 6, True, "compiled in 41 s, all of it from what earlier runs compiled"),
        (2, 6, True, "compiled in 41 s, 2 of 6 parts from what earlier runs compiled"),
    ],
)
def test_how_long_it_took_has_its_reason(hits: int, graphs: int, survives: bool, text: str) -> None:
    assert compiling.describe(41.3, hits, graphs, survives=survives) == text


def test_it_is_said_once_after_the_first_step_of_this_run(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 17.0, 20.0, 22.0])
    monkeypatch.setattr(compiling, "perf_counter", lambda: next(clock))
    counters["inductor"]["fxgraph_cache_miss"] += 3  # of an earlier run in this process
    before = len(callback_handler.start_callbacks), len(callback_handler.end_callbacks)
    events: list[Event] = []
    with compiling.compiling_timed(events.append, compiles=True) as emit:
        for trigger in (CallbackTrigger.DYNAMO, CallbackTrigger.LAZY_BACKWARD):
            with callback_handler.install_callbacks(trigger, "0/0"):
                counters["inductor"]["fxgraph_cache_hit"] += 1
        emit(EpochDone(0, 0, {}))
        emit(StepDone(1, 0, True))
        emit(StepDone(2, 0, True))
    said_of_it = Notice("compiled in 9 s, all of it from what earlier runs compiled")
    assert events == [EpochDone(0, 0, {}), StepDone(1, 0, True), said_of_it, StepDone(2, 0, True)]
    assert (len(callback_handler.start_callbacks), len(callback_handler.end_callbacks)) == before


def test_a_run_that_compiles_nothing_is_told_nothing() -> None:
    events: list[Event] = []
    with compiling.compiling_timed(events.append, compiles=False) as emit:
        emit(StepDone(1, 0, True))
    assert events == [StepDone(1, 0, True)]


@pytest.mark.parametrize(
    ("device", "compiles", "keeps"), [("cpu", False, False), ("cpu", True, True), ("cuda", False, True)]
)
def test_what_is_compiled_on_the_device_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str, compiles: bool, keeps: bool
) -> None:
    """On a GPU the views' kernels are compiled whatever the recipe says."""
    for name in compiled_code.VARIABLES:
        monkeypatch.setenv(name, "so that it is taken back")
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    method = begin_method(load("fashion-mnist", []), Context(images=1000))
    compiling.arrange_compiling(method, torch.device(device), compiles=compiles)
    assert (compiled_code.TORCH in os.environ) == keeps
    assert all((part._compiled_call_impl is not None) == compiles for part in (method.backbone, method.projector))


def test_torch_calls_back_when_it_compiles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the time is taken by: hooks of torch's, of which its documentation says nothing."""
    monkeypatch.setenv(compiled_code.TORCH, str(tmp_path))
    clock = iter([10.0, 17.0])
    monkeypatch.setattr(compiling, "perf_counter", lambda: next(clock))
    events: list[Event] = []
    with compiling.compiling_timed(events.append, compiles=True) as emit:
        torch.compile(torch.mm, backend="eager")(torch.eye(3), torch.eye(3))
        emit(StepDone(1, 0, True))
    assert [event.text for event in events if isinstance(event, Notice)] == ["compiled in 7 s, kept for later runs"]


def test_the_first_lines_say_where_the_code_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(compiled_code.TORCH, str(tmp_path / "code"))

    def lines(*changes: str) -> dict[str, str]:
        return describe_compiling(resolve(load("fashion-mnist", [*changes]), torch.device("cpu"), 1, 10_000))

    assert lines() == {}
    line = f"backbone and heads, at the first step; code is kept in {tmp_path / 'code'}"
    assert lines("train.compile=true") == {"compiling": line}
    (tmp_path / "code").write_text("in the way")
    assert "code is not kept for the next job" in lines("train.compile=true")["compiling"]


def test_a_named_folder_that_cannot_be_written_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CXX", "sh")
    monkeypatch.setenv(compiled_code.TORCH, str(tmp_path / "file" / "below"))
    with pytest.raises(UserError, match=r"cannot write to '.*below', where TORCHINDUCTOR_CACHE_DIR puts") as raised:
        check_compiler(torch.device("cpu"))
    assert raised.value.next == "--set train.compile=false"
    monkeypatch.setenv(compiled_code.TORCH, str(tmp_path / "new"))
    check_compiler(torch.device("cpu"))


def test_that_torch_found_cudas_tools_without_a_gpu_is_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("torch.utils.cpp_extension")
    monkeypatch.setattr(logger, "filters", [])
    monkeypatch.setattr(compiled_code, "keep", lambda: None)
    method: Any = SimpleNamespace(modules=list, backbone=torch.nn.Identity(), heads=dict)

    def passes(text: str) -> bool:
        return bool(logger.filter(logger.makeRecord(logger.name, logging.WARNING, "", 0, text, ("x",), None)))

    assert passes("No CUDA runtime is found, using CUDA_HOME='%s'")
    compiling.compile_networks(method)
    assert not passes("No CUDA runtime is found, using CUDA_HOME='%s'")
    assert passes("the compiler %s is too old")
