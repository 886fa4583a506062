"""COCO's metric: by hand, and pycocotools called as it is over random cases."""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pycocotools")

from barlowctl.detect.coco import CocoImages
from barlowctl.detect.coco_json import read_document
from barlowctl.detect.coco_metric import NAMES, evaluate, evaluate_results
from barlowctl.detect.coco_results import write_results
from barlowctl.detect.detections import Detections
from barlowctl.detect.layouts import open_detection
from barlowctl.detect.regions import compressed
from tests.detect.conftest import Shapes
from tests.detect.predicted import Annotated, detected, objects, oracle
from tests.oracles.detection_cases import SIDE, random_case


def as_text(entry: dict[str, Any]) -> dict[str, Any]:
    lengths = compressed(entry["segmentation"])
    return {**entry, "segmentation": {**lengths, "counts": lengths["counts"].decode()}}


def called_directly(module: str, truth: dict[str, Any], results: list[dict[str, Any]], kind: str) -> Any:
    """pycocotools' evaluation, or faster-coco-eval's, of files as a person would give them."""
    library = importlib.import_module(module)
    coco, evaluation = (
        (library.COCO, library.COCOeval_faster)
        if module == "faster_coco_eval"
        else (library.COCO, importlib.import_module("pycocotools.cocoeval").COCOeval)
    )
    unused = "segmentation" if kind == "bbox" else "bbox"
    with contextlib.redirect_stdout(io.StringIO()):
        truths = coco()
        truths.dataset = copy.deepcopy(truth)
        truths.createIndex()
        detections = truths.loadRes([{k: v for k, v in entry.items() if k != unused} for entry in results])
        computed = evaluation(truths, detections, kind)
        computed.evaluate()
        computed.accumulate()
        computed.summarize()
    return computed


def case_of(seed: int) -> tuple[Annotated, list[Detections], dict[str, Any], list[dict[str, Any]]]:
    """A random case as files and as this package has it."""
    truth, results = random_case(seed)
    results = [as_text(entry) for entry in results]
    labels = {entry["id"]: label for label, entry in enumerate(truth["categories"])}
    annotations, predictions = [], []
    for image in truth["images"]:
        own = [entry for entry in results if entry["image_id"] == image["id"]]
        boxes = [[left, top, left + width, top + height] for left, top, width, height in (e["bbox"] for e in own)]
        annotations.append(objects([], [], image_id=image["id"]))
        predictions.append(
            detected(
                boxes,
                [entry["score"] for entry in own],
                [labels[entry["category_id"]] for entry in own],
                [entry["segmentation"] for entry in own],
            )
        )
    names = [entry["name"] for entry in truth["categories"]]
    return Annotated(annotations, names, truth), predictions, truth, results


def compare(seeds: range, module: str) -> int:
    """All twelve numbers of boxes and outlines, and AP by class. Returns how many were defined."""
    defined = 0
    for seed in seeds:
        images, predictions, truth, results = case_of(seed)
        if not results:
            continue
        scores = evaluate(images, predictions)  # type: ignore[arg-type]
        assert scores.mask is not None or not truth["annotations"]
        for kind, computed in (("bbox", scores.box), ("segm", scores.mask)):
            if computed is None:
                continue
            expected = called_directly(module, truth, results, kind)
            for name, value in zip(NAMES, list(expected.stats)[:12], strict=True):
                assert math.isnan(computed[name]) if value == -1 else abs(computed[name] / 100 - value) <= 1e-12
                defined += value not in (-1, 0, 1)
            prefix = "mask " if kind == "segm" else ""
            for label, name in enumerate(images.classes):
                precision = expected.eval["precision"][:, :, label, 0, -1]
                for metric, of_overlaps in (("AP", precision), ("AP50", precision[0]), ("AP75", precision[5])):
                    value = scores.per_class[name][f"{prefix}{metric}"]
                    if (precision == -1).all():
                        assert math.isnan(value)
                    else:
                        assert abs(value / 100 - of_overlaps.mean()) <= 1e-12
    return defined


def test_random_cases_agree_with_pycocotools() -> None:
    assert compare(range(15), "pycocotools.coco") > 100


@pytest.mark.slow
def test_many_random_cases_agree_with_pycocotools() -> None:
    assert compare(range(15, 315), "pycocotools.coco") > 4000


@pytest.mark.slow
def test_faster_coco_eval_agrees_too() -> None:
    pytest.importorskip("faster_coco_eval")
    assert compare(range(100), "faster_coco_eval") > 1300


def compare_files(seeds: range, folder: Path) -> int:
    """The twelve numbers of an annotation file and of the file of results that is written, which pycocotools opens."""
    defined = 0
    for seed in seeds:
        images, predictions, truth, results = case_of(seed)
        if not results or not truth["annotations"]:
            continue
        truth["categories"].reverse()  # labels follow the numbers, not the file
        file = folder / f"{seed}.json"
        file.write_text(json.dumps(truth))
        for image in truth["images"]:
            (folder / image["file_name"]).touch()
        opened = CocoImages(folder, "test", read_document(file), folder)
        assert (opened.classes, opened.category_ids) == (images.classes, images.category_ids)
        scores = evaluate(opened, predictions)
        write_results(folder / "results.json", opened, predictions)
        entries = json.loads((folder / "results.json").read_text())
        for kind, computed in (("bbox", scores.box), ("segm", scores.mask)):
            assert computed is not None
            expected = called_directly("pycocotools.coco", json.loads(file.read_text()), entries, kind)
            for name, value in zip(NAMES, expected.stats.tolist(), strict=True):
                assert math.isnan(computed[name]) if value == -1 else abs(computed[name] / 100 - value) <= 1e-12
                defined += value not in (-1, 0, 1)
    return defined


