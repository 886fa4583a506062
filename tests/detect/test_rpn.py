"""The region proposal network: whom anchors are matched to, its losses, its deltas, its beginning."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torchvision.models.detection.image_list import ImageList

from barlowctl.detect.anchors import Anchors
from barlowctl.detect.rpn import ProposalNetwork
from barlowctl.detect.settings import ModelSettings, TrainTest
from tests.oracles import detection as oracle

SIZES, RATIOS, ROWS, COLUMNS = (16.0, 32.0), (0.5, 1.0, 2.0), 4, 6
ANCHORS = 6 * ROWS * COLUMNS
OBJECTS = (
    np.array([[3.0, 5, 41, 30], [50, 20, 58, 61]]),
    np.array([[10.5, 10, 27, 26]]),
)


def network(**options: object) -> ProposalNetwork:
    torch.manual_seed(1)
    settings = ModelSettings(
        anchor_sizes=SIZES,
        anchors_per_image=2 * ANCHORS,  # then all of them are sampled
        before_nms=TrainTest(100, 50),
        proposals=TrainTest(30, 20),
        **options,  # type: ignore[arg-type]
    )
    return ProposalNetwork(8, Anchors([SIZES], RATIOS, [16]), settings).double()


def test_losses_are_sums_of_cross_entropies_and_of_absolute_deltas() -> None:
    rpn = network()
    with torch.no_grad():
        for parameter in rpn.parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64) * 0.1)
    maps = torch.randn(2, 8, ROWS, COLUMNS, dtype=torch.float64)
    images = ImageList(torch.zeros(2, 3, 16 * ROWS, 16 * COLUMNS), [(16 * ROWS, 16 * COLUMNS)] * 2)
    rpn.fg_bg_sampler.keys = [0, 1]
    _, sums = rpn(images, OrderedDict(a=maps), [{"boxes": torch.from_numpy(boxes)} for boxes in OBJECTS])

    (logits,), (deltas,) = rpn.head([maps])
    anchors = oracle.anchors(ROWS, COLUMNS, 16, SIZES, RATIOS)
    expected = np.zeros(2)
    for number, objects in enumerate(OBJECTS):
        own_logits = logits[number].permute(1, 2, 0).reshape(-1).detach().numpy()
        own_deltas = deltas[number].view(6, 4, ROWS, COLUMNS).permute(2, 3, 0, 1).reshape(-1, 4).detach().numpy()
        expected += oracle.proposal_losses(own_logits, own_deltas, anchors, objects, 1)
    assert sums["loss_objectness"].item() == pytest.approx(expected[0], rel=1e-7)
    assert sums["loss_rpn_box_reg"].item() == pytest.approx(expected[1], rel=1e-7)
    assert expected.min() > 1


def test_ties_go_to_the_first_object_and_every_object_has_its_best_anchors() -> None:
    matcher = network().proposal_matcher
    overlaps = torch.tensor(
        [
            [0.8, 0.75, 0.1, 0.2, 0.5, 0.0],  # its best: anchor 0
            [0.8, 0.71, 0.2, 0.2, 0.1, 0.0],  # its best: anchor 0, a tie with object 0
            [0.1, 0.10, 0.2, 0.2, 0.1, 0.1],  # of low quality: anchors 2 and 3
        ]
    )
    # Anchors 2 and 3 are the best of object 2; the first object that overlaps them as much has them. Neither 4 nor 5.
    assert matcher(overlaps).tolist() == [0, 0, 1, 0, -2, -1]
    assert matcher(torch.tensor([[0.7, 0.69999, 0.3, 0.29999]])).tolist() == [0, -2, -2, -1]


def test_deltas_are_the_papers_and_come_back() -> None:
    coder = network().box_coder
    generator = np.random.default_rng(0)
    corner, sides = generator.uniform(0, 90, (2, 20, 2)), generator.uniform(4, 60, (2, 20, 2))
    boxes, targets = (np.concatenate([c, c + s], axis=1) for c, s in zip(corner, sides, strict=True))
    encoded = coder.encode_single(torch.from_numpy(targets), torch.from_numpy(boxes))
    expected = [oracle.encode(target, box) for target, box in zip(targets, boxes, strict=True)]
    np.testing.assert_allclose(encoded.numpy(), expected, rtol=1e-10, atol=1e-12)
    decoded = coder.decode_single(encoded, torch.from_numpy(boxes))
    np.testing.assert_allclose(decoded.numpy(), targets, rtol=1e-10)
    huge = coder.decode_single(torch.tensor([[0.0, 0, 99, 99]]), torch.tensor([[0.0, 0, 16, 16]]))
    assert (huge[0, 2:] - huge[0, :2]).tolist() == pytest.approx([1000, 1000])  # ln(1000 / 16) at most


def test_it_begins_as_detectron2s() -> None:
    torch.manual_seed(0)
    settings = ModelSettings().of_head("c4")
    head = ProposalNetwork(256, Anchors([settings.anchor_sizes], RATIOS, [16]), settings).head
    convolutions = [module for module in head.modules() if isinstance(module, torch.nn.Conv2d)]
    assert [(c.out_channels, c.kernel_size) for c in convolutions] == [(256, (3, 3)), (15, (1, 1)), (60, (1, 1))]
    for convolution in convolutions:
        assert convolution.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert convolution.bias is not None
        assert not convolution.bias.any()


def test_before_and_after_suppression_there_are_so_many_proposals() -> None:
    settings = ModelSettings().of_head("c4")
    rpn = ProposalNetwork(8, Anchors([settings.anchor_sizes], RATIOS, [16]), settings)
    assert (rpn.pre_nms_top_n(), rpn.post_nms_top_n()) == (12000, 2000)
    rpn.eval()
    assert (rpn.pre_nms_top_n(), rpn.post_nms_top_n()) == (6000, 1000)
    assert rpn.nms_thresh == 0.7
    assert (rpn.fg_bg_sampler.batch_size_per_image, rpn.fg_bg_sampler.positive_fraction) == (256, 0.5)


def test_in_half_precision_losses_and_proposals_are_float32() -> None:
    rpn = network().float()
    rpn.fg_bg_sampler.keys = [0]
    images = ImageList(torch.zeros(1, 3, 16 * ROWS, 16 * COLUMNS), [(16 * ROWS, 16 * COLUMNS)])
    with torch.autocast("cpu", torch.bfloat16):
        proposals, sums = rpn(
            images,
            OrderedDict(a=torch.randn(1, 8, ROWS, COLUMNS).bfloat16()),
            [{"boxes": torch.from_numpy(OBJECTS[1]).float()}],
        )
    assert proposals[0].dtype == torch.float32
    assert {value.dtype for value in sums.values()} == {torch.float32}
