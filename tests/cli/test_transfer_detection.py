"""`barlowctl transfer --task voc0712` and `--task coco` on generated images in the benchmarks' layouts."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from barlowctl.assemble.detection import DetectionJob
from barlowctl.assemble.weights import read_weights
from barlowctl.cli.app import run as barlowctl
from barlowctl.eval.features import backbone_digest
from barlowctl.eval.published import DETECTION
from barlowctl.measure import detection, trials
from barlowctl.measure.baselines import from_weights
from barlowctl.measure.subjects import open_subject
from barlowctl.model import build_backbone
from barlowctl.train import checkpoint
from benchmarks.detection_shapes import write_shapes
from tests.detect.jobs import SMALL

pytest.importorskip("pycocotools.mask")
Captured = pytest.CaptureFixture[str]
TINY = [
    "--threads",
    "1",
    "--iterations",
    "4",
    "--batch",
    "2",
    *(part for text in SMALL for part in ("--set", text)),
]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, train=8, test=6, seed=5)
    shutil.copytree(folder / "coco", folder / "crowds")
    file = folder / "crowds" / "annotations" / "instances_train2017.json"
    document = json.loads(file.read_text())
    file.write_text(json.dumps({**document, "annotations": [{**e, "iscrowd": 1} for e in document["annotations"]]}))
    return folder


def transfer(capsys: Captured, *arguments: object, code: int = 0) -> dict[str, Any]:
    assert barlowctl(["transfer", *map(str, arguments), *TINY, "--json"]) == code
    out = capsys.readouterr().out
    result: dict[str, Any] = json.loads(out) if out else {}
    return result


def average_precision(truth: Path, results: Path, kind: str) -> float:
    """pycocotools' own, from the published files alone."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    entries = json.loads(results.read_text())
    if kind == "segm":
        entries = [{key: value for key, value in entry.items() if key != "bbox"} for entry in entries]
    with contextlib.redirect_stdout(io.StringIO()):
        annotations = COCO(str(truth))
        metric = COCOeval(annotations, annotations.loadRes(entries), kind)
        metric.evaluate()
        metric.accumulate()
        metric.summarize()
    return 100 * float(metric.stats[0])


