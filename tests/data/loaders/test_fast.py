"""The fast loader: order and pixels by key alone, faults that reach the consumer, threads that end."""

from __future__ import annotations

import gc
import threading
import time

import numpy as np
import pytest
import torch

from barlowctl.data.beton import decoders
from barlowctl.data.loaders import fast as module
from barlowctl.data.loaders.fast import FastLoader
from barlowctl.data.loaders.plain import PlainLoader
from barlowctl.data.loaders.plan import EpochPlan
from barlowctl.data.views.spec import CenterSpec, ViewSpec
from barlowctl.data.views.vector import SLACK
from barlowctl.errors import UserError
from tests.data.views_double import MemoryBeton, jpeg, noise_images, photograph

by_each_decoder = pytest.mark.usefixtures("decoder")
VIEWS = [ViewSpec(16), ViewSpec(24, blur=0.1, solarize=0.2)]
BROKEN = 5  # the sample that tests spoil


@pytest.fixture(scope="module")
def source() -> MemoryBeton:
    return MemoryBeton(noise_images(23))


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = threading.active_count()
    yield
    if threading.active_count() > before:
        gc.collect()  # half a second among the objects of a whole suite
    assert threading.active_count() <= before, [thread.name for thread in threading.enumerate()]


def make(source: MemoryBeton, **changes) -> FastLoader:
    return FastLoader(source, **{"views": VIEWS, "batch_size": 6, "seed": 3, **changes})


def read(loader: FastLoader, epoch: int = 0, start_batch: int = 0) -> list[tuple]:
    """An epoch, kept: (indices, labels, views) of each batch."""
    batches = loader.epoch(epoch, start_batch=start_batch)
    return [(b.indices.tolist(), b.labels.tolist(), [v.clone() for v in b.views]) for b in batches]


def by_sample(batches: list[tuple]) -> dict[int, list[torch.Tensor]]:
    return {i: [view[row] for view in views] for rows, _, views in batches for row, i in enumerate(rows)}


def assert_same(first: dict[int, list[torch.Tensor]], second: dict[int, list[torch.Tensor]]) -> None:
    assert first.keys() == second.keys()
    for sample, views in first.items():
        assert all(torch.equal(a, b) for a, b in zip(views, second[sample], strict=True)), sample


def spoiled(fault: str) -> MemoryBeton:
    """JPEGs, one of them broken."""
    source = MemoryBeton([jpeg(image) for image in noise_images(12)])
    if fault == "truncated":
        source.sizes[BROKEN] //= 2
    elif fault == "lying":
        source.heights[BROKEN] += 8
    elif fault == "not a jpeg":
        source.bytes[source.pointers[BROKEN]] = 0
    elif fault == "length":
        source.modes[BROKEN] = 1
    else:
        source.modes[BROKEN] = 9
    return source


FAULTS = {
    "truncated": "broken JPEG",
    "lying": "another size",
    "not a jpeg": "not a JPEG",
    "length": "wrong number of bytes",
    "mode": "neither jpg nor raw",
}


# ---- what a batch is -------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch(source: MemoryBeton, channels: int) -> None:
    with make(source, channels=channels) as loader:
        batches = read(loader)
    assert loader.name == "fast"
    assert (loader.batches_per_epoch, loader.samples_per_epoch) == (4, 23)
    assert [len(rows) for rows, _, _ in batches] == [6, 6, 6, 5]
    for rows, labels, views in batches:
        assert labels == [i % 3 for i in rows]
        assert [tuple(v.shape) for v in views] == [(len(rows), s, s, channels) for s in (16, 24)]
        assert all(v.dtype == torch.uint8 for v in views)
    images = by_sample(batches)
    assert sorted(images) == list(range(23))
    assert len({views[0].numpy().tobytes() for views in images.values()}) == 23


