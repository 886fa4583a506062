"""The second stage's losses by hand and by their formulas, and the means over a batch."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from barlowctl.detect.losses import LossSum, batch_terms, box_sum, classification_sum, mask_sum
from barlowctl.detect.masks import mask_targets
from barlowctl.detect.roi_heads import Objects
from tests.detect import detectors
from tests.oracles import detection as oracle


def test_l1_of_two_rois_by_hand() -> None:
    """One on an object of class 2, one on the background: only the deltas of class 2 count, and both divide."""
    deltas = torch.zeros(2, 4 * 4)
    deltas[0, 12:] = torch.tensor([0.5, -1.0, 0.25, 2.0])  # class 2 is the fourth: the background is the first
    deltas[0, :12], deltas[1] = 7.0, 9.0
    targets = torch.tensor([[0.0, 1.0, 0.25, -1.0], [5.0, 5.0, 5.0, 5.0]])
    loss = box_sum(deltas, torch.tensor([3, 0]), targets)
    assert loss.total.item() == pytest.approx(0.5 + 2.0 + 0.0 + 3.0)  # smooth L1 of beta 1/9 would be less
    assert loss.divisor == 2


def test_cross_entropy_is_over_all_rois() -> None:
    logits = torch.tensor([[1.0, 0.0, -1.0], [0.0, 2.0, 0.0]], dtype=torch.float64)
    loss = classification_sum(logits, torch.tensor([0, 1]))
    expected = oracle.cross_entropy(logits[0].numpy(), 0) + oracle.cross_entropy(logits[1].numpy(), 1)
    assert (loss.total.item(), loss.divisor) == (pytest.approx(expected), 2)


def test_a_mask_is_that_of_its_own_class() -> None:
    logits = torch.full((1, 3, 2, 2), 50.0)
    logits[0, 1] = torch.tensor([[1.0, -2.0], [0.0, 3.0]])
    loss = mask_sum(logits, torch.tensor([1]), torch.tensor([[[1, 0], [1, 1]]], dtype=torch.uint8))
    expected = sum(oracle.binary_cross_entropy(z, y) for z, y in ((1, 1), (-2, 0), (0, 1), (3, 1)))
    assert (loss.total.item(), loss.divisor) == (pytest.approx(expected, rel=1e-6), 4)


def test_terms_are_means_and_the_loss_is_their_sum() -> None:
    sums = [torch.tensor(value, requires_grad=True) for value in (6.0, 4.0, 9.0, 2.0, 0.0)]
    counts = (3, 4, 6, 1, 0)
    terms = batch_terms(*(LossSum(value, count) for value, count in zip(sums, counts, strict=True)))
    assert [value.item() for value in terms] == [2 + 1 + 1.5 + 2, 2, 1, 1.5, 2, 0]
    assert [value.requires_grad for value in terms] == [True] + [False] * 5
    terms.loss.backward()
    gradients = [value.grad.item() for value in sums if value.grad is not None]
    assert gradients == pytest.approx([1 / 3, 1 / 4, 1 / 6, 1, 1])


def test_the_second_stage_against_its_formulas() -> None:
    """All RoIs are sampled, so that there is nothing to draw."""
    settings = replace(detectors.SMALL, rois_per_image=400)
    model = detectors.detector(settings=settings).double().train()
    with torch.no_grad():
        for parameter in model.heads.box_predictor.parameters():
            parameter.normal_(std=0.2, generator=torch.Generator().manual_seed(1))
    features = {"res4": torch.randn(1, 64, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))}
    objects = torch.tensor([[10.0, 12, 70, 80], [60, 20, 110, 60]], dtype=torch.float64)
    proposals = torch.cat(
        [objects + 6, objects - 3, torch.tensor([[0.0, 0, 30, 30], [90, 60, 120, 94]], dtype=torch.float64)]
    ).clamp_min(0)
    polygons = tuple((detectors.rectangle(*box),) for box in (objects + torch.tensor([5, 0, -7, 0])).tolist())
    model.heads.fg_bg_sampler.keys = [0]
    losses = model.heads.losses(features, [proposals], [(96, 128)], [Objects(objects, torch.tensor([2, 0]), polygons)])

    boxes = torch.cat([proposals, objects])
    regions = model.heads.regions(features, [boxes], [(96, 128)])
    logits, deltas = (tensor.detach().numpy() for tensor in model.heads.box_predictor(regions.mean(dim=(2, 3))))
    own = deltas.reshape(len(boxes), -1, 4)[:, 1:]
    expected = oracle.head_losses(logits, own, boxes.numpy(), objects.numpy(), [2, 0])
    means = [loss.total.item() / loss.divisor for loss in losses]
    assert means[:2] == pytest.approx(expected, rel=1e-9)

    labels, best = oracle.match(objects.numpy(), boxes.numpy(), below=0.5, above=0.5, low_quality=False)
    foreground = [number for number, label in enumerate(labels) if label]
    assert 2 < len(foreground) < len(boxes)
    assert model.heads.mask_head is not None
    masks = model.heads.mask_head(regions[foreground]).detach().numpy()
    total = 0.0
    for number, mask in zip(foreground, masks, strict=True):
        (target,) = mask_targets([polygons[best[number]]], boxes[number : number + 1], 14).numpy()
        channel, target = mask[[2, 0][best[number]]], target.astype(float)
        total += np.mean([oracle.binary_cross_entropy(z, y) for z, y in zip(channel.flat, target.flat, strict=True)])
    assert means[2] == pytest.approx(total / len(foreground), rel=1e-9)
    assert math.isfinite(total)


def test_without_foreground_the_mask_loss_is_zero_and_its_head_has_gradients() -> None:
    """So every rank has the same graph, and sends the same gradients."""
    model = detectors.detector().train()
    model.heads.fg_bg_sampler.keys = [0]
    features = {"res4": torch.randn(1, 64, 4, 6, requires_grad=True)}
    nothing = Objects(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), ())
    proposals = [torch.tensor([[0.0, 0, 30, 30]])]
    losses = model.heads.losses(features, proposals, [(64, 96)], [nothing])
    assert (losses.mask.total.item(), losses.mask.divisor) == (0.0, 0)
    batch_terms(LossSum(torch.zeros(()), 1), LossSum(torch.zeros(()), 1), *losses).loss.backward()
    assert model.heads.mask_head is not None
    assert all(p.grad is not None and not p.grad.any() for p in model.heads.mask_head.parameters())
