"""`bench profile`: every part of a step is counted once, under what it is."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from barlowctl import model
from barlowctl.bench import step_profile
from barlowctl.bench.step_profile import OTHER, group_of, grouped, parts_of, profile_step
from barlowctl.cli.app import run as barlowctl
from tests.bench.test_step import TINY, tiny

CPU = torch.device("cpu")
FLAGS = ["--recipe", "resnet50", "--batch", "16", "--size", "32", "--steps", "2", "--warmup", "1"]
FLAGS += [flag for setting in TINY[:3] for flag in ("--set", setting)]
Captured = pytest.CaptureFixture[str]


class Kind(NamedTuple):
    """As torch's `DeviceType`."""

    name: str


CPU_TIME, GPU = Kind("CPU"), Kind("CUDA")


@dataclass
class Event:
    """As of `torch.autograd.profiler_util.FunctionEvent`; times in microseconds."""

    name: str
    self_cpu_time_total: float = 0.0
    self_device_time_total: float = 0.0
    device_type: Kind = CPU_TIME
    cpu_parent: Event | None = None
    is_user_annotation: bool = False


def test_every_layer_of_ours_has_a_group() -> None:
    """A network's own functions of autograd; pooling, gates and activations are of the rest, as torch's are."""
    for module in pkgutil.walk_packages(model.__path__, "barlowctl.model."):
        importlib.import_module(module.name)
    functions = {kind.__name__ for kind in _all_functions(torch.autograd.Function)}
    assert {name for name in functions if group_of(name) == OTHER} == {"_CatAvgMax", "_Gated", "_LookUp", "_Means"}


def _all_functions(kind: type) -> Iterator[type]:
    for part in kind.__subclasses__():
        if part.__module__.startswith("barlowctl.model.") and not part.__name__.endswith("Backward"):
            yield part
        yield from _all_functions(part)


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize128x128x64", "convolutions"),
        ("void cudnn::cnn::wgrad2d_grouped_direct_kernel<__half>", "convolutions"),
        ("_WinogradBackward", "convolutions"),
        ("_Winograd2dBackward", "convolutions"),
        ("_TileProducts", "convolutions"),
        ("_Depthwise", "convolutions"),
        ("_BesideBackward", "convolutions"),
        ("_ForEachPixelBackward", "convolutions"),
        ("_BranchBackward", "convolutions"),
        ("aten::mkldnn_convolution", "convolutions"),
        ("ProductBackward", "convolutions"),
        ("_ConvolutionBackward", "convolutions"),
        ("_BranchInRowsBackward", "convolutions"),
        ("_RowsBackward", "matrix products"),
        ("_BiasedRowsBackward", "matrix products"),
        ("aten::scaled_dot_product", OTHER),
        ("nvjet_hsh_256x128_64x4_1x2_h_bz_coopA_NTT", "matrix products"),
        ("void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_bf16_128x128>", "matrix products"),
        ("aten::mm", "matrix products"),
        ("aten::addmm_", "matrix products"),
        ("triton_red_fused__native_batch_norm_legit_functional_convolution_3", "norms"),
        ("void at::native::batch_norm_collect_statistics_channels_last_kernel<float>", "norms"),
        ("_NormalizeBackward", "norms"),
        ("triton_poi_fused__to_copy_add_relu_5", OTHER),
        ("triton_tem_fused_convolution_7", "convolutions"),
        ("triton_poi_fused_convolution_relu_7", OTHER),
        ("void flash_fwd_kernel<Flash_fwd_kernel_traits<64>>", "attention"),
        ("void at::native::multi_tensor_apply_kernel<at::native::TensorListMetadata<2>>", "optimizer"),
        ("Memcpy HtoD (Pinned -> Device)", "copies"),
        ("aten::copy_", "copies"),
        ("void at::native::vectorized_elementwise_kernel<4, at::native::AddFunctor<float>>", OTHER),
        ("aten::mul", OTHER),
    ],
)
def test_what_a_name_is(name: str, group: str) -> None:
    assert group_of(name) == group


