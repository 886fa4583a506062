"""Convolutions as products on a CPU: where, and that they compute the same."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from barlowctl import processor
from barlowctl.model.cpu import matrix_products, winograd
from barlowctl.model.cpu.convolution_ways import Way
from barlowctl.model.cpu.product_convolution import ProductConvolution, choose_convolutions
from barlowctl.model.cpu.seen_taps import SeenTaps

CPU = torch.device("cpu")


def convolution(channels: int, width: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    torch.manual_seed(0)
    made = nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False)
    return made.to(memory_format=torch.channels_last)


def images(channels: int, side: int, dtype: torch.dtype = torch.float32) -> Tensor:
    made = torch.randn(6, channels, side, side, generator=torch.Generator().manual_seed(1), dtype=dtype)
    return made.contiguous(memory_format=torch.channels_last)


def results(layer: nn.Conv2d, x: Tensor, dtype: torch.dtype | None) -> list[Tensor]:
    """Output, gradient of x and gradient of the weight of a loss that weighs every value differently."""
    layer.zero_grad()
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        out = layer(x)
    weights = torch.linspace(-1.0, 1.0, out.numel()).bfloat16().double().view(out.shape)
    (out.double() * weights).sum().backward()
    assert x.grad is not None
    assert layer.weight.grad is not None
    return [out.detach(), x.grad, layer.weight.grad]


LAYERS = [
    (16, 24, 1, 2, 7),
    (16, 24, 1, 1, 4),
    (16, 24, 1, 3, 9),
    (128, 8, 3, 1, 3),
    (128, 8, 3, 2, 5),
    (128, 4, 5, 2, 6),
]


@pytest.mark.parametrize(("channels", "width", "kernel", "stride", "side"), LAYERS)
def test_a_product_is_the_convolution_up_to_rounding(
    channels: int, width: int, kernel: int, stride: int, side: int
) -> None:
    layer, x = convolution(channels, width, kernel, stride), images(channels, side)
    rounded = copy.deepcopy(layer).double()
    rounded.weight.data = layer.weight.data.bfloat16().double()
    exact = results(rounded, x.bfloat16().double(), None)
    before = results(layer, x, torch.bfloat16)
    choose_convolutions(layer, CPU)
    after = results(layer, x, torch.bfloat16)
    for truth, torchs, ours in zip(exact, before, after, strict=True):
        size = truth.abs().max()
        assert ours.dtype == torchs.dtype
        assert ours.stride() == torchs.stride()
        torchs_error = (torchs - truth).abs().max()  # a processor without bf16 rounds twice
        assert (ours - truth).abs().max() <= max(2**-8 * size, torchs_error)
        assert (ours - torchs).abs().max() <= 2**-7 * size


def node(layer: nn.Conv2d, x: Tensor, dtype: torch.dtype) -> str:
    """What autograd calls the operation."""
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        out = layer(x)
    return type(out.grad_fn).__name__


def check_as_exact_as_torchs(layer: nn.Conv2d, x: Tensor) -> None:
    """In float32, as a product, against float64."""
    exact = results(copy.deepcopy(layer).double(), x.double(), None)
    before = results(layer, x, None)
    choose_convolutions(layer, CPU)
    assert node(layer, x, torch.float32) == "ProductBackward"
    for truth, torchs, ours in zip(exact, before, results(layer, x, None), strict=True):
        assert ours.dtype == torch.float32
        assert ours.stride() == torchs.stride()
        assert (ours - truth).norm() <= 1.5 * (torchs - truth).norm() + 1e-7 * truth.norm()


@pytest.mark.parametrize(
    ("kernel", "stride", "side"), [(1, 1, 5), (1, 2, 11), (3, 2, 9), (5, 2, 6)], ids=lambda value: str(value)
)
@pytest.mark.usefixtures("on_intel")
def test_in_fp32_a_product_is_as_exact_as_torchs(kernel: int, stride: int, side: int) -> None:
    layer, x = convolution(128, 128, kernel, stride), images(128, side)
    check_as_exact_as_torchs(layer, x)


@pytest.mark.parametrize(
    ("channels", "width", "kernel", "stride", "side", "product"),
    [
        (128, 128, 1, 1, 8, True),
        (128, 128, 1, 1, 9, False),
        (64, 128, 1, 1, 8, False),
        (128, 64, 3, 2, 8, False),
        (128, 256, 3, 2, 16, True),
        (128, 256, 3, 2, 17, False),
        (32, 64, 1, 2, 10, True),
        (32, 64, 1, 2, 11, False),  # six pixels a side
        (31, 64, 1, 2, 10, False),
        (32, 64, 1, 1, 5, False),
    ],
)
@pytest.mark.usefixtures("on_intel")
def test_in_fp32_only_those_are_products_that_were_measured_to_be_faster(
    channels: int, width: int, kernel: int, stride: int, side: int, product: bool
) -> None:
    layer, x = convolution(channels, width, kernel, stride), images(channels, side)
    choose_convolutions(layer, CPU)
    assert (node(layer, x, torch.float32) == "ProductBackward") == product
    assert node(layer, x.contiguous(), torch.float32) == "ConvolutionBackward0"


@pytest.mark.parametrize("where", ["AMD", "no Linux", "no MKL"])
@pytest.mark.usefixtures("on_intel")
def test_in_fp32_elsewhere_it_is_torchs(where: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    layer, x = convolution(128, 128, 1), images(128, 8)
    choose_convolutions(layer, CPU)
    assert node(layer, x, torch.float32) == "ProductBackward"
    if where == "no MKL":
        monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    else:
        monkeypatch.setattr(processor, "CPUINFO", tmp_path / "another")
    if where == "AMD":
        (tmp_path / "another").write_text("vendor_id\t: AuthenticAMD\n")
    assert node(layer, x, torch.float32) == "ConvolutionBackward0"


@pytest.mark.parametrize(
    ("channels", "width", "kernel", "stride", "side", "images", "way"),
    [
        (64, 256, 1, 1, 24, 8, Way.WEIGHTS),
        (63, 256, 1, 1, 24, 8, Way.TORCHS),
        (32, 128, 1, 1, 3, 8, Way.PRODUCT),
        (32, 128, 1, 1, 4, 8, Way.TORCHS),
        (31, 128, 1, 1, 3, 8, Way.TORCHS),
        (64, 128, 1, 2, 24, 8, Way.PRODUCT),
        (32, 128, 1, 2, 12, 8, Way.PRODUCT),
        (32, 128, 1, 2, 14, 8, Way.TORCHS),  # seven pixels a side
        (128, 128, 3, 2, 24, 8, Way.WEIGHTS),
        (127, 128, 3, 2, 24, 8, Way.TORCHS),
        (512, 512, 3, 2, 8, 8, Way.PRODUCT),
        (512, 511, 3, 2, 8, 8, Way.WEIGHTS),
        (512, 512, 3, 2, 9, 8, Way.WEIGHTS),
        (128, 256, 3, 2, 4, 32, Way.PIXELS),
        (128, 256, 3, 2, 4, 31, Way.WEIGHTS),
        (128, 256, 3, 2, 5, 32, Way.WEIGHTS),
        (64, 128, 3, 2, 4, 32, Way.TORCHS),
        (64, 128, 3, 2, 2, 32, Way.PIXELS),
        (64, 64, 3, 1, 2, 32, Way.PIXELS),
        (63, 64, 3, 1, 2, 32, Way.TORCHS),
        (256, 256, 5, 1, 8, 32, Way.TORCHS),
        (64, 128, 2, 2, 2, 32, Way.TORCHS),  # corners see padding alone
    ],
)
@pytest.mark.usefixtures("without_avx512")
def test_in_fp32_without_avx512_each_is_computed_in_the_way_that_was_measured_to_be_fastest(
    monkeypatch: pytest.MonkeyPatch,
    channels: int,
    width: int,
    kernel: int,
    stride: int,
    side: int,
    images: int,
    way: Way,
) -> None:
    layer = nn.Conv2d(channels, width, kernel, stride, 1 if kernel == 2 else kernel // 2, bias=False)
    choose_convolutions(layer, CPU)
    x = torch.zeros(images, channels, side, side).contiguous(memory_format=torch.channels_last)
    nodes = {
        Way.TORCHS: "ConvolutionBackward0",
        Way.WEIGHTS: "ProductBackward",
        Way.PRODUCT: "ProductBackward",
        Way.PIXELS: "_ForEachPixelBackward",
    }
    monkeypatch.setattr(winograd, "is_faster", lambda *_: False)
    assert node(layer, x, torch.float32) == nodes[way]
    assert cast(Any, layer)._way_of(x, torch.float32) == way


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "side"),
    [(64, 1, 1, 5), (64, 1, 2, 9), (128, 3, 2, 9), (128, 5, 2, 11), (512, 3, 2, 6)],
)
@pytest.mark.parametrize("patches", [2**24, 1], ids=["at once", "some images at a time"])
@pytest.mark.usefixtures("without_avx512")
def test_in_fp32_without_avx512_it_is_as_exact_as_torchs(
    monkeypatch: pytest.MonkeyPatch, patches: int, channels: int, kernel: int, stride: int, side: int
) -> None:
    monkeypatch.setattr(matrix_products, "PATCHES", patches)
    monkeypatch.setattr(matrix_products, "FEWEST_IMAGES", 4)
    layer, x = convolution(channels, channels, kernel, stride), images(channels, side)
    check_as_exact_as_torchs(layer, x)


@pytest.mark.usefixtures("without_avx512")
def test_patches_of_so_many_images_are_cut_out_at_a_time_as_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = convolution(128, 128, 3, 2), images(128, 9)
    choose_convolutions(layer, CPU)
    cut, patches = list[int](), matrix_products.patches_of
    monkeypatch.setattr(matrix_products, "patches_of", lambda x, *of: (cut.append(len(x)), patches(x, *of))[1])
    monkeypatch.setattr(matrix_products, "FEWEST_IMAGES", 2)
    of_image = 5 * 5 * 9 * 128 * 4  # 25 pixels of the result see 9 each, in bytes
    for room, expected in ((4 * of_image, [4, 2]), (4 * of_image - 1, [3, 3]), (1, [2, 2, 2]), (6 * of_image, [6])):
        cut.clear()
        monkeypatch.setattr(matrix_products, "PATCHES", room)
        results(layer, x, None)
        assert cut == expected


@pytest.mark.parametrize(("side", "way", "times"), [(5, Way.WEIGHTS, 1), (3, Way.PRODUCT, 0)])
@pytest.mark.usefixtures("without_avx512")
def test_the_gradient_of_the_input_is_onednns_where_only_the_weights_is_a_product(
    monkeypatch: pytest.MonkeyPatch, side: int, way: Way, times: int
) -> None:
    layer, x = convolution(64, 64, 1), images(64, side)
    choose_convolutions(layer, CPU)
    assert cast(Any, layer)._way_of(x, torch.float32) == way
    calls, of_input = list[int](), matrix_products._gradient_of_input
    monkeypatch.setattr(matrix_products, "_gradient_of_input", lambda *of: (calls.append(1), of_input(*of))[1])
    results(layer, x, None)
    assert len(calls) == times


@pytest.mark.usefixtures("without_avx512")
def test_a_gradient_that_nobody_needs_is_not_computed() -> None:
    layer, x = convolution(64, 64, 1), images(64, 5)
    choose_convolutions(layer, CPU)
    layer.weight.requires_grad_(False)
    x.requires_grad_()
    layer(x).sum().backward()
    assert layer.weight.grad is None
    assert x.grad is not None


@pytest.fixture
def precisions() -> Iterator[Any]:
    """torch's of products in float32 on a CPU, put back after the test."""
    matmul: Any = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    yield matmul
    matmul.fp32_precision = before