def test_files_are_measured_as_pycocotools_measures_them(tmp_path: Path) -> None:
    assert compare_files(range(400, 410), tmp_path) > 100


@pytest.mark.slow
def test_many_files_are_measured_as_pycocotools_measures_them(tmp_path: Path) -> None:
    assert compare_files(range(410, 610), tmp_path) > 2500


def test_random_cases_have_what_they_promise() -> None:
    cases = [random_case(seed) for seed in range(60)]
    assert any(entry["iscrowd"] for truth, _ in cases for entry in truth["annotations"])
    scores = [[entry["score"] for entry in results] for _, results in cases]
    assert any(len(set(of_case)) < len(of_case) for of_case in scores)
    per_class = [(entry["image_id"], entry["category_id"]) for _, results in cases for entry in results]
    assert max(map(per_class.count, set(per_class))) > 100
    assert any(
        {entry["id"] for entry in truth["categories"]} - {entry["category_id"] for entry in truth["annotations"]}
        for truth, _ in cases
    )


def test_by_hand() -> None:
    """Two objects; a hit, a false one, a hit: precision 1 up to recall 1/2, then 2/3, at 101 recalls."""
    boxes = [[0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 20.0, 10.0]]
    truth = {
        "images": [{"id": 1, "height": SIDE, "width": SIDE}],
        "categories": [{"id": 4, "name": "a"}, {"id": 6, "name": "b"}],
        "annotations": [
            {"id": number + 1, "image_id": 1, "category_id": 4, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for number, box in enumerate(boxes)
        ],
    }
    images = Annotated([objects([], [], image_id=1)], ("a", "b"), truth)
    predictions = [detected([(0, 0, 10, 10), (90, 90, 99, 99), (50, 50, 70, 60)], [0.9, 0.8, 0.7], [0, 0, 0])]
    scores = evaluate(images, predictions)  # type: ignore[arg-type]
    assert scores.box["AP"] == pytest.approx(100 * (51 + 50 * 2 / 3) / 101, abs=1e-10)
    assert scores.box["AP"] == pytest.approx(83.498, abs=1e-3)
    assert scores.box["AR1"] == pytest.approx(50)
    assert math.isnan(scores.box["APl"])
    assert scores.mask is None
    assert scores.per_class["a"]["AP75"] == pytest.approx(scores.box["AP"])
    assert math.isnan(scores.per_class["b"]["AP"])


def test_a_perfect_detector_has_100_and_one_at_an_overlap_of_six_tenths_has_ap50_alone(
    shapes: Shapes, capsys: pytest.CaptureFixture[str]
) -> None:
    _, images = open_detection("coco", shapes.coco)
    perfect = evaluate(images, oracle(images))
    assert perfect.mask is not None
    for name in ("AP", "AP50", "AP75", "APm", "AR100"):
        assert perfect.box[name] == pytest.approx(100)
        assert perfect.mask[name] == pytest.approx(100)
    assert perfect.per_class["triangle"] == pytest.approx(dict.fromkeys(perfect.per_class["triangle"], 100.0))
    assert len(perfect.per_class["triangle"]) == 6
    shifted = evaluate(images, oracle(images, shift=0.25))
    assert shifted.box["AP50"] == pytest.approx(100)
    assert shifted.box["AP75"] == 0
    assert capsys.readouterr().out == ""


def test_a_perfect_detector_has_100_on_boxes_of_voc(shapes: Shapes) -> None:
    _, images = open_detection("voc", shapes.voc)
    scores = evaluate(images, oracle(images))
    assert scores.box["AP"] == pytest.approx(100)
    assert scores.mask is None


def test_without_detections_it_is_0(shapes: Shapes) -> None:
    _, images = open_detection("coco", shapes.coco)
    scores = evaluate(images, [detected([], [], []) for _ in range(len(images))])
    assert (scores.box["AP"], scores.box["AR100"]) == (0, 0)


def test_results_are_written_as_coco_reads_them(shapes: Shapes, tmp_path: Path) -> None:
    _, images = open_detection("coco", shapes.coco)
    write_results(tmp_path / "results.json", images, oracle(images))
    entries = json.loads((tmp_path / "results.json").read_text())
    scene = shapes.scenes["test"][0]
    first = entries[0]
    assert (first["image_id"], first["file_name"]) == (scene.id, "test_00000.jpg")
    assert first["category_id"] == scene.shapes[0].category
    left, top, right, bottom = scene.shapes[0].box
    np.testing.assert_allclose(first["bbox"], [left, top, right - left, bottom - top], atol=0.02)
    assert first["score"] == pytest.approx(0.9)
    box, _ = evaluate_results(images.ground_truth(), entries, "bbox")
    mask, _ = evaluate_results(images.ground_truth(), entries, "segm")
    assert box["AP"] == mask["AP"] == pytest.approx(100)
