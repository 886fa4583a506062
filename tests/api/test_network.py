"""Runs and networks from Python: features, measurements and exports are those of the commands."""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import barlowctl
from barlowctl import Probed, events
from barlowctl.api.network import Network
from barlowctl.api.options import Extracting, Probing, Showing
from barlowctl.api.run import Run
from barlowctl.cli.app import run as command
from tests.arrays import read_arrays


@pytest.fixture
def opened(trained: Path, digits: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The finished run on `digits`."""
    monkeypatch.setenv("BARLOWCTL_DATA", str(digits))
    return barlowctl.load(trained)


@pytest.fixture
def pictures() -> np.ndarray:
    """Five grey images of 20 x 24 pixels, in colour: (5, 20, 24, 3) uint8."""
    grey = np.random.default_rng(0).integers(0, 256, (5, 20, 24, 1), dtype=np.uint8)
    return np.repeat(grey, 3, axis=3)


def test_a_run_is_what_its_files_say(opened: Run, trained: Path) -> None:
    result = json.loads((trained / "result.json").read_text())
    assert opened.result == result
    assert (opened.finished, opened.step) == (True, result["steps"])
    assert opened.recipe.model.backbone == "resnet10t"
    assert opened.preprocessing.mean == (0.3,)
    assert opened.metrics == [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    newest = max((trained / "checkpoints").iterdir())
    assert barlowctl.load(newest).step == result["steps"]
    with pytest.raises(barlowctl.UserError, match="is no run itself"):
        barlowctl.load(trained / "checkpoints")


def test_a_backbone_is_a_copy(opened: Run) -> None:
    backbone, again = opened.backbone(), opened.backbone()
    with torch.no_grad():
        next(backbone.parameters()).zero_()
    assert not backbone.training
    assert all(parameter.requires_grad for parameter in backbone.parameters())
    assert next(again.parameters()).abs().max() > 0
    assert opened.backbone()(torch.zeros(2, 1, 16, 16)).shape == (2, 32)


def test_features_are_those_of_embed(opened: Run, trained: Path, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "f.npz"), "--threads", "1", "--quiet"]
    assert command(["embed", str(trained), "--data", "digits", "--split", "test", *out]) == 0
    written = read_arrays(tmp_path / "f.npz")
    embeddings = opened.features("digits", split="test", threads=1)
    assert np.array_equal(np.asarray(embeddings), written["features"])
    assert (embeddings.names, len(embeddings)) == (written["names"].tolist(), 397)


def test_images_of_every_kind_have_the_features_of_their_file(
    opened: Run, pictures: np.ndarray, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(len(pictures))]
    for path, pixels in zip(paths, pictures, strict=True):
        Image.fromarray(pixels).save(path)
    expected = opened.features(tmp_path).features
    tensor = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    kinds: dict[str, Any] = {
        "files": paths,
        "names of files": [str(path) for path in paths],
        "images of Pillow": [Image.fromarray(pixels) for pixels in pictures],
        "grey images": [Image.fromarray(pixels[..., 0]) for pixels in pictures],
        "transparent ones": [Image.fromarray(pixels).convert("RGBA") for pixels in pictures],
        "an array": pictures,
        "a list of arrays": list(pictures),
        "grey arrays": [pixels[..., 0] for pixels in pictures],
        "a tensor": tensor,
        "a grey tensor": tensor[:, :1],
        "a generator": (Image.fromarray(pixels) for pixels in pictures),
    }
    for kind, images in kinds.items():
        assert np.array_equal(opened.features(images).features, expected), kind
    for single in (paths[2], str(paths[2]), Image.fromarray(pictures[2]), pictures[2], pictures[2, ..., 0]):
        assert np.allclose(opened.features(single).features, expected[2:3], rtol=1e-4, atol=1e-5)
    assert opened.features(paths).names == [str(path) for path in paths]
    turned = Image.fromarray(pictures[0]).rotate(90, expand=True)
    exif = turned.getexif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise: upright again
    turned.save(tmp_path / "turned.jpg", exif=exif, quality=100)
    with Image.open(tmp_path / "turned.jpg") as image:
        assert np.array_equal(opened.features(image).features, opened.features(tmp_path / "turned.jpg").features)


def test_a_floating_point_tensor_is_the_networks_input(opened: Run, pictures: np.ndarray) -> None:
    images = torch.randn(3, 1, 16, 16)
    with torch.no_grad():
        expected = opened.backbone()(images)
    assert np.allclose(opened.features(images.double()).features, expected, rtol=1e-4, atol=1e-5)
    for wrong in (torch.zeros(3, 3, 16, 16), torch.zeros(1, 16, 16), torch.zeros(2, 65, 16, 16, dtype=torch.uint8)):
        with pytest.raises(barlowctl.UserError, match="of shape"):
            opened.features(wrong)
    with pytest.raises(barlowctl.UserError, match="images of 5 bands, where images of 1 channel are taken"):
        opened.features(torch.zeros(2, 5, 16, 16, dtype=torch.uint8))
    for nothing in ([], [3], np.zeros((2, 4, 4, 7), np.uint8)):
        with pytest.raises(barlowctl.UserError):
            opened.features(nothing)


def test_a_probe_has_the_commands_numbers(
    opened: Run, trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folders = [tmp_path / "typed", tmp_path / "called"]
    arguments = ["--data", "digits", "--pixels", "--threads", "1", "--quiet"]
    assert command(["probe", str(trained), *arguments, "--out", str(folders[0])]) == 0
    capfd.readouterr()
    probed = opened.probe("digits", baselines=["pixels"], out=folders[1], threads=1)
    assert capfd.readouterr() == ("", "")
    typed, called = (json.loads((folder / "probe-digits.json").read_text()) for folder in folders)
    assert without_places(called) == without_places(typed)
    assert called["subject"] == str(trained)
    assert (probed.knn, probed.linear) == (typed["knn"]["top1"], typed["linear"]["top1"])
    assert probed.baselines["raw pixels"]["knn"] == typed["floors"][0]["knn"]
    assert probed.file == folders[1] / "probe-digits.json"
    assert probed.problems == ()


def without_places(values: Any) -> Any:
    """A result without times and places."""
    if isinstance(values, dict):
        left_out = ("cpu_seconds", "files", "file", "per_class", "lists", "folder")
        return {key: without_places(value) for key, value in values.items() if key not in left_out}
    return [without_places(value) for value in values] if isinstance(values, list) else values


def test_what_is_trained_can_be_interrupted_and_goes_on(opened: Run, tmp_path: Path) -> None:
    steps = list[int]()

    def interrupt(event: events.Event) -> None:
        if isinstance(event, events.StepDone):
            steps.append(event.step)
            if event.step == 2 and steps == [1, 2]:
                raise KeyboardInterrupt

    def measured() -> Probed:
        return opened.probe(
            "digits", measures=[], trained=["linear"], overrides={"epochs": 1}, out=tmp_path, on_event=interrupt
        )

    with pytest.raises(KeyboardInterrupt, match=r"stopped at step 2 of \d+; .*; the same call goes on") as raised:
        measured()
    assert raised.value.__suppress_context__
    assert measured().values["linear_paper"]["top1"] > 0
    assert steps[:3] == [1, 2, 3]
    assert len(steps) == len(set(steps))


def test_results_print_what_they_are_and_not_all_their_numbers(opened: Run, tmp_path: Path) -> None:
    embeddings = opened.features("digits", split="val")
    assert repr(embeddings) == f"Embeddings({len(embeddings)} x 32, 10 class names)"
    probed = opened.probe("digits", measures=["knn"], out=tmp_path / "probed")
    assert repr(probed) == f"Probed({opened.name!r}, knn={probed.knn:.2f}, file={str(probed.file)!r})"
    report = opened.export("timm", tmp_path / "weights.safetensors")
    assert repr(report) == f"ExportReport(path={report.path!r}, format='timm', max_abs_diff=0.0)"


@pytest.mark.parametrize("option", ["threads", "workers"])
def test_no_threads_are_refused_by_the_arguments_name(opened: Run, option: str) -> None:
    with pytest.raises(barlowctl.UserError, match=f"^{option} is 0") as raised:
        opened.features("digits", **{option: 0})
    assert raised.value.__notes__ == ["allowed: 1 or more"]


def test_names_of_measures_are_checked(opened: Run) -> None:
    with pytest.raises(barlowctl.UserError, match="measures has 'kmn', did you mean 'knn'") as raised:
        opened.probe(measures=["kmn"])
    assert raised.value.__notes__[0] == "allowed: knn, linear, lidar, layers"
    with pytest.raises(barlowctl.UserError, match="trained has 'semi'"):
        opened.probe(trained=["semi"])


def test_an_export_is_the_commands_and_can_be_opened(
    opened: Run, trained: Path, tmp_path: Path, pictures: np.ndarray
) -> None:
    file = tmp_path / "typed.safetensors"
    assert command(["export", str(trained), "--format", "hub", "--out", str(tmp_path / "typed"), "--quiet"]) == 0
    report = opened.export("hub", tmp_path / "called")
    typed, called = (sorted(folder.iterdir()) for folder in (tmp_path / "typed", tmp_path / "called"))
    assert [path.name for path in called] == [path.name for path in typed]
    assert report.max_abs_diff == 0.0
    weights, same = (load_file(paths[-1]) for paths in (typed, called))
    assert weights.keys() == same.keys()
    assert all(torch.equal(weights[key], same[key]) for key in weights)
    assert barlowctl.export(trained, out=file).path == file
    network = barlowctl.open_network(file)
    assert np.array_equal(barlowctl.features(network, pictures), barlowctl.features(trained, pictures))
    with pytest.raises(barlowctl.UserError, match="exists"):
        opened.export(out=file)
    assert barlowctl.export(trained).path.parent == trained


def test_all_formats_are_the_single_ones(
    opened: Run, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("barlowctl.exports.formats.onnx_file.PACKAGES", ("a_package_that_nobody_has",))
    folder = opened.export_all(tmp_path / "all")
    assert {"torchvision", "onnx"} <= folder.left_out.keys()
    paths = [report.path for report in folder.reports][:2]
    assert paths == [folder.path / f"{trained.name}-timm.safetensors", folder.path / f"{trained.name}-hub"]
    weights, same = load_file(paths[0]), load_file(opened.export("timm", tmp_path / "single.safetensors").path)
    assert weights.keys() == same.keys()
    assert all(torch.equal(weights[key], same[key]) for key in weights)
    with pytest.raises(barlowctl.UserError, match="all exists"):
        barlowctl.export_all(trained, tmp_path / "all")


def test_the_newest_run_is_taken_where_none_is_named(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BARLOWCTL_RUNS", str(tmp_path))
    with pytest.raises(barlowctl.UserError, match="no finished run"):
        barlowctl.load()
    shutil.copytree(trained, tmp_path / "mine")
    assert barlowctl.load().path == tmp_path / "mine"
    assert barlowctl.load("mine").path == tmp_path / "mine"


def test_a_timm_model_has_no_run(pictures: np.ndarray) -> None:
    network = barlowctl.open_network("resnet10t", overrides={"eval": {"resize": 64, "crop": 64}})
    assert barlowctl.features(network, pictures).features.shape == (5, 512)
    assert "random weights" in network.notes[0]
    with pytest.raises(barlowctl.UserError) as raised:
        network.probe()
    assert raised.value.__notes__[-1] == "next: name a data set, or a folder with train/ and test/, with data"


@pytest.mark.parametrize("name", ["probe", "features"])
def test_what_is_loaded_is_left_as_it_was(opened: Run, name: str, pictures: np.ndarray, tmp_path: Path) -> None:
    calls: dict[str, Callable[[], object]] = {
        "probe": lambda: opened.probe("digits", measures=["knn"], out=tmp_path),
        "features": lambda: opened.features(pictures),
    }
    torch.set_num_threads(2)
    before = torch.get_rng_state()
    calls[name]()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("method", "options"),
    [(Network.__init__, Showing), (Network.features, Extracting), (Network.probe, Probing)],
)
def test_a_function_takes_what_its_method_takes(method: Callable[..., object], options: Any) -> None:
    parameters = inspect.signature(method).parameters.values()
    named = {
        parameter.name: parameter.annotation for parameter in parameters if parameter.kind == parameter.KEYWORD_ONLY
    }
    assert named.keys() == options.__annotations__.keys()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run: run.probe("digits", baselines=["pixel"]), "baselines has 'pixel', did you mean 'pixels'"),
        (lambda run: run.probe("digits", seeds=0), "seeds is 0"),
        (lambda run: run.probe("digits", threads=0), "threads is 0"),
        (lambda run: run.features("digits", workers=-1), "workers is -1"),
        (lambda run: run.export("hubb"), "unknown export format 'hubb', did you mean 'hub'"),
    ],
)
def test_what_the_command_line_refuses_is_refused_here(
    opened: Run, call: Callable[[Run], object], message: str
) -> None:
    with pytest.raises(barlowctl.UserError, match=message):
        call(opened)


def test_at_an_image_that_cannot_be_read_the_advice_is_the_functions(opened: Run, tmp_path: Path) -> None:
    with pytest.raises(barlowctl.UserError, match="cannot be read") as raised:
        opened.features([tmp_path / "gone.png"])
    assert raised.value.__notes__ == ["next: on_unreadable='skip'"]


def test_a_run_is_taken_where_its_name_is(opened: Run, recipe: Path, tmp_path: Path) -> None:
    assert barlowctl.open_network(opened).subject.run is not None
    overrides = {"train.epochs": 1, "eval.bank": 200}
    begun = barlowctl.pretrain(recipe, init=opened, overrides=overrides, threads=1, out=tmp_path / "begun")
    assert Path(begun.recipe.init.weights).resolve() == opened.path.resolve()
