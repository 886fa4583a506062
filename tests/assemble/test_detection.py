"""A detector trained by the engine: goes on bit for bit, is the same on two ranks, tested as a whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from barlowctl.assemble.detection import DetectionJob, named
from barlowctl.detect.annotations import DetectionImages
from barlowctl.detect.masks import rasterize
from barlowctl.distributed import ALONE
from barlowctl.errors import RunStopped
from barlowctl.train import checkpoint
from tests.detect import jobs
from tests.detect.conftest import Shapes
from tests.detect.detectors import narrow_resnet
from tests.dist import gang

pytest.importorskip("pycocotools.mask")


def state(folder: Path) -> dict[str, torch.Tensor]:
    return dict(checkpoint.load_latest(folder / "checkpoints").state.model)


@pytest.mark.parametrize(
    "stops", [(3,), *(pytest.param(stops, marks=pytest.mark.slow) for stops in ((1,), (2,), (4,), (5,), (1, 2, 4)))]
)
def test_it_goes_on_bit_for_bit(shapes: Shapes, tmp_path: Path, stops: tuple[int, ...]) -> None:
    """Stopped after any step, once or more often."""
    whole, _ = jobs.train(jobs.job(str(shapes.coco), jobs.settings()), tmp_path / "whole")
    assert len(whole) == jobs.ITERATIONS
    before = 0
    for stop in stops:
        count = stop - before
        with pytest.raises(RunStopped):
            jobs.train(jobs.job(str(shapes.coco), jobs.settings()), tmp_path / "parts", count.__eq__)
        before = stop
    rest, _ = jobs.train(jobs.job(str(shapes.coco), jobs.settings()), tmp_path / "parts")
    assert rest == whole[before:]
    expected, resumed = state(tmp_path / "whole"), state(tmp_path / "parts")
    assert all(torch.equal(resumed[name], value) for name, value in expected.items())


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4])
def test_several_ranks_train_and_detect_what_one_does(shapes: Shapes, tmp_path: Path, size: int) -> None:
    """In float64; images of a batch, of PreciseBN's and of the tests, meanwhile and after, are shared by the ranks."""
    expected = jobs.everything(ALONE, str(shapes.coco), str(tmp_path / "alone"))
    for rank in gang.together(jobs.everything, size, str(shapes.coco), str(tmp_path / "together")):
        np.testing.assert_allclose(rank["losses"], expected["losses"], rtol=1e-6)
        assert len(rank["measured"]) == len(expected["measured"]) == 2
        for scores, own_scores in zip(expected["measured"], rank["measured"], strict=True):
            assert own_scores == pytest.approx(scores, abs=0.1)
        for part in ("trained", "tested"):
            for name, value in expected[part].items():
                np.testing.assert_allclose(rank[part][name], value, rtol=1e-5, atol=1e-7, err_msg=f"{part}: {name}")
        assert len(rank["boxes"]) == len(expected["boxes"]) == len(shapes.scenes["test"])
        for boxes, scores, own_boxes, own_scores in zip(
            expected["boxes"], expected["scores"], rank["boxes"], rank["scores"], strict=True
        ):
            np.testing.assert_allclose(own_scores, scores, atol=1e-5)
            np.testing.assert_allclose(own_boxes, boxes, atol=1e-2)


@pytest.mark.slow
def test_a_test_between_two_steps_changes_nothing(shapes: Shapes, tmp_path: Path) -> None:
    plain, none = jobs.train(jobs.job(str(shapes.coco), jobs.settings()), tmp_path / "plain")
    tested = jobs.job(str(shapes.coco), jobs.settings("coco", "test_every=3"))
    losses, measured = jobs.train(tested, tmp_path / "tested")
    assert (losses, none) == (plain, [])
    assert len(measured) == 2
    assert all(
        torch.equal(state(tmp_path / "tested")[name], value) for name, value in state(tmp_path / "plain").items()
    )
    tested.take_statistics()
    assert measured[-1] == named(tested.scores(tested.test()))


def test_a_test_that_fails_changes_nothing_but_its_record(shapes: Shapes, tmp_path: Path) -> None:
    made = jobs.job(str(shapes.coco), jobs.settings("coco", "test_every=3", "statistics=1"))
    statistics = {name: value.clone() for name, value in made.detector.named_buffers()}
    made.test = lambda: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    with pytest.raises(ZeroDivisionError):
        made.test_meanwhile()
    assert all(torch.equal(value, statistics[name]) for name, value in made.detector.named_buffers())
    assert made.detector.training


class Knowing(nn.Module):
    """Heads that detect the objects of test images, in the resized image, moved inwards by a share of their width."""

    def __init__(self, images: DetectionImages, shift: float) -> None:
        super().__init__()
        self.images, self.shift, self.seen = images, shift, 0
        self.mask_head = nn.Identity()

    def detect(self, maps: object, proposals: object, sizes: list[tuple[int, int]]) -> list[tuple[object, ...]]:
        ((height, width),) = sizes
        annotation, original = self.images.annotation(self.seen), self.images.size(self.seen)
        self.seen += 1
        numbers = np.flatnonzero(~annotation.crowd)
        boxes = annotation.boxes[numbers].copy()
        masks = None
        if annotation.polygons is not None:
            drawn = [rasterize(annotation.polygons[n], annotation.boxes[n], 56) for n in numbers]
            masks = torch.from_numpy(np.array(drawn, dtype=np.float32).reshape(-1, 56, 56))
        inwards = np.where(boxes[:, [0, 2]].mean(axis=1) < original[1] / 2, self.shift, -self.shift)
        boxes[:, [0, 2]] += (inwards * (boxes[:, 2] - boxes[:, 0]))[:, None]
        boxes *= np.array([width / original[1], height / original[0]] * 2, dtype=np.float32)
        labels, scores = torch.from_numpy(annotation.labels[numbers]), torch.linspace(0.9, 0.5, len(numbers))
        return [(torch.from_numpy(boxes), scores, labels, masks)]


