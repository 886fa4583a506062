"""The loader with its photometric chain on a CUDA device. Skipped, with the reason, where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from barlowctl.data.loaders.chain import by_kernels, by_operations
from barlowctl.data.loaders.device import DeviceLoader
from barlowctl.data.loaders.fast import FastLoader
from barlowctl.data.views.batched import Operations, geometric
from barlowctl.data.views.parameters import draw_parameters
from barlowctl.data.views.spec import Patch, ViewSpec
from tests.data.views_double import MemoryBeton, noise_images

pytestmark = pytest.mark.gpu
VIEWS = [ViewSpec(32), ViewSpec(32, blur=0.1, solarize=0.2)]


def loaders(device: torch.device, **options: bool) -> tuple[FastLoader, DeviceLoader]:
    source = MemoryBeton(noise_images(100))
    shared = {"batch_size": 16, "seed": 0, "threads": 2}
    left = FastLoader(source, views=[geometric(view) for view in VIEWS], pin_memory=True, **shared)  # type: ignore[arg-type]
    return FastLoader(source, views=VIEWS, **shared), DeviceLoader(left, VIEWS, device, **options)  # type: ignore[arg-type]


def test_views_are_ready_when_they_are_given_and_stay_until_they_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The side stream is held up; the caller's copies each batch at once and drops it, itself still busy."""
    fast, device = loaders(torch.device("cuda"))
    made = DeviceLoader._distort

    def late(loader: DeviceLoader, *rest: Any) -> Any:
        assert torch.cuda.current_stream() == loader._stream != torch.cuda.default_stream()
        torch.cuda._sleep(20_000_000)  # some 10 ms
        return made(loader, *rest)

    monkeypatch.setattr(DeviceLoader, "_distort", late)
    with fast, device:
        copies = []
        for batch in device.epoch(0):
            torch.cuda._sleep(20_000_000)
            copies.append([view.clone() for view in batch.views])
            del batch
        for expected, actual in zip(fast.epoch(0), copies, strict=True):
            for theirs, ours in zip(expected.views, actual, strict=True):
                assert ((ours.cpu().int() - theirs.int()).abs() <= 2).float().mean() > 0.99


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
def test_another_gpu_than_the_current_one() -> None:
    fast, device = loaders(torch.device("cuda", 1))
    with fast, device:
        for expected, actual in zip(fast.epoch(0), device.epoch(0), strict=True):
            assert actual.views[0].device == torch.device("cuda", 1)
            assert ((actual.views[0].cpu().int() - expected.views[0].int()).abs() <= 2).float().mean() > 0.99


def notice_of_views_like_the_cpu_s(**options: bool) -> str:
    """What a loader that may compile says, whose views of an epoch are those of the CPU's chain."""
    fast, device = loaders(torch.device("cuda"), compiles=True, **options)
    notices: list[str] = []
    device.notify = notices.append
    with fast, device:
        for expected, actual in zip(fast.epoch(0), device.epoch(0), strict=True):
            for theirs, ours in zip(expected.views, actual.views, strict=True):
                assert ((ours.cpu().int() - theirs.int()).abs() <= 2).float().mean() > 0.99
    (notice,) = notices
    return notice


def test_the_chain_is_compiled_where_that_is_faster() -> None:
    assert "times as fast as torch's operations" in notice_of_views_like_the_cpu_s(fuses=False)


def test_triton_s_kernels_make_the_views() -> None:
    """As the CPU does; and of few images sooner than torch's operations do, so that nothing is compiled."""
    assert notice_of_views_like_the_cpu_s().startswith("the distortions run in fused kernels, ")


def test_triton_s_kernels_give_batched_s_pixels() -> None:
    """Large views of every distortion, in grey and colour: to rounding."""
    spec = ViewSpec(
        96, jitter=1.0, hue=0.5, saturation=1.5, grayscale=0.4, blur=0.6, solarize=0.5, gamma=0.7, erase=0.6
    )
    for channels in (1, 3):
        pixels = torch.randint(0, 256, (64, 96, 96, channels), dtype=torch.uint8, device="cuda")
        drawn = draw_parameters(spec, 0, 0, np.arange(64), 0)
        theirs = by_operations(Operations())(pixels, drawn).int()
        ours = by_kernels()(pixels, drawn)
        assert torch.equal(ours, by_kernels()(pixels, drawn))
        assert ((ours.int() - theirs).abs() > 1).float().mean() < 1e-3


def test_patches_and_small_views_are_those_of_the_chain_on_a_cpu() -> None:
    """Of the same crops, whole levels: what differs is rounding, at a step of posterising or solarising."""
    patches = [ViewSpec(16, blur=0.0, photometric=0.66, patch=Patch(3, 20, number)) for number in range(9)]
    moco = ViewSpec(32, grayscale_first=True, brightness_added=True, solarize=0.3, solarize_threshold=127.5)
    specs = [moco, *[ViewSpec(24, crop_scale=(0.1, 0.3))] * 2, *patches]
    source = MemoryBeton(noise_images(48))

    def on(device: str) -> DeviceLoader:
        crops = [geometric(spec) for spec in specs]
        loader = FastLoader(source, views=crops, batch_size=16, seed=0, threads=2, pin_memory=device == "cuda")
        return DeviceLoader(loader, specs, torch.device(device))

    with on("cuda") as gpu, on("cpu") as cpu:
        for ours, theirs in zip(gpu.epoch(0), cpu.epoch(0), strict=True):
            for one, other in zip(ours.views, theirs.views, strict=True):
                assert one.shape == other.shape
                assert ((one.cpu().int() - other.int()).abs() <= 1).float().mean() > 0.99


def test_every_slot_waits_for_its_copy() -> None:
    fast, device = loaders(torch.device("cuda"))
    with fast, device:
        for _ in device.epoch(0):
            slots = device.loader._slots
            assert slots is not None
            assert any(slot.held_by or slot.waits for slot in slots)
