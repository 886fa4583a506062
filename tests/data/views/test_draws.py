"""Keyed randomness: frequencies and distributions over 10,000 draws, independence, recomputation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from barlowctl.data.views import draws, photometric, streams
from barlowctl.data.views.spec import CenterSpec, SquashSpec, ViewSpec

COUNT = 10_000
MIXED = ViewSpec(32, flip=0.3, jitter=0.8, grayscale=0.2, blur=0.4, solarize=0.15)


def draw_many(spec: ViewSpec, count: int = COUNT, *, seed: int = 1, epoch: int = 2, view: int = 0, **size: int) -> list:
    row, height, width = draws.encode(spec), size.get("height", 375), size.get("width", 500)
    return [draws.draw(row, seed, epoch, sample, view, height, width) for sample in range(count)]


@pytest.fixture(scope="module")
def drawn() -> list[draws.Draw]:
    return draw_many(MIXED)


def assert_uniform(values: np.ndarray, low: float, high: float) -> None:
    """Kolmogorov-Smirnov against U(low, high) at p = 1e-4."""
    ranks = (np.sort(np.asarray(values)) - low) / (high - low)
    n = len(ranks)
    steps = np.arange(1, n + 1) / n
    distance = max(np.abs(steps - ranks).max(), np.abs(ranks - (steps - 1 / n)).max())
    assert distance < 2.225 / math.sqrt(n), (distance, ranks[0], ranks[-1])


@pytest.mark.parametrize("name", ["flip", "jitter", "grayscale", "solarize", "blur"])
def test_application_frequency(drawn: list[draws.Draw], name: str) -> None:
    p = getattr(MIXED, name)
    applied = sum(d.sigma > 0 if name == "blur" else getattr(d, name) for d in drawn)
    assert abs(applied / COUNT - p) < 4 * math.sqrt(p * (1 - p) / COUNT)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_certain_probabilities_are_certain(p: float) -> None:
    spec = ViewSpec(32, flip=p, jitter=p, grayscale=p, blur=p, solarize=p)
    for d in draw_many(spec, 2000):
        assert (d.flip, d.jitter, d.grayscale, d.solarize, d.sigma > 0) == (bool(p),) * 5


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("brightness", 0.6, 1.4), ("contrast", 0.6, 1.4), ("saturation", 0.8, 1.2), ("hue", -0.1, 0.1)],
)
def test_jitter_factors_are_uniform(drawn: list[draws.Draw], name: str, low: float, high: float) -> None:
    assert_uniform(np.array([getattr(d, name) for d in drawn if d.jitter]), low, high)
    assert {getattr(d, name) for d in drawn if not d.jitter} == {0.0 if name == "hue" else 1.0}


def test_sigma_is_uniform(drawn: list[draws.Draw]) -> None:
    assert_uniform(np.array([d.sigma for d in drawn if d.sigma > 0]), 0.1, 2.0)


def test_gamma_is_log_uniform_and_part_of_jitter() -> None:
    drawn = draw_many(ViewSpec(32, jitter=0.7, gamma=0.6))
    assert_uniform(np.array([math.log(d.gamma) for d in drawn if d.jitter]), -0.6, 0.6)
    assert {d.gamma for d in drawn if not d.jitter} == {1.0}


def test_erased_rectangles() -> None:
    """Frequency, area and ratio (where no side is cut), place uniform, inside the view, levels uniform."""
    spec = ViewSpec(1000, erase=0.4, erase_scale=(0.05, 0.3))
    drawn = draw_many(spec)
    erased = [d for d in drawn if d.erase_height]
    assert abs(len(erased) / COUNT - 0.4) < 4 * math.sqrt(0.24 / COUNT)
    assert all(d.erase_width == d.erase_top == d.erase_left == 0 for d in drawn if not d.erase_height)
    assert_uniform(np.array([d.erase_height * d.erase_width / 1e6 for d in erased]), 0.05, 0.3)
    assert_uniform(np.array([math.log(d.erase_height / d.erase_width) for d in erased]), -math.log(2.5), math.log(2.5))
    assert_uniform(np.array([d.erase_top / (1000 - d.erase_height) for d in erased]), 0, 1)
    assert_uniform(np.array([d.erase_left / (1000 - d.erase_width) for d in erased]), 0, 1)
    for level in (19, 20, 21):
        assert_uniform(np.array([d[level] for d in erased]), 0, 255)
    for d in draw_many(ViewSpec(8, erase=1.0, erase_scale=(0.9, 1.0)), 1000):
        assert 1 <= d.erase_height <= 8 - d.erase_top
        assert 1 <= d.erase_width <= 8 - d.erase_left


def test_a_factor_never_turns_negative() -> None:
    spec = ViewSpec(32, jitter=1.0, brightness=3.0)
    assert_uniform(np.array([d.brightness for d in draw_many(spec)]), 0.0, 4.0)


def test_the_24_orders_are_equally_frequent(drawn: list[draws.Draw]) -> None:
    assert sorted(map(tuple, photometric.ORDERS)) == sorted(set(map(tuple, photometric.ORDERS)))
    counts = np.bincount([d.order for d in drawn], minlength=24)
    assert len(counts) == 24
    chi_squared = ((counts - COUNT / 24) ** 2 / (COUNT / 24)).sum()
    assert chi_squared < 58.6  # 23 degrees of freedom, p = 6e-5


def test_crops_have_torchvisions_distribution() -> None:
    """Area uniform, ratio log-uniform (where nothing is rejected), place uniform, size rounded and inside."""
    spec = ViewSpec(32, crop_scale=(0.1, 0.5))
    drawn = draw_many(spec, height=4000, width=4000)
    assert_uniform(np.array([d.height * d.width / 4000**2 for d in drawn]), 0.1, 0.5)
    assert_uniform(np.array([math.log(d.width / d.height) for d in drawn]), math.log(3 / 4), math.log(4 / 3))
    assert_uniform(np.array([d.top / (4000 - d.height) for d in drawn]), 0, 1)
    assert_uniform(np.array([d.left / (4000 - d.width) for d in drawn]), 0, 1)


def test_crops_agree_with_torchvisions_own() -> None:
    """Where tries are rejected: mean and spread of each number against RandomResizedCrop.get_params."""
    torch = pytest.importorskip("torch")
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)
    image = torch.empty(3, 60, 100)
    theirs = np.array([RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(COUNT)])
    ours = np.array([d[:4] for d in draw_many(ViewSpec(32), height=60, width=100)])
    error = np.sqrt((theirs.var(0) + ours.var(0)) / COUNT)
    assert (np.abs(theirs.mean(0) - ours.mean(0)) < 4 * error).all()
    assert np.allclose(theirs.std(0), ours.std(0), rtol=0.05)
    assert (ours[:, 0] + ours[:, 2] <= 60).all()
    assert (ours[:, 1] + ours[:, 3] <= 100).all()
    assert (ours[:, 2:] > 0).all()
    assert (ours[:, :2] >= 0).all()


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [
        (10, 1000, (0, 493, 10, 13)),
        (1000, 10, (493, 0, 13, 10)),
        (1, 1, (0, 0, 1, 1)),
        (1, 100, (0, 49, 1, 1)),
    ],
)
def test_crop_falls_back_to_the_centre(height: int, width: int, box: tuple[int, ...]) -> None:
    """No try fits: the largest central box of an allowed ratio, as torchvision."""
    for d in draw_many(ViewSpec(32, crop_scale=(0.9, 1.0)), 50, height=height, width=width):
        assert d[:4] == box


def test_streams_are_independent() -> None:
    """Views, epochs, samples, seeds and slots: uncorrelated."""

    def numbers(seed: int = 1, epoch: int = 2, shift: int = 0, view: int = 0, slot: int = 5) -> np.ndarray:
        keys = [np.uint64(streams.stream_key(seed, epoch, s + shift, view)) for s in range(COUNT)]
        return np.array([streams.uniform(key, slot) for key in keys])

    base = numbers()
    others = {
        "view": numbers(view=1),
        "epoch": numbers(epoch=3),
        "seed": numbers(seed=2),
        "sample": numbers(shift=1),
        "slot": numbers(slot=6),
    }
    assert_uniform(base, 0, 1)
    for name, other in others.items():
        assert abs(np.corrcoef(base, other)[0, 1]) < 4 / math.sqrt(COUNT), name


def test_parameters_of_a_view_are_independent() -> None:
    """No two of them share a random number."""
    spec = ViewSpec(32, crop_scale=(0.1, 0.5), flip=0.5, jitter=1.0, grayscale=0.5, blur=0.5, solarize=0.5)
    drawn = draw_many(spec, height=4000, width=4000)
    columns = [(d.height * d.width, d.width / d.height, d.top / (4000 - d.height)) for d in drawn]
    columns = [
        (*c, d.left / (4000 - d.width), *d[4:5], *d[6:12], d.solarize) for c, d in zip(columns, drawn, strict=True)
    ]
    blurred = [(d.sigma > 0, abs(d.sigma - 1.05) if d.sigma > 0 else 0.475) for d in drawn]
    values = np.concatenate([np.array(columns, dtype=float), np.array(blurred, dtype=float)], axis=1)
    correlation = np.corrcoef(values, rowvar=False) - np.eye(values.shape[1])
    assert values.shape[1] == 14
    assert np.abs(correlation).max() < 4.5 / math.sqrt(COUNT)


def test_splitmix64_reference_values() -> None:
    """The first outputs of splitmix64 seeded with 1234567 (Vigna's reference code)."""
    golden = 0x9E3779B97F4A7C15
    outputs = [int(streams.mix(np.uint64((1234567 + (i + 1) * golden) % 2**64))) for i in range(3)]
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_a_draw_can_be_made_alone_and_one_distortion_leaves_the_others() -> None:
    many = draw_many(MIXED, 100)
    row = draws.encode(MIXED)
    assert draws.draw(row, 1, 2, 57, 0, 375, 500) == many[57]
    plain = draw_many(ViewSpec(32, flip=0.3, jitter=0.0, grayscale=0.0, blur=0.4, solarize=0.15), 100)
    assert [d[:5] for d in plain] == [d[:5] for d in many]
    assert [d.sigma for d in plain] == [d.sigma for d in many]


def test_substitutes_are_keyed_and_inside() -> None:
    substitutes = [draws.substitute(0, 0, sample, 0, 10) for sample in range(COUNT)]
    assert np.abs(np.bincount(substitutes, minlength=10) - COUNT / 10).max() < 4 * math.sqrt(COUNT / 10)
    assert len(np.bincount(substitutes)) == 10
    assert substitutes[:50] != [draws.substitute(0, 0, sample, 1, 10) for sample in range(50)]


def test_order_of_an_epoch() -> None:
    first = draws.epoch_order(1000, 3, 4)
    assert first.dtype == np.int64
    assert sorted(first) == list(range(1000))
    assert (first == draws.epoch_order(1000, 3, 4)).all()
    for other in (
        draws.epoch_order(1000, 3, 5),
        draws.epoch_order(1000, 4, 4),
        draws.epoch_order(1000, 4, 3),
    ):
        assert (first == other).mean() < 0.02


def test_encoding_of_a_centre() -> None:
    row = draws.encode(CenterSpec(256, 224, "bilinear"))
    assert (row[draws.CENTER], row[draws.RESIZE], row[draws.SIZE], row[draws.BICUBIC]) == (1, 256, 224, 0)
    row = draws.encode(SquashSpec(224, "bilinear"))
    assert (row[draws.CENTER], row[draws.RESIZE], row[draws.SIZE]) == (1, draws.WHOLE, 224)


def test_kernels_are_compiled_once_for_all_slots() -> None:
    """An int of Python's is a type of its own to numba: 47 of them were 47 compilations, a tenth of all."""
    from numba import njit

    uniform = njit(streams.uniform.py_func)
    top, left = draws.SLOT_TOP, draws.SLOT_LEFT
    both = njit(lambda key: uniform(key, top) + uniform(key, left))
    assert both(np.uint64(5)) == streams.uniform(np.uint64(5), 20) + streams.uniform(np.uint64(5), 21)
    assert len(uniform.signatures) == 1
    slots = {name: slot for name, slot in vars(draws).items() if name.startswith("SLOT_")}
    assert {name: type(slot) for name, slot in slots.items()} == dict.fromkeys(slots, np.int64)
    assert sorted(slots.values()) == [*range(20, 41), *range(43, 52)]
