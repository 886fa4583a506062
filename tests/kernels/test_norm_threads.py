"""Batch norm's kernels on several threads: torch's own, and the numbers of one thread to the bit."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator, Sequence

import pytest
import timm
import torch
from torch import Tensor, nn

from barlowctl.kernels import thread_team
from barlowctl.kernels.batch_norm import passes as norm_passes
from barlowctl.kernels.batch_norm import threads as norm_threads
from barlowctl.model.cpu.fused_blocks import choose_norms, prepare_norms
from barlowctl.model.cpu.fused_norm import FusedBatchNorm1d, FusedBatchNorm2d
from barlowctl.model.one_pass import OnePass
from tests.model.cpu.test_fused_norm import CPU, FORMATS, is_near, layers, results, values

pytestmark = [
    pytest.mark.usefixtures("number_of_threads"),
    pytest.mark.skipif(thread_team.address() is None, reason="torch has no threads here that kernels can use"),
]

SHAPES = [(64, 16, 14, 14), (300, 8, 13, 13), (64, 300, 8, 8), (64, 1100, 3, 3), (258, 513), (700, 64), (6, 3, 5, 5)]
"""Rows of few channels, of more than a tile has, an odd number of them; few blocks, one, many; too few for two."""


@pytest.fixture
def number_of_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def both(
    shape: tuple[int, ...], threads: int, *, parts: int, how: str, dtype: torch.dtype = torch.bfloat16
) -> dict[str, Tensor]:
    """All that a batch norm gives, with a ReLU or without, or in a sum: see `test_fused_norm.results`."""
    torch.set_num_threads(threads)
    network = layers(shape[1], len(shape), rectified=how != "plain")
    choose_norms(network, CPU)
    network[0].parts = parts
    x = values(shape, dtype)
    if how != "sum":
        return results(network, x)
    shortcut = (values(shape, dtype).flip(0) - 2.0).contiguous(memory_format=torch.channels_last).requires_grad_()
    x.requires_grad_()
    out = network[0].added(x, shortcut, network[1])
    out.backward(torch.linspace(-1.0, 1.0, out.numel()).to(dtype).view(out.shape))
    assert x.grad is not None
    assert shortcut.grad is not None
    statistics = dict(network[0].named_buffers())
    gradients = {name: p.grad for name, p in network[0].named_parameters() if p.grad is not None}
    return {"output": out.detach(), "of x": x.grad, "of shortcut": shortcut.grad, **gradients, **statistics}


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
@pytest.mark.parametrize("how", ["plain", "rectified", "sum"])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_numbers_are_those_of_one_thread_to_the_bit(
    shape: tuple[int, ...], parts: int, how: str, dtype: torch.dtype
) -> None:
    if len(shape) == 2 and how == "sum":
        how = "rectified"
    alone = both(shape, 1, parts=parts, how=how, dtype=dtype)
    for threads in (2, 3):
        for name, value in both(shape, threads, parts=parts, how=how, dtype=dtype).items():
            assert torch.equal(value, alone[name]), (name, threads)


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_two_threads_compute_batch_norm_up_to_rounding(
    shape: tuple[int, ...], rectified: bool, dtype: torch.dtype
) -> None:
    """Against torch's in float64 on the same numbers, as of one thread."""
    torch.set_num_threads(2)
    network, x = layers(shape[1], len(shape), rectified), values(shape, dtype)
    exact = results(copy.deepcopy(network).double(), x.double())
    choose_norms(network, CPU)
    for name, value in results(network, x).items():
        expected = exact[name]
        near = is_near(value, expected, dtype)
        assert near.float().mean() >= (0.99 if rectified and name == "of x" else 1.0), name


def test_what_is_no_number_stays_so_on_two_threads() -> None:
    torch.set_num_threads(2)
    x = values((64, 16, 14, 14))
    x[63, 2, 13, 13] = float("nan")
    network = layers(16, 4, rectified=True)
    choose_norms(network, CPU)
    out = network(x)
    assert torch.isnan(out)[:, 2].all()
    assert torch.isfinite(out[:, [0, 1, *range(3, 16)]]).all()


LARGE = 2.0**60
ORDERS = list(itertools.permutations((LARGE, -LARGE, 1.0)))
"""Their sum in float64 is 1 or 0, by the order: beside what is large 1 is lost."""


def in_order(values: Iterable[float]) -> float:
    """Their sum in float64, from the first to the last."""
    total = 0.0
    for value in values:
        total += value
    return total


def ordered(width: int, rows: Sequence[int], count: int) -> Tensor:
    """`(count, width)`: in each column an order of the three values, in those rows; all else is zero."""
    x = torch.zeros(count, width)
    for column in range(width):
        for row, value in zip(rows, ORDERS[column % len(ORDERS)], strict=True):
            x[row, column] = value
    return x


