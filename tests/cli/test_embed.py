"""`barlowctl embed`: what other tools read, neighbours, and the map."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from barlowctl.cli.app import run as barlowctl
from barlowctl.cli.console import Console
from barlowctl.data.names import as_found
from barlowctl.measure import embedding
from tests.arrays import read_arrays

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve images of three shades, two of them with a name that HTML must not believe."""
    for index in range(12):
        shade, name = index % 3, ("dark", "grey", "light")[index % 3]
        pixels = np.random.default_rng(index).integers(0, 40, (20, 24)) + 100 * shade
        path = tmp_path / "photos" / name / f"{name}_{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    light = tmp_path / "photos" / "light"
    (light / "light_2.png").rename(light / "light_2<script>alert(1)<!--.png")
    return tmp_path / "photos"


def embed(arguments: list[str], capsys: Captured) -> dict[str, Any]:
    code = barlowctl(["embed", *arguments, "--threads", "1", "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    result: dict[str, Any] = json.loads(captured.out)
    return result


def test_the_three_formats_hold_the_same(trained: Path, recipe: Path, photos: Path, capsys: Captured) -> None:
    import pyarrow.parquet
    import torch

    from barlowctl.assemble.data import open_recipe_images
    from barlowctl.assemble.evaluation import extract
    from barlowctl.assemble.finished import open_run
    from barlowctl.assemble.machine import Runtime
    from barlowctl.assemble.model import preprocessing_of

    for name in ("x.parquet", "x.npz", "x.safetensors"):
        assert embed([str(trained), str(photos), "--out", name], capsys)["files"] == [name]
    opened = open_run(trained)
    source = open_recipe_images(opened.recipe, "train", str(photos))
    expected, labels = extract(
        opened.method.backbone, source, preprocessing_of(opened.recipe), Runtime("cpu", 1), torch.device("cpu")
    )
    table = pyarrow.parquet.read_table("x.parquet")
    features = np.array(table["features"].to_pylist(), dtype=np.float32)
    np.testing.assert_allclose(features, expected.numpy(), rtol=1e-5, atol=1e-6)
    assert table["label"].to_pylist() == labels.tolist()
    assert table["class"].to_pylist()[:4] == ["dark"] * 4
    names = table["name"].to_pylist()
    assert names[0] == "dark/dark_0.png"
    assert json.loads(table.schema.metadata[b"barlowctl"])["network"] == "digits"
    archive = read_arrays("x.npz")
    np.testing.assert_array_equal(archive["features"], features)
    assert archive["names"].tolist() == names
    tensors = load_file("x.safetensors")
    np.testing.assert_array_equal(tensors["features"], features)
    assert tensors["names"].tobytes().decode().split("\n") == names


def test_names_that_are_no_plain_text_keep_their_rows(
    trained: Path, recipe: Path, photos: Path, capsys: Captured
) -> None:
    """Not UTF-8, or with a line break: one line each, the same text in every format, and back to the file."""
    import pyarrow.parquet

    dark = photos / "dark"
    odd = {"dark_0.png": b"caf\xe9.png", "dark_3.png": b"two\nlines.png", "dark_6.png": b"tab\t,'\".png"}
    for name, other in odd.items():
        os.rename(dark / name, os.fsencode(dark) + b"/" + other)
    os.rename(dark, photos / os.fsdecode(b"d\xe4rk"))
    for out in ("x.parquet", "x.npz", "x.safetensors"):
        result = embed([str(trained), str(photos), "--out", out, "-n", r"d\xe4rk/caf\xe9.png"], capsys)
    names = pyarrow.parquet.read_table("x.parquet")["name"].to_pylist()
    assert read_arrays("x.npz")["names"].tolist() == names
    assert load_file("x.safetensors")["names"].tobytes().decode().split("\n") == names
    dark_names = (r"caf\xe9.png", "dark_9.png", "tab\\t,'\".png", r"two\nlines.png")
    assert names[:4] == [rf"d\xe4rk/{name}" for name in dark_names]
    assert all((photos / as_found(name)).is_file() for name in names)
    assert pyarrow.parquet.read_table("x.parquet")["class"].to_pylist()[0] == r"d\xe4rk"
    assert result["neighbours"][0]["query"] == names[0]
    assert barlowctl(["embed", str(trained), str(photos), "-n", os.fsdecode(b"d\xe4rk/two\nlines.png")]) == 0
    output = capsys.readouterr()
    assert r"nearest to d\xe4rk/two\nlines.png" in (output.out + output.err).splitlines()


def test_neighbours_are_those_of_the_cosine(trained: Path, recipe: Path, photos: Path, capsys: Captured) -> None:
    outside = photos.parent / "elsewhere.png"
    Image.fromarray(np.full((30, 30), 215, np.uint8)).save(outside)
    embed([str(trained), str(photos), "--out", "x.npz"], capsys)
    result = embed(
        [str(trained), str(photos), "-n", "4", "-n", "dark/dark_0.png", "-n", str(outside), "--top", "3"], capsys
    )
    archive = read_arrays("x.npz")
    unit = archive["features"] / np.linalg.norm(archive["features"], axis=1, keepdims=True)
    similarity = unit @ unit[4]
    similarity[4] = -2  # not itself
    first = result["neighbours"][0]["neighbours"]
    assert [one["name"] for one in first] == archive["names"][np.argsort(-similarity)[:3]].tolist()
    assert first[0]["similarity"] == pytest.approx(similarity.max(), abs=1e-5)
    assert all(one["name"] != "dark/dark_0.png" for one in result["neighbours"][1]["neighbours"])
    assert len(result["neighbours"][2]["neighbours"]) == 3
    command = ["embed", str(trained), str(photos), "-n", "4", "--top", "3", "--neighbours-out", "list.png"]
    assert barlowctl(command) == 0
    output = capsys.readouterr()  # the picture has room for the class alone: the list says which image it is
    assert all(near["name"] in output.out + output.err for near in first)
    with Image.open("neighbours.png") as picture:
        assert picture.width > 4 * 112
        assert picture.height > 3 * 112


def test_the_map_shows_every_image_and_runs_nothing_foreign(
    trained: Path, recipe: Path, photos: Path, capsys: Captured
) -> None:
    result = embed([str(trained), str(photos), "--map", "map.html", "--map", "map.png"], capsys)
    assert result["map_images"] == 12
    page = Path("map.html").read_text()
    data = json.loads(re.search(r'type="application/json">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    assert len(data["x"]) == len(data["y"]) == 12
    assert [max(data[axis]) - min(data[axis]) for axis in "xy"] == pytest.approx(data["span"], abs=1e-4)
    assert max(data["span"]) == pytest.approx(1.0)
    assert page.count("click a class to hide it") == 2  # for a mouse and for fingers
    assert "light/light_2<script>alert(1)<!--.png" in data["name"]
    assert page.count("<script") - page.count("light_2<script") == 2  # its own two
    assert "data:image/jpeg;base64," in page
    assert not re.search(r"(src|href)=[\"']?http", page)
    with Image.open("map.png") as picture:
        assert picture.width > 500
    (photos.parent / "plain" / "train").mkdir(parents=True)
    for file in photos.glob("*/dark_*.png"):
        shutil.copy(file, photos.parent / "plain" / "train")
    embed([str(trained), str(photos.parent / "plain"), "--map", "plain.html"], capsys)
    plain = Path("plain.html").read_text()
    assert "plain (train) by t-SNE" in plain  # the data set, not its split alone
    assert "click a class" not in plain  # there are none
    fewer = embed([str(trained), str(photos), "--map", "few.html", "--map-images", "5"], capsys)
    assert fewer["map_images"] == 5


@pytest.mark.slow
@pytest.mark.usefixtures("recipe")
def test_what_takes_long_has_a_word(trained: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of a folder of photos and its map took minutes on a busy machine, and nothing was said."""
    counts: list[tuple[str, int | None, int]] = []
    waited: list[str] = []

    @contextmanager
    def progress(self: Console, description: str, total: int | None) -> Iterator[Any]:
        advanced: list[int] = []
        yield SimpleNamespace(advance=advanced.append)
        counts.append((description, total, sum(advanced)))

    @contextmanager
    def waiting(self: Console, text: str) -> Iterator[None]:
        yield
        waited.append(text)

    monkeypatch.setattr(Console, "progress", progress)
    monkeypatch.setattr(Console, "waiting", waiting)
    words = [str(trained), str(photos), "--map", "map.png", "--map-images", "5"]
    assert barlowctl(["embed", *words]) == 0
    assert counts == [("features of 12 images", 12, 12)]
    assert waited == ["computing the map of 5 images (tsne) ..."]


def test_umap_where_it_is_installed(trained: Path, recipe: Path, photos: Path, capsys: Captured) -> None:
    pytest.importorskip("umap")
    embed([str(trained), str(photos), "--map", "map.png", "--projection", "umap"], capsys)
    assert Path("map.png").is_file()


def test_one_image(trained: Path, recipe: Path, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "one").mkdir()
    Image.new("L", (9, 9), 30).save(tmp_path / "one" / "a.png")
    one = str(tmp_path / "one")
    assert embed([str(trained), one, "--out", "one.npz"], capsys)["count"] == 1
    assert barlowctl(["embed", str(trained), one, "--map", "map.png"]) == 2
    assert "a map of 1 image" in capsys.readouterr().err
    assert barlowctl(["embed", str(trained), one, "-n", "0"]) == 2
    assert "no neighbours" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--out, --neighbours, --map"),
        (["--out", "x.csv"], ".parquet, .npz, .safetensors"),
        (["--map", "x.svg"], ".png or .html"),
        (["--map", "x.png", "--projection", "tsn"], "did you mean 'tsne'"),
        (["--out", "x.npz", "--split", "test"], "test split"),
        (["-n", "99"], "0 to 11"),
        (["-n", "nothing.png"], "neither one of the images"),
        (["-n", "0", "-n", "\u00b2"], "neither one of the images"),
        (["--out", "x.npz", "--set", "epochs=3"], "eval.crop"),
    ],
)
def test_refusals(trained: Path, recipe: Path, photos: Path, capsys: Captured, arguments: list[str], says: str) -> None:
    assert barlowctl(["embed", str(trained), str(photos), *arguments]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("query", ["99", "nothing.png"])
def test_an_image_that_is_not_there_is_refused_before_anything_is_computed(
    trained: Path, recipe: Path, photos: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    """Features of a million images take hours."""
    monkeypatch.setattr(embedding, "embed", lambda *args, **values: pytest.fail("features are computed"))
    assert barlowctl(["embed", str(trained), str(photos), "--out", "x.npz", "-n", query]) == 2
    assert query in capsys.readouterr().err


def test_a_damaged_image_from_elsewhere_is_refused_before_anything_is_computed(
    trained: Path, recipe: Path, photos: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("bad.png").write_bytes(b"no image")
    monkeypatch.setattr(embedding, "embed", lambda *args, **values: pytest.fail("features are computed"))
    assert barlowctl(["embed", str(trained), str(photos), "--out", "x.npz", "-n", "bad.png"]) == 2
    error = capsys.readouterr().err
    assert "bad.png" in error
    assert "name another image with --neighbours" in error


def test_the_caption_of_an_image_from_elsewhere_is_its_name(
    trained: Path, recipe: Path, photos: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its path was cut off where the name begins."""
    captions: list[list[str]] = []
    drawn = embedding.grid
    monkeypatch.setattr(embedding, "grid", lambda rows, texts: (captions.extend(texts), drawn(rows, texts))[1])
    place = tmp_path / "a place with a long name" / "one.png"
    place.parent.mkdir()
    Image.new("RGB", (20, 20), "red").save(place)
    result = embed([str(trained), str(photos), "-n", str(place)], capsys)
    assert captions[0][0] == "query: one.png"
    assert all(re.fullmatch(r".*\D.*, -?[01]\.\d\d", caption) for caption in captions[0][1:])
    assert result["neighbours"][0]["query"] == str(place)


def test_a_file_is_not_overwritten(trained: Path, recipe: Path, photos: Path, capsys: Captured) -> None:
    Path("x.npz").write_text("mine")
    assert barlowctl(["embed", str(trained), str(photos), "--out", "x.npz"]) == 2
    assert "not overwritten" in capsys.readouterr().err
    assert Path("x.npz").read_text() == "mine"


def test_no_picture_is_overwritten(trained: Path, recipe: Path, photos: Path, capsys: Captured) -> None:
    """What is there may be of another run, or of other images."""
    Path("map.html").write_text("mine")
    command = ["embed", str(trained), str(photos)]
    assert barlowctl([*command, "--map", "map.html", "--map", "map.png"]) == 2
    assert f"next: barlowctl {' '.join(command)} --map map-2.html --map map.png" in capsys.readouterr().err
    assert barlowctl([*command, "-n", "0", "--neighbours-out", "map.html"]) == 2
    assert "--neighbours-out map-2.html" in capsys.readouterr().err
    Path("neighbours.png").write_text("mine")
    embed([str(trained), str(photos), "-n", "0"], capsys)
    assert Path("neighbours-2.png").is_file()
    embed([str(trained), str(photos), "-n", "1"], capsys)  # another look at the same: it takes the place of the first
    assert not Path("neighbours-3.png").exists()
    embed([str(trained), str(photos), "-n", "1", "--set", "eval.crop=8"], capsys)
    assert Path("neighbours-3.png").is_file()
    for name in ("m.png", "m.html"):
        embed([str(trained), str(photos), "--map", name], capsys)
        embed([str(trained), str(photos), "--map", name, "--map-images", "5"], capsys)
        assert barlowctl([*command, "--map", name, "--set", "eval.crop=8"]) == 2
        capsys.readouterr()
    assert {Path(name).read_text() for name in ("map.html", "neighbours.png")} == {"mine"}


@pytest.mark.parametrize(
    ("images", "arguments", "says"),
    [
        (3, ["--map", "m.png"], "a map of 3 images"),
        (3, ["--out", "x.npz", "--map", "m.html"], "a map of 3 images"),
        (1, ["--neighbours", "0"], "an image alone has no neighbours"),
    ],
)
def test_too_few_images_are_refused_before_features_are_computed(
    images: int,
    arguments: list[str],
    says: str,
    trained: Path,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    for file in sorted(photos.rglob("*.png"))[images:]:
        file.unlink()
    monkeypatch.setattr(embedding, "embed", lambda *_, **__: pytest.fail("features were computed"))
    assert barlowctl(["embed", str(trained), str(photos), *arguments, "--threads", "1"]) == 2
    assert says in capsys.readouterr().err
    assert not Path("x.npz").exists()


@pytest.mark.parametrize(
    ("overrides", "says", "remaining"),
    [
        (["train.epochs=1", "model.stem=cifar"],
         ["'model.stem' is what the network says itself", "'train.epochs' is of a training"], []),
        (["train.epochs=1", "eval.crop=x"], ["eval.crop is 'x'", "'train.epochs' is of a training"], []),
        (["seed=3", "name=x", "eval.crop=32"], ["'seed' is of a training", "'name' is of a training"],
         ["--set", "eval.crop=32"]),
        (["optimizer.lr=1", "eval.crop=32"], ["'optimizer.lr' is of a training"], ["--set", "eval.crop=32"]),
        (["eval.crp=32", "xyz=1"], ["unknown key 'eval.crp', did you mean 'eval.crop'?", "unknown key 'xyz'"],
         ["--set", "eval.crop=32"]),
        (["eval.crp=3", "views.men=3"], ["did you mean 'eval.crop'?", "did you mean 'views.mean'?"], []),
    ],
)  # fmt: skip
def test_overrides_of_every_kind_are_refused_in_one_error(
    overrides: list[str], says: list[str], remaining: list[str], tmp_path: Path, capsys: Captured
) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    command = ["embed", "test_resnet", str(tmp_path), "--out", str(tmp_path / "f.npz")]
    assert barlowctl([*command, *(word for override in overrides for word in ("--set", override))]) == 2
    err = capsys.readouterr().err
    assert all(text in err for text in says)
    assert shlex.split(err.splitlines()[-1].removeprefix("next: ")) == ["barlowctl", *command, *remaining]
    assert not (tmp_path / "f.npz").exists()


def test_overrides_of_a_file_of_weights_are_refused_in_one_error(tmp_path: Path, capsys: Captured) -> None:
    import timm
    import torch

    torch.save(timm.create_model("test_resnet", num_classes=0).state_dict(), tmp_path / "w.pth")
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    command = ["embed", str(tmp_path / "w.pth"), str(tmp_path), "--out", str(tmp_path / "f.npz")]
    named = ["--set", "model.backbone=test_resnet"]
    assert barlowctl([*command, *named, "--set", "train.epochs=1"]) == 2
    err = capsys.readouterr().err
    assert "--set train.epochs=1: 'train.epochs' is of a training, and changes nothing here" in err
    assert shlex.split(err.splitlines()[-1].removeprefix("next: ")) == ["barlowctl", *command, *named]