@pytest.mark.usefixtures("on_intel")
def test_products_of_a_lower_precision_are_not_taken_for_fp32(precisions: Any) -> None:
    """Nor does it matter which of torch's two ways to set it was taken: one of them raises what the other has set."""
    layer, x = convolution(128, 128, 1), images(128, 8)
    choose_convolutions(layer, CPU)
    precisions.fp32_precision = "ieee"
    assert node(layer, x, torch.float32) == "ProductBackward"
    precisions.fp32_precision = "bf16"
    assert node(layer, x, torch.float32) == "ConvolutionBackward0"


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "side", "product"),
    [
        (16, 1, 2, 40, True),
        (16, 1, 1, 8, True),
        (16, 1, 1, 9, False),
        (128, 3, 1, 4, True),
        (128, 3, 2, 8, True),
        (128, 3, 1, 5, False),
        (64, 3, 1, 4, False),
    ],
)
@pytest.mark.usefixtures("on_amd")
def test_only_those_are_products_that_were_measured_to_be_faster(
    channels: int, kernel: int, stride: int, side: int, product: bool
) -> None:
    layer, x = convolution(channels, 8, kernel, stride), images(channels, side)
    choose_convolutions(layer, CPU)
    assert (node(layer, x, torch.bfloat16) == "ProductBackward") == product
    assert node(layer, x, torch.float32) == "ConvolutionBackward0"
    assert node(layer, x.contiguous(), torch.bfloat16) == "ConvolutionBackward0"