def test_one_channel_of_colour_images_is_the_luminance() -> None:
    from PIL import Image

    image = photograph(height=32, width=32)
    with make(MemoryBeton([image]), views=[CenterSpec(32, 32)], batch_size=1, channels=1) as loader:
        (batch,) = read(loader)
    assert np.array_equal(batch[2][0][0, ..., 0].numpy(), np.array(Image.fromarray(image).convert("L")))


def test_evaluation_keeps_the_order_and_draws_nothing(source: MemoryBeton) -> None:
    with make(source, views=[CenterSpec(18, 16)], shuffle=False, subset=np.array([7, 3, 9]), batch_size=2) as loader:
        first, second = read(loader, 0), read(loader, 5)
    assert [rows for rows, _, _ in first] == [[7, 3], [9]]
    assert_same(by_sample(first), by_sample(second))


# ---- keyed randomness ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [{"threads": 2}, {"threads": 7}, {"batch_size": 1}, {"batch_size": 23}, {"buffers": 2}, {"buffers": 9}],
)
def test_pixels_do_not_depend_on_how_they_are_made(
    source: MemoryBeton, changes: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "usable_cores", lambda: 8)
    with make(source) as one, make(source, **changes) as other:
        assert_same(by_sample(read(one)), by_sample(read(other)))


def test_seed_and_epoch_fix_order_and_pixels(source: MemoryBeton) -> None:
    with make(source) as loader, make(source) as again, make(source, seed=4) as other:
        base, repeated, epoch, seed = read(loader), read(again), read(loader, 1), read(other)
    assert [rows for rows, _, _ in base] == [rows for rows, _, _ in repeated]
    assert_same(by_sample(base), by_sample(repeated))
    for changed in (epoch, seed):
        assert [rows for rows, _, _ in base] != [rows for rows, _, _ in changed]
        equal = [torch.equal(by_sample(base)[i][0], by_sample(changed)[i][0]) for i in range(23)]
        assert sum(equal) == 0


def test_the_two_views_differ(source: MemoryBeton) -> None:
    with make(source, views=[ViewSpec(16)] * 2) as loader:
        for views in by_sample(read(loader)).values():
            assert not torch.equal(*views)


@pytest.mark.parametrize("start", [0, 1, 3, 4])
def test_resuming_gives_the_rest(source: MemoryBeton, start: int) -> None:
    with make(source, threads=2) as loader:
        whole, rest = read(loader, 2), read(loader, 2, start_batch=start)
    assert [rows for rows, _, _ in rest] == [rows for rows, _, _ in whole[start:]]
    for (_, _, expected), (_, _, views) in zip(whole[start:], rest, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(expected, views, strict=True))


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(("world_size", "batch_size"), [(2, 6), (3, 6), (4, 8)])
def test_ranks_share_every_batch(source: MemoryBeton, world_size: int, batch_size: int, drop_last: bool) -> None:
    shared = {"batch_size": batch_size, "drop_last": drop_last}
    with make(source, **shared) as loader:
        alone = read(loader)
    ranks = []
    for rank in range(world_size):
        with make(source, rank=rank, world_size=world_size, **shared) as loader:
            ranks.append(read(loader))
            assert loader.batches_per_epoch == len(alone)
            assert loader.samples_per_epoch == sum(len(rows) for rows, _, _ in alone)
    for b, (rows, _, _) in enumerate(alone):
        assert [i for share in ranks for i in share[b][0]] == rows
        assert max(len(share[b][0]) for share in ranks) - min(len(share[b][0]) for share in ranks) <= 1
    assert_same(by_sample(alone), {i: v for share in ranks for i, v in by_sample(share).items()})


def test_subset_and_ranks_once_each(source: MemoryBeton) -> None:
    subset = np.array([2, 3, 5, 7, 11, 13, 17, 19, 22])
    seen = []
    for rank in range(2):
        with make(source, subset=subset, rank=rank, world_size=2, batch_size=4) as loader:
            seen += [i for rows, _, _ in read(loader) for i in rows]
    assert sorted(seen) == subset.tolist()


