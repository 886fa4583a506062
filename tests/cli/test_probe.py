"""`barlowctl probe`: the numbers it writes, against scikit-learn, and its refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from barlowctl.cli.app import run as barlowctl

Captured = pytest.CaptureFixture[str]


def test_it_measures_the_run_and_the_baselines(recipe: Path, trained: Path, capsys: Captured) -> None:
    before = {path: path.read_bytes() for path in (trained / "checkpoints").rglob("*.safetensors")}
    code = barlowctl(["probe", str(trained), "--pixels", "--random-init", "--json", "--threads", "1"])
    assert code == 0
    result = json.loads(capsys.readouterr().out)
    assert {"top1", "k20", "k200"} <= set(result["knn"])
    assert result["knn"]["top1"] == result["knn"]["k20"]
    assert 30.0 < result["knn"]["top1"] <= 100.0
    assert result["linear"]["top1"] <= result["linear"]["top5"] <= 100.0
    assert 0.0 < result["correlation"]["mean_diagonal"] <= 1.0
    assert result["alpha"] > 0.0
    assert 1.0 < result["lidar"] < 64.0  # the width of the embeddings
    assert 1.0 < result["feature_lidar"] < 32.0
    assert 1.0 < result["rankme"] < 64.0
    for name in (
        "spectra.png",
        "correlation.png",
        "linear-confusion.png",
        "linear-per-class.csv",
        "linear-per-class.tex",
    ):
        assert (trained / "probe-digits" / name).is_file()
    assert [baseline["name"] for baseline in result["floors"]] == ["raw pixels", "random backbone"]
    assert json.loads((trained / "probe-digits.json").read_text()) == {k: v for k, v in result.items() if k != "file"}
    assert {path: path.read_bytes() for path in (trained / "checkpoints").rglob("*.safetensors")} == before


def test_the_pixel_baseline_is_scikit_learns_knn(recipe: Path, digits: Path, trained: Path, capsys: Captured) -> None:
    """Raw pixels at their own size (not the recipe's 16) through an independent kNN with the field's weights."""
    from sklearn.neighbors import KNeighborsClassifier

    from barlowctl.data.beton.reader import Beton

    def pixels(split: str) -> tuple[np.ndarray, np.ndarray]:
        beton = Beton.open(digits / "digits" / f"{split}.beton")
        images = np.stack([beton.image(i)[..., 0] for i in range(beton.num_samples)]).astype(np.float32)
        return images.reshape(len(images), -1), beton.labels

    (bank, labels), (queries, truth) = pixels("train"), pixels("test")
    oracle = KNeighborsClassifier(20, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07))
    expected = 100 * (oracle.fit(bank, labels).predict(queries) == truth).mean()
    assert barlowctl(["probe", str(trained), "--pixels", "--json", "--threads", "1"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["floors"][0]["knn"]["top1"] == pytest.approx(expected, abs=0.3)


@pytest.mark.parametrize(
    "command",
    [["probe"], ["export"], ["report"], ["transfer", "--task", "voc07"]]
    + [["embed", f"--{flag}"] for flag in ("out=f.npz", "out=f.parquet", "map=m.png", "patches=p.png", "neighbours=0")],
    ids=" ".join,
)
def test_where_no_run_is_torch_is_not_imported(tmp_path: Path, command: list[str]) -> None:
    program = f"import sys; from barlowctl.cli import app; print(app.run({command}), 'torch' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert printed.stdout.strip() == "2 False"
    assert "error: no finished run in '" in printed.stderr


def test_without_a_run_the_newest_finished_one_is_taken(
    recipe: Path, tmp_path: Path, trained: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert barlowctl(["probe"]) == 2
    assert "no finished run" in capsys.readouterr().err
    monkeypatch.setenv("BARLOWCTL_RUNS", str(trained.parent))
    assert barlowctl(["probe", "--threads", "1"]) == 0
    out = capsys.readouterr().out
    assert f"taking the newest finished one, {trained}" in out
    assert "kNN k 20" in out


@pytest.mark.parametrize(
    ("data", "says"), [("nowhere", "data get"), ("flat", "no test split"), ("digits/train.beton", "are the same")]
)
def test_data_that_cannot_be_probed_on_is_refused(
    recipe: Path, tmp_path: Path, digits: Path, trained: Path, capsys: Captured, data: str, says: str
) -> None:
    from PIL import Image

    (tmp_path / "flat").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "flat" / "a.png")
    path = {"nowhere": "cifar10", "flat": "./flat", "digits/train.beton": str(digits / data)}[data]
    assert barlowctl(["probe", str(trained), "--data", path]) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert "next: " in captured.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--set", "lr=3"], "unknown protocol value 'lr'"),
        (["--set", "eval.bank=100"], "'eval.bank' is of a training, and changes nothing here"),
        (["--set", "epochs=1"], "changes a protocol that is not asked for"),
        (["--semi", "1", "--semi-list", "nowhere.txt"], "the list 'nowhere.txt' cannot be read"),
        (["--semi", "1", "--semi-list", "digits.toml"], "no training image has that name"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is(
    recipe: Path, trained: Path, capsys: Captured, arguments: list[str], says: str
) -> None:
    assert barlowctl(["probe", str(trained), "--threads", "1", *arguments]) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert "probing" not in captured.out
    assert "images are resized to" not in captured.out


def test_a_bank_smaller_than_k_is_said_beside_the_number(
    recipe: Path, trained: Path, tmp_path: Path, capsys: Captured
) -> None:
    draw = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 4)):
        for name in ("a", "b", "c"):
            folder = tmp_path / "few" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(draw.integers(0, 255, (16, 16), dtype=np.uint8)).save(folder / f"{number}.png")
    arguments = [
        "probe",
        str(trained),
        "--data",
        str(tmp_path / "few"),
        "--out",
        str(tmp_path / "out"),
        "--threads",
        "1",
    ]
    assert barlowctl([*arguments, "--knn"]) == 0
    output = capsys.readouterr().out
    (row,) = [line.split() for line in output.splitlines() if "(k " in line]
    assert float(row[-4]) >= 0.0  # k 20 as it is, k 200 with the 36 images that there are
    assert row[-2:] == ["(k", "36)"]
    assert "note: kNN: k is 200 but the bank holds 36 samples: all of them vote" in output
    assert barlowctl([*arguments, "--linear"]) == 0
    assert "top-5 (of 3 classes: always 100)" in " ".join(capsys.readouterr().out.split())


def test_lidar_alone_needs_no_labels(trained: Path, recipe: Path, tmp_path: Path, capsys: Captured) -> None:
    """A pile of pictures, and classes without a test split."""
    rng = np.random.default_rng(0)
    pile, classes = tmp_path / "pile", tmp_path / "classes" / "train"
    pile.mkdir()
    for index in range(50):
        (classes / "ab"[index % 2]).mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8))
        image.save(pile / f"{index:02}.png")
        image.save(classes / "ab"[index % 2] / f"{index:02}.png")
    for data in (pile, classes.parent):
        command = ["probe", str(trained), "--data", str(data), "--lidar", "--json", "--threads", "1", "--out"]
        assert barlowctl([*command, str(tmp_path / f"of-{data.name}")]) == 0
        measured = json.loads(capsys.readouterr().out)
        assert list(measured["identity"]["images"]) == ["train"]
        assert measured["data"]["train"]["images"] == 50
        assert measured["data"]["classes"] == 0
        assert not {"knn", "linear"} & set(measured)
        for key in ("lidar", "feature_lidar", "rankme", "alpha", "effective_rank"):
            assert measured[key] > 0
    assert barlowctl(["probe", str(trained), "--data", str(pile), "--lidar", "--knn"]) == 2
    assert "is one folder of images and has no test" in capsys.readouterr().err
    (tmp_path / "one").mkdir()
    (pile / "00.png").rename(tmp_path / "one" / "00.png")
    assert barlowctl(["probe", str(trained), "--data", str(tmp_path / "one"), "--lidar"]) == 2
    assert "has one image, and a measurement needs at least 2" in capsys.readouterr().err
    assert barlowctl(["probe", str(trained), "--data", str(pile), "--lidar", "--out", str(tmp_path / "out")]) == 0
    assert "; spectra and correlation: " in capsys.readouterr().out.replace("\n", " ")


def test_lidar_of_what_is_no_run_is_refused(recipe: Path, capsys: Captured) -> None:
    for others in ((), ("--knn",)):
        assert barlowctl(["probe", "resnet10t", "--data", "digits", "--lidar", *others]) == 2
        assert "'resnet10t' is no run, and LiDAR is measured over" in capsys.readouterr().err
