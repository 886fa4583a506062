"""`barlowctl probe` on everything that can be probed, and what is trained on labels."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from barlowctl.cli.app import run as barlowctl

Captured = pytest.CaptureFixture[str]
SMALL = ["--set", "eval.resize=32", "--set", "eval.crop=32", "--threads", "1", "--json"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty training and six test images of two easy classes, named as ImageNet's."""
    random = np.random.default_rng(0)
    for split, count in (("train", 20), ("val", 6)):
        for label, name in enumerate(("n01", "n02")):
            (tmp_path / "tiny" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 120, (12, 14, 3)) + 130 * label
                Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "tiny" / split / name / f"{name}_{number}.png")
    return tmp_path / "tiny"


def measured(arguments: list[str], capsys: Captured) -> dict[str, Any]:
    code = barlowctl(["probe", *arguments])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    result: dict[str, Any] = json.loads(captured.out)
    return result


def test_a_timm_model_from_random_weights(folder: Path, recipe: Path, capsys: Captured) -> None:
    result = measured(["test_resnet", "--data", str(folder), "--random-init", *SMALL], capsys)
    assert result["kind"] == "random"
    assert result["features"] == 96
    assert result["floors"][0]["name"] == "random backbone"
    assert result["knn"]["top1"] == 100.0  # brightness alone tells them apart
    file = Path(result["file"])
    assert file.name == "probe-tiny.json"
    assert json.loads(file.read_text())["knn"] == result["knn"]
    per_class = (file.parent / "probe-tiny" / "linear-per-class.csv").read_text().splitlines()
    assert per_class[1:] == [f"n0{k},6,6,100.0000" for k in (1, 2)]


def test_an_export_measures_like_its_run(recipe: Path, trained: Path, tmp_path: Path, capsys: Captured) -> None:
    from barlowctl.eval.features import backbone_digest
    from barlowctl.measure.subjects import open_subject

    for format, name in (("timm", "backbone.safetensors"), ("hub", "folder")):
        assert barlowctl(["export", str(trained), "--format", format, "--out", str(tmp_path / name), "--quiet"]) == 0
        exported, original = open_subject(str(tmp_path / name)), open_subject(str(trained))
        assert backbone_digest(exported.backbone) == backbone_digest(original.backbone)
        assert exported.preprocessing == original.preprocessing
    capsys.readouterr()
    ours = measured([str(tmp_path / "backbone.safetensors"), "--data", "digits", "--threads", "1", "--json"], capsys)
    runs = measured([str(trained), "--knn", "--linear", "--threads", "1", "--json"], capsys)
    assert ours["knn"] == runs["knn"]
    assert ours["linear"] == runs["linear"]
    assert ours["kind"] == "export"


def test_the_authors_checkpoint(folder: Path, recipe: Path, tmp_path: Path, capsys: Captured) -> None:
    import timm

    state = timm.create_model("resnet18", num_classes=0).state_dict()
    torch.save(state, tmp_path / "resnet18.pth")
    result = measured([str(tmp_path / "resnet18.pth"), "--data", str(folder), "--knn", *SMALL], capsys)
    assert result["kind"] == "official"
    assert "linear" not in result
    assert result["architecture"] == "resnet18"


def test_one_key_one_meaning(folder: Path, recipe: Path, tmp_path: Path, capsys: Captured) -> None:
    """Whatever is overridden, a measurement keeps its key; a key has one type in every document."""
    shared = ["--data", str(folder), "--set", "epochs=1", "--set", "batch_size=8", *SMALL]
    moving = measured(["test_resnet", *shared, "--protocol", "both", "--set", "lr_backbone=0.01"], capsys)
    assert moving["linear"]["epochs"] == 30  # the fast classifier's, not that of the trained backbone
    assert moving["linear_paper"]["settings"]["lr_backbone"] == 0.01
    frozen = measured(["test_resnet", *shared, "--semi", "10", "--finetune", "--set", "lr_backbone=0"], capsys)
    assert "linear_paper" not in frozen
    assert (frozen["semi_10"]["images"], frozen["finetune"]["images"]) == (4, 40)

    assert (
        barlowctl(["export", "--from-official", str(official(tmp_path)), "--out", "mine.safetensors", "--quiet"]) == 0
    )
    export = measured(["mine.safetensors", "--data", str(folder), *SMALL], capsys)
    assert export["weights_file"] == "mine.safetensors"
    assert Path(export["file"]).suffix == ".json"
    assert export["provenance"]["source_file"] == "mine.safetensors"
    assert barlowctl(["transfer", "mine.safetensors", "--protocol", "paper", *shared, "--json"]) == 0
    transferred = json.loads(capsys.readouterr().out)
    assert transferred["protocol"] == transferred["measured"]["linear_paper"]["protocol"]
    kinds: dict[str, set[str]] = {}
    for document in (moving, frozen, export, transferred):
        document.pop("identity")  # compared as a whole; its parts are named for what they decide
        collect(document, kinds)
    kinds.pop("linear_paper", None)
    assert {key: types for key, types in kinds.items() if len(types) > 1} == {}
    assert kinds["protocol"] == {"str"}


