"""Images that cannot be read: never another one in their place where something is measured, and rows that stay true."""

from __future__ import annotations

import json
import pickle
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from barlowctl.cli.app import run as barlowctl
from barlowctl.data.images.unreadable import UnreadableImage, advise_skipping
from barlowctl.data.loaders import plain
from tests.arrays import read_arrays

Captured = pytest.CaptureFixture[str]
BAD = ("dark/3.png", "light/6.png")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Sixteen grey squares in two classes, of distinct shades; two of them cannot be read."""
    for index in range(16):
        name = f"{('dark', 'light')[index >= 5]}/{index}.png"
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 16), 12 * index, np.uint8)).save(path)
        if name in BAD:
            path.write_bytes(path.read_bytes()[:40])
    return tmp_path / "photos"


def result(capsys: Captured, *arguments: object, code: int = 0) -> dict[str, Any]:
    assert barlowctl([*map(str, arguments), "--json"]) == code
    parsed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return parsed


@pytest.fixture
def replacing(trained: Path, tmp_path: Path) -> Path:
    """The finished run, whose recipe goes on past unreadable images."""
    import shutil

    run = tmp_path / "replacing"
    shutil.copytree(trained, run)
    text = (run / "recipe.toml").read_text()
    assert 'on_unreadable = "raise"' in text
    (run / "recipe.toml").write_text(text.replace('on_unreadable = "raise"', 'on_unreadable = "replace"'))
    return run


@pytest.mark.parametrize("packed", [False, True])
def test_embed_names_what_it_leaves_out(
    trained: Path, recipe: Path, photos: Path, capsys: Captured, packed: bool
) -> None:
    error = result(capsys, "embed", trained, photos, "--out", "x.npz", "--threads", 1, code=2)
    assert "dark/3.png cannot be read" in error["error"]
    assert not Path("x.npz").exists()
    again = shlex.split(error["next"])
    assert again[0] == "barlowctl"
    assert again[-2:] == ["--on-unreadable", "skip"]
    assert barlowctl(again[1:]) == 0  # what is advised works as it stands
    document = json.loads(capsys.readouterr().out)
    assert document["count"] == 14
    assert [one["name"] for one in document["unreadable"]] == list(BAD)
    saved = read_arrays("x.npz")
    names = saved["names"].tolist()
    assert names == sorted(names, key=lambda name: name.split("/"))
    assert not set(BAD) & set(names)
    assert len(names) == 14
    assert saved["labels"].tolist() == [int(name.startswith("light")) for name in names]
    assert json.loads(json.loads(str(saved["facts"]))["unreadable"]) == list(BAD)
    if packed:  # the names come back from the packed file, row by row
        assert barlowctl(["data", "pack", str(photos), "./packed.beton", "--quiet"]) == 0
        capsys.readouterr()
        assert result(capsys, "data", "info", "packed.beton")["names"] is True
        result(capsys, "embed", trained, "packed.beton", "--out", "packed.npz", "--threads", 1)
        other = read_arrays("packed.npz")
        assert other["names"].tolist() == names
        np.testing.assert_allclose(other["features"], saved["features"], rtol=1e-4, atol=1e-5)


def test_a_recipe_that_replaces_while_training_measures_no_other_image(
    replacing: Path, recipe: Path, photos: Path, capsys: Captured
) -> None:
    stopped = ("--on-unreadable", "stop")
    error = result(capsys, "embed", replacing, photos, "--out", "x.npz", "--threads", 1, *stopped, code=2)
    assert "dark/3.png cannot be read" in error["error"]
    document = result(capsys, "embed", replacing, photos, "--out", "x.npz", "--threads", 1)
    assert [one["name"] for one in document["unreadable"]] == list(BAD)
    saved = read_arrays("x.npz")
    assert saved["names"].tolist() == names_of(photos)  # a row per image: row i is image i
    assert saved["labels"].tolist() == [int(name.startswith("light")) for name in saved["names"]]
    read = np.array([name not in BAD for name in saved["names"]])
    assert np.isnan(saved["features"][~read]).all()
    result(capsys, "embed", replacing, photos, "--out", "left-out.npz", "--threads", 1, "--on-unreadable", "skip")
    for name in BAD:
        (photos / name).unlink()
    result(capsys, "embed", replacing, photos, "--out", "without.npz", "--threads", 1)
    without, left_out = read_arrays("without.npz"), read_arrays("left-out.npz")
    assert saved["names"][read].tolist() == without["names"].tolist() == left_out["names"].tolist()
    np.testing.assert_array_equal(saved["features"][read], without["features"])
    np.testing.assert_array_equal(left_out["features"], without["features"])


def test_neighbours_after_a_hole_are_the_right_ones(
    trained: Path, recipe: Path, photos: Path, capsys: Captured
) -> None:
    skip = ("--on-unreadable", "skip", "--threads", 1)
    document = result(capsys, "embed", trained, photos, "-n", "light/7.png", "-n", 15, "--top", 13, *skip)
    for one in document["neighbours"]:
        assert len({near["name"] for near in one["neighbours"]}) == 13
    positions = [str(i) for i, name in enumerate(names_of(photos)) if name == "light/9.png"]
    by_position, by_name = (
        result(capsys, "embed", trained, photos, "-n", query, "--top", 3, *skip)["neighbours"][0]["neighbours"]
        for query in (positions[0], "light/9.png")
    )
    assert by_position == by_name
    for hole in (str(names_of(photos).index("dark/3.png")), "dark/3.png"):
        assert "cannot be read" in result(capsys, "embed", trained, photos, "-n", hole, *skip, code=2)["error"]


def names_of(photos: Path) -> list[str]:
    from barlowctl.data.sources import open_source

    source = open_source(photos)
    return [source.describe(i)[0] for i in range(len(source))]


def test_transfer_and_probe_keep_labels_with_their_images(
    trained: Path, recipe: Path, photos: Path, tmp_path: Path, capsys: Captured
) -> None:
    import shutil

    data = tmp_path / "splits"
    shutil.copytree(photos, data / "train")
    shutil.copytree(photos, data / "test")
    for index in set(range(16)) - {3, 6}:
        path = data / "test" / f"{('dark', 'light')[index >= 5]}/{index}.png"
        Image.fromarray(np.full((16, 16), 12 * index + 3, np.uint8)).save(path)
    for command in ("transfer", "probe"):
        arguments = (command, trained, "--data", data, "--out", tmp_path / "results", "--threads", 1)
        error = result(capsys, *arguments, code=2)
        assert "dark/3.png cannot be read" in error["error"]
        again = shlex.split(error["next"])
        assert barlowctl(again[1:]) == 0
        document = json.loads(capsys.readouterr().out)
        assert {(one["split"], one["name"]) for one in document["unreadable"]} == {
            (split, name) for split in ("train", "test") for name in BAD
        }
    trains = ("--protocol", "paper", "--set", "epochs=1", "--on-unreadable", "skip", "--out", tmp_path / "paper")
    for _ in range(2):  # trained, then read back
        found_by_paper = result(capsys, "transfer", trained, "--data", data, "--threads", 1, *trains)
        assert {(one["split"], one["name"]) for one in found_by_paper["unreadable"]} == {
            (split, name) for split in ("train", "test") for name in BAD
        }
    for name in BAD:
        (data / "train" / name).unlink()
        (data / "test" / name).unlink()
    arguments = ("probe", trained, "--data", data, "--out", tmp_path / "without", "--threads", 1)
    assert document["knn"] == result(capsys, *arguments)["knn"]


def test_simclrs_lists_work_on_a_packed_file(photos: Path, tmp_path: Path) -> None:
    from barlowctl.assemble.labelled import image_names
    from barlowctl.data.beton.reader import Beton
    from barlowctl.eval.subsets import read_list

    assert barlowctl(["data", "pack", str(photos), str(tmp_path / "x.beton"), "--quiet"]) == 0
    names = image_names(Beton.open(tmp_path / "x.beton"), "train")
    (tmp_path / "list.txt").write_text("7.png\ndark/1.png\n")
    assert [names[i] for i in read_list(tmp_path / "list.txt", names).tolist()] == ["dark/1.png", "light/7.png"]


def test_the_recipes_words_mean_the_same(trained: Path, recipe: Path, photos: Path, capsys: Captured) -> None:
    arguments = ("embed", trained, photos, "--out", "x.npz", "--threads", 1)
    document = result(capsys, *arguments, "--set", "data.on_unreadable=replace")
    assert (document["count"], len(document["unreadable"])) == (14, 2)
    assert result(capsys, *arguments, "--on-unreadable", "leave", code=2)["allowed"] == "stop, skip"


def test_preview_shows_no_other_image_in_its_place(recipe: Path, photos: Path, capsys: Captured) -> None:
    arguments = ("data", "preview", "--recipe", recipe, "--data", photos, "--out", "p.png", "--samples", 16)
    assert "3.png cannot be read" in result(capsys, *arguments, code=2)["error"]
    document = result(capsys, *arguments, "--set", "data.on_unreadable=replace")
    assert document["samples"] == 14
    assert [one["name"] for one in document["unreadable"]] == list(BAD)


def test_a_run_that_replaces_measures_the_others(recipe: Path, photos: Path, capsys: Captured, tmp_path: Path) -> None:
    changes = ["train.epochs=1", "train.batch_size=7", "data.holdout=0", "data.on_unreadable=replace"]
    changes += ["eval.queries=off", "train.warmup_epochs=0", "data.drop_last=false"]
    settings = [part for change in changes for part in ("--set", change)]
    run = tmp_path / "a-run"
    arguments = ["pretrain", "--recipe", recipe, "--data", photos, "--out", run, "--threads", 1, *settings]
    assert barlowctl([*map(str, arguments)]) == 0
    output = capsys.readouterr().out
    for name in BAD:
        assert f"not measured, it cannot be read: {name}" in output
    assert "replaced: 2 (dark/3.png, light/6.png)" in output


def test_nothing_readable_is_an_error_without_that_advice(
    trained: Path, recipe: Path, tmp_path: Path, capsys: Captured
) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / "bad").mkdir(exist_ok=True)
        (tmp_path / "bad" / name).write_bytes(b"no picture")
    arguments = ("embed", trained, tmp_path / "bad", "--out", "x.npz", "--on-unreadable", "skip", "--threads", 1)
    error = result(capsys, *arguments, code=2)
    assert "a.png cannot be read" in error["error"]
    assert "--on-unreadable" not in error["next"]


def test_what_an_image_lacks_is_advised_before_leaving_it_out(trained: Path, recipe: Path, capsys: Captured) -> None:
    Path("deep").mkdir()
    Image.fromarray(np.linspace(0, 2.5, 400).reshape(20, 20).astype(np.float32)).save("deep/a.tif")
    error = result(capsys, "embed", trained, "deep", "--out", "x.npz", "--threads", 1, code=2)
    lacking, skipping = error["next"].splitlines()
    assert "--set data.range=0:2.5" in lacking
    assert skipping.endswith("--on-unreadable skip")
    assert barlowctl(shlex.split(lacking)[1:]) == 0


def test_a_run_that_met_one_goes_on_past_it(recipe: Path, photos: Path, capsys: Captured, tmp_path: Path) -> None:
    """What it has learned is not lost: it was told of a new run with that setting, which began at random."""
    changes = ["train.epochs=2", "train.batch_size=4", "data.holdout=0", "eval.queries=off", "train.warmup_epochs=0"]
    settings = [part for change in changes for part in ("--set", change)]
    run = tmp_path / "met-one"
    stopped = result(
        capsys, "pretrain", "--recipe", recipe, "--data", photos, "--out", run, "--threads", 1, *settings, code=2
    )
    assert "cannot be read" in stopped["error"]
    assert "; the state of step " in stopped["error"]
    on = f"barlowctl pretrain --resume {run} --threads 1 --set data.on_unreadable=replace"
    assert stopped["next"] == on
    finished = result(capsys, *shlex.split(on)[1:])
    assert finished["steps"] == 8
    about = (run / "notices.jsonl").read_text()
    assert "data.on_unreadable is replace until this process ends, and raise in the run's recipe.toml" in about


def test_a_folder_that_is_gone_has_to_come_back(
    recipe: Path, photos: Path, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaving its images out, each of them, was what the advice said: nothing of it can be read."""
    run, calls = tmp_path / "run", list[str]()
    elsewhere = photos.with_name("elsewhere")
    decode = plain.decode_picture

    def until_it_is_gone(data: bytes, conversion: Any) -> Any:
        calls.append("")
        if len(calls) == 20:
            photos.rename(elsewhere)
        return decode(data, conversion)

    for name in ("3.png", "6.png"):  # which cannot be read
        next(photos.rglob(name)).unlink()
    changes = ["train.epochs=2", "train.batch_size=4", "data.holdout=0", "eval.queries=off", "train.warmup_epochs=0"]
    settings = [part for change in changes for part in ("--set", change)]
    words = ["pretrain", "--recipe", recipe, "--data", photos, "--out", run, "--threads", 1, "--workers", 1, *settings]
    with monkeypatch.context() as patch:
        patch.setattr(plain, "decode_picture", until_it_is_gone)
        stopped = result(capsys, *words, code=2)
    assert f"{photos}: " in stopped["error"]
    assert "cannot be read: nothing is there any more; the state of step " in stopped["error"]
    back, on = stopped["next"].splitlines()
    assert back == "put the images back where they were, then go on"
    assert on == f"barlowctl pretrain --resume {run} --threads 1 --workers 1"
    elsewhere.rename(photos)
    assert result(capsys, *shlex.split(on)[1:])["steps"] > 0


def test_of_a_source_that_is_gone_nothing_is_left_out(tmp_path: Path) -> None:
    error = FileNotFoundError(2, "No such file or directory")
    with pytest.raises(UnreadableImage) as raised, advise_skipping("raise"):
        raise UnreadableImage.of(tmp_path / "gone", "a.png", error, is_gone=True)
    assert raised.value.is_gone
    assert raised.value.next == "put the images back where they were, then go on"
    assert pickle.loads(pickle.dumps(raised.value)).is_gone
    with pytest.raises(UnreadableImage) as raised, advise_skipping("raise"):
        raise UnreadableImage.of(tmp_path, "a.png", error)
    assert not raised.value.is_gone
    assert raised.value.next == "--on-unreadable skip"