def test_own_times_of_a_step_on_a_cpu() -> None:
    lars = Event("Optimizer.step#LARS.step", 1000.0)
    foreach = Event("aten::_foreach_mul_", 0.0, cpu_parent=lars)
    events = [
        lars,
        foreach,
        Event("aten::mul_", 3000.0, cpu_parent=foreach),
        Event("aten::mul_", 500.0),
        Event("aten::mul_", 1500.0),
        Event("aten::mm", 4000.0),
        Event("aten::mm", 200.0, cpu_parent=Event("ProductBackward")),
        Event("a kernel", self_device_time_total=9e9, device_type=GPU),
    ]
    parts = parts_of(events, CPU, steps=2)
    assert [(part["name"], part["group"], part["ms"], part["calls"]) for part in parts] == [
        ("aten::mm", "matrix products", 2.0, 0.5),
        ("aten::mul_", "optimizer", 1.5, 0.5),
        ("aten::mul_", OTHER, 1.0, 1.0),
        ("Optimizer.step#LARS.step", "optimizer", 0.5, 0.5),
        ("aten::mm", "convolutions", 0.1, 0.5),
    ]
    assert [(group["name"], group["ms"]) for group in grouped(parts)] == [
        ("matrix products", 2.0),
        ("optimizer", 2.0),
        (OTHER, 1.0),
        ("convolutions", 0.1),
    ]


def test_on_a_gpu_kernels_count_alone() -> None:
    events = [
        Event("aten::mm", 4000.0, 900.0),
        Event("gemm_kernel", 0.0, 600.0, GPU),
        Event("Memset (Device)", 0.0, 200.0, GPU),
        Event("Optimizer.step#LARS.step", 0.0, 800.0, GPU, is_user_annotation=True),  # of which both are parts
    ]
    parts = parts_of(events, torch.device("cuda"), steps=2)
    assert [(part["name"], part["ms"]) for part in parts] == [("gemm_kernel", 0.3), ("Memset (Device)", 0.1)]


def test_a_step_is_the_sum_of_its_parts(tmp_path: Path) -> None:
    trace, before = tmp_path / "step.json", torch.get_num_threads()
    try:
        result = profile_step(tiny(), device=CPU, steps=2, warmup=1, trace=trace)
    finally:
        torch.set_num_threads(before)
    parts, groups = result["parts"], {group["name"]: group for group in result["groups"]}
    assert sum(part["ms"] for part in parts) == pytest.approx(result["busy_ms"], rel=1e-3)
    assert sum(group["ms"] for group in groups.values()) == pytest.approx(result["busy_ms"], rel=1e-3)
    assert sum(part["share"] for part in parts) == pytest.approx(1.0, abs=0.02)
    assert 0.0 < result["busy_ms"] <= result["ms"]
    assert {"convolutions", "matrix products", "norms", "optimizer"} <= groups.keys()
    ours = (
        "Product", "_ForEachPixel", "_Winograd", "_TileProducts", "_Convolution", "_Beside", "_BranchInRows",
        "_Depthwise",
    )  # fmt: skip
    ways = (*(f"{name}Backward" for name in ours), "aten::convolution_backward")
    convolutions = [part for part in parts if part["name"] in ways]
    assert {part["group"] for part in convolutions} == {"convolutions"}
    (linear,) = (part for part in parts if part["name"] == "Optimizer.step#LARS.step")
    layers = sum(
        isinstance(layer, torch.nn.Conv2d) for layer in step_profile.OurStep(result_settings()).method.modules()
    )
    assert sum(part["calls"] for part in convolutions) == layers  # both views go in one pass
    assert linear["calls"] == 1
    events = json.loads(trace.read_text())["traceEvents"]
    assert sum(event.get("name") == "Optimizer.step#LARS.step" for event in events) == 2


def result_settings() -> step_profile.StepSettings:
    return step_profile.StepSettings("ours", tiny(), CPU, threads=1, warmup=1, steps=2)


def test_the_command(capsys: Captured, tmp_path: Path) -> None:
    before, trace = torch.get_num_threads(), tmp_path / "step.json"
    try:
        assert barlowctl(["bench", "profile", *FLAGS, "--top", "3", "--json", "--trace", str(trace)]) == 0
    finally:
        torch.set_num_threads(before)
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert result["step"]["steps"] == 2
    assert result["step"]["batch"] == 16
    assert result["trace"] == str(trace)
    assert "convolutions" in err
    assert f"operations, the first 3 of {len(result['parts'])}" in " ".join(err.split())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--trace", "FOLDER"], "is a folder"),
        (["--trace", "FOLDER/there.json"], "there-2.json"),
        (["--device", "cuda"], "this machine has 0 CUDA devices"),
        (["--precision", "fp16"], "hundred times slower"),
        (["--widths", "wide"], "--widths is 'wide'"),
        (["--method", "pirl"], "pirl"),
    ],
)
def test_bad_input(flags: list[str], message: str, capsys: Captured, tmp_path: Path) -> None:
    (tmp_path / "there.json").write_text("{}")
    flags = [flag.replace("FOLDER", str(tmp_path)) for flag in flags]
    assert barlowctl(["bench", "profile", *FLAGS, *flags]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert (tmp_path / "there.json").read_text() == "{}"
