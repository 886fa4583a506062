"""The chain on a device behind the loader: the CPU loader's views, resumable, with its own copies. On the CPU here."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
import torch

from barlowctl.data.loaders import chain as chain_module
from barlowctl.data.loaders.batch import ViewBatch
from barlowctl.data.loaders.chain import Chain
from barlowctl.data.loaders.device import DeviceLoader
from barlowctl.data.loaders.fast import FastLoader
from barlowctl.data.views import batched
from barlowctl.data.views.batched import geometric
from barlowctl.data.views.parameters import draw_parameters
from barlowctl.data.views.spec import CenterSpec, ViewSpec
from tests.data.views_double import MemoryBeton, noise_images, photograph

VIEWS = [ViewSpec(24), ViewSpec(16, blur=0.1, solarize=0.2)]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def source() -> MemoryBeton:
    return MemoryBeton([*noise_images(20), *(photograph(name, 60, 80) for name in ("astronaut", "coffee", "chelsea"))])


def pair(source: MemoryBeton, views: list, **changes: object) -> tuple[FastLoader, DeviceLoader]:
    """The CPU's loader, and the same with its chain on the device."""
    shared = {"batch_size": 6, "seed": 3, **changes}
    left = FastLoader(source, views=[geometric(view) for view in views], **shared)  # type: ignore[arg-type]
    return FastLoader(source, views=views, **shared), DeviceLoader(left, views, CPU)  # type: ignore[arg-type]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_views_are_those_of_the_cpu(source: MemoryBeton, channels: int) -> None:
    """But for the crops' rounding to whole levels, which contrast and brightness enlarge by up to 1.96."""
    fast, device = pair(source, VIEWS, channels=channels)
    with fast, device:
        assert (device.batches_per_epoch, device.samples_per_epoch, device.name) == (4, 23, "fast")
        batches = list(device.epoch(2))  # copies: none is overwritten
        for expected, actual in zip(fast.epoch(2), batches, strict=True):
            assert torch.equal(expected.indices, actual.indices)
            assert torch.equal(expected.labels, actual.labels)
            for theirs, ours in zip(expected.views, actual.views, strict=True):
                assert ours.shape == theirs.shape
                assert ours.dtype == torch.uint8
                difference = (ours.int() - theirs.int()).abs()
                assert (difference <= 2).float().mean() > 0.995
                assert difference.float().mean() < 0.7


def test_a_list_of_sizes_is_that_of_the_cpu_and_goes_on_in_the_middle(source: MemoryBeton) -> None:
    """2 views of 32 pixels and 3 of 16; the first two are the same without the others."""
    large, small = [ViewSpec(32), ViewSpec(32, blur=0.1, solarize=0.2)], ViewSpec(16, crop_scale=(0.05, 0.14), blur=0.5)
    fast, device = pair(source, [*large, small, small, small])
    _, two = pair(source, large)
    with fast, device, two:
        batches, without, rest = list(device.epoch(1)), list(two.epoch(1)), list(device.epoch(1, start_batch=2))
        for expected, actual, alone in zip(fast.epoch(1), batches, without, strict=True):
            sides = [tuple(view.shape[1:]) for view in actual.views]
            assert sides == [(side, side, 3) for side in (32, 32, 16, 16, 16)]
            assert all(torch.equal(a, b) for a, b in zip(actual.views[:2], alone.views, strict=True))
            for theirs, ours in zip(expected.views, actual.views, strict=True):
                assert ((ours.int() - theirs.int()).abs() <= 2).float().mean() > 0.99
    for expected, actual in zip(batches[2:], rest, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(expected.views, actual.views, strict=True))


def test_it_goes_on_in_the_middle_of_an_epoch(source: MemoryBeton) -> None:
    _, device = pair(source, VIEWS)
    with device:
        whole, rest = list(device.epoch(1)), list(device.epoch(1, start_batch=2))
    for expected, actual in zip(whole[2:], rest, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(expected.views, actual.views, strict=True))


def test_stopping_early_stops_the_loader_behind_it(source: MemoryBeton) -> None:
    _, device = pair(source, VIEWS)
    with device:
        batches = device.epoch(0)
        next(batches)
        batches.close()  # type: ignore[attr-defined]
        run = device.loader._run
        assert run is not None
        assert run.stopped
        assert run.in_flight == 0