def official(tmp_path: Path) -> Path:
    import timm

    torch.save(timm.create_model("resnet18", num_classes=0).state_dict(), tmp_path / "authors.pth")
    return tmp_path / "authors.pth"


def collect(value: object, kinds: dict[str, set[str]]) -> None:
    """Key -> the JSON types that it has anywhere in a document; a whole number is a number."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if inner is not None:
                kind = "number" if type(inner) in (int, float) else type(inner).__name__
                kinds.setdefault(key, set()).add(kind)
            collect(inner, kinds)
    elif isinstance(value, list):
        for inner in value:
            collect(inner, kinds)


def test_trained_protocols_repeat_and_are_kept(folder: Path, recipe: Path, capsys: Captured) -> None:
    """Linear (paper), 10 % and fine-tuning over two seeds; a second command reads back what was finished."""
    options = [
        "test_resnet",
        "--data",
        str(folder),
        "--seeds",
        "2",
        "--set",
        "epochs=1",
        "--set",
        "batch_size=8",
        *SMALL,
    ]
    result = measured([*options, "--protocol", "paper", "--semi", "10", "--finetune"], capsys)
    assert "knn" not in result
    assert "linear" not in result
    for key, images in (("linear_paper", 40), ("semi_10", 4), ("finetune", 40)):
        values = result[key]
        assert values["images"] == images
        assert [one["seed"] for one in values["seeds"]] == [0, 1]
        both = [one["top1"] for one in values["seeds"]]
        assert values["top1"] == pytest.approx(np.mean(both), abs=1e-3)
        assert values["top1_sd"] == pytest.approx(np.std(both, ddof=1), abs=1e-3)
        assert values["settings"]["epochs"] == 1
    first = Path(result["linear_paper"]["folder"])
    written = (first / "result.json").stat().st_mtime_ns
    lists = [Path(name).read_text().split() for name in result["semi_10"]["lists"]]
    assert lists[0] != lists[1]
    assert all(name.startswith(("n01_", "n02_")) for name in lists[0])

    again = measured([*options, "--protocol", "paper", "--knn"], capsys)
    assert again["linear_paper"]["seeds"] == result["linear_paper"]["seeds"]
    assert (first / "result.json").stat().st_mtime_ns == written
    document = json.loads(Path(again["file"]).read_text())
    assert document["semi_10"] == result["semi_10"]  # measured before, of the same network and images

    (first / "scores.safetensors").write_bytes(b"cut short")
    mended = measured([*options, "--protocol", "paper"], capsys)
    assert mended["linear_paper"]["seeds"] == result["linear_paper"]["seeds"]
    assert (first / "scores.safetensors").stat().st_size > 100


def test_a_stopped_linear_evaluation_goes_on(folder: Path, recipe: Path, tmp_path: Path) -> None:
    """Interrupted after the first epoch and continued, it scores as one that went through."""
    from barlowctl.assemble.labelled import open_labelled
    from barlowctl.assemble.machine import Runtime
    from barlowctl.errors import RunStopped
    from barlowctl.eval.features import backbone_digest
    from barlowctl.measure.classification import fit
    from barlowctl.measure.subjects import open_subject
    from barlowctl.recipe.protocol import PROTOCOLS, override

    subject = open_subject("test_resnet", overrides=["eval.resize=32", "eval.crop=32"])
    data, protocol = open_labelled(str(folder)), override(PROTOCOLS["linear"], ["epochs=3", "batch_size=16"])
    before = backbone_digest(subject.backbone)
    events: list[Any] = []

    def stop() -> bool:
        return sum(type(event).__name__ == "StepDone" for event in events) >= 4

    options: dict[str, Any] = {"seed": 0}
    with pytest.raises(RunStopped, match="stopped at step") as stopped:
        fit(subject, data, protocol, Runtime(), torch.device("cpu"), folder=tmp_path / "parts", emit=events.append,
            stop=stop, **options)  # fmt: skip
    assert stopped.value.next == "barlowctl ..."
    parts = fit(subject, data, protocol, Runtime(), torch.device("cpu"), folder=tmp_path / "parts", **options)
    whole = fit(subject, data, protocol, Runtime(), torch.device("cpu"), folder=tmp_path / "whole", **options)
    assert torch.equal(parts.scores, whole.scores)
    assert backbone_digest(subject.backbone) == before
    assert len((whole.folder / "metrics.jsonl").read_text().splitlines()) > 3


def test_a_classifier_that_diverges_is_explained(folder: Path, recipe: Path, capsys: Captured) -> None:
    """Its weights overflow in a step whose loss is still a number: the checkpoint after it is not written."""
    wild = ["--set", "epochs=20", "--set", "lr_head=1e6", "--set", "weight_decay=1e6"]
    assert barlowctl(["probe", "test_resnet", "--data", str(folder), "--protocol", "paper", *wild, *SMALL]) == 2
    error = capsys.readouterr().err
    assert re.search(
        r"^error: head\.\w+ and 2 others of the state of step \d are not finite, so the run stopped", error, re.M
    )
    assert "--set lr_head" in error


def test_semi_list_names_the_labelled_images(folder: Path, recipe: Path, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "1percent.txt").write_text("n01_3.png\nn02_4.png\nn02_5.png\n")
    options = ["test_resnet", "--data", str(folder), "--semi", "1", "--set", "epochs=1", *SMALL]
    result = measured([*options, "--semi-list", str(tmp_path / "1percent.txt")], capsys)
    assert result["semi_1"]["images"] == 3
    assert Path(result["semi_1"]["lists"][0]).read_text() == "n01_3.png\nn02_4.png\nn02_5.png\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["resnet10x", "--data", "tiny"], "did you mean 'resnet10t'"),
        (["resnet10t.nothing", "--data", "tiny"], "no weights 'nothing'"),
        (["test_resnet"], "with train/ and test/, with --data"),
        (["runs/none"], "does not exist"),
        (["test_resnet", "--data", "tiny", "--semi", "5"], "1 or 10"),
        (["test_resnet", "--data", "tiny", "--protocol", "papr"], "did you mean 'paper'"),
        (["test_resnet", "--data", "tiny", "--set", "epochs=1"], "--linear --protocol paper"),
        (["test_resnet", "--data", "tiny", "--finetune", "--set", "epoch=1"], "did you mean 'epochs'"),
        (
            ["test_resnet", "--data", "tiny", "--finetune", "--set", "epochs=0"],
            "a whole number from 1 to 2,147,483,647",
        ),
        (["test_resnet", "--data", "tiny", "--semi", "1", "--semi", "10", "--semi-list", "x"], "one subset"),
        (
            ["test_resnet", "--data", "tiny", "--semi", "10", "--semi", "1", "--semi-list", "10percent.txt"],
            "which of them is '10percent.txt'?\nallowed: a command for each, with its own list\n",
        ),
        (
            ["test_resnet", "--data", "tiny", "--semi", "10", "--semi", "1", "--semi-list", "10percent.txt"],
            " --semi-list 10percent.txt --semi 10\n",
        ),
    ],
)
def test_refusals(
    folder: Path, recipe: Path, tmp_path: Path, capsys: Captured, arguments: list[str], says: str
) -> None:
    assert barlowctl(["probe", *[str(folder) if word == "tiny" else word for word in arguments]]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error


def test_an_empty_class_and_a_foreign_file(folder: Path, recipe: Path, tmp_path: Path, capsys: Captured) -> None:
    for file in (folder / "train" / "n02").iterdir():
        file.unlink()
    assert barlowctl(["probe", "test_resnet", "--data", str(folder), *SMALL]) == 2
    assert "'n02', which the training set lacks" in capsys.readouterr().err
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    assert barlowctl(["probe", str(tmp_path / "foreign.safetensors"), "--data", str(folder)]) == 2
    assert "does not say which network" in capsys.readouterr().err


def test_a_file_of_another_kind_is_called_that(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "graph.onnx").touch()
    assert barlowctl(["probe", str(tmp_path / "graph.onnx"), "--data", "fashion-mnist"]) == 2
    error = capsys.readouterr().err
    assert "graph.onnx' is an ONNX file, a graph for other runtimes, of which no network is made here: name" in error
    assert "wrote in any format but onnx, " in error


@pytest.mark.parametrize("suffix", [".safetensors", pytest.param(".pth", marks=pytest.mark.slow)])
def test_a_state_dict_of_a_usual_network_is_measured(tmp_path: Path, suffix: str) -> None:
    """As `pretrain --init` takes it; the file does not say of which network it is."""
    import timm
    from safetensors.torch import save_file

    from barlowctl.errors import UserError
    from barlowctl.measure.subjects import open_subject

    network, path = timm.create_model("vit_tiny_patch16_224", num_classes=3).eval(), tmp_path / f"mine{suffix}"
    state = network.state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    subject, images = open_subject(str(path)), torch.rand(1, 3, 224, 224)
    assert (subject.name, subject.kind) == ("mine", "state dict")
    assert "recognised as timm's vit_tiny_patch16_224" in subject.notes[0]
    assert torch.equal(
        subject.backbone(images), network.forward_head(network.forward_features(images), pre_logits=True)
    )
    assert subject.preprocessing.crop == 224
    del state["norm.weight"]
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    with pytest.raises(UserError, match=r"does not say which network|is not one|keys"):
        open_subject(str(path))