def test_a_rank_may_get_nothing_of_the_last_batch() -> None:
    plan = EpochPlan(9, batch_size=8, seed=0, rank=0, world_size=4)
    shares = [EpochPlan(9, batch_size=8, seed=0, rank=r, world_size=4).rows(plan.order(0), 1) for r in range(4)]
    assert sorted(len(share) for share in shares) == [0, 0, 0, 1]
    assert (plan.shares(0), plan.shares(1)) == ([2, 2, 2, 2], [len(share) for share in shares])
    assert EpochPlan(9, batch_size=8, seed=0, world_size=4, drop_last=True).shares(0) == [2, 2, 2, 2]
    with make(MemoryBeton(noise_images(9)), batch_size=8, rank=0, world_size=4) as loader:
        assert [len(rows) for rows, _, _ in read(loader)] == [2, 0]


# ---- faults reach the consumer ---------------------------------------------------------------------------


@by_each_decoder
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("threads", [1, 2])
def test_an_unreadable_sample_is_named(fault: str, threads: int) -> None:
    with (
        make(spoiled(fault), threads=threads) as loader,
        pytest.raises(UserError, match=FAULTS[fault]) as caught,
    ):
        read(loader)
    assert f"memory.beton: sample {BROKEN} cannot be read: " in str(caught.value)


@by_each_decoder
@pytest.mark.parametrize("fault", FAULTS)
def test_an_unreadable_sample_is_replaced_by_key(fault: str) -> None:
    results = []
    for changes in ({}, {"threads": 2, "batch_size": 4}):
        with make(spoiled(fault), on_unreadable="replace", **changes) as loader:
            results.append([(i, v) for rows, _, views in read(loader) for i, v in zip(rows, views[0], strict=True)])
            assert loader.unreadable == [BROKEN]
    first, second = results
    indices = [i for i, _ in first]
    assert indices == [i for i, _ in second]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(first, second, strict=True))
    assert len(indices) == 12
    assert set(indices) == set(range(12)) - {BROKEN}
    twins = [v for i, v in first if indices.count(i) == 2]
    assert not torch.equal(*twins)  # the substitute is distorted by the missing sample's numbers


@by_each_decoder
@pytest.mark.parametrize("kind", [FastLoader, PlainLoader])
def test_a_skipped_sample_is_in_no_batch_and_named(kind: type[FastLoader] | type[PlainLoader]) -> None:
    shared = {"views": VIEWS, "batch_size": 5, "seed": 3}
    whole = MemoryBeton([jpeg(image) for image in noise_images(12)])
    with kind(spoiled("truncated"), on_unreadable="skip", **shared) as loader:
        batches = read(loader)
        assert list(loader.problems) == loader.unreadable == [BROKEN]
        assert loader.problems[BROKEN].name == f"sample {BROKEN}"
    assert sorted(len(rows) for rows, _, _ in batches) in ([2, 4, 5], [1, 5, 5])
    assert all(labels == whole.labels[rows].tolist() for rows, labels, _ in batches)
    with kind(whole, **shared) as loader:
        expected = by_sample(read(loader))
    del expected[BROKEN]
    assert_same(by_sample(batches), expected)


@by_each_decoder
def test_an_epoch_of_nothing_readable_has_empty_batches() -> None:
    with make(spoiled("truncated"), subset=np.array([BROKEN] * 3), batch_size=3, on_unreadable="skip") as loader:
        assert [rows for rows, _, _ in read(loader)] == [[]]


@by_each_decoder
def test_replacing_gives_up_when_nothing_is_readable() -> None:
    source = spoiled("truncated")
    with (
        make(source, subset=np.array([BROKEN] * 3), batch_size=3, on_unreadable="replace") as loader,
        pytest.raises(UserError, match=f"sample {BROKEN}") as refused,
    ):
        read(loader)
    assert refused.value.next == "give images that can be read"  # to replace them is what was asked for


