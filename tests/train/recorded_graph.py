"""A CUDA graph as a CPU can have one: what was called while it was captured is called again, into the same memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

READ = ("aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero", "aten::equal")
"""Of these the host has to know a result: a device would be waited for, which a graph cannot hold."""
FROM_HOST = "aten::lift_fresh"
"""What `torch.tensor` calls: a number of the host, which a graph would copy from wherever it lay."""


class RecordedGraph:
    """Stands for `torch.cuda.CUDAGraph`: numbers of the host are those of the capture, tensors are where they were."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any, list[Tensor]]] = []  # what is called, with what, and what it made
        self.before: dict[int, tuple[Tensor, Tensor]] = {}  # of memory that was there before, by its address

    @torch.no_grad()
    def replay(self) -> None:
        """Every call again; what it makes then lies where it lay."""
        for function, given, made in self.calls:
            args, kwargs = given
            for tensor, value in zip(made, _tensors(function(*args, **kwargs)), strict=True):
                if _memory(tensor) not in map(_memory, _tensors(given)):  # else it is a part of what was given
                    tensor.copy_(value)

    @torch.no_grad()
    def forget(self) -> None:
        """Make memory what it was before the capture, which computes nothing; what it made is no number yet."""
        for _, given, made in self.calls:
            for tensor in made:
                if tensor.is_floating_point() and _memory(tensor) not in map(_memory, _tensors(given)):
                    tensor.fill_(torch.nan)
        for whole, copy in self.before.values():
            whole.copy_(copy)


class _Recording(TorchDispatchMode):
    def __init__(self, graph: RecordedGraph) -> None:
        super().__init__()
        self.graph = graph
        self.made: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        if name in READ or name == FROM_HOST:
            raise RuntimeError(f"{name} while a graph is captured")
        given = (args, kwargs or {})
        for tensor in _tensors(given):
            if _memory(tensor) not in self.made and _memory(tensor) not in self.graph.before:
                whole = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
                self.graph.before[_memory(tensor)] = (whole, whole.clone())
        result = func(*args, **(kwargs or {}))
        made = [tensor.detach() for tensor in _tensors(result)]
        self.made |= set(map(_memory, made)) - self.graph.before.keys()
        self.graph.calls.append((func, tree_map_only(Tensor, Tensor.detach, given), made))  # without autograd's graph
        return result


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@contextmanager
def _capture(graph: RecordedGraph, **settings: Any) -> Iterator[None]:
    random = torch.get_rng_state()
    try:
        with _Recording(graph):
            yield
    finally:
        graph.forget()
        torch.set_rng_state(random)


def use_recorded_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `Captured` record on the CPU what a CUDA device would capture."""
    monkeypatch.setattr(torch.cuda, "CUDAGraph", RecordedGraph)
    monkeypatch.setattr(torch.cuda, "graph", _capture)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: device)
