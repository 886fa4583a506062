"""A run keeps its images: whose they are after a move, and what is said when they changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from barlowctl.cli.app import run as barlowctl
from barlowctl.train import checkpoint
from tests.cli.conftest import RECIPE

Captured = pytest.CaptureFixture[str]
TINY = ["--set", "train.batch_size=8", "--set", "data.holdout=0", "--set", "eval.every_epochs=0", "--threads", "1"]


def write_images(folder: Path, count: int, seed: int = 0) -> None:
    """Small photographs in two class folders."""
    generator = np.random.default_rng(seed)
    for index in range(count):
        path = folder / "ab"[index % 2] / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (12, 12, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def trained_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> Path:
    """A folder with photos/ (16 training and 4 validation images) and `run`, trained on them and made unfinished."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "photos" / "train", 16)
    write_images(tmp_path / "photos" / "val", 4, seed=1)
    (tmp_path / "r.toml").write_text(RECIPE.replace('"holdout"', '"off"').replace("epochs = 2", "epochs = 1"))
    assert barlowctl(["pretrain", "--recipe", "r.toml", "--data", "photos", "--out", "run", *TINY, "-q"]) == 0
    (tmp_path / "run" / "result.json").unlink()
    capsys.readouterr()
    return tmp_path


def test_a_run_is_resumed_from_anywhere_without_naming_its_images(
    trained_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    data = json.loads((trained_run / "run" / "run.json").read_text())["data"]
    assert data["dataset"] == str(trained_run / "photos")
    assert data["fingerprint"]["images"] == data["images"] == 16
    (trained_run / "elsewhere").mkdir()
    monkeypatch.chdir(trained_run / "elsewhere")
    (trained_run / "run").rename(trained_run / "moved")
    assert barlowctl(["pretrain", "--resume", "../moved", "--threads", "1"]) == 0
    assert f"{trained_run / 'photos' / 'train'}: 16 images" in capsys.readouterr().out
    assert barlowctl(["probe", "../moved", "--knn", "--json", "--threads", "1"]) == 0
    test = json.loads(capsys.readouterr().out)["data"]["test"]
    assert test == {**test, "path": str(trained_run / "photos" / "val"), "images": 4}


def test_changed_images_are_refused_with_what_changed(trained_run: Path, capsys: Captured) -> None:
    train = trained_run / "photos" / "train"
    write_images(trained_run / "more", 2, seed=5)
    (trained_run / "more" / "a" / "00.png").rename(train / "a" / "new.png")
    (train / "b" / "01.png").unlink()
    Image.new("RGB", (12, 12)).save(train / "b" / "03.png")
    assert barlowctl(["pretrain", "--resume", "run", "--threads", "1"]) == 2
    says = capsys.readouterr().err
    assert "16 images then, 16 now; 1 more (a/new.png); 1 gone (b/01.png); sizes of 1 differ (b/03.png)" in says
    command = says.split("next: barlowctl ")[1].splitlines()[0].split()  # works as it stands: a run on these images
    assert barlowctl([*command, "--out", "anew", "--threads", "1", "-q"]) == 0
    assert json.loads(Path("anew/run.json").read_text())["recipe"]["init"]["weights"] == str(trained_run / "run")
    shutil.rmtree(trained_run / "run" / "checkpoints")
    assert barlowctl(["pretrain", "--resume", "run", "--threads", "1"]) == 2
    assert "--init" not in capsys.readouterr().err


def test_a_run_whose_checkpoints_are_damaged_begins_anew_on_its_own_images(trained_run: Path, capsys: Captured) -> None:
    """Its recipe may name others: those were given by --data."""
    run = trained_run / "run"
    for file in (run / "checkpoints").glob("*/model.safetensors"):
        file.write_bytes(b"cut short")
    assert barlowctl(["pretrain", "--resume", "run", "--threads", "1"]) == 2
    images = json.loads((run / "run.json").read_text())["data"]["dataset"]
    advice = capsys.readouterr().err.split("next: ")[1].strip()
    assert advice == f"barlowctl pretrain --recipe run/recipe.toml --data {images}"
    (run / "run.json").write_text('{"data": ')
    assert checkpoint._begin_again(run) == f"barlowctl pretrain --recipe {run}/recipe.toml"


def test_the_same_images_elsewhere_are_taken_and_remembered(trained_run: Path, capsys: Captured) -> None:
    (trained_run / "photos").rename(trained_run / "pictures")
    for command in (["pretrain", "--resume", "run"], ["probe", "run"]):
        assert barlowctl([*command, "--threads", "1"]) == 2
        says = capsys.readouterr().err
        assert "the same 16 images, wherever they lie now" in says
        assert "name the folder or data set that holds them with --data" in says.split("next: ")[1]
    (trained_run / "link").symlink_to(trained_run / "pictures")
    assert barlowctl(["pretrain", "--resume", "run", "--data", "link", "--threads", "1", "-q"]) == 0
    assert json.loads((trained_run / "run" / "run.json").read_text())["data"]["dataset"] == str(trained_run / "link")


def test_other_pictures_of_the_same_names_and_sizes_are_seen(trained_run: Path, capsys: Captured) -> None:
    for file in (trained_run / "photos" / "train").rglob("*.png"):
        content = bytearray(file.read_bytes())
        content[-20] ^= 1
        file.write_bytes(content)
    assert barlowctl(["pretrain", "--resume", "run", "--threads", "1"]) == 2
    assert "other pictures under the same names and sizes" in capsys.readouterr().err


def test_a_data_set_packed_anew_with_other_images_is_refused(trained_run: Path, capsys: Captured) -> None:
    assert barlowctl(["data", "pack", "photos", "flowers", "-q"]) == 0
    assert barlowctl(["pretrain", "--recipe", "r.toml", "--data", "flowers", "--out", "b", *TINY, "-q"]) == 0
    (trained_run / "b" / "result.json").unlink()
    assert json.loads((trained_run / "b" / "run.json").read_text())["data"]["dataset"] == "flowers"
    write_images(trained_run / "other" / "train", 12, seed=3)
    assert barlowctl(["data", "pack", "other", "flowers", "--overwrite", "-q"]) == 0
    capsys.readouterr()
    assert barlowctl(["pretrain", "--resume", "b", "--threads", "1"]) == 2
    assert "16 images then, 12 now; content hash" in capsys.readouterr().err


def test_a_run_of_an_earlier_version_goes_on_and_says_what_it_cannot_know(trained_run: Path, capsys: Captured) -> None:
    file = trained_run / "run" / "run.json"
    about = json.loads(file.read_text())
    about["data"] = {"path": "photos/train", "images": 16, "content_hash": None}
    file.write_text(json.dumps(about))
    (trained_run / "run" / "images.txt.gz").unlink()
    shutil.copytree(trained_run / "run", trained_run / "again")
    assert barlowctl(["pretrain", "--resume", "run", "--threads", "1"]) == 0
    assert "noted no names and sizes" in capsys.readouterr().out
    known = json.loads(file.read_text())["data"]  # from now on
    assert known["fingerprint"]["images"] == 16
    assert known["dataset"] == str(trained_run / "photos")  # with its other splits, for the online kNN
    (trained_run / "photos" / "train" / "a" / "00.png").unlink()
    assert barlowctl(["pretrain", "--resume", "again", "--threads", "1"]) == 2
    assert "16 images then, 15 now" in capsys.readouterr().err


def test_what_is_measured_on_changed_images_says_so(trained_run: Path, capsys: Captured) -> None:
    (trained_run / "photos" / "train" / "a" / "00.png").unlink()
    assert barlowctl(["probe", "run", "--knn", "--json", "--threads", "1"]) == 0
    captured = capsys.readouterr()
    note = "these are not the images that the run was trained on: 16 images then, 15 now; 1 gone (a/00.png)"
    assert json.loads(captured.out)["notes"] == [note]
    assert note in captured.err
    assert barlowctl(["embed", "run", "photos", "--out", "f.npz", "--json", "--threads", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == [note]


def test_a_slurm_job_takes_the_images_that_were_meant(
    trained_run: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may start in another folder; a name of the data home stays one, also beside a folder of that name."""
    monkeypatch.setenv("HOME", str(trained_run))
    assert barlowctl(["data", "pack", "photos", "flowers", "-q"]) == 0
    (trained_run / "flowers").mkdir()
    for given, meant in (
        ("photos", trained_run / "photos"),
        ("~/photos", trained_run / "photos"),
        ("flowers", "flowers"),
    ):
        capsys.readouterr()
        assert barlowctl(["pretrain", "--recipe", "r.toml", "--data", given, "--print-sbatch", *TINY]) == 0
        assert f"--data {meant} " in capsys.readouterr().out
    assert barlowctl(["pretrain", "--resume", "run", "--print-sbatch"]) == 0
    assert f"--data {trained_run / 'photos'} " in capsys.readouterr().out


def test_a_preview_of_a_runs_recipe_shows_its_images(trained_run: Path, capsys: Captured) -> None:
    assert barlowctl(["data", "preview", "--recipe", "run/recipe.toml", "--samples", "1"]) == 0
    assert f"1 image of {trained_run / 'photos' / 'train'}" in capsys.readouterr().out


def test_runs_of_other_images_are_told_apart(trained_run: Path, capsys: Captured) -> None:
    write_images(trained_run / "photos" / "train", 17)
    assert barlowctl(["pretrain", "--recipe", "r.toml", "--data", "photos", "--out", "b", *TINY, "-q"]) == 0
    capsys.readouterr()
    assert barlowctl(["runs", "compare", "run", "b", "run", "--json"]) == 0
    changes = [run["changes"] for run in json.loads(capsys.readouterr().out)["runs"]]
    assert list(changes[0]) == []
    assert changes[1]["images"].startswith("17 others")
    assert barlowctl(["report", "run", "b", "--out", "r.html", "--no-images"]) == 0
    assert "17 images, " in Path("r.html").read_text()


def test_queries_that_changed_are_said(trained_run: Path, capsys: Captured) -> None:
    command = ["pretrain", "--recipe", "r.toml", "--data", "photos", "--out", "v", *TINY, "-q"]
    assert barlowctl([*command, "--set", "eval.queries=val", "--set", "eval.every_epochs=1"]) == 0
    (trained_run / "v" / "result.json").unlink()
    (trained_run / "photos" / "val" / "a" / "00.png").unlink()
    capsys.readouterr()
    assert barlowctl(["pretrain", "--resume", "v", "--threads", "1"]) == 0
    assert "the online kNN asks about other images than before (4 then, 3 now)" in capsys.readouterr().out


@pytest.mark.parametrize("given", ["photos/train", "flowers/train.beton"])
def test_a_run_on_one_split_is_measured_with_the_other_beside_it(
    trained_run: Path, capsys: Captured, given: str
) -> None:
    for split in ("train", "val"):
        assert barlowctl(["data", "pack", "photos", f"flowers/{split}.beton", "--split", split, "-q"]) == 0
    assert barlowctl(["pretrain", "--recipe", "r.toml", "--data", f"./{given}", "--out", "s", *TINY, "-q"]) == 0
    capsys.readouterr()
    assert barlowctl(["probe", "s", "--knn", "--json", "--threads", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["test"]["images"] == 4


def test_images_without_a_label_are_no_change(trained_run: Path, capsys: Captured) -> None:
    """They are left out of a measurement of the run's images, which are still those it was trained on."""
    lines = [f"{file}\t{file.parent.name}" for file in sorted((trained_run / "photos" / "train").rglob("*.png"))]
    lines[3] = lines[3].split("\t")[0] + "\t"
    for split, rows in (("train", lines), ("test", sorted((trained_run / "photos" / "val").rglob("*.png")))):
        text = [str(row) if split == "train" else f"{row}\t{row.parent.name}" for row in rows]
        (trained_run / f"{split}.tsv").write_text("\n".join(text) + "\n")
        assert barlowctl(["data", "pack", f"{split}.tsv", "part", "--split", split, "-q"]) == 0
    assert barlowctl(["pretrain", "--recipe", "r.toml", "--data", "part", "--out", "p", *TINY, "-q"]) == 0
    capsys.readouterr()
    assert barlowctl(["probe", "p", "--knn", "--json", "--threads", "1"]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert any("1 of 16 training images have no label" in note for note in notes)
    assert not any("trained on" in note for note in notes)
