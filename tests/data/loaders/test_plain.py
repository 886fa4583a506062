"""The plain loader, and the fast one against it, end to end."""

from __future__ import annotations

import pickle
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from PIL import Image

from barlowctl.cores import usable_cores
from barlowctl.data.loaders.fast import FastLoader
from barlowctl.data.loaders.plain import Pictures, PlainLoader
from barlowctl.data.sources import open_source
from barlowctl.data.views.spec import CenterSpec, SquashSpec, ViewSpec
from barlowctl.errors import UserError
from tests.data.views_double import MemoryBeton, jpeg, noise_images, photograph

VIEWS = [ViewSpec(32), ViewSpec(24, blur=0.1, solarize=0.2)]
SHARED = {"views": VIEWS, "batch_size": 5, "seed": 3}
LARGE = [ViewSpec(32), ViewSpec(32, blur=0.1, solarize=0.2)]
LISTED = {**SHARED, "views": [*LARGE, *[ViewSpec(16, crop_scale=(0.05, 0.14), blur=0.5)] * 3]}


def read(loader: FastLoader | PlainLoader, epoch: int = 0, start_batch: int = 0) -> list[tuple]:
    batches = loader.epoch(epoch, start_batch=start_batch)
    return [(b.indices.tolist(), b.labels.tolist(), [v.clone() for v in b.views]) for b in batches]


def photographs(count: int = 16) -> list[np.ndarray]:
    names = ("astronaut", "coffee", "chelsea", "rocket")
    return [photograph(names[i % 4], 90 + 10 * (i % 5), 130 - 7 * (i % 7)) for i in range(count)]


def differences(fast: list[tuple], plain: list[tuple]) -> np.ndarray:
    per_view = []
    assert len(fast) == len(plain)
    for (rows, labels, views), (other_rows, other_labels, others) in zip(fast, plain, strict=True):
        assert (rows, labels) == (other_rows, other_labels)
        assert [v.shape for v in views] == [v.shape for v in others]
        per_view += [(a.int() - b.int()).abs().flatten().numpy() for a, b in zip(views, others, strict=True)]
    return np.concatenate(per_view)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_fast_equals_plain_on_raw_pixels(channels: int, interpolation: str) -> None:
    """Within one level on 99.9 % of the pixels: rounding, and solarisation at its threshold."""
    source = MemoryBeton(photographs())
    views = [ViewSpec(32, interpolation), ViewSpec(24, interpolation, blur=0.1, solarize=0.2)]
    arguments = {**SHARED, "views": views, "channels": channels}
    with FastLoader(source, **arguments) as fast, PlainLoader(source, **arguments) as plain:
        for epoch in range(3):
            difference = differences(read(fast, epoch), read(plain, epoch))
            assert (difference <= 1).mean() >= 0.999
            assert (difference == 0).mean() > 0.99


@pytest.mark.parametrize("channels", [1, 3])
def test_fast_equals_plain_beyond_the_papers_table(channels: int) -> None:
    """Gamma and erasing, where the axes of the compiled planes are swapped."""
    views = [ViewSpec(24, gamma=0.8, jitter=1.0, erase=1.0), ViewSpec(20, blur=0.0, erase=0.5)]
    arguments = {**SHARED, "views": views, "channels": channels}
    source = MemoryBeton(photographs())
    with FastLoader(source, **arguments) as fast, PlainLoader(source, **arguments) as plain:
        difference = differences(read(fast), read(plain))
    assert (difference <= 1).mean() >= 0.999
    assert (difference == 0).mean() > 0.99


@pytest.mark.parametrize("kind", [FastLoader, PlainLoader])
def test_small_views_come_after_the_first_two_and_leave_them_alone(kind: type[FastLoader] | type[PlainLoader]) -> None:
    """2 views of 32 pixels and 3 of 16: shapes, the first two's pixels, distinct crops, resuming."""
    source = MemoryBeton(photographs())
    with kind(source, **LISTED) as loader, kind(source, **{**LISTED, "views": LARGE}) as two:
        batches, without, rest = read(loader, 1), read(two, 1), read(loader, 1, start_batch=2)
    assert [len(rows) for rows, _, _ in batches] == [5, 5, 5, 1]
    for (rows, _, views), (same, _, alone) in zip(batches, without, strict=True):
        assert rows == same
        assert [tuple(view.shape) for view in views] == [(len(rows), side, side, 3) for side in (32, 32, 16, 16, 16)]
        assert all(torch.equal(a, b) for a, b in zip(views[:2], alone, strict=True))
        assert not any(torch.equal(views[a], views[b]) for a, b in ((2, 3), (2, 4), (3, 4)))
    for (rows, _, views), (same, _, again) in zip(batches[2:], rest, strict=True):
        assert rows == same
        assert all(torch.equal(a, b) for a, b in zip(views, again, strict=True))