@pytest.mark.parametrize(
    ("width", "rows", "count"),
    [
        (256, (1, 256, 512), 768),  # of three blocks of rows
        (600, (255, 257, 700), 769),  # and of two tiles across
        (64, (1, 2, 3), 1024),  # of rows that are one inner loop
    ],
)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_sums_are_added_up_in_the_order_of_rows(threads: int, width: int, rows: Sequence[int], count: int) -> None:
    """Forward (the mean) and backward (the gradients of bias and weight): another order gives other numbers."""
    torch.set_num_threads(threads)
    sums = [in_order(ORDERS[column % len(ORDERS)]) for column in range(width)]
    assert set(sums) == {0.0, 1.0}
    x, layer = ordered(width, rows, count).bfloat16(), FusedBatchNorm1d(width, momentum=1.0)
    layer(x)
    assert layer.running_mean is not None
    assert layer.running_mean.tolist() == [torch.tensor(total / count).item() for total in sums]

    statistics = torch.zeros(2, 1, width)
    statistics[1] = 1.0  # a mean of 0, so that products are the gradient's numbers where x is 1
    ones, of_x, of = torch.ones_like(x), torch.empty_like(x), (torch.empty(width), torch.empty(width))
    weight, bias = torch.ones(width), torch.zeros(width)
    norm_passes.differentiate(x, ones, None, of_x, (1, count, width), weight, bias, False, statistics, of)
    assert [row.tolist() for row in of] == [sums, sums]


def trained(threads: int, *, kernels: bool = True, exact: bool = False) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs of both views, in one pass where that is ours, and gradients of a small ResNet on many pixels."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    small = {"layers": [1, 1, 1, 1], "channels": [16, 16, 32, 32], "stem_width": 16}
    network = timm.create_model("resnet18", num_classes=0, in_chans=1, **small).to(memory_format=torch.channels_last)
    views = [torch.randn(32, 1, 48, 48).contiguous(memory_format=torch.channels_last) for _ in range(2)]
    if exact:
        out = [network.double()(view.double()) for view in views]
    else:
        if kernels:
            choose_norms(network, CPU)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = OnePass([network])(network, views)
    (out[0] * out[1]).float().sum().backward()
    return [z.detach().double() for z in out], [p.grad.double().flatten() for p in network.parameters()]


def test_a_network_on_two_threads_is_what_it_is_on_one() -> None:
    """As near to float64 as torch's own, near one thread, and the same to the bit when it is computed again."""
    true, torchs, ours = trained(2, exact=True), trained(2, kernels=False), trained(2)
    one_thread, again = trained(1), trained(2)
    for part in (0, 1):
        expected, before, after, single, repeated = (
            torch.cat(r[part]) for r in (true, torchs, ours, one_thread, again)
        )
        assert torch.equal(after, repeated)
        assert (after - expected).norm() <= 1.2 * (before - expected).norm()
        assert (after - single).norm() <= (before - expected).norm()


@pytest.mark.parametrize(("threads", "several"), [(1, False), (2, True)])
def test_who_computes(monkeypatch: pytest.MonkeyPatch, threads: int, several: bool) -> None:
    """Both views go in one pass through kernels that are shared, except where there is little to do."""
    teams, images = list[tuple[int, ...]](), list[int]()
    for name in ("normalize", "differentiate"):
        call = getattr(norm_threads, name)
        monkeypatch.setattr(norm_threads, name, lambda team, *rest, call=call: (teams.append(team), call(team, *rest)))
    torch.set_num_threads(threads)
    network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network.append(nn.BatchNorm1d(8))
    choose_norms(network.to(memory_format=torch.channels_last), CPU)
    network.register_forward_hook(lambda module, inputs, output: images.append(len(output)))
    views = [torch.randn(16, 1, 20, 20).contiguous(memory_format=torch.channels_last) for _ in range(2)]
    assert 2 * 16 * 8 * 18 * 18 > norm_passes.FOR_SEVERAL > 2 * 16 * 8
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = OnePass([network])(network, views)
    out[0].float().square().sum().backward()
    assert images == [32]
    assert [team[1] for team in teams] == ([2, 1, 1, 2] if several else [1, 1, 1, 1])


def test_without_a_team_several_threads_have_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_team, "address", lambda: None)
    torch.set_num_threads(2)
    x = values((64, 16, 14, 14))
    before, after = layers(16, 4, rectified=True), layers(16, 4, rectified=True)
    choose_norms(after, CPU)
    assert torch.equal(before(x), after(x))
    torch.set_num_threads(1)
    prepare_norms(after, torch.bfloat16)
    assert not torch.equal(before(x), after(x))  # ours sum in another order


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
def test_kernels_are_compiled_before_a_step_is_timed(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    teams = list[tuple[int, ...]]()
    for name in ("normalize", "differentiate"):
        call = getattr(norm_threads, name)
        monkeypatch.setattr(norm_threads, name, lambda team, *rest, call=call: (teams.append(team), call(team, *rest)))
    torch.set_num_threads(2)
    prepare_norms(FusedBatchNorm2d(3), dtype)
    assert sorted(team[1] for team in teams) == [1, 1, 2, 2]
    x = torch.ones(2, 3, 2, 2, dtype=dtype).contiguous(memory_format=torch.channels_last)
    FusedBatchNorm2d(3)(x)
    assert teams[-1][2:] == teams[0][2:]  # the functions of a step