def test_views_that_draw_nothing_pass_through(source: MemoryBeton) -> None:
    fast, device = pair(source, [CenterSpec(20, 16), ViewSpec(16)])
    with fast, device:
        for expected, actual in zip(fast.epoch(0), device.epoch(0), strict=True):
            assert torch.equal(expected.views[0], actual.views[0])


def test_a_substitute_is_distorted_by_the_missing_samples_numbers() -> None:
    """`keys` says whose numbers: the views are the CPU's for replaced samples too."""
    source = MemoryBeton(noise_images(12))
    source.modes[5] = 9
    fast, device = pair(source, VIEWS, on_unreadable="replace", batch_size=12)
    with fast, device:
        expected, actual = next(iter(fast.epoch(0))), next(iter(device.epoch(0)))
        assert device.unreadable == [5]
        row = int(np.flatnonzero(actual.keys.numpy() == 5)[0])
        assert int(actual.indices[row]) != 5
        difference = (actual.views[0][row].int() - expected.views[0][row].int()).abs()
        assert (difference <= 2).float().mean() > 0.99


def test_one_copy_brings_all_views() -> None:
    """A batch whose views lie together is moved as one tensor; a shorter last batch too."""
    pixels = torch.arange(2 * 4 * 4 * 3 + 2 * 2 * 2 * 3, dtype=torch.uint8)
    views = (pixels[: 2 * 48].view(2, 4, 4, 3)[:1], pixels[2 * 48 :].view(2, 2, 2, 3)[:1])
    numbers = torch.zeros(1, dtype=torch.int64)
    batch = ViewBatch(views=views, labels=numbers, indices=numbers, keys=numbers, _pixels=pixels)
    moved = batch.to(torch.device("meta"))
    assert moved[0]._base is moved[1]._base is not None  # parts of one tensor
    assert [view.shape for view in moved] == [view.shape for view in views]
    assert all(torch.equal(a, b) for a, b in zip(batch.to(CPU), views, strict=True))


def views_of(source: MemoryBeton, monkeypatch: pytest.MonkeyPatch, other: object, **options: bool) -> tuple[list, list]:
    """An epoch's views where compiling gives `other`, and what the loader said."""
    monkeypatch.setattr(batched, "compiled", lambda: other)
    _, made = pair(source, VIEWS)
    notices: list[str] = []
    with DeviceLoader(made.loader, VIEWS, CPU, **options) as device:
        device.notify = notices.append
        return [view for batch in device.epoch(0) for view in batch.views], notices


