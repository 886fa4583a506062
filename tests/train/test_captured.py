"""Steps of every method as a device takes them: captured as one graph, and without a value that the host reads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

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
