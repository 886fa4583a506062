"""A backbone as a C4 detector's: every tensor of it is there, what is refused, and what else is in the detector."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
import timm
import torch
from torch import Tensor, nn

from barlowctl.detect.build import build
from barlowctl.detect.c4 import split_resnet
from barlowctl.detect.method import Detection
from barlowctl.detect.parameter_groups import parameter_groups
from barlowctl.detect.settings import ModelSettings
from barlowctl.errors import UserError
from barlowctl.model import build_backbone
from tests.detect import detectors


@pytest.fixture(scope="module")
def mask_rcnn() -> Detection:
    """With the paper's settings, of a ResNet-50 with 80 classes."""
    return build(detectors.resnet50(), num_classes=80, masks=True)


def in_detector(key: str) -> str:
    """Where a ResNet's tensor is in a C4 detector."""
    return f"heads.box_head.res5.{key.removeprefix('layer4.')}" if key.startswith("layer4.") else f"features.{key}"


def test_every_tensor_of_the_backbone_is_in_the_detector(mask_rcnn: Detection) -> None:
    backbone, state = detectors.resnet50().state_dict(), mask_rcnn.state_dict()
    assert len(backbone) == 318  # of a ResNet-50 without its classifier
    for key, value in backbone.items():
        assert torch.equal(state[in_detector(key)], value), key
    others = state.keys() - {in_detector(key) for key in backbone}
    assert {key.rpartition(".")[0] for key in others} == {
        "heads.box_head.norm", "heads.box_predictor.bbox_pred", "heads.box_predictor.cls_score", "heads.mask_head.0",
        "heads.mask_head.2", "rpn.head.bbox_pred", "rpn.head.cls_logits", "rpn.head.conv.0.0",
    }  # fmt: skip


def test_there_is_one_batch_norm_more_than_the_resnet_has(mask_rcnn: Detection) -> None:
    norms = [module for module in mask_rcnn.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 53 + 1
    extra = mask_rcnn.heads.box_head.norm
    assert extra.num_features == 2048
    assert (extra.weight.unique().tolist(), extra.bias.unique().tolist()) == ([1.0], [0.0])
    assert {norm.eps for norm in norms} == {1e-5}


def test_all_parameters_are_trained(mask_rcnn: Detection) -> None:
    assert all(parameter.requires_grad for parameter in mask_rcnn.parameters())


def test_the_papers_sizes(mask_rcnn: Detection) -> None:
    assert (mask_rcnn.features.channels, mask_rcnn.features.stride) == (1024, 16)
    anchors = mask_rcnn.rpn.anchor_generator
    assert (anchors.sizes, anchors.aspect_ratios) == (((32, 64, 128, 256, 512),), ((0.5, 1, 2),))
    assert (anchors.num_anchors_per_location(), anchors.strides) == ([15], (16,))
    assert mask_rcnn.heads.box_predictor.cls_score.weight.shape == (81, 2048)
    assert mask_rcnn.heads.box_predictor.bbox_pred.weight.shape == (320, 2048)
    deconvolution, _, last = mask_rcnn.heads.mask_head
    assert deconvolution.weight.shape == (2048, 256, 2, 2)
    assert last.weight.shape == (80, 256, 1, 1)
    assert mask_rcnn.heads.box_roi_pool.size == 14
    sampler = mask_rcnn.heads.fg_bg_sampler
    assert (sampler.batch_size_per_image, sampler.positive_fraction) == (512, 0.25)
    heads = mask_rcnn.heads
    assert (heads.score_thresh, heads.nms_thresh, heads.detections_per_img) == (0.05, 0.5, 100)
    assert heads.box_coder.weights == (10.0, 10.0, 5.0, 5.0)
    assert heads.box_coder.bbox_xform_clip == mask_rcnn.rpn.box_coder.bbox_xform_clip == math.log(1000 / 16)
    assert mask_rcnn.multiple == 16


def test_heads_begin_as_detectron2s(mask_rcnn: Detection) -> None:
    deconvolution, _, last = mask_rcnn.heads.mask_head
    predictor = mask_rcnn.heads.box_predictor
    assert predictor.cls_score.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert predictor.bbox_pred.weight.std().item() == pytest.approx(0.001, rel=0.02)
    assert last.weight.std().item() == pytest.approx(0.001, rel=0.05)
    fan_out = 2048 * 2 * 2  # as torch counts it for a transposed convolution, and detectron2 with it
    assert deconvolution.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.02)
    for layer in (deconvolution, last, predictor.cls_score, predictor.bbox_pred):
        assert not layer.bias.any()