def slow(images: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
    time.sleep(0.03)
    return batched.blend(images, *rest)


def test_the_faster_chain_is_kept_and_said(source: MemoryBeton, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, notices = views_of(source, monkeypatch, None)
    assert notices == []  # not asked for
    quick = batched.Operations()
    monkeypatch.setattr(batched, "Operations", lambda: dataclasses.replace(quick, blend=slow))  # uncompiled
    actual, notices = views_of(source, monkeypatch, quick, compiles=True)
    assert len(notices) == 1
    assert "run compiled" in notices[0]
    assert all(torch.equal(a, b) for a, b in zip(expected, actual, strict=True))


def sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is tried was twice as fast."""
    monkeypatch.setattr(Chain, "_seconds", lambda chain, distort, *rest: 2.0 if distort is chain._plain else 1.0)


def counted(calls: list[int]) -> batched.Operations:
    """Operations that count how many images they are given."""

    def blend(images: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        calls.append(len(images))
        return plain(images, *rest)

    plain = batched.blend
    return batched.Operations(blend=blend)


def test_the_compiled_chain_makes_all_batches_that_follow(source: MemoryBeton, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    sooner(monkeypatch)
    views_of(source, monkeypatch, counted(calls), compiles=True)
    # Every image of both views, at jitter's four steps; the first six once more, to compare them.
    assert sum(calls) == (23 + 6) * 2 * 4


def test_a_compiled_chain_that_fails_later_is_left(source: MemoryBeton, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _ = views_of(source, monkeypatch, None)
    calls: list[int] = []

    def blend(images: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        calls.append(len(images))
        if len(images) == 5:  # the last batch
            raise RuntimeError("no kernel for this shape\nmore")
        return batched.blend(images, *rest)

    sooner(monkeypatch)
    actual, notices = views_of(source, monkeypatch, batched.Operations(blend=blend), compiles=True)
    assert "run compiled" in notices[0]
    assert notices[1:] == ["the distortions run by torch's operations from here: no kernel for this shape"]
    assert calls.count(6) == (3 + 1) * 2 * 4
    assert all(torch.equal(a, b) for a, b in zip(expected, actual, strict=True))


def test_a_batch_in_pieces_is_the_batch(source: MemoryBeton, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = views_of(source, monkeypatch, None)
    monkeypatch.setattr(chain_module, "AT_ONCE", 4)
    parts, _ = views_of(source, monkeypatch, None)
    for a, b in zip(whole, parts, strict=True):
        assert ((a.int() - b.int()).abs() <= 1).all()  # sums of other lengths round otherwise


def test_a_slower_chain_is_dropped(source: MemoryBeton, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _ = views_of(source, monkeypatch, None)
    actual, notices = views_of(source, monkeypatch, batched.Operations(blend=slow), compiles=True)
    assert "do not run compiled: so they were 0." in notices[0]
    assert all(torch.equal(a, b) for a, b in zip(expected, actual, strict=True))


def test_a_compiler_that_fails_is_done_without(source: MemoryBeton, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*tensors: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no compiler\nmany lines of it")

    expected, _ = views_of(source, monkeypatch, None)
    actual, notices = views_of(source, monkeypatch, batched.Operations(blend=fail), compiles=True)
    assert notices == ["the distortions do not run compiled: no compiler"]
    assert all(torch.equal(a, b) for a, b in zip(expected, actual, strict=True))


@pytest.mark.slow
def test_compiled_operations_are_those_that_torch_runs() -> None:
    """For differing numbers of images, one of them 1, which compilers treat apart."""
    compiled, spec = batched.compiled(), ViewSpec(24, jitter=1.0, grayscale=0.3, blur=0.7, solarize=0.0)
    for count in (5, 1, 12):
        images = torch.rand(count, 3, 24, 24, generator=torch.Generator().manual_seed(count)) * 255
        drawn = draw_parameters(spec, 0, 0, np.arange(count), 0)
        expected = batched.distort(images.clone(), drawn)
        actual = batched.distort(images.clone(), drawn, compiled)
        assert (actual - expected).abs().max() < 0.01


def tried(monkeypatch: pytest.MonkeyPatch, way: object, source: MemoryBeton, **options: bool) -> tuple[list, list]:
    """An epoch's views with `way` in the kernels' place, and what the loader said."""
    monkeypatch.setattr(chain_module, "by_kernels", lambda: way)
    sooner(monkeypatch)
    _, made = pair(source, VIEWS)
    notices: list[str] = []
    with DeviceLoader(made.loader, VIEWS, CPU, **options) as device:
        device._chain = Chain(fuses=True, wait=lambda: None, notify=notices.append, **{"compiles": False, **options})
        return [view for batch in device.epoch(0) for view in batch.views], notices


def test_kernels_that_give_other_views_are_left(source: MemoryBeton, monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast they are; the compiler's turn comes after them."""
    expected, _ = views_of(source, monkeypatch, None)
    plain = chain_module.by_operations(batched.Operations())

    def darker(pixels: torch.Tensor, parameters: object) -> torch.Tensor:
        return plain(pixels, parameters).clamp(min=9) - 2  # type: ignore[arg-type]

    actual, notices = tried(monkeypatch, darker, source)
    assert len(notices) == 1
    assert notices[0].startswith("the distortions do not run in fused kernels: ")
    assert notices[0].endswith("% of their values were other ones")
    assert all(torch.equal(a, b) for a, b in zip(expected, actual, strict=True))
    monkeypatch.setattr(batched, "compiled", batched.Operations)
    _, notices = tried(monkeypatch, darker, source, compiles=True)
    assert [notice.split(",")[0] for notice in notices[1:]] == ["the distortions run compiled"]


def test_kernels_that_are_sooner_make_the_views(source: MemoryBeton, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is compiled."""
    seen: list[int] = []
    plain = chain_module.by_operations(batched.Operations())

    def kernels(pixels: torch.Tensor, parameters: object) -> torch.Tensor:
        seen.append(len(pixels))
        return plain(pixels, parameters)  # type: ignore[arg-type]

    _, notices = tried(monkeypatch, kernels, source, compiles=True)
    assert sum(seen) == 2 * (6 + 23)  # the first batch twice: it is compared
    assert notices == ["the distortions run in fused kernels, 2.00 times as fast as torch's operations (at 6 images)"]