def test_an_exception_in_a_thread_is_raised_in_the_consumer(
    source: MemoryBeton, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    original = FastLoader._call

    def failing(self: FastLoader, *arguments: object) -> None:
        calls.append(0)
        if len(calls) > 9:
            raise ZeroDivisionError("in a thread")
        original(self, *arguments)

    monkeypatch.setattr(FastLoader, "_call", failing)
    with make(source, threads=2) as loader:
        with pytest.raises(ZeroDivisionError, match="in a thread"):
            read(loader)
        monkeypatch.setattr(FastLoader, "_call", original)
        assert len(read(loader)) == 4  # the loader survives


@pytest.mark.parametrize("index", [23, -1, 10**9])
def test_an_index_out_of_range_is_an_error(source: MemoryBeton, index: int) -> None:
    with pytest.raises(UserError, match=f"sample {index} of memory.beton does not exist"):
        make(source, subset=np.array([0, index]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"views": []}, "at least one view"),
        ({"channels": 65}, "channels is 65"),
        ({"batch_size": 5, "world_size": 2}, "5 images cannot be shared"),
        ({"batch_size": 0}, "0 images"),
        ({"rank": 2, "world_size": 2}, "rank is 2"),
        ({"subset": np.array([], dtype=int)}, "0 images to read"),
        ({"drop_last": True, "batch_size": 24}, "not one batch of 24"),
        ({"on_unreadable": "ignore"}, "on_unreadable is 'ignore'"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_arguments(source: MemoryBeton, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(source, **changes)


@pytest.mark.parametrize(("epoch", "start"), [(-1, 0), (0, -1), (0, 5)])
def test_bad_positions(source: MemoryBeton, epoch: int, start: int) -> None:
    with make(source) as loader, pytest.raises(UserError):
        loader.epoch(epoch, start_batch=start)


@pytest.mark.usefixtures("no_decoder")
def test_jpegs_without_a_decoder_are_refused_at_once() -> None:
    jpegs = MemoryBeton([jpeg(image) for image in noise_images(3)])
    with pytest.raises(UserError, match="JPEG images and there is no decoder for them: simplejpeg is not installed"):
        make(jpegs)


def test_an_absurd_size_is_refused(source: MemoryBeton) -> None:
    huge = MemoryBeton(noise_images(3))
    huge.heights[1] = 1 << 20
    huge.widths[1] = 1 << 20
    with pytest.raises(UserError, match=r"sample 1 of memory\.beton has 1048576 x 1048576 pixels"):
        make(huge)
    make(huge, subset=np.array([0, 2]), batch_size=2)


# ---- threads and buffers ---------------------------------------------------------------------------------


def test_threads_are_clamped_to_the_cores(source: MemoryBeton) -> None:
    before = threading.active_count()
    with make(source, threads=10_000) as loader:
        assert loader.threads == module.usable_cores()
        next(loader.epoch(0))
        assert threading.active_count() - before == module.usable_cores()


def test_breaking_out_of_an_epoch_stops_its_work(source: MemoryBeton) -> None:
    before = threading.active_count()
    with make(source, threads=2, batch_size=2) as loader:
        counts = []
        for epoch in range(20):
            for batch in loader.epoch(epoch):
                assert len(batch.indices) == 2
                break
            assert loader._run is not None
            assert loader._run.in_flight == 0
            counts.append(threading.active_count())
        assert set(counts) == {before + loader.threads}
    assert threading.active_count() == before


def test_a_dropped_loader_ends_its_threads(source: MemoryBeton) -> None:
    before = threading.active_count()
    loader = make(source, threads=2)
    batches = loader.epoch(0)
    next(batches)
    assert threading.active_count() > before
    del loader, batches
    gc.collect()
    assert threading.active_count() == before


def test_closing_twice_and_using_a_closed_loader(source: MemoryBeton) -> None:
    loader = make(source)
    batches = loader.epoch(0)
    next(batches)
    loader.close()
    loader.close()
    with pytest.raises(RuntimeError, match="closed"):
        next(batches)
    with pytest.raises(RuntimeError, match="closed"):
        next(loader.epoch(0))


def test_a_second_epoch_ends_the_first(source: MemoryBeton) -> None:
    with make(source) as loader:
        first = loader.epoch(0)
        next(first)
        assert len(read(loader, 1)) == 4
        with pytest.raises(RuntimeError, match="began another"):
            next(first)


def test_kept_batches_are_overwritten_as_documented(source: MemoryBeton) -> None:
    with make(source, batch_size=2) as loader:
        batches = loader.epoch(0)
        batch = next(batches)
        copies = [view.clone() for view in batch.views]
        time.sleep(0.05)
        assert all(torch.equal(a, b) for a, b in zip(batch.views, copies, strict=True))
        for _ in batches:
            pass
        assert not all(torch.equal(a, b) for a, b in zip(batch.views, copies, strict=True))
        assert (batch.indices >= 0).all()


class HeldEvent:
    """Like torch.cuda.Event, completed by hand."""

    def __init__(self) -> None:
        self.done = threading.Event()

    def synchronize(self) -> None:
        assert self.done.wait(10)


def test_a_held_batch_is_kept_until_its_event(source: MemoryBeton) -> None:
    with make(source, batch_size=2, threads=2) as loader:
        batches = loader.epoch(0)
        held = next(batches)
        event = HeldEvent()
        held.hold(event)
        copies = [view.clone() for view in held.views]
        later = [next(batches) for _ in range(module.BUFFERS - 1)]  # what was ready already
        time.sleep(0.1)
        assert all(torch.equal(a, b) for a, b in zip(held.views, copies, strict=True))
        event.done.set()
        later += list(batches)
        assert len(later) == loader.batches_per_epoch - 1
        assert not all(torch.equal(a, b) for a, b in zip(held.views, copies, strict=True))


def test_events_are_waited_for_once_and_let_go(source: MemoryBeton) -> None:
    """By each chunk of the batch that takes the buffers, and by no later one."""

    class Counting:
        waited = 0

        def synchronize(self) -> None:
            self.waited += 1

    events = []
    with make(source, batch_size=2) as loader:
        for epoch in range(3):
            for batch in loader.epoch(epoch):
                events.append(Counting())
                batch.hold(events[-1])
        chunks = 2  # of a batch of two
        assert sum(event.waited > 0 for event in events) >= 2 * loader.batches_per_epoch
        assert max(event.waited for event in events) <= chunks


def test_a_batch_held_over_the_end_of_an_epoch(source: MemoryBeton) -> None:
    with make(source, batch_size=23) as loader:
        held = next(loader.epoch(0))
        event = HeldEvent()
        held.hold(event)
        copies = [view.clone() for view in held.views]
        threading.Timer(0.2, event.done.set).start()
        begun = time.monotonic()
        next(loader.epoch(1))
        assert time.monotonic() - begun > 0.15
        assert not torch.equal(held.views[0], copies[0])


@by_each_decoder
def test_scratch_belongs_to_a_thread_and_fits_the_largest_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes mixed over threads give what one thread gives, and memory is that of one image per thread."""
    monkeypatch.setattr(module, "usable_cores", lambda: 4)
    images = [photograph(height=8 + 37 * (i % 5), width=300 - 55 * (i % 5)) for i in range(40)]
    mixed = MemoryBeton([jpeg(image) if i % 2 else image for i, image in enumerate(images)])
    made = []
    original = module.Scratch

    def recording(*arguments: object) -> module.Scratch:
        made.append(original(*arguments))
        return made[-1]

    monkeypatch.setattr(module, "Scratch", recording)
    with make(mixed, batch_size=40) as one, make(mixed, batch_size=8, threads=4) as four:
        assert_same(by_sample(read(one)), by_sample(read(four)))
    assert len(made) == 5
    largest = int((mixed.heights * mixed.widths).max())
    assert all(scratch.pixels <= largest for scratch in made)
    assert made[0].arrays[0].size == 4 * largest + SLACK


def test_views_are_the_same_whoever_decodes() -> None:
    """Byte by byte: colour and grey, JPEG and raw in one file, several threads."""
    there, lacking = decoders.by_package()
    if len(there) < 2:
        pytest.skip(lacking)
    images = [photograph(height=40 + 7 * i, width=90 - 5 * i) for i in range(10)]
    mixed = MemoryBeton([image if i % 3 == 0 else jpeg(image, 90) for i, image in enumerate(images)])
    for channels in (1, 3):
        results = []
        for decoder in there.values():
            with make(mixed, channels=channels, threads=2, batch_size=4, decoder=decoder) as loader:
                results.append(by_sample(read(loader)))
        assert_same(*results)


def test_a_file_of_pixels_is_read_in_whole_chunks(source: MemoryBeton, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by a decoder that has to be called image by image."""
    pytest.importorskip("simplejpeg")
    decoder = decoders.SimplejpegDecoder()
    monkeypatch.setattr(decoder, "read", lambda *_: pytest.fail("nothing is to be decoded"))
    calls = []
    original = FastLoader._call_kernel
    monkeypatch.setattr(FastLoader, "_call_kernel", lambda *a: (calls.append(a[3:5]), original(*a)))
    with make(source, decoder=decoder, batch_size=16) as loader:
        read(loader)
    assert calls == [(0, 4), (4, 8), (8, 12), (12, 16), (0, 2), (2, 4), (4, 6), (6, 7)]


def test_a_real_file(tmp_path) -> None:
    from barlowctl.data.beton.layout import RAW
    from barlowctl.data.beton.reader import Beton
    from barlowctl.data.beton.writer import BetonWriter

    images = noise_images(5)
    path = tmp_path / "small.beton"
    with BetonWriter(path, capacity=5) as writer:
        for label, image in enumerate(images):
            writer.append(image.tobytes(), mode=RAW, width=image.shape[1], height=image.shape[0], label=label)
        writer.finish()
    with make(Beton.open(path), batch_size=5) as loader, make(MemoryBeton(images), batch_size=5) as expected:
        batches = read(loader)
        assert_same(by_sample(batches), by_sample(read(expected)))
    assert batches[0][0] == batches[0][1]


def test_a_batch_without_images_does_not_let_go_of_buffers(source: MemoryBeton) -> None:
    """Nobody waits before such a batch; who fills its buffers next does."""
    sharing = {"subset": np.arange(5), "batch_size": 2, "rank": 0, "world_size": 2, "buffers": 2}
    with make(source, **sharing) as loader:
        batches = loader.epoch(0)
        held = next(batches)
        event = HeldEvent()
        held.hold(event)
        assert [len(batch.indices) for batch in batches] == [1, 0]  # the last one in the buffers that are held
        threading.Timer(0.2, event.done.set).start()
        begun = time.monotonic()
        next(loader.epoch(1))
        assert time.monotonic() - begun > 0.15


def test_threads_work_with_the_gpu_of_who_starts_them(source: MemoryBeton, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else they would wait for its events from the first GPU, and make a context there."""
    chosen, empty = list[tuple[str, int]](), torch.empty

    def without_pages(*size: int, pin_memory: bool = False, **options: torch.dtype) -> torch.Tensor:
        return empty(*size, **options)

    monkeypatch.setattr(torch, "empty", without_pages)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", lambda gpu: chosen.append((threading.current_thread().name, gpu)))
    with make(source, threads=1, pin_memory=True) as loader:
        next(loader.epoch(0))
    with make(source, threads=1) as loader:  # for a CPU
        next(loader.epoch(0))
    assert chosen == [("barlowctl-loader", 3)]