@pytest.mark.parametrize("task", ["coco", "voc0712"])
def test_a_detector_that_knows_the_objects_has_100_and_one_that_is_off_has_ap50_alone(
    shapes: Shapes, task: str
) -> None:
    """Through the whole test: resized images, scaled back, the metric's files and numbers."""
    made = jobs.job(str(shapes.coco if task == "coco" else shapes.voc), jobs.settings(task))

    def scores(shift: float) -> dict[str, float]:
        made.detector.heads = Knowing(made.tested_on, shift)
        return named(made.scores(made.test()))

    perfect = scores(0.0)
    assert [perfect[name] for name in ("AP", "AP50", "AP75")] == pytest.approx([100] * 3)
    if task == "coco":
        assert perfect["mask AP50"] == perfect["mask AP75"] == pytest.approx(100)
    shifted = scores(0.25)  # an IoU of 0.6
    assert (shifted["AP50"], shifted["AP75"]) == (pytest.approx(100), 0)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2])
def test_a_request_to_one_rank_stops_the_test_of_all_and_training_goes_on(
    shapes: Shapes, tmp_path: Path, size: int
) -> None:
    whole, _ = jobs.train(jobs.job(str(shapes.coco), jobs.settings()), tmp_path / "whole")
    if size == 1:
        results = [jobs.stopped_in_a_test(ALONE, str(shapes.coco), str(tmp_path / "parts"))]
    else:
        results = gang.together(jobs.stopped_in_a_test, size, str(shapes.coco), str(tmp_path / "parts"))
    for raised, saved, losses in results:
        assert (raised, saved) == ("RunStopped", 3)
        assert len(losses) == 3
        assert losses[0] == pytest.approx(whole[3], rel=1e-4)  # what follows draws from proposals, which jump


def test_branches_are_left_out_by_the_seed_alone(shapes: Shapes, tmp_path: Path) -> None:
    """Neither what was drawn before nor a test between two steps changes it, and nothing outside is changed."""

    def losses(past: int, *overrides: str) -> list[float]:
        made = jobs.job(str(shapes.coco), jobs.settings("coco", *overrides))
        made.backbone = narrow_resnet(drop_path_rate=0.5)
        torch.manual_seed(past)
        before = torch.get_rng_state()
        taken, _ = jobs.train(made, tmp_path / f"{past}")
        made.take_statistics()
        assert torch.equal(torch.get_rng_state(), before)
        return taken

    first = losses(1)
    assert losses(2, "test_every=3") == first
    assert first != jobs.train(jobs.job(str(shapes.coco), jobs.settings()), tmp_path / "whole")[0]


def test_micro_batches_take_fewer_images_at_once_and_train_on_all(shapes: Shapes, tmp_path: Path) -> None:
    sizes: list[int] = []
    made = jobs.job(str(shapes.coco), jobs.settings(micro_batch=1))
    made.detector.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    losses, _ = jobs.train(made, tmp_path)
    assert sizes == [1] * 4 * jobs.ITERATIONS
    assert all(np.isfinite(losses))


def test_recomputed_activations_change_no_number(shapes: Shapes, tmp_path: Path) -> None:
    plain, recomputed = (
        jobs.train(jobs.job(str(shapes.coco), jobs.settings(recompute=value)), tmp_path / str(value))[0]
        for value in (False, True)
    )
    assert recomputed == pytest.approx(plain, rel=1e-5)
    for name, value in state(tmp_path / "False").items():
        torch.testing.assert_close(state(tmp_path / "True")[name], value, rtol=1e-4, atol=1e-6)


def test_statistics_are_taken_over_as_many_batches_as_asked_for_and_others_than_trained_on(shapes: Shapes) -> None:
    keys: list[list[int]] = []
    made = jobs.job(str(shapes.coco), jobs.settings("coco", "statistics=3"))
    made.detector.register_forward_pre_hook(lambda module, inputs: keys.append(inputs[0].keys.tolist()))
    made.take_statistics()
    assert [len(of_batch) for of_batch in keys] == [4] * 3
    trained_on = {key for batch in made.loader(made.seed, 3).epoch(0) for key in batch.keys.tolist()}
    assert len(trained_on) == 12
    assert trained_on.isdisjoint(key for of_batch in keys for key in of_batch)


def test_the_optimizer_and_its_rate_are_detectron2s(shapes: Shapes) -> None:
    made: DetectionJob = jobs.job(str(shapes.voc), jobs.settings("voc0712", "drops=[4, 5]", "warmup_start=0.5"))
    optimizer = made.optimizer()
    decays = {group["name"]: group["weight_decay"] for group in optimizer.param_groups}
    assert decays == {"weights": 1e-4, "norms": 0.0}
    assert {group["momentum"] for group in optimizer.param_groups} == {0.9}
    assert not any(group["nesterov"] for group in optimizer.param_groups)
    factors = [made.engine_settings().lr_factor(step) for step in range(jobs.ITERATIONS)]
    assert factors == pytest.approx([0.5, 0.75, 1.0, 1.0, 0.1, 0.01])
