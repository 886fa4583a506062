"""Results are kept by what they are of: never overwritten by, or mixed with, those of something else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from barlowctl.cli.app import run as barlowctl

Captured = pytest.CaptureFixture[str]
SMALL = ["--set", "eval.resize=16", "--set", "eval.crop=16", "--threads", "1"]


def write_images(folder: Path, seed: int) -> Path:
    """Twelve training and six test images of two classes."""
    generator = np.random.default_rng(seed)
    for split, each in (("train", 6), ("test", 3)):
        for name in "ab":
            (folder / split / name).mkdir(parents=True)
            for index in range(each):
                pixels = generator.integers(0, 255, (12, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{index}.png")
    return folder


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "flowers-1.0", 0)


def probe(*arguments: str, capsys: Captured) -> dict[str, Any]:
    """What the command wrote into its file."""
    assert barlowctl(["probe", *SMALL, *arguments, "--json", "-o", "o"]) == 0
    result: dict[str, Any] = json.loads(Path(json.loads(capsys.readouterr().out)["file"]).read_text())
    return result


def files() -> list[str]:
    return sorted(file.name for file in Path("o").glob("*.json"))


def test_names_are_whole_and_other_images_have_their_own_file(tmp_path: Path, capsys: Captured) -> None:
    first = probe("test_resnet", "--data", "flowers-1.0", "--knn", capsys=capsys)
    write_images(tmp_path / "flowers-1.1", 1)
    probe("test_resnet", "--data", "./flowers-1.1/", "--knn", capsys=capsys)
    assert files() == ["probe-flowers-1.0.json", "probe-flowers-1.1.json"]
    shutil.rmtree("flowers-1.0")
    write_images(tmp_path / "flowers-1.0", 2)  # other images of the same name
    other = probe("test_resnet", "--data", "flowers-1.0", "--knn", capsys=capsys)
    assert files()[:2] == ["probe-flowers-1.0-" + other["identity"]["key"] + ".json", "probe-flowers-1.0.json"]
    assert json.loads(Path("o/probe-flowers-1.0.json").read_text()) == first


def test_a_measurement_is_completed_and_one_of_another_geometry_is_not_mixed_in(capsys: Captured) -> None:
    data = ["test_resnet", "--data", "flowers-1.0"]
    probe(*data, "--knn", "--pixels", capsys=capsys)
    both = probe(*data, "--linear", "--pixels", capsys=capsys)
    assert {"knn", "linear"} <= set(both)
    assert {"knn", "linear"} <= set(both["floors"][0])
    assert (both["resize"], both["crop"]) == (16, 16)
    assert files() == ["probe-flowers-1.0.json"]
    other = probe(*data, "--knn", "--set", "eval.resize=20", capsys=capsys)
    assert "linear" not in other
    assert other["resize"] == 20
    assert len(files()) == 2
    again = probe(*data, "--linear", "--set", "eval.resize=20", capsys=capsys)
    assert {"knn", "linear"} <= set(again)
    assert len(files()) == 2


def test_other_weights_under_the_same_name(recipe: Path, trained: Path, tmp_path: Path, capsys: Captured) -> None:
    shutil.copytree(trained, tmp_path / "run")
    first = probe("run", "--knn", capsys=capsys)
    state = next((tmp_path / "run").glob("checkpoints/step-*"))
    shutil.rmtree(state)  # the checkpoint before
    second = probe("run", "--linear", capsys=capsys)
    assert first["step"] != second["step"]
    assert "knn" not in second
    assert json.loads((tmp_path / "o" / "probe-digits.json").read_text())["step"] == first["step"]


def test_a_result_of_an_earlier_version_stays(capsys: Captured) -> None:
    Path("o").mkdir()
    Path("o/probe-flowers-1.0.json").write_text('{"knn": {"top1": 1.0}}')
    assert "top1" in probe("test_resnet", "--data", "flowers-1.0", "--linear", capsys=capsys)["linear"]
    assert Path("o/probe-flowers-1.0.json").read_text() == '{"knn": {"top1": 1.0}}'


def test_training_of_a_classifier_goes_on_with_the_same_images_only(tmp_path: Path, capsys: Captured) -> None:
    """Changed images of the same place and number begin anew; a moved folder of the same images does not."""
    command = ["test_resnet", "--data", "flowers-1.0", "--protocol", "paper", "--set", "epochs=1"]
    first = probe(*command, capsys=capsys)["linear_paper"]["folder"]
    assert probe(*command, capsys=capsys)["linear_paper"]["folder"] == first
    Image.new("RGB", (12, 12)).save("flowers-1.0/train/a/0.png")
    assert probe(*command, capsys=capsys)["linear_paper"]["folder"] != first


def test_transfers_of_two_protocols_and_folders_stand_beside_one_another(tmp_path: Path, capsys: Captured) -> None:
    write_images(tmp_path / "other", 3)
    command = ["transfer", "test_resnet", *SMALL, "--json", "-o", "o", "--data"]
    for more in (["flowers-1.0"], ["other"], ["flowers-1.0", "--protocol", "paper", "--set", "epochs=1"]):
        assert barlowctl([*command, *more]) == 0
    capsys.readouterr()
    assert len(files()) == 3
    assert barlowctl([*command, "other"]) == 0
    assert len(files()) == 3


def test_results_of_another_protocol_stand_beside_the_first(capsys: Captured) -> None:
    command = ["test_resnet", "--data", "flowers-1.0", "--linear", "--protocol", "paper", "--set", "batch_size=8"]
    one = probe(*command, "--set", "epochs=1", capsys=capsys)
    two = probe(*command, "--set", "epochs=2", capsys=capsys)
    epochs = {json.loads(file.read_text())["linear_paper"]["settings"]["epochs"] for file in Path("o").glob("*.json")}
    assert (len(files()), epochs) == (2, {1, 2})
    assert one["linear_paper"]["folder"] != two["linear_paper"]["folder"]
    probe(*command, "--set", "epochs=1", capsys=capsys)  # the first again, in its own file
    assert len(files()) == 2


def test_a_mean_over_seeds_is_not_replaced_by_one_of_them(capsys: Captured) -> None:
    command = ["test_resnet", "--data", "flowers-1.0", "--linear"]
    several = probe(*command, "--seeds", "2", capsys=capsys)
    probe(*command, capsys=capsys)
    assert json.loads(Path("o/probe-flowers-1.0.json").read_text()) == several
    assert len(files()) == 2
