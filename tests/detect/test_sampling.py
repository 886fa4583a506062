"""Samples of anchors and RoIs: how many, which share of them, and that each image's depend on its key alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from barlowctl.detect.sampling import KeyedSampler


def labels(positive: int, negative: int, left_out: int = 5) -> Tensor:
    values = torch.tensor([1] * positive + [0] * negative + [-1] * left_out)
    return values[torch.randperm(len(values), generator=torch.Generator().manual_seed(len(values)))]


def drawn(images: list[Tensor], keys: list[int], stream: int = 0, count: int = 8) -> list[list[int]]:
    sampler = KeyedSampler(count, 0.25, stream=stream)
    sampler.keys = keys
    masks = sampler(images)
    return [torch.where((positive | negative) > 0)[0].tolist() for positive, negative in zip(*masks, strict=True)]


@pytest.mark.parametrize(
    ("positive", "negative", "expected"), [(30, 70, (2, 6)), (1, 70, (1, 7)), (0, 70, (0, 8)), (30, 3, (2, 3))]
)
def test_at_most_a_quarter_is_positive_and_the_rest_is_negative(
    positive: int, negative: int, expected: tuple[int, int]
) -> None:
    sampler = KeyedSampler(8, 0.25, stream=0)
    sampler.keys = [7]
    image = labels(positive, negative)
    (positives,), (negatives,) = sampler([image])
    assert (int(positives.sum()), int(negatives.sum())) == expected
    assert bool((image[positives > 0] >= 1).all())
    assert bool((image[negatives > 0] == 0).all())


def test_an_image_has_its_sample_wherever_it_stands_and_whatever_torch_drew() -> None:
    images, keys = [labels(30, 70 + n) for n in range(4)], [3, 1, 4, 2**62]
    together = drawn(images, keys)
    torch.rand(3)
    assert [drawn([image], [key])[0] for image, key in zip(images, keys, strict=True)] == together


def test_another_key_or_stream_draws_others() -> None:
    image = labels(300, 700)
    assert drawn([image], [1]) != drawn([image], [2])
    assert drawn([image], [1], stream=0) != drawn([image], [1], stream=1)
    assert drawn([image], [1]) != drawn([image], [1 + 2**40])


def test_every_candidate_is_drawn_equally_often() -> None:
    image = labels(8, 24)
    counts = torch.zeros(len(image))
    sampler = KeyedSampler(8, 0.25, stream=1)
    keys = 2000
    sampler.keys = list(range(keys))
    for positive, negative in zip(*sampler([image] * keys), strict=True):
        counts += positive + negative
    assert counts[image == -1].sum() == 0
    assert counts.sum() == 8 * keys
    # 2 of 8 and 6 of 24: each with probability 1/4. Five standard deviations.
    spread = 5 * (keys * 0.25 * 0.75) ** 0.5
    assert bool(((counts[image >= 0] - keys / 4).abs() < spread).all())