def test_coco_from_a_run_with_trials_and_a_baseline(
    trained: Path, shapes: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [trained, "--task", "coco", "--data", shapes / "coco", "--out", tmp_path, "--seeds", 2, "--random-init"]
    result = transfer(capsys, *arguments)
    folders = [Path(trial["folder"]) for trial in result["trials"]]
    assert [folder.name[:6] for folder in folders] == ["seed0-", "seed1-"]
    truth = shapes / "coco" / "annotations" / "instances_val2017.json"
    for folder, trial in zip(folders, result["trials"], strict=True):
        assert trial["AP"] == pytest.approx(average_precision(truth, folder / "detections.json", "bbox"), abs=1e-3)
        assert trial["mask AP"] == pytest.approx(average_precision(truth, folder / "detections.json", "segm"), abs=1e-3)
        assert len((folder / "per-class.csv").read_text().splitlines()) == 4
        first = json.loads((folder / "result.json").read_text())["per_class"]
        cells = [" & ".join([name, *(f"{value:.2f}" for value in row.values())]) for name, row in first.items()]
        assert [f"{cell} \\\\" for cell in cells] == (folder / "per-class.tex").read_text().splitlines()[6:9]
        assert (folder / "metrics.jsonl").is_file()
        assert len(list((folder / "pictures").iterdir())) == 6  # of each test image
    first, second = (trial["AP"] for trial in result["trials"])
    assert result["value"] == pytest.approx((first + second) / 2)
    assert result["sd"] == pytest.approx(abs(first - second) / 2**0.5)
    assert result["published"] == {}  # one's own images
    assert result["floors"][0]["identity"]["weights"] != result["identity"]["weights"]
    assert json.loads((tmp_path / "transfer-coco.json").read_text())["value"] == result["value"]

    monkeypatch.setattr("barlowctl.assemble.detection.engine.train", None)  # what is finished is read back
    again = transfer(capsys, *arguments)
    assert again["trials"] == result["trials"]
    assert barlowctl(["transfer", *map(str, arguments), *TINY]) == 0
    text = capsys.readouterr().out
    assert "mean and standard deviation of 2 trials" in text
    assert "random backbone" in text


@pytest.fixture(scope="module")
def published(shapes: Path) -> Path:
    """A state dict of the run's network for colour images, with a classifier, as torchvision publishes its."""
    torch.manual_seed(5)
    state = build_backbone("resnet10t", in_chans=3, channels=[8, 16, 16, 32], stem_width=8).state_dict()
    torch.save({**state, "fc.weight": torch.zeros(7, 32), "fc.bias": torch.zeros(7)}, shapes / "narrow.pth")
    torch.save(build_backbone("resnet18", in_chans=3).state_dict(), shapes / "resnet18.pth")
    return shapes / "narrow.pth"


def test_published_weights_beside_the_network(
    trained: Path, shapes: Path, published: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of one table: the run, a file without normalisation, the run's export with it, random weights."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(published, "narrow.pth")
    assert barlowctl(["export", str(trained), "--out", "run.safetensors", "--quiet"]) == 0
    arguments = [trained, "--task", "coco", "--data", shapes / "coco", "--out", tmp_path / "out"]
    arguments += ["--init", "narrow.pth", "--init", "run.safetensors", "--init", "narrow.pth", "--random-init"]
    result = transfer(capsys, *arguments)
    of_file, of_export, random = result["floors"]
    assert [row["name"] for row in result["floors"]] == ["narrow.pth", "run.safetensors", "random backbone"]
    grey = torch.load(published, weights_only=True)["conv1.0.weight"].sum(1, keepdim=True)
    network = from_weights(open_subject(str(trained)), read_weights(str(published)))
    assert torch.equal(network.backbone.state_dict()["conv1.0.weight"], grey)  # of grey images
    assert of_file["identity"]["weights"] == backbone_digest(network.backbone)
    assert of_file["init"]["kind"] == "state dict"
    assert "these weights do not say theirs" in of_file["notes"][-1]
    assert of_export["trials"] == result["trials"]  # the same weights, seed and normalisation: trained once
    assert "init" not in random
    monkeypatch.setattr("barlowctl.assemble.detection.engine.train", None)  # what is finished is read back
    assert barlowctl(["transfer", *map(str, arguments), *TINY]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "run.safetensors (export)" in text
    assert "narrow.pth: images are normalised as the measured network's" in text


def test_other_weights_are_normalised_as_they_were_trained(trained: Path, tmp_path: Path) -> None:
    subject = open_subject(str(trained))
    weights = read_weights(str(trained))
    assert weights.preprocessing is not None
    colour = replace(weights.preprocessing, mean=(0.1, 0.2, 0.3), std=(0.3, 0.4, 0.5))
    other = from_weights(subject, replace(weights, preprocessing=colour))
    assert (other.preprocessing.mean, other.preprocessing.std) == ((0.2,), (0.4,))
    assert (other.preprocessing.crop, other.preprocessing.channels) == (subject.preprocessing.crop, 1)
    assert other.notes == ()


def test_the_dry_run_counts_what_is_trained_beside_it(
    trained: Path, shapes: Path, published: Path, capsys: Captured
) -> None:
    arguments = ["--task", "coco", "--data", str(shapes / "coco"), "--init", str(published), "--random-init"]
    assert barlowctl(["transfer", str(trained), *arguments, "--seeds", "2", "--dry-run", *TINY]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "6 trainings (3 networks x 2 seeds) take 6 times as long" in text
    assert "narrow.pth (state dict), random backbone" in text


def recorded(patch: pytest.MonkeyPatch, *names: str) -> list[str]:
    """Methods of a job, of these, in the order in which they are called."""
    calls: list[str] = []

    def wrapped(name: str) -> Callable[..., Any]:
        method = getattr(DetectionJob, name)

        def call(*arguments: Any) -> Any:
            calls.append(name)
            return method(*arguments)

        return call

    for name in names:
        patch.setattr(DetectionJob, name, wrapped(name))
    return calls


def test_voc_in_micro_batches_says_what_batch_norm_saw(
    trained: Path, shapes: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = recorded(monkeypatch, "train", "take_statistics", "test")
    result = transfer(
        capsys, trained, "--task", "voc0712", "--data", shapes / "VOCdevkit", "--out", tmp_path, "--micro-batch", 1
    )
    assert calls == ["train", "take_statistics", "test"]
    assert result["data"]["classes"] == ["ellipse", "rectangle", "triangle"]
    assert "mask AP" not in result["scores"]
    assert result["settings"]["micro_batch"] == 1
    assert "batch norm saw 1 image at a time, not the batch of 2" in result["notes"]
    assert "4 iterations, batch 2, lr 0.01" in result["protocol"]


def test_the_same_command_goes_on_where_it_was_stopped(
    trained: Path, shapes: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [trained, "--task", "coco", "--data", shapes / "coco"]
    whole = transfer(capsys, *arguments, "--out", tmp_path / "whole")

    @contextlib.contextmanager
    def after_two_steps() -> Iterator[Callable[[], bool]]:
        of_training = iter([False, False, True])
        yield lambda: next(of_training, True)

    @contextlib.contextmanager
    def in_the_test() -> Iterator[Callable[[], bool]]:
        yield lambda: len(list(checkpoints.glob("step-00000004"))) == 1 and next(answers, True)

    answers = iter([False] * 4)
    with monkeypatch.context() as stopped:
        stopped.setattr(detection, "stop_requests", after_two_steps)
        transfer(capsys, *arguments, "--out", tmp_path / "parts", code=3)
        (checkpoints,) = (tmp_path / "parts").glob("detection-coco/seed*/checkpoints")
        assert 0 < checkpoint.load_latest(checkpoints).state.step < 4
        stopped.setattr(detection, "stop_requests", in_the_test)
        transfer(capsys, *arguments, "--out", tmp_path / "parts", code=3)
        assert next(answers, None) is None
    assert barlowctl(["transfer", *map(str, arguments), *TINY, "--out", str(tmp_path / "parts"), "--json"]) == 0
    out, errors = capsys.readouterr()
    resumed = json.loads(out)
    assert ", resumed at step 4" in errors
    assert "  detector     Mask R-CNN C4, 3 classes" in errors
    assert "\ntrained; testing on 6 images ...\n" in errors
    assert "epoch" not in errors
    assert resumed["scores"] == whole["scores"]
    detections = [Path(result["trials"][0]["folder"]) / "detections.json" for result in (whole, resumed)]
    assert detections[0].read_bytes() == detections[1].read_bytes()
    (Path(resumed["trials"][0]["folder"]) / "result.json").write_text("{}")
    again = transfer(capsys, *arguments, "--out", tmp_path / "parts")
    assert again["scores"] == whole["scores"]


def test_the_dry_run_has_schedules_of_eight_devices_and_of_one(trained: Path, shapes: Path, capsys: Captured) -> None:
    paper = ["--iterations", "24000", "--batch", "16", "--set", "warmup_iterations=1000", "--set", "lr=0.1"]
    arguments = [str(trained), "--task", "voc0712", "--data", str(shapes / "VOCdevkit"), "--dry-run"]
    assert barlowctl(["transfer", *arguments, *TINY, *paper, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["schedules"]
    expected = [(8, 16, 2, 2, 0.1, 24_000), (1, 16, 16, 16, 0.1, 24_000), (1, 16, 16, 2, 0.1, 24_000)]
    expected += [(1, 2, 2, 2, 0.0125, 192_000)]
    keys = ("devices", "batch_size", "images_per_device", "at_a_time", "lr", "iterations")
    assert [tuple(row[key] for key in keys) for row in rows] == expected
    assert [row["drops"] for row in rows] == [[18_000, 22_000]] * 3 + [[144_000, 176_000]]
    assert all(row["device_hours"] == pytest.approx(rows[0]["device_hours"]) for row in rows)
    assert rows[0]["memory"] == rows[2]["memory"] < rows[1]["memory"]
    assert not list(trained.glob("detection-*"))
    assert barlowctl(["transfer", *arguments, *TINY]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^ *detector +Faster R-CNN C4 *$", out, re.MULTILINE)
    (row,) = [line.split() for line in out.splitlines() if line.strip().startswith("1 ")]
    assert (row[-3], row[-1]) == ("s", "s")  # four iterations are no 0.0 hours


def test_the_papers_rows() -> None:
    assert trials.published("voc0712")["Barlow Twins"] == {"AP": 56.8, "AP50": 82.6, "AP75": 63.4}
    assert trials.published("coco")["Barlow Twins"]["mask AP"] == 34.3
    assert {row.method for row in DETECTION.rows} == {"Supervised", "MoCo v2", "SwAV", "SimSiam", "Barlow Twins"}


@pytest.mark.parametrize(
    ("arguments", "message", "next"),
    [
        (["--task", "coco", "--protocol", "fast"], "--protocol fast has no meaning for the task coco", "--task coco\n"),
        (["--task", "coco", "--set", "eval.crop=64"], "eval.crop=64 has no meaning for the task coco", "--task coco\n"),
        (["--task", "folder", "--head", "fpn"], "--head has no meaning for the task folder", "--task folder\n"),
        (["--task", "voc07", "--gpus", "2"], "--gpus has no meaning for the task voc07", "--task voc07\n"),
        (["--task", "coco", "--data", "nowhere"], "'nowhere' is no folder", "name the benchmark's folder with --data"),
        (["--task", "coco", "--data", "SHAPES/VOCdevkit"], "is in VOC's layout, and the task coco", "--task voc0712"),
        (["--task", "voc0712", "--data", "SHAPES/coco"], "is in COCO's layout, and the task voc0712", "--task coco"),
        (["--task", "coco", "--data", "SHAPES/crowds"], "none of the 8 training images has an object", "annotate"),
        (["--task", "coco", "--gpus", "3", "--dry-run"], "cannot be shared equally by 3 devices", "--batch 15"),
        (
            ["--task", "folder", "--init", "resnet10t.pth"],
            "--init has no meaning for the task folder",
            "--task folder\n",
        ),
        (["--task", "coco", "--data", "SHAPES/coco", "--init", ""], "--init is empty", "barlowctl transfer --help"),
        (["--task", "coco", "--data", "SHAPES/coco", "--init", "gone.pth"], "'gone.pth' does not exist", "runs list"),
        (
            ["--task", "coco", "--data", "SHAPES/coco", "--init", "SHAPES/resnet18.pth"],
            "does not fit the network of digits: it is resnet18. It lacks conv1.0.weight",
            "name another one with --init",
        ),
        (["--task", "coco", "--set", "momentun=0.8"], "did you mean 'momentum'", "momentum=0.8"),
    ],
)
def test_what_is_refused(
    trained: Path, shapes: Path, published: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch,
    arguments: list[str], message: str, next: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    arguments = [argument.replace("SHAPES", str(shapes)) for argument in arguments]
    assert barlowctl(["transfer", str(trained), *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert next in err.partition("next: ")[2]
    assert not list(tmp_path.iterdir())


def test_a_network_without_a_resnets_stages_is_told_of_the_pyramid(
    recipe: Path, shapes: Path, tmp_path: Path, capsys: Captured
) -> None:
    arguments = [
        "vit_tiny_patch16_224",
        "--task",
        "coco",
        "--data",
        str(shapes / "coco"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert barlowctl(["transfer", *arguments]) == 2
    err = capsys.readouterr().err
    assert "a C4 detector is made of the four stages of a ResNet" in err
    assert err.partition("next: ")[2].strip().endswith("--head fpn")
    assert not (tmp_path / "out").exists()