def test_res4_and_res5_are_the_resnets_own_maps() -> None:
    backbone = detectors.narrow_resnet().eval()
    body, res5, width = split_resnet(backbone)
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        (res4,) = body.eval()(images).values()
        assert res4.shape == (2, 64, 4, 6)
        torch.testing.assert_close(res5.eval()(res4), backbone.forward_features(images))
    assert width == 128


def test_the_backbone_that_is_given_stays_as_it_is() -> None:
    backbone = detectors.narrow_resnet()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    model = detectors.detector(backbone=backbone).train()
    model(detectors.batch()).loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_the_same_seed_draws_the_same_heads_and_leaves_torchs_generator_alone() -> None:
    backbone = detectors.narrow_resnet()
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, again, other = (detectors.detector(backbone=backbone, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["rpn.head.cls_logits.weight"], other["rpn.head.cls_logits.weight"])


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50d", "resnext50_32x4d", "seresnet50", "wide_resnet50_2", "resnet50_gn", "ecaresnet50t"]
)
def test_networks_with_a_resnets_stages_are_taken(name: str) -> None:
    with torch.device("meta"):
        body, _, width = split_resnet(timm.create_model(name, num_classes=0))
    assert body.stride == 16
    assert width == {"resnet18": 512}.get(name, 2048)
    assert body.channels == width // 2


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: timm.create_model("vit_tiny_patch16_224", num_classes=0), "VisionTransformer has no such stages"),
        (lambda: timm.create_model("convnext_atto", num_classes=0), "ConvNeXt has no such stages"),
        (lambda: timm.create_model("resnetv2_50", num_classes=0), "ResNetV2 has no such stages"),
        (lambda: timm.create_model("resnet18", num_classes=0, output_stride=8), "does not halve"),
        (lambda: nn.Linear(2, 2), "Linear has no such stages"),
    ],
)
def test_other_networks_are_refused_with_what_works(make: Callable[[], nn.Module], reason: str) -> None:
    with pytest.raises(UserError, match=reason) as raised, torch.device("meta"):
        build(make(), num_classes=2)
    assert raised.value.allowed is not None
    assert "resnet18" in raised.value.allowed


def test_a_stem_for_small_images_has_its_own_stride() -> None:
    """So a run on small images can be taken: its third stage has stride 4, and anchors and RoIs follow."""
    backbone = build_backbone("resnet18", in_chans=3, stem="cifar")
    model = detectors.detector(backbone=backbone)
    assert (model.features.stride, model.heads.box_roi_pool.strides) == (4, {"res4": 4})
    assert model.rpn.anchor_generator.strides == (4,)


def test_an_unknown_head_is_refused() -> None:
    with pytest.raises(UserError, match="unknown head 'c5'"):
        build(detectors.narrow_resnet(), num_classes=2, head="c5")


def test_without_extra_norm_there_is_none() -> None:
    model = detectors.detector(settings=replace(detectors.SMALL, extra_norm=False))
    assert [name for name, _ in model.heads.box_head.named_children()] == ["res5"]


def test_biases_decay_and_norms_do_not() -> None:
    model = detectors.detector()
    weights, norms = parameter_groups(model, lr=0.02, weight_decay=1e-4)
    assert [(group["name"], group["weight_decay"]) for group in (weights, norms)] == [("weights", 1e-4), ("norms", 0.0)]
    assert weights["peak_lr"] == norms["lr"] == 0.02
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert len(weights["params"]) + len(norms["params"]) == len(names)
    of_norms = {names[parameter] for parameter in norms["params"]}
    assert of_norms == {
        f"{name}.{part}"
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d)
        for part in ("weight", "bias")
    }
    assert {"heads.box_predictor.cls_score.bias", "rpn.head.conv.0.0.bias"} <= {names[p] for p in weights["params"]}


def test_recomputation_leaves_losses_and_gradients() -> None:
    gradients, losses = [], []
    for recompute in (False, True):
        model = detectors.detector(settings=replace(detectors.SMALL, recompute=recompute)).train()
        terms = model(detectors.batch())
        terms.loss.backward()
        losses.append([value.item() for value in terms])
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert losses[0] == losses[1]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_with_recomputation_activations_of_res5_are_not_kept() -> None:
    settings = ModelSettings(rois_per_image=64, anchors_per_image=32)
    saved: list[int] = []

    def count(x: Tensor) -> Tensor:
        saved[-1] += x.numel()
        return x

    for recompute in (False, True):
        model = detectors.detector(settings=replace(settings, recompute=recompute)).train()
        saved.append(0)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
            model(detectors.batch())
    assert saved[1] < 0.5 * saved[0]


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        ModelSettings().pooled = 7  # type: ignore[misc]


