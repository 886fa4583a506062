"""Steps of every method as a device takes them: captured as one graph, and without a value that the host reads."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from barlowctl.distributed import ALONE
from barlowctl.methods import VICReg
from barlowctl.methods.doubts import Doubts
from barlowctl.train import step as training_step
from tests.train.captured_steps import NAMES, images, method_of, step_of, trained
from tests.train.recorded_graph import FROM_HOST, use_recorded_graphs


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [*((name, "lars") for name in NAMES), *(("byol", other) for other in ("sgd", "adamw", "muon"))],
)
def test_a_replayed_step_is_the_one_that_was_captured(
    monkeypatch: pytest.MonkeyPatch, name: str, optimizer: str
) -> None:
    """To the bit: no number of the host that changes from step to step is a part of it."""
    use_recorded_graphs(monkeypatch)
    expected, state = trained(name, optimizer, captures=False)
    actual, same = trained(name, optimizer, captures=True)
    assert actual == expected
    for key, value in state.items():
        assert torch.equal(same[key], value), key


class Weighted(VICReg):
    """Its loss is multiplied by a number: of the host, or of a buffer."""

    def vary(self, kind: str) -> None:
        self.kind, self.steps = kind, 0
        self.register_buffer("count", torch.zeros(()))

    def compare(self, embeddings: Any, targets: Any) -> Any:
        terms = super().compare(embeddings, targets)
        if self.kind == "plain":
            self.steps += 1
            return terms._replace(loss=terms.loss * self.steps)
        if self.kind == "drawn":
            return terms._replace(loss=terms.loss * random.random())
        return terms._replace(loss=terms.loss * (1 + targets.progress) * (1 + self.count))

    def after_step(self, progress: Tensor) -> None:
        self.count.add_(1.0)


@pytest.mark.parametrize(
    ("kind", "reason"), [("plain", "Weighted.steps"), ("drawn", "Python's random"), ("tensors", None)]
)
def test_a_step_of_a_registered_method_is_captured_where_nothing_of_it_changes_on_the_host(
    monkeypatch: pytest.MonkeyPatch, kind: str, reason: str | None
) -> None:
    """Else the graph would have it as it was at the capture, and each loss would be wrong without a word."""
    use_recorded_graphs(monkeypatch)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(training_step, "leave_capture", lambda device: None)
    losses = []
    for captures in (False, True):
        torch.manual_seed(5)
        random.seed(7)
        method, notes = method_of("vicreg"), list[str]()
        method.__class__ = Weighted
        assert isinstance(method, Weighted)
        method.vary(kind)
        method.doubts = Doubts(ALONE)
        step = step_of(method, "sgd", torch.device("cpu"), notify=notes.append)
        step._captures = captures
        for number in range(7):
            views, indices = images("vicreg", number)
            targets = step.targets(torch.full_like(indices, -1), indices, [len(indices)], number / 7)
            computed = step.compute(views, targets)
            step.update(computed, with_norm=True)
            losses.append(computed.loss())
        assert (step._captured is not None) is (captures and reason is None)
        why = f"{reason} changes from step to step on the host, and a graph would keep it as it is"
        expected = [f"steps are not captured as a CUDA graph: {why}"] if captures and reason else []
        assert notes == expected
    assert losses[:7] == losses[7:]
    assert len(set(losses)) == 7


def test_a_step_is_captured_on_a_stream_of_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own is of the GPU that a process captured on first: on another one nothing would be captured."""
    use_recorded_graphs(monkeypatch)
    capture, streams = torch.cuda.graph, []

    def noting(graph: Any, **settings: Any) -> Any:
        streams.append(settings["stream"])
        return capture(graph, **settings)

    monkeypatch.setattr(torch.cuda, "graph", noting)
    trained("byol", captures=True)
    assert streams == [torch.device("cpu")]


class OnOneDevice(TorchDispatchMode):
    """Raises where a tensor of the host takes part, or numbers of it become one: a copy would be waited for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name.startswith("aten::_fused_"):
            return None  # torch has no shapes for these, which change what they are given
        assert func._schema.name != FROM_HOST
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, result)):
            assert not isinstance(leaf, Tensor) or leaf.device.type == "meta", (func, leaf.device)
        return result


@pytest.mark.parametrize(
    ("name", "micro_batch", "optimizer"),
    [*((name, 0, "lars") for name in NAMES), ("supervised", 12, "lars"), ("byol", 5, "lars"), ("byol", 0, "muon")],
)
def test_no_value_is_read_and_none_lies_on_the_host(
    monkeypatch: pytest.MonkeyPatch, name: str, micro_batch: int, optimizer: str
) -> None:
    """On tensors that have no values: reading one is an error of torch's."""
    monkeypatch.setattr(training_step, "read_later", lambda *scalars: [*map(torch.Tensor.detach, scalars)].copy)
    meta = torch.device("meta")
    method = method_of(name, meta)
    step = step_of(method, optimizer, meta, clip_grad_norm=1.0, micro_batch=micro_batch)
    for number in range(3):
        views, indices = images(name, number)
        targets = step.targets(indices, indices, [len(indices)], number / 3)
        inputs = [view.to(meta) for view in views]
        with OnOneDevice():
            step.update(step.compute(inputs, targets), with_norm=True)
            step.undo()
