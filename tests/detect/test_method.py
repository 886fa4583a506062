"""Detection as a whole: what goes in, which gradients come out, and detections in pixels of the original."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from barlowctl.datasets import IMAGENET
from barlowctl.detect.batch import DetectionTarget
from barlowctl.detect.losses import DetectionTerms
from barlowctl.detect.method import Detection
from barlowctl.distributed import ALONE
from barlowctl.methods import Targets
from barlowctl.train.gradient import Gradient
from tests.detect import detectors
from tests.oracles import detection as oracle

coco = pytest.importorskip("pycocotools.mask")


@pytest.mark.parametrize("masks", [False, True])
def test_all_parameters_get_gradients(masks: bool) -> None:
    model = detectors.detector(masks=masks).train()
    terms = model(detectors.batch(outlines=masks))
    terms.loss.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # Convolutions ahead of a batch norm have no bias here, and a predictor of so few RoIs may lack a class's deltas.
    assert without == []
    assert terms.loss.item() == pytest.approx(sum(value.item() for value in terms[1:]), rel=1e-6)
    assert (terms.mask.item() > 0.1) is masks
    assert list(terms._asdict())[1:] == list(Detection.terms)


def test_the_proposal_networks_losses_are_divided_by_the_anchors_that_a_sample_has_room_for() -> None:
    """However few were sampled: here all of 216 anchors of each image that are not between the thresholds, of 1,000."""
    model = detectors.detector(settings=replace(detectors.SMALL, anchors_per_image=1000)).train()
    with torch.no_grad():
        for parameter in model.rpn.head.cls_logits.parameters():
            parameter.zero_()
    batch = detectors.batch()
    anchors = oracle.anchors(6, 6, 16, detectors.SMALL.anchor_sizes, detectors.SMALL.aspect_ratios)
    sampled = 0
    for target in batch.targets:
        labels, _ = oracle.match(target.boxes.numpy(), anchors, below=0.3, above=0.7, low_quality=True)
        sampled += sum(label >= 0 for label in labels)
    assert 300 < sampled < 2 * len(anchors)
    assert model(batch).objectness.item() == pytest.approx(math.log(2) * sampled / 2000, rel=1e-6)


def test_micro_batches_have_the_whole_batchs_losses_and_gradients_but_for_batch_norm_and_masks() -> None:
    """Without batch norm. Masks are divided part by part, as detectron2 divides them on each GPU."""

    def step(micro_batch: int) -> tuple[DetectionTerms, list[Tensor]]:
        backbone = detectors.narrow_resnet(norm_layer=lambda channels, **_: nn.GroupNorm(1, channels))
        settings = replace(detectors.SMALL, extra_norm=False)
        model = detectors.detector(backbone=backbone, settings=settings).double().train()
        gradient = Gradient(
            model, to_input=None, device=torch.device("cpu"), precision="fp32", ranks=ALONE, micro_batch=micro_batch,
            scaler=torch.amp.GradScaler("cpu", enabled=False),
        )  # fmt: skip
        whole = detectors.batch([(64, 96), (64, 80), (48, 96)])
        targets = [replace(of_image, boxes=of_image.boxes.double()) for of_image in whole.targets]
        targets[0] = DetectionTarget(torch.zeros(0, 4).double(), torch.zeros(0, dtype=torch.int64), ())
        batch = replace(whole, targets=targets, canvas=(64, 96))
        terms = gradient(batch, Targets.unlabelled(len(batch), torch.device("cpu")))
        rpn = [p.grad for p in model.rpn.parameters() if p.grad is not None]
        return terms, rpn  # type: ignore[return-value]

    (whole, of_whole), (parts, of_parts) = step(0), step(1)
    for name in ("objectness", "rpn_box", "classification", "box"):
        assert getattr(parts, name).item() == pytest.approx(getattr(whole, name).item(), rel=1e-12)
    for one, other in zip(of_whole, of_parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    assert parts.mask.item() == pytest.approx(whole.mask.item() * 2 / 3, rel=1e-3)  # one of three has no foreground


def test_an_image_without_outlines_trains_its_boxes() -> None:
    model = detectors.detector().train()
    terms = model(detectors.batch(outlines=False))
    assert terms.mask.item() == 0
    assert terms.box.item() > 0
    terms.loss.backward()


def test_images_are_normalised_and_padded_with_zeros_to_multiples_of_16() -> None:
    model = detectors.detector()
    images = detectors.images([(50, 70), (33, 96)])
    padded = model._padded(images)
    assert padded.tensors.shape == (2, 3, 64, 96)
    assert padded.image_sizes == [(50, 70), (33, 96)]
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])  # RGB, as detectron2 writes them
    np.testing.assert_allclose(np.array(IMAGENET.mean) * 255, mean, rtol=1e-6)
    expected = (images[0].numpy() - mean[:, None, None]) / std[:, None, None]
    np.testing.assert_allclose(padded.tensors[0, :, :50, :70].numpy(), expected, rtol=1e-5, atol=1e-5)
    assert not padded.tensors[0, :, 50:].any()
    assert not padded.tensors[0, :, :, 70:].any()


def test_a_canvas_is_the_size_of_the_batch_of_all_ranks() -> None:
    model = detectors.detector()
    assert model._padded(detectors.images([(50, 70)]), (60, 130)).tensors.shape == (1, 3, 64, 144)


def test_a_backbone_of_grey_images_sees_grey() -> None:
    model = detectors.detector(backbone=detectors.narrow_resnet(in_chans=1), mean=[0.5], std=[0.25]).train()
    image = torch.zeros(3, 16, 16, dtype=torch.uint8)
    image[1] = 255
    padded = model._padded([image])
    assert padded.tensors.shape == (1, 1, 16, 16)
    assert padded.tensors.unique().tolist() == [pytest.approx((0.587 - 0.5) / 0.25)]
    assert torch.isfinite(model(detectors.batch()).loss)


def test_the_same_keys_draw_the_same_and_torchs_generator_is_left_alone() -> None:
    model, batch = detectors.detector().train(), detectors.batch()
    state = torch.get_rng_state()
    first = [value.item() for value in model(batch)]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(77)
    assert [value.item() for value in model(batch)] == first
    assert [value.item() for value in model(replace(batch, keys=batch.keys + 1))] != first


class Planted(torch.nn.Module):
    """Heads that detect what they are given."""

    def __init__(self, boxes: Tensor, masks: Tensor) -> None:
        super().__init__()
        self.boxes, self.masks, self.mask_head = boxes, masks, torch.nn.Identity()

    def detect(self, maps: object, proposals: list[Tensor], sizes: object) -> list[tuple[Tensor, ...]]:
        count = len(self.boxes)
        return [(self.boxes, torch.linspace(0.9, 0.1, count), torch.arange(count), self.masks)] * len(proposals)


def test_detections_are_scaled_back_clipped_and_drawn_in_the_original() -> None:
    model = detectors.detector().eval()
    boxes = torch.tensor([[8.0, 16.0, 40.0, 48.0], [80.0, 10.0, 120.0, 30.0], [200.0, 10.0, 300.0, 30.0]])
    masks = torch.zeros(3, 14, 14)
    masks[0, :7] = 1.0
    model.heads = Planted(boxes, masks)
    (detections,) = model.predict(detectors.images([(64, 96)]), [(128, 288)])  # twice as high, three times as wide
    np.testing.assert_allclose(detections.boxes.numpy(), [[24, 32, 120, 96], [240, 20, 288, 60]])
    assert detections.labels.tolist() == [0, 1]  # nothing is left of the third
    assert detections.scores.tolist() == pytest.approx([0.9, 0.5])
    mask = coco.decode(detections.masks[0])
    assert mask.shape == (128, 288)
    expected = np.zeros((128, 288))
    expected[32:64, 24:120] = 1  # the upper half of its box, whose corners are round
    assert np.abs(mask - expected).sum() == 12
    np.testing.assert_array_equal(mask[36:60], expected[36:60])
    np.testing.assert_array_equal(mask[:, 30:110], expected[:, 30:110])


@pytest.mark.parametrize("masks", [False, True])
def test_what_is_detected_is_within_the_image_best_first_and_of_a_class(masks: bool) -> None:
    model = detectors.detector(masks=masks).eval()
    originals = [(128, 192), (100, 50)]
    for detections, (height, width) in zip(
        model.predict(detectors.images([(64, 96), (96, 48)]), originals), originals, strict=True
    ):
        assert 0 < len(detections) <= 10
        boxes = detections.boxes.numpy()
        assert boxes.dtype == np.float32
        assert boxes.min() >= 0
        assert (boxes[:, 2:] <= [width, height]).all()
        assert (boxes[:, :2] < boxes[:, 2:]).all()
        assert bool((detections.scores.diff() <= 0).all())
        assert set(detections.labels.tolist()) <= {0, 1, 2}
        for mask in detections.masks:
            assert (mask is not None) is masks
            assert mask is None or mask["size"] == [height, width]


def test_it_says_what_it_is() -> None:
    assert detectors.detector().describe(16).startswith("Mask R-CNN C4, 3 classes")
    assert detectors.detector(head="fpn").describe(16).startswith("Mask R-CNN FPN, 3 classes")
    assert detectors.detector(masks=False).describe(16).startswith("Faster R-CNN C4, 3 classes")


def test_under_autocast_losses_are_float32_and_near() -> None:
    model = detectors.detector().train()
    exact = model(detectors.batch())
    with torch.autocast("cpu", torch.bfloat16):
        terms = model(detectors.batch())
    assert {value.dtype for value in terms} == {torch.float32}
    terms.loss.backward()
    assert terms.objectness.item() == pytest.approx(exact.objectness.item(), rel=0.02)
    assert terms.classification.item() == pytest.approx(exact.classification.item(), rel=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        (detections,) = model.eval().predict(detectors.images([(64, 96)]), [(64, 96)])
    assert detections.boxes.dtype == detections.scores.dtype == torch.float32


@pytest.mark.parametrize("head", ["c4", "fpn"])
def test_weights_that_are_not_numbers_give_a_loss_that_is_none(head: str) -> None:
    """The engine reads it and says that the training diverged; boxes that are no numbers must not break it off."""
    model = detectors.detector(head=head, settings=replace(detectors.SMALL, box_features=8)).train()
    with torch.no_grad():
        for parameter in model.rpn.parameters():
            parameter.fill_(torch.nan)
        model.heads.box_predictor.cls_score.weight.fill_(torch.nan)
    assert torch.isnan(model(detectors.batch()).loss)
    assert [len(detections) for detections in model.eval().predict(detectors.images([(64, 96)]), [(64, 96)])] == [0]