def test_in_training_rois_go_through_the_fourth_stage_once_and_in_a_test_detections_go_again() -> None:
    model = detectors.detector().train()
    rows: list[int] = []
    model.heads.box_head.register_forward_hook(lambda head, inputs, output: rows.append(len(inputs[0])))
    model(detectors.batch())
    assert rows == [2 * 16]
    rows.clear()
    (detections,) = model.eval().predict(detectors.images([(64, 96)]), [(64, 96)])
    assert rows == [20, len(detections)]


def test_the_extra_norm_stands_behind_the_last_relu_and_before_everything_else() -> None:
    model = detectors.detector().train()
    features = {"res4": torch.randn(1, 64, 4, 6)}
    boxes = [torch.tensor([[4.0, 4, 60, 60], [30, 10, 90, 50]])]
    inputs: list[Tensor] = []
    model.heads.box_head.norm.register_forward_pre_hook(lambda norm, x: inputs.append(x[0]))
    regions = model.heads.regions(features, boxes, [(64, 96)])
    assert regions.shape == (2, 128, 7, 7)
    assert inputs[0].min() == 0  # behind a ReLU
    torch.testing.assert_close(regions.mean(dim=(0, 2, 3)), torch.zeros(128), atol=1e-5, rtol=0)
    torch.testing.assert_close(model.heads.vectors(regions), regions.mean(dim=(2, 3)))
    assert model.heads.mask_regions(features, boxes, [(64, 96)], regions) is regions


@pytest.mark.parametrize("label", range(detectors.CLASSES))
def test_labels_are_those_of_the_data(label: int) -> None:
    """The background's score is the predictor's first, and class 0 is the second."""
    model = detectors.detector().eval()
    with torch.no_grad():
        model.heads.box_predictor.cls_score.bias[1 + label] = 20.0
    (detections,) = model.predict(detectors.images([(64, 96)]), [(64, 96)])
    assert len(detections) > 0
    assert set(detections.labels.tolist()) == {label}
    with torch.no_grad():
        model.heads.box_predictor.cls_score.bias[0] = 40.0
    (detections,) = model.predict(detectors.images([(64, 96)]), [(64, 96)])
    assert len(detections) == 0


def test_a_box_is_moved_by_the_deltas_of_its_own_class() -> None:
    model = detectors.detector(masks=False).eval()
    with torch.no_grad():
        model.heads.box_predictor.cls_score.bias[1 + 2] = 20.0
        model.heads.box_predictor.bbox_pred.weight.zero_()
        model.heads.box_predictor.bbox_pred.bias.view(3, 4)[2, 0] = 5.0  # dx of class 2: half a width, by weight 10
        model.heads.box_predictor.bbox_pred.bias.view(3, 4)[:2] = 3.0
    features, proposal = {"res4": torch.randn(1, 64, 4, 6)}, torch.tensor([[10.0, 10, 30, 50]])
    ((boxes, scores, labels, masks),) = model.heads.detect(features, [proposal], [(64, 96)])
    assert (boxes.tolist(), labels.tolist(), masks) == ([[20, 10, 40, 50]], [2], None)
    assert scores.item() > 0.99


def test_a_detections_mask_is_the_probability_of_its_own_class_in_the_box_that_was_detected() -> None:
    model = detectors.detector().eval()
    with torch.no_grad():
        model.heads.box_predictor.bbox_pred.weight.zero_()
        model.heads.box_predictor.bbox_pred.bias.view(3, 4)[1, 0] = 5.0  # half a width to the right of the proposal
        model.heads.mask_head[2].weight.mul_(100)
        model.heads.box_predictor.cls_score.bias[1 + 1] = 20.0
        model.heads.mask_head[2].bias.copy_(torch.tensor([-3.0, 1.0, 3.0]))
    features, sizes = {"res4": torch.randn(1, 64, 4, 6)}, [(64, 96)]
    ((boxes, _, labels, masks),) = model.heads.detect(features, [torch.tensor([[10.0, 10, 30, 50]])], sizes)
    assert (labels.tolist(), boxes.tolist()) == ([1], [[20, 10, 40, 50]])
    logits = model.heads.mask_head(model.heads.regions(features, [boxes], sizes))
    torch.testing.assert_close(masks, logits[:, 1].sigmoid())


def test_masks_without_pycocotools_are_refused_before_anything_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    with pytest.raises(UserError, match="pycocotools") as raised:
        detectors.detector(masks=True)
    assert raised.value.next == "pip install 'barlowctl[detection]'"
    detectors.detector(masks=False)