def test_evaluation_is_torchs_own_to_the_bit() -> None:
    layer, x = convolution(16, 24, 1, 2).eval(), images(16, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        before = layer(x)
        choose_convolutions(layer, CPU)
        assert torch.equal(layer(x), before)
    assert type(layer) is ProductConvolution


def test_names_parameters_and_hooks_stay() -> None:
    network = nn.Sequential(convolution(16, 24, 1, 2), nn.ReLU())
    weight, seen = network[0].weight, []
    network[0].register_forward_hook(lambda *_: seen.append(1))
    choose_convolutions(network, CPU)
    copied = copy.deepcopy(network)
    network(images(16, 7))
    assert list(network.state_dict()) == ["0.weight"]
    assert network[0].weight is weight
    assert seen == [1]
    assert type(copied[0]) is ProductConvolution


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(16, 8, 1, 2, bias=True),
        nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect", bias=False),
        nn.Conv2d(8, 8, 1, padding=1, bias=False),
    ],
)
def test_others_stay_as_they_are(layer: nn.Conv2d) -> None:
    choose_convolutions(layer, CPU)
    assert type(layer) is nn.Conv2d


@pytest.mark.parametrize("changed", [{"groups": 4}, {"bias": True}, {"dilation": 2}, {"padding": "same"}], ids=str)
def test_others_of_larger_kernels_are_no_products(changed: dict[str, Any]) -> None:
    layer = nn.Conv2d(8, 8, 3, **{"padding": 1, "bias": False, **changed})
    choose_convolutions(layer, CPU)
    assert type(layer) is SeenTaps


def test_on_a_gpu_all_stay_as_they_are() -> None:
    layer = convolution(16, 24, 1, 2)
    choose_convolutions(layer, torch.device("cuda"))
    assert type(layer) is nn.Conv2d