def test_fast_equals_plain_on_a_list_of_sizes() -> None:
    source = MemoryBeton(photographs())
    with FastLoader(source, **LISTED) as fast, PlainLoader(source, **LISTED) as plain:
        difference = differences(read(fast), read(plain))
    assert (difference <= 1).mean() >= 0.999
    assert (difference == 0).mean() > 0.99


@pytest.mark.usefixtures("decoder")
def test_fast_equals_plain_on_jpegs() -> None:
    source = MemoryBeton([jpeg(image, quality=90) for image in photographs()])
    with FastLoader(source, **SHARED) as fast:
        difference = differences(read(fast), read(PlainLoader(source, **SHARED)))
    assert (difference <= 1).mean() >= 0.999


def test_evaluation_geometry_is_equal() -> None:
    source = MemoryBeton(photographs())
    arguments = {**SHARED, "views": [CenterSpec(48, 40), CenterSpec(40, 40, "bilinear")], "shuffle": False}
    with FastLoader(source, **arguments) as fast, PlainLoader(source, **arguments) as plain:
        assert differences(read(fast), read(plain)).max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_a_squashed_picture_is_pillows_and_shows_the_whole_of_it(channels: int) -> None:
    images = photographs()
    tall = images[0][:, : images[0].shape[1] // 3]
    source = MemoryBeton([*images, tall])
    specs = [SquashSpec(40), SquashSpec(21, "bilinear")]
    arguments = {**SHARED, "views": specs, "channels": channels, "shuffle": False}
    with FastLoader(source, **arguments) as fast, PlainLoader(source, **arguments) as plain:
        made, other = read(fast), read(plain)
    assert differences(made, other).max() <= 1
    pillows = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    indices = [index for batch in made for index in batch[0]]
    for view, spec in enumerate(specs):
        pictures = torch.cat([batch[2][view] for batch in made]).numpy()
        for index, pixels in zip(indices, pictures, strict=True):
            whole = Image.fromarray(source.image(index)).convert("RGB" if channels == 3 else "L")
            expected = np.asarray(whole.resize((spec.size, spec.size), pillows[spec.interpolation])).reshape(
                pixels.shape
            )
            away = np.abs(pixels.astype(int) - expected.astype(int))
            assert (away <= 1).mean() > 0.99  # Pillow rounds and clips between its two passes
            assert away.max() <= 6


def test_views_are_made_on_one_thread_whose_pixels_are_those_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    """On several threads single images took 10 to 20 times the processor time; the process has its own again after."""
    threads, seen = torch.get_num_threads(), []

    class Watched(MemoryBeton):
        def image(self, index: int) -> np.ndarray:
            seen.append(torch.get_num_threads())
            return super().image(index)

    try:
        torch.set_num_threads(2)
        with PlainLoader(Watched(photographs()), **SHARED) as loader:
            on_one = read(loader)
            assert (set(seen), torch.get_num_threads()) == ({1}, 2)
            monkeypatch.setattr("barlowctl.data.loaders.plain.one_thread", nullcontext)
            on_two = read(loader)
            assert 2 in seen
        assert differences(on_one, on_two).max() == 0
        monkeypatch.undo()
        with PlainLoader(Failing(photographs()), **SHARED) as loader, pytest.raises(ZeroDivisionError):
            read(loader)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_worker_processes_give_the_same() -> None:
    source = MemoryBeton(noise_images(11))
    with PlainLoader(source, **SHARED) as here, PlainLoader(source, threads=2, **SHARED) as there:
        assert there._workers == min(2, usable_cores())
        assert differences(read(here), read(there)).max() == 0
        assert differences(read(here, 1, 1), read(there, 1)[1:]).max() == 0


@pytest.mark.slow
def test_worker_processes_that_are_started_afresh_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS, where processes are not forked."""
    source = MemoryBeton(noise_images(11))
    with PlainLoader(source, **SHARED) as here:
        expected = read(here)
    made = torch.utils.data.DataLoader
    monkeypatch.setattr(
        torch.utils.data, "DataLoader", lambda *rows, **given: made(*rows, multiprocessing_context="spawn", **given)
    )
    with PlainLoader(source, threads=1, **SHARED) as there:
        assert differences(expected, read(there)).max() == 0


def test_ranks_share_every_batch() -> None:
    source = MemoryBeton(noise_images(11))
    arguments = {**SHARED, "batch_size": 4}
    alone = read(PlainLoader(source, **arguments))
    shares = [read(PlainLoader(source, **arguments, rank=rank, world_size=2)) for rank in range(2)]
    for batch, first, second in zip(alone, *shares, strict=True):
        assert first[0] + second[0] == batch[0]
        assert torch.equal(torch.cat([first[2][0], second[2][0]]), batch[2][0])


@pytest.mark.parametrize("threads", [0, 1])
def test_an_unreadable_image_is_named_or_replaced(tmp_path, threads: int) -> None:
    for i, image in enumerate(noise_images(6)):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    whole = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(whole[: len(whole) // 2])
    source = Pictures(open_source(tmp_path))
    with pytest.raises(UserError, match=r"3\.png cannot be read: "):
        read(PlainLoader(source, threads=threads, **SHARED))
    loader = PlainLoader(source, threads=threads, on_unreadable="replace", **SHARED)
    indices = [i for rows, _, _ in read(loader) for i in rows]
    assert len(indices) == 6
    assert set(indices) == {0, 1, 2, 4, 5}
    assert loader.unreadable == [3]
    for i in range(6):
        (tmp_path / f"{i}.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cannot be read: ") as refused:
        read(PlainLoader(source, threads=threads, on_unreadable="replace", **SHARED))
    assert refused.value.next == "give images that can be read"  # to replace them is what was asked for


@pytest.mark.usefixtures("decoder")
def test_both_loaders_choose_the_same_substitute() -> None:
    source = MemoryBeton([jpeg(image) for image in noise_images(12)])
    source.bytes[source.pointers[5]] = 0
    with FastLoader(source, on_unreadable="replace", **SHARED) as fast:
        expected = [rows for rows, _, _ in read(fast)]
    assert [rows for rows, _, _ in read(PlainLoader(source, on_unreadable="replace", **SHARED))] == expected


class Failing(MemoryBeton):
    def image(self, index: int) -> np.ndarray:
        raise ZeroDivisionError(f"sample {index}")


@pytest.mark.parametrize("threads", [0, 1])
def test_any_exception_reaches_the_consumer(threads: int) -> None:
    with pytest.raises(ZeroDivisionError, match="sample"):
        read(PlainLoader(Failing(noise_images(6)), threads=threads, **SHARED))


def test_breaking_out_ends_the_workers() -> None:
    import multiprocessing

    for _ in PlainLoader(MemoryBeton(noise_images(11)), threads=2, **SHARED).epoch(0):
        break
    assert not multiprocessing.active_children()


def test_class_folders_and_piles(tmp_path) -> None:
    images = noise_images(4)
    for i, name in enumerate(["cat/b.png", "cat/a.png", "dog/c.png", "dog/d.png"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(images[i]).save(tmp_path / name)
    source = Pictures(open_source(tmp_path))
    assert source.class_names == ["cat", "dog"]
    assert source.labels.tolist() == [0, 0, 1, 1]
    assert np.array_equal(source.image(0), images[1])
    pile = Pictures(open_source(tmp_path / "dog"))
    assert pile.labels.tolist() == [-1, -1]
    batch = next(PlainLoader(pile, **SHARED).epoch(0))
    assert batch.labels.tolist() == [-1, -1]
    assert len(pickle.loads(pickle.dumps(pile)).image(1)) == len(images[3])


def test_grey_and_palette_files_become_rgb(tmp_path) -> None:
    image = Image.fromarray(noise_images(1)[0])
    image.convert("L").save(tmp_path / "a.png")
    image.convert("P").save(tmp_path / "b.png")
    image.convert("RGBA").save(tmp_path / "c.png")
    source = Pictures(open_source(tmp_path))
    assert {source.image(i).shape for i in range(3)} == {(image.height, image.width, 3)}
