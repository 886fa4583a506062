"""Names and paths of data sets, and the command that brings a missing one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from barlowctl.data import home
from barlowctl.errors import UserError


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("BARLOWCTL_DATA", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def refused(*arguments: str) -> UserError:
    with pytest.raises(UserError) as caught:
        home.resolve(*arguments)
    return caught.value


def test_where_the_home_is(monkeypatch, tmp_path):
    monkeypatch.setenv("BARLOWCTL_DATA", "~/images")
    assert home.data_home() == Path.home() / "images"
    monkeypatch.delenv("BARLOWCTL_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert home.data_home() == tmp_path / "barlowctl" / "data"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert home.data_home() == Path.home() / ".cache" / "barlowctl" / "data"


def test_names_in_the_home(data):
    train, test = touch(data / "mine" / "train.beton"), touch(data / "mine" / "test.beton")
    touch(data / "mine" / ".val.beton.partial")
    assert home.resolve("mine") == train
    assert home.resolve("mine", "test") == test
    assert home.resolve("mine", "val") == test  # the one held-out part
    touch(data / "mine" / "val.beton")
    assert home.resolve("mine", "val") == data / "mine" / "val.beton"
    assert home.available() == {"mine": ["test", "train", "val"]}
    assert home.dataset_file("mine", "val") == data / "mine" / "val.beton"


def test_a_missing_data_set_names_the_command_that_brings_it(data):
    error = refused("fashion-mnist")
    assert str(data) in error.message
    assert error.next == "barlowctl data get fashion-mnist"
    assert "barlowctl data pack FOLDER imagenet --split val" in refused("imagenet", "val").next
    assert "barlowctl data pack FOLDER imagenet100" in refused("imagenet100").next
    assert refused("scans").next == "barlowctl data info"


def test_near_names_are_suggested(data):
    touch(data / "holiday-photos" / "train.beton")
    assert "did you mean 'fashion-mnist'?" in refused("fashion_mnist").message
    assert "did you mean 'holiday-photos'?" in refused("holidays-photo").message
    assert refused("zzz").allowed == "a path, or one of: holiday-photos"
    assert "did you mean" not in refused("imagenet").message


def test_a_missing_split_names_those_there_are(data):
    touch(data / "imagenet" / "train.beton")
    error = refused("imagenet", "val")
    assert "no val split" in error.message
    assert error.allowed == "it has train"
    assert "--split val" in error.next


def test_paths(data, tmp_path):
    file = touch(tmp_path / "a.beton")
    assert home.resolve(str(file)) == file
    assert home.resolve("a.beton", "val") == Path("a.beton")
    touch(tmp_path / "packed" / "train.beton")
    touch(tmp_path / "packed" / "val.beton")
    assert home.resolve("./packed", "test") == Path("packed/val.beton")
    assert "it has train, val" in refused("./packed", "unlabelled").allowed
    touch(tmp_path / "photos" / "cats" / "1.jpg")
    assert home.resolve(tmp_path / "photos") == tmp_path / "photos"
    assert home.resolve("photos") == Path("photos")  # a bare word that the home lacks
    assert "has no val split" in refused("photos", "val").message
    for part in ("train", "val"):
        touch(tmp_path / "imagenet-copy" / part / "n01" / "1.jpg")
    assert home.resolve("imagenet-copy", "val") == Path("imagenet-copy")
    assert "no unlabelled split" in refused("./imagenet-copy", "unlabelled").message


def test_the_home_comes_before_a_folder_of_the_same_name(data, tmp_path):
    touch(tmp_path / "mine" / "1.jpg")
    file = touch(data / "mine" / "train.beton")
    assert home.resolve("mine") == file
    assert home.resolve("./mine") == Path("mine")


def test_bad_paths(data, tmp_path):
    assert "does not exist" in refused("./none").message
    assert "barlowctl data pack" in refused(str(touch(tmp_path / "images.zip"))).next
    (tmp_path / "empty").mkdir()
    assert "no images" in refused("./empty").message
    for empty in ("", " "):
        assert "empty name" in refused(empty).message


def test_target_of_packing(data):
    assert home.target("my-photos") == data / "my-photos" / "train.beton"
    assert home.target("my-photos", "val") == data / "my-photos" / "val.beton"
    assert home.target("out.beton", "val") == Path("out.beton")
    assert home.target("~/x/out.beton") == Path.home() / "x" / "out.beton"
    for bad in ("some/folder", "./name", ".."):
        with pytest.raises(UserError, match="OUT is"):
            home.target(bad)
    for bad in ("", " x"):
        with pytest.raises(UserError, match="no name"):
            home.target(bad)
    with pytest.raises(UserError, match="did you mean 'train'"):
        home.target("name", "trian")


def test_a_packed_file_does_not_hide_the_images_beside_it(data, tmp_path):
    touch(tmp_path / "x/1.jpg")
    file = touch(tmp_path / "x/photos.beton")
    assert home.resolve("./x") == Path("x")
    (note,) = home.beside("./x", Path("x"))
    assert "the images in x are read, and not photos.beton" in note
    assert note.endswith("--data x/photos.beton")
    (tmp_path / "x/1.jpg").unlink()
    error = refused("./x")
    assert error.allowed == "photos.beton"
    assert error.next == "--data x/photos.beton"
    assert home.resolve(str(file)) == file
    assert home.beside(str(file), file) == []


def test_images_beside_a_packed_split_are_said(data, tmp_path):
    touch(tmp_path / "x/train.beton")
    touch(tmp_path / "x/val/a/1.jpg")
    touch(tmp_path / "x/train/a/1.jpg")
    assert home.resolve("./x") == Path("x/train.beton")
    (note,) = home.beside("./x", Path("x/train.beton"))
    assert note.endswith("barlowctl data pack x x/train.beton --overwrite")
    assert refused("./x", "val").next == "barlowctl data pack x x/val.beton --split val"


def test_a_packed_held_out_part_does_not_hide_the_photos_to_train_on(data, tmp_path):
    touch(tmp_path / "x/1.jpg")
    held_out = touch(tmp_path / "x/val.beton")
    assert home.resolve("./x") == Path("x")
    assert "val.beton" in home.beside("./x", Path("x"))[0]
    assert home.resolve("./x", "val") == held_out.relative_to(tmp_path)


def test_a_folder_of_the_name_that_the_home_has_is_said(data, tmp_path):
    file = touch(data / "mine" / "train.beton")
    assert home.beside("mine", home.resolve("mine")) == []
    touch(tmp_path / "mine" / "1.jpg")
    (note,) = home.beside("mine", home.resolve("mine"))
    assert str(file) in note
    assert note.endswith("./mine")


def test_a_pipe_is_not_opened(data, tmp_path):
    os.mkfifo(tmp_path / "live.beton")
    assert "a pipe" in refused("./live.beton").message


def test_a_list_or_an_archive_is_packed_first(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.jpg\n")
    error = refused(str(tmp_path / "list.txt"), "val")
    assert "packed first" in str(error.allowed)
    assert error.next == f"barlowctl data pack {tmp_path / 'list.txt'} list-val.beton --split val"
