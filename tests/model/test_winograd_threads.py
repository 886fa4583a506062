"""Winograd's convolutions on several threads: torch's own, and the numbers of one thread to the bit."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from barlowctl.model import thread_team, winograd, winograd_kernels, winograd_passes
from barlowctl.model.fused_norm import choose_norms
from barlowctl.model.product_convolution import choose_convolutions
from tests.model.test_winograd import CPU, direct, drawn, images, node, results, whole

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(thread_team.address() is None, reason="torch has no threads here that kernels can use"),
]

SHAPES = [
    # n, c, d, height, width
    (6, 64, 64, 8, 8),
    (3, 64, 192, 7, 9),
    (1, 64, 64, 1, 4),
    (29, 128, 64, 3, 3),
    (70, 64, 128, 5, 10),  # two parts of the batch are summed
    (11, 64, 64, 16, 34),  # six of them, the last one of one image
    (9, 192, 256, 4, 5),
]
THREADS = (2, 3, 5, 8)


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """On every processor; one without the instruction computes the same in float32."""
    monkeypatch.setattr(winograd, "is_measured", lambda: True)


def on(threads: int, x: Tensor, weight: Tensor, grad: Tensor) -> list[Tensor]:
    """Output and both gradients, by that many threads."""
    torch.set_num_threads(threads)
    return results(winograd.convolve, x, weight, grad)


@pytest.mark.parametrize("shape", SHAPES)
def test_numbers_are_those_of_one_thread_to_the_bit(shape: tuple[int, int, int, int, int]) -> None:
    alone = on(1, *drawn(*shape))
    for threads in THREADS:
        assert all(map(torch.equal, alone, on(threads, *drawn(*shape)))), threads


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize(("n", "c", "d", "height", "width"), SHAPES)
def test_of_whole_numbers_it_is_the_convolution_exactly(
    n: int, c: int, d: int, height: int, width: int, threads: int
) -> None:
    """Against float64: nothing is rounded but the results that are bf16."""
    x, grad = whole((n, c, height, width), 2, 1, 0.3, 0), whole((n, d, height, width), 2, 1, 0.3, 1)
    weight = whole((d, c, 3, 3), 2, 2, 0.3, 2)  # even, so that halves are whole
    truth = results(direct, x.double(), weight.double(), grad.double())
    for part, true in zip(on(threads, x.bfloat16(), weight, grad.bfloat16()), truth, strict=True):
        assert torch.equal(part, true.to(part.dtype))


def test_parts_of_the_batch_are_added_up_in_their_order() -> None:
    """Numbers whose sum shows it: what is small beside another is lost, unless that one is taken away before."""
    values = (2.0**30, -(2.0**30), 1.0)
    orders = list(itertools.permutations(range(3)))
    x, weight, grad = (torch.zeros_like(part) for part in drawn(12, 64, 64, 16, 34))
    x[:, :, 8, 8] = 1.0
    for channel, order in enumerate(orders):
        for part, place in enumerate(order):
            grad[4 * part, channel, 8, 8] = values[place]
    sums = [sum(torch.tensor([values[place] for place in order])).item() for order in orders]
    assert sorted(set(sums)) == [0.0, 1.0]
    for threads in (1, *THREADS):
        of_weight = on(threads, x, weight, grad)[2]
        assert of_weight[:6, :, 1, 1].tolist() == [[total] * 64 for total in sums], threads


def test_who_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer is Winograd's on several threads too, and its passes are theirs."""
    for name in ("convolve", "correlate", "transform_weights", "transform_turned_weights", "gather_gradient"):
        monkeypatch.setattr(winograd_kernels, name, None)
    layer = nn.Conv2d(64, 64, 3, 1, 1, bias=False).to(memory_format=torch.channels_last)
    choose_convolutions(layer, CPU)
    torch.set_num_threads(2)
    assert node(layer, images(64, 8, 8)) == "_WinogradBackward"
    assert all(part.isfinite().all() for part in on(2, *drawn(3, 64, 64, 4, 4)))
    with pytest.raises(TypeError):
        on(1, *drawn(3, 64, 64, 4, 4))


def test_kernels_of_several_threads_are_compiled_before_a_step_is_timed() -> None:
    from barlowctl.model import winograd_threads

    torch.set_num_threads(2)
    winograd.prepare()
    before = list(winograd_threads.call_together.signatures)
    assert before
    on(2, *drawn(5, 128, 64, 5, 7))
    assert list(winograd_threads.call_together.signatures) == before


def trained(threads: int) -> tuple[list[float], list[Tensor]]:
    """Losses of a few steps and the weights after them, of a small network that our kernels compute."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(3):
        layers += [nn.Conv2d(64, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    network = nn.Sequential(*layers).to(memory_format=torch.channels_last)
    choose_convolutions(network, CPU)
    choose_norms(network, CPU)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    x, target, losses = images(64, 13, 10), torch.randn(16, 64, generator=torch.Generator().manual_seed(2)), []
    for _ in range(5):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            pooled = network(x)[:, :, 5, 5]
        loss = (pooled.double() - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, [p.detach() for p in network.parameters()]


def test_a_short_training_is_the_same_to_the_bit() -> None:
    losses, weights = trained(1)
    assert losses[-1] < losses[0]
    for threads in (2, 3):
        others, other_weights = trained(threads)
        assert others == losses
        assert all(map(torch.equal, weights, other_weights))


def test_two_that_train_at_the_same_time_do_not_meet() -> None:
    """Each Python thread has a team of its own."""
    shapes = [(29, 64, 64, 9, 9), (11, 64, 128, 12, 6)]
    alone = [on(1, *drawn(*shape)) for shape in shapes]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(4):
            together = pool.map(lambda shape: on(2, *drawn(*shape)), shapes)
            for expected, computed in zip(alone, together, strict=True):
                assert all(map(torch.equal, expected, computed))


FORKED = """
import os, torch
from barlowctl.model import winograd
from tests.model.test_winograd import drawn
from tests.model.test_winograd_threads import on
expected = on(2, *drawn(9, 64, 64, 6, 6))
child = os.fork()
if child == 0:  # as a loader's worker process is made, which has one thread: the parent's are not there
    torch.set_num_threads(1)
    same = all(map(torch.equal, expected, on(1, *drawn(9, 64, 64, 6, 6))))
    os._exit(0 if same else 1)
assert os.waitpid(child, 0)[1] == 0
assert all(map(torch.equal, expected, on(2, *drawn(9, 64, 64, 6, 6))))
print("same")
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
def test_a_forked_process_computes_too() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout == "same\n", done.stderr


def test_a_batch_is_cut_for_the_threads_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many groups of images for each, and of the gradient of the weights as many tiles, where that is possible."""
    from barlowctl.model import winograd_threads

    tasks: list[Any] = []
    task_of = winograd_threads.task_of
    monkeypatch.setattr(
        winograd_threads, "task_of", lambda shape, **fields: tasks.append(fields) or task_of(shape, **fields)
    )
    torch.set_num_threads(3)
    x, weight, grad = drawn(100, 64, 64, 4, 4)
    winograd_passes.convolve(x, winograd_passes.transform_weights(weight, turned=False), 64)
    winograd_passes.gradient_of_weight(x, grad)
    _, convolution, correlation, _ = tasks
    assert -(-100 // convolution["group"]) % 3 == 0
    assert correlation["parts"] * correlation["fourths"] * correlation["across"] % 3 == 0
