"""`barlowctl export` from a run: what it prints loads the file, and refusals leave nothing behind."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from barlowctl.assemble.model import preprocessing_of
from barlowctl.cli.app import run as barlowctl

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize("format", ["timm", "hub"])
def test_the_printed_python_loads_the_runs_features(
    recipe: Path, tmp_path: Path, trained: Path, capsys: Captured, format: str
) -> None:
    from barlowctl.assemble.finished import open_run

    target = tmp_path / "exported"
    assert barlowctl(["export", str(trained), "--format", format, "--out", str(target), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["format"] == format
    assert result["max_abs_diff"] <= 1e-5
    assert Path(result["path"]).exists()
    loaded: dict[str, torch.nn.Module] = {}
    exec(result["python"], loaded)
    images = torch.rand(3, 1, 16, 16)
    expected = open_run(trained).method.backbone.eval()(images)
    torch.testing.assert_close(loaded["model"].eval()(images), expected)


def test_a_graph_for_onnx_runtime(recipe: Path, tmp_path: Path, trained: Path, capsys: Captured) -> None:
    from barlowctl.assemble.finished import open_run

    pytest.importorskip("onnxruntime")
    arguments = ["--format", "onnx", "--with-preprocessing", "--precision", "fp16", "--out", str(tmp_path / "m.onnx")]
    assert barlowctl(["export", str(trained), *arguments, "--json"]) == 0
    output = capsys.readouterr()
    result = json.loads(output.out)
    assert (result["path"], result["fine_tuning"]) == (str(tmp_path / "m.onnx"), "")
    assert 1e-6 < result["max_abs_diff"] < 2e-2, "float16 is not float32"
    assert "opset 18, fp16" in output.err
    loaded: dict[str, Any] = {}
    exec(result["python"], loaded)
    run = open_run(trained)
    pixels = torch.randint(0, 256, (3, 16, 16, 1), dtype=torch.uint8)
    expected = run.method.backbone.eval()(preprocessing_of(run.recipe).normalization()(pixels))
    torch.testing.assert_close(torch.from_numpy(loaded["model"](pixels.numpy())), expected, rtol=0, atol=2e-2)
    facts = loaded["session"].get_modelmeta().custom_metadata_map
    assert (facts["run"], facts["precision"]) == (trained.name, "fp16")


def test_all_formats_go_into_one_folder_and_the_others_say_why(
    recipe: Path, tmp_path: Path, trained: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("barlowctl.exports.formats.onnx_file.PACKAGES", ("a_package_that_nobody_has",))
    assert barlowctl(["export", str(trained), "--all", "--out", "all", "--json"]) == 0
    output = capsys.readouterr()
    result = json.loads(output.out)
    assert result["path"] == "all"
    assert [entry["format"] for entry in result["formats"]][:2] == ["timm", "hub"]
    assert "no model with the keys of 'resnet10t'" in result["left_out"]["torchvision"]
    assert "a_package_that_nobody_has, which is not installed" in result["left_out"]["onnx"]
    assert "  onnx: not written: format 'onnx' needs the packages" in output.err
    assert {Path(file).parts[0] for entry in result["formats"] for file in entry["files"]} == {"all"}
    images = torch.rand(3, 1, 16, 16)
    features = []
    for entry in result["formats"][:2]:
        loaded: dict[str, Any] = {}
        exec(entry["python"], loaded)
        features.append(loaded["model"](images))
    torch.testing.assert_close(*features)
    assert barlowctl(["export", str(trained), "--all", "--out", "all"]) == 2
    assert "next: barlowctl export" in capsys.readouterr().err


def test_the_projector_comes_along_when_asked_for(
    recipe: Path, tmp_path: Path, trained: Path, capsys: Captured
) -> None:
    from safetensors.torch import load_file

    arguments = ["--out", str(tmp_path / "m.safetensors"), "--with-projector", "--json"]
    assert barlowctl(["export", str(trained), *arguments]) == 0
    files = [Path(file) for file in json.loads(capsys.readouterr().out)["files"]]
    shapes = {tuple(tensor.shape) for file in files for tensor in load_file(file).values()}
    assert (64, 64) in shapes  # the projector's last layer


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--format", "tim"], "did you mean 'timm'"),
        (["--format", "torchvision"], "resnet50"),
        (["--precision", "fp16"], "--precision with --format onnx"),
        (["--format", "hub", "--with-preprocessing"], "--with-preprocessing with --format onnx"),
        (["--from-official", "x.pth"], "exclude each other"),
        (["--all", "--format", "hub"], "--all writes every format"),
    ],
)
def test_bad_input_is_refused(
    recipe: Path, tmp_path: Path, trained: Path, capsys: Captured, arguments: list[str], says: str
) -> None:
    before = sorted([*tmp_path.iterdir(), *trained.iterdir()])
    assert barlowctl(["export", str(trained), *arguments]) == 2
    message = capsys.readouterr().err
    assert says in message
    assert "next: " in message
    assert sorted([*tmp_path.iterdir(), *trained.iterdir()]) == before


def test_an_existing_file_is_kept(recipe: Path, tmp_path: Path, trained: Path, capsys: Captured) -> None:
    target = tmp_path / "mine.safetensors"
    target.write_bytes(b"precious")
    assert barlowctl(["export", str(trained), "--out", str(target)]) == 2
    assert "mine.safetensors" in capsys.readouterr().err
    assert target.read_bytes() == b"precious"


def test_the_authors_files_are_converted(recipe: Path, tmp_path: Path, capsys: Captured) -> None:
    from torchvision.models import resnet50

    state = {key: value for key, value in resnet50().state_dict().items() if not key.startswith("fc.")}
    torch.save(state, tmp_path / "resnet50.pth")
    arguments = ["--from-official", "resnet50.pth", "--format", "torchvision", "--out", "tv.safetensors", "--json"]
    assert barlowctl(["export", *arguments]) == 0
    assert json.loads(capsys.readouterr().out)["max_abs_diff"] <= 1e-4
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.pth")
    assert barlowctl(["export", "--from-official", "other.pth"]) == 2
    assert "weights" in capsys.readouterr().err


def test_a_run_whose_recipe_is_another_networks_names_the_weights(
    trained: Path, tmp_path: Path, capsys: Captured
) -> None:
    shutil.copytree(trained, tmp_path / "run")
    recipe = tmp_path / "run" / "recipe.toml"
    text = recipe.read_text()
    width = re.search(r"projector = \[\s*64,\s*64,?\s*\]", text)
    assert width is not None
    recipe.write_text(text.replace(width[0], "projector = [64, 32]"))
    assert barlowctl(["export", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "do not fit the run's recipe: the file has projector" in error
    assert "64 x 64 instead of 32 x 64" in error


@pytest.mark.parametrize(
    ("broken", "arguments", "says"),
    [
        ("safetensors", ["--format", "timm", "--with-projector"], "reads back as other weights"),
        ("timm", ["--format", "hub"], "from config.json, written was"),
    ],
)
def test_what_does_not_read_back_as_written_is_refused(
    broken: str,
    arguments: list[str],
    says: str,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if broken == "safetensors":
        from barlowctl.exports import writer

        real = writer.load_file
        monkeypatch.setattr(writer, "load_file", lambda path: {key: value + 1 for key, value in real(path).items()})
    else:
        import timm.data.config

        resolved = timm.data.config.resolve_model_data_config
        monkeypatch.setattr(
            timm.data.config, "resolve_model_data_config", lambda model: {**resolved(model), "crop_pct": 0.5}
        )
    out = tmp_path / ("e.safetensors" if broken == "safetensors" else "e")
    assert barlowctl(["export", str(trained), *arguments, "--out", str(out)]) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.glob("*e*")) == []
