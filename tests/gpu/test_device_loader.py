"""The loader with its photometric chain on a CUDA device. Skipped, with the reason, where there is none."""

from __future__ import annotations

import pytest
import torch

from barlowctl.data.batched import geometric
from barlowctl.data.device import DeviceLoader
from barlowctl.data.loader import FastLoader
from barlowctl.data.views import ViewSpec
from tests.data.views_double import MemoryBeton, noise_images

pytestmark = pytest.mark.gpu
VIEWS = [ViewSpec(32), ViewSpec(32, blur=0.1, solarize=0.2)]


def loaders(device: torch.device, **options: bool) -> tuple[FastLoader, DeviceLoader]:
    source = MemoryBeton(noise_images(100))
    shared = {"batch_size": 16, "seed": 0, "threads": 2}
    left = FastLoader(source, views=[geometric(view) for view in VIEWS], pin_memory=True, **shared)  # type: ignore[arg-type]
    return FastLoader(source, views=VIEWS, **shared), DeviceLoader(left, VIEWS, device, **options)  # type: ignore[arg-type]


def test_views_on_the_device_are_those_of_the_cpu() -> None:
    """Kept to the end of the epoch, with work between: no slot is written before its copy, no batch overwritten."""
    fast, device = loaders(torch.device("cuda"))
    with fast, device:
        kept = []
        for batch in device.epoch(0):
            torch.randn(1024, 1024, device="cuda") @ torch.randn(1024, 1024, device="cuda")
            kept.append(batch)
        for expected, found in zip(fast.epoch(0), kept, strict=True):
            for theirs, ours in zip(expected.views, found.views, strict=True):
                assert ours.device.type == "cuda"
                difference = (ours.cpu().int() - theirs.int()).abs()
                assert (difference <= 2).float().mean() > 0.99


def test_the_chain_is_compiled_where_that_is_faster() -> None:
    fast, device = loaders(torch.device("cuda"), compiles=True)
    told: list[str] = []
    device.notify = told.append
    with fast, device:
        for expected, found in zip(fast.epoch(0), device.epoch(0), strict=True):
            for theirs, ours in zip(expected.views, found.views, strict=True):
                assert ((ours.cpu().int() - theirs.int()).abs() <= 2).float().mean() > 0.99
    (said,) = told
    assert "times as fast as uncompiled" in said


def test_every_slot_waits_for_its_copy() -> None:
    fast, device = loaders(torch.device("cuda"))
    with fast, device:
        for _ in device.epoch(0):
            slots = device.loader._slots
            assert slots is not None
            assert any(slot.held_by or slot.waits for slot in slots)
