"""`barlowctl embed --patches`: maps of whole images as a file, and the picture of their components."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from barlowctl.cli.app import run as barlowctl
from barlowctl.measure import patch_features
from barlowctl.measure.patch_features import LARGEST_BATCH, open_patch_features
from barlowctl.measure.subjects import open_subject
from tests.arrays import read_arrays

Captured = pytest.CaptureFixture[str]
SIZES = {"square": (64, 64), "tall": (96, 64), "wide": (64, 120)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Images of three shapes, in two folders."""
    for number, (name, size) in enumerate(SIZES.items()):
        for shade in ("dark", "light"):
            pixels = np.random.default_rng(number).integers(0, 120, (*size, 3)) + 100 * (shade == "light")
            path = tmp_path / "photos" / shade / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    return tmp_path / "photos"


def embed(arguments: list[str], capsys: Captured) -> dict[str, Any]:
    code = barlowctl(["embed", *arguments, "--threads", "1", "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    result: dict[str, Any] = json.loads(captured.out)
    return result


def test_maps_of_whole_images_are_timms(photos: Path, recipe: Path, capsys: Captured) -> None:
    words = ["--patches", "maps.safetensors", "--image-size", "64", "--layer", "2"]
    result = embed(["test_resnet", str(photos), *words], capsys)
    assert result["files"] == ["maps.safetensors"]
    assert "features" not in result  # nobody asked for one vector an image
    about = result["patches"]
    assert (about["layer"], about["layer_name"], about["channels"], about["stride"]) == (2, "layer2", 48, 8)
    subject = open_subject("test_resnet")
    tensors = load_file("maps.safetensors")
    names = bytes(tensors["names"].tolist()).decode().split("\n")
    assert sorted(names) == sorted(f"{shade}/{name}.png" for name in SIZES for shade in ("dark", "light"))
    for row, name in enumerate(names):
        height, width = SIZES[Path(name).stem]
        assert tensors["sizes"][row].tolist() == [height, width]  # the shorter side is 64 already
        assert tensors["labels"][row] == (0 if name.startswith("dark") else 1)
        with Image.open(photos / name) as picture:
            pixels = torch.from_numpy(np.array(picture))[None]
        with torch.no_grad():
            images = subject.preprocessing.normalization()(pixels)
            expected = subject.backbone.forward_intermediates(images, indices=[2], intermediates_only=True)[0]
        ours = tensors[f"maps/{name}"]
        assert ours.shape == (48, height // 8, width // 8)
        torch.testing.assert_close(ours, expected[0], rtol=1e-5, atol=1e-6)
    with safe_open("maps.safetensors", "pt") as file:
        metadata = file.metadata()
    assert (metadata["network"], metadata["stride"], metadata["image_size"]) == ("test_resnet", "8", "64")
    assert json.loads(metadata["class_names"]) == ["dark", "light"]


def test_a_transformer_keeps_the_aspect_in_whole_patches(photos: Path, recipe: Path, capsys: Captured) -> None:
    result = embed(["vit_tiny_patch16_224", str(photos), "--patches", "maps.safetensors", "--image-size", "64"], capsys)
    assert result["patches"]["whole_images"]
    tensors = load_file("maps.safetensors")
    shapes = {Path(key).stem: tuple(value.shape) for key, value in tensors.items() if key.startswith("maps/")}
    assert shapes == {"square": (192, 4, 4), "tall": (192, 6, 4), "wide": (192, 4, 8)}  # 120 pixels: 7.5 patches


def test_at_its_own_size_a_transformer_gives_what_it_gives_without_resampling(photos: Path, recipe: Path) -> None:
    from barlowctl.assemble.data import open_images
    from barlowctl.assemble.machine import Runtime

    subject = open_subject("vit_tiny_patch16_224")
    features = open_patch_features(subject, open_images(str(photos)), "train", Runtime("cpu", 1))
    assert features.maps.any_size
    position = features.names.index("dark/square.png")
    (image,) = features.each([position])
    with torch.no_grad():
        pixels = subject.preprocessing.normalization()(torch.from_numpy(image.pixels)[None])
        tokens = subject.backbone.forward_features(pixels)
    assert torch.equal(torch.from_numpy(image.map).flatten(1).T, tokens[0, 1:])


def test_what_is_drawn_comes_in_the_order_of_the_images(photos: Path, recipe: Path) -> None:
    """Though those of one size are computed together."""
    from barlowctl.assemble.data import open_images
    from barlowctl.assemble.machine import Runtime
    from barlowctl.measure.patch_maps import extract_maps

    source = open_images(str(photos))
    features = open_patch_features(open_subject("test_resnet"), source, "train", Runtime("cpu", 1), image_size=32)
    computed = [image.position for image in features.each(range(6))]
    assert computed != sorted(computed)
    drawn = extract_maps(features, None, drawn=6, metadata={}, advance=lambda: None)
    assert [image.position for image in drawn] == [0, 1, 2, 3, 4, 5]


def test_a_network_of_one_size_gets_the_centre(photos: Path, recipe: Path, capsys: Captured) -> None:
    code = barlowctl(
        ["embed", "maxvit_nano_rw_256", str(photos), "--patches", "p.png", "--patches-images", "1", "--threads", "1"]
    )
    captured = capsys.readouterr()
    assert code == 0, captured.err
    assert "their centre cut out: the network takes squares of that size only" in captured.err + captured.out


def test_the_picture_shows_images_beside_their_components(trained: Path, recipe: Path, capsys: Captured) -> None:
    words = ["--split", "test", "--patches", "patches.png", "--patches-images", "4", "--layer", "1"]
    result = embed([str(trained), *words, "--image-size", "32"], capsys)
    assert result["files"] == ["patches.png"]
    assert 0 < result["patches"]["explained"][0] <= 1
    with Image.open("patches.png") as picture:
        assert picture.width > 6 * 168  # three pairs in a row, and two rows
        assert 2 * 168 < picture.height < 3 * 168
        drawn = np.array(picture.convert("RGB"))
    right_half = drawn[8 : 8 + 168, 8 + 176 : 8 + 176 + 168]  # colours of the first image's patches
    assert len(np.unique(right_half.reshape(-1, 3), axis=0)) > 3
    before = Path("patches.png").read_bytes()
    embed([str(trained), *words, "--image-size", "32"], capsys)  # the same again takes its own place
    assert barlowctl(["embed", str(trained), *words, "--image-size", "48", "--threads", "1"]) == 2
    assert "is not overwritten" in capsys.readouterr().err
    assert Path("patches.png").read_bytes() == before


def test_maps_and_features_in_one_command(trained: Path, recipe: Path, photos: Path, capsys: Captured) -> None:
    words = ["--patches", "m.safetensors", "--patches", "m.png", "--out", "f.npz"]
    result = embed([str(trained), str(photos), *words], capsys)
    assert sorted(result["files"]) == ["f.npz", "m.png", "m.safetensors"]
    assert result["features"] == 32
    assert result["patches"]["channels"] == 32
    pooled = read_arrays("f.npz")["features"][0]
    assert pooled.shape == (32,)


def test_images_are_not_held_in_memory(
    photos: Path, recipe: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are: what is read ahead of what is written is bounded."""
    from barlowctl.eval.map_file import MapFile

    for number in range(3 * LARGEST_BATCH):
        Image.new("RGB", (16, 16 + number % 5), (number, 0, 0)).save(photos / "dark" / f"{number}.png")
    read: list[int] = []
    most: list[int] = []
    reads, adds = patch_features.PatchFeatures._read, MapFile.add
    added: list[str] = []

    def reading(self: Any, position: int) -> np.ndarray:
        read.append(position)
        return reads(self, position)

    def adding(self: Any, name: str, map: np.ndarray) -> None:
        added.append(name)
        most.append(len(read) - len(added))
        adds(self, name, map)

    monkeypatch.setattr(patch_features.PatchFeatures, "_read", reading)
    monkeypatch.setattr(MapFile, "add", adding)
    embed(["test_resnet", str(photos), "--patches", "m.safetensors", "--image-size", "16", "--layer", "0"], capsys)
    assert len(added) == 3 * LARGEST_BATCH + 6
    assert max(most) <= 3 * LARGEST_BATCH  # a group that waits, and what is read ahead


def test_unreadable_images_are_left_out_and_named(photos: Path, recipe: Path, capsys: Captured) -> None:
    (photos / "dark" / "square.png").write_bytes(b"no image")
    words = ["test_resnet", str(photos), "--patches", "m.safetensors", "--image-size", "32"]
    assert barlowctl(["embed", *words, "--threads", "1"]) == 2
    assert "square.png" in capsys.readouterr().err
    assert not Path("m.safetensors").exists()
    result = embed([*words, "--on-unreadable", "skip"], capsys)
    assert [problem["name"] for problem in result["unreadable"]] == ["dark/square.png"]
    with safe_open("m.safetensors", "np") as file:
        assert json.loads(file.metadata()["unreadable"]) == ["dark/square.png"]
        assert "maps/dark/square.png" not in file.keys()  # noqa: SIM118


@pytest.mark.parametrize("files", [["m.png"], ["m.png", "m.safetensors"]])
def test_another_image_is_drawn_where_none_of_those_chosen_can_be_read(
    photos: Path, recipe: Path, capsys: Captured, files: list[str]
) -> None:
    (photos / "dark" / "square.png").write_bytes(b"no image")  # the first, which one drawn image would be
    words = ["test_resnet", str(photos), "--image-size", "32", "--layer", "1", "--patches-images", "1"]
    paths = [word for file in files for word in ("--patches", file)]
    embed([*words, *paths, "--on-unreadable", "skip"], capsys)
    (photos / "dark" / "square.png").unlink()
    embed([*words, "--patches", "without.png"], capsys)
    with Image.open("m.png") as drawn, Image.open("without.png") as without:
        assert np.array_equal(np.array(drawn), np.array(without))  # the first that can be read


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--patches", "maps.npz"], "ends in .safetensors (the maps) or .png"),
        (["--patches", "a.png", "--patches", "b.png"], "twice for files of one kind"),
        (["--out", "f.npz", "--layer", "2"], "--layer 2 is of --patches"),
        (["--out", "f.npz", "--image-size", "64"], "--image-size 64 is of --patches"),
        (["--patches", "p.png", "--layer", "7"], "0 (act1), 1 (layer1)"),
        (["--patches", "there.safetensors"], "exists and is not overwritten"),
        ([], "at least one of --out, --neighbours, --map, --patches"),
    ],
)
def test_refusals(photos: Path, recipe: Path, capsys: Captured, words: list[str], says: str) -> None:
    Path("there.safetensors").touch()
    assert barlowctl(["embed", "test_resnet", str(photos), *words, "--threads", "1"]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error


def test_no_room_on_the_disk_is_said_before_all_is_computed(
    photos: Path, recipe: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    from barlowctl.measure import patch_maps

    monkeypatch.setattr(patch_maps, "free_bytes", lambda folder: 1000)
    words = ["--patches", "m.safetensors", "--image-size", "32", "--threads", "1"]
    assert barlowctl(["embed", "test_resnet", str(photos), *words]) == 2
    assert "GB of maps, and the disk has 0.0 GB left" in capsys.readouterr().err
    assert not list(Path().glob("*m.safetensors*"))


def test_maps_too_coarse_to_show_where_something_is_are_named(photos: Path, recipe: Path, capsys: Captured) -> None:
    words = ["embed", "test_resnet", "--data", str(photos), "--threads", "1", "--image-size", "64", "--patches"]
    assert barlowctl([*words, "coarse.png"]) == 0  # stride 32
    assert "note: maps have 2 places along the shorter side; --image-size 256 or an earlier" in capsys.readouterr().out
    assert barlowctl([*words, "fine.png", "--layer", "1"]) == 0  # stride 4
    assert "note: maps have" not in capsys.readouterr().out
