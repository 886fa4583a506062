"""A measurement that cannot mean anything is not reported: online, by probe and in a study."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from barlowctl.cli.app import run as barlowctl
from tests.cli.conftest import RECIPE

Captured = pytest.CaptureFixture[str]
SHORT = ["--set", "train.batch_size=8", "--set", "train.epochs=1", "--threads", "1", "--json"]


def write_images(folder: Path, classes: str, each: int, seed: int = 0) -> Path:
    generator = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for index in range(each):
            Image.fromarray(generator.integers(0, 255, (12, 12, 3), dtype=np.uint8)).save(
                folder / name / f"{index}.png"
            )
    return folder


def trained_on(data: str, queries: str, capsys: Captured, *more: str) -> dict[str, object]:
    Path("r.toml").write_text(RECIPE.replace('"holdout"', f'"{queries}"').replace("holdout = 100", "holdout = 6"))
    capsys.readouterr()
    assert barlowctl(["pretrain", "--recipe", "r.toml", "--data", data, *SHORT, *more]) == 0
    result: dict[str, object] = json.loads(capsys.readouterr().out)
    return result


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_knn_of_one_class(tmp_path: Path, capsys: Captured) -> None:
    write_images(tmp_path / "x", "a", 20)
    result = trained_on("./x", "holdout", capsys)
    assert result["knn"] is None
    assert "of one class" in str(result["knn_reason"])


def test_class_numbers_of_another_list(tmp_path: Path, capsys: Captured) -> None:
    for split, classes, seed in (("train", "abc", 0), ("val", "ac", 1)):
        write_images(tmp_path / split, classes, 6, seed)
        assert barlowctl(["data", "pack", split, "mixed", "--split", split, "-q"]) == 0
    result = trained_on("mixed", "val", capsys)
    assert result["knn"] is None
    assert "number 1 is 'b' and 'c'" in str(result["knn_reason"])


def test_queries_that_are_the_training_images_under_another_name(tmp_path: Path, capsys: Captured) -> None:
    write_images(tmp_path / "d" / "train", "ab", 10)
    for file in (tmp_path / "d" / "train").rglob("*.png"):
        link = tmp_path / "d" / "val" / file.parent.name / f"other-{file.name}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    result = trained_on("./d", "val", capsys)
    assert result["knn"] is None
    assert "are the same" in str(result["knn_reason"])
    run = str(result["run"])
    assert barlowctl(["probe", run, "--knn"]) == 2
    assert "are the same" in capsys.readouterr().err


def test_queries_of_classes_that_the_bank_lacks_are_left_out(tmp_path: Path, capsys: Captured) -> None:
    """The bank of one image of each of two classes lacks the third; its queries would all be wrong."""
    write_images(tmp_path / "d" / "train", "abc", 8)
    write_images(tmp_path / "d" / "val", "abc", 4, seed=1)
    Path("r.toml").write_text(RECIPE.replace('"holdout"', '"val"').replace("holdout = 100", "holdout = 0"))
    command = ["pretrain", "--recipe", "r.toml", "--data", "./d", *SHORT, "--set", "eval.bank=2"]
    assert barlowctl(command) == 0
    captured = capsys.readouterr()
    assert "queries are left out, whose classes have no image among the 2 of the bank" in captured.err
    assert json.loads(captured.out)["knn"] in (0.0, 12.5, 25.0, 37.5, 50.0, 62.5, 75.0, 87.5, 100.0)  # of eight


def test_features_that_are_all_the_same(
    recipe: Path, trained: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    from barlowctl.assemble import finished

    real = finished.open_run

    def collapsed(path: Path) -> finished.FinishedRun:
        run = real(path)
        for module in run.method.backbone.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.zeros_(module.weight)
        return run

    monkeypatch.setattr("barlowctl.measure.subjects.open_run", collapsed)
    assert barlowctl(["probe", str(trained), "--json", "--threads", "1", "--out", str(tmp_path / "out")]) == 0
    result = json.loads(capsys.readouterr().out)
    for key in ("knn", "linear"):
        assert result[key]["top1"] is None
        assert "collapse" in result[key]["reason"]


def test_features_that_are_not_finite(
    recipe: Path, trained: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is reported, by probe and while a run trains, and the reason is said; the run goes on."""
    from barlowctl.assemble import evaluation, finished

    real, extract = finished.open_run, evaluation.extract_readable

    def overflown(path: Path) -> finished.FinishedRun:
        run = real(path)
        for module in run.method.backbone.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.constant_(module.weight, float("nan"))
        return run

    monkeypatch.setattr("barlowctl.measure.subjects.open_run", overflown)
    assert barlowctl(["probe", str(trained), "--json", "--threads", "1", "--out", str(tmp_path / "out")]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [result[key] for key in ("feature_spread", "effective_rank", "alpha")] == [None] * 3
    for key in ("knn", "linear"):
        assert (result[key]["top1"], "NaN" in result[key]["reason"]) == (None, True)

    def broken(*arguments: object, **options: object) -> object:
        extracted = extract(*arguments, **options)  # type: ignore[arg-type]
        extracted.features[0, 0] = float("inf")
        return extracted

    monkeypatch.setattr(evaluation, "extract_readable", broken)
    write_images(tmp_path / "x", "ab", 20)
    values = trained_on("./x", "holdout", capsys)
    assert (values["knn"], "NaN" in str(values["knn_reason"]), "effective_rank" in values) == (None, True, False)


def test_top_5_of_few_classes(tmp_path: Path, capsys: Captured) -> None:
    write_images(tmp_path / "d" / "train", "abc", 8)
    write_images(tmp_path / "d" / "test", "b", 4, seed=1)
    command = ["probe", "resnet10t", "--data", "d", "--seeds", "2", "--set", "eval.resize=16", "--set", "eval.crop=16"]
    assert barlowctl([*command, "--threads", "1", "--json", "--out", "o"]) == 0
    result = json.loads(capsys.readouterr().out)
    for key in ("knn", "linear"):
        assert 0.0 <= result[key]["top1"] <= 100.0
        assert result[key]["top5"] is None
        assert "3 classes" in result[key]["top5_reason"]
    assert [one["top5"] for one in result["linear"]["seeds"]] == [None, None]
    assert "one class, number 1" in result["notes"][0]


def test_classes_of_one_image_have_neighbours_and_no_linear_classifier(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        (tmp_path / "pics" / split).mkdir(parents=True)
        for number in range(6):
            pixels = generator.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pics" / split / f"{number}.png")
        table = "file_name,label\n" + "".join(f"{number}.png,c{number}\n" for number in range(6))
        (tmp_path / "pics" / split / "labels.csv").write_text(table)
    arguments = ["--data", str(tmp_path / "pics"), "--out", str(tmp_path / "out"), "--threads", "1", "--json"]
    assert barlowctl(["probe", str(trained), "--knn", "--linear", "--layers", *arguments]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["knn"]["top1"] is not None
    assert (result["linear"]["top1"], "no class has two" in result["linear"]["reason"]) == (None, True)
