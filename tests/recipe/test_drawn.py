"""Recipes drawn at random: each is refused with a user's error, or trains a step and is measured."""

from __future__ import annotations

import random
import tomllib
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from PIL import Image

from barlowctl.cli.app import run as barlowctl
from barlowctl.errors import UserError
from barlowctl.recipe import load
from barlowctl.recipe.objectives import DEFAULT, METHODS, Keys
from barlowctl.recipe.schema import Recipe
from barlowctl.recipe.section import MOST

BASE = """
name = "drawn"
[data]
dataset = "img"
[views]
size = 16
[model]
backbone = "resnet10t"
backbone_args = { channels = [8, 8, 8, 8], stem_width = 8 }
projector = [16, 16]
[optimizer]
name = "adamw"
lr = 1e-3
lr_biases = 1e-3
[train]
epochs = 1
batch_size = 8
warmup_epochs = 0.0
[eval]
bank = 20
resize = 18
crop = 16
"""
FLOATS = (0, -0.0, 1e-320, 1e-9, 1e-3, 0.25, 0.5, 0.999, 1.0, 1.5, 10, 1e3, 1e6, 1e7, 1e38, 1e300, -1.0)
WHOLE = (0, 1, 2, 3, 4, 5, 8, 9, 12, 16, 23, 24, 25, 100, 4096, MOST, MOST + 1, 2**63 - 1, 2**63, 10**30, -1)
TEXTS = (
    "", "x", "img", "a/b", "a\0b", "a\nb", "réseau", "[b]", "x" * 300, "resnet10t.c3_in1k", "vit_tiny_patch16_224",
    "convnext_atto", "mobilenetv3_small_050",
)  # fmt: skip
ARGUMENTS: tuple[dict[str, Any], ...] = (
    {"channels": []}, {"layers": [1]}, {"stem_width": 0}, {"drop_rate": 2.0}, {"nope": 1}, {"img_size": 16},
    {"global_pool": "max"}, {"pretrained": True}, {"act_layer": "gelu"}, {"channels": "x"},
)  # fmt: skip
TOO_SLOW = {"train.compile", "views.size", "eval.resize", "train.epochs"}
"""Their largest values are right, and take minutes; their limits have tests of their own."""


def fields(method: type[Keys], model: Any = Recipe, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and types of all values of a recipe of a method."""
    for name, field in model.model_fields.items():
        kind = method if prefix + name == "objective" else field.annotation
        if hasattr(kind, "model_fields"):
            yield from fields(method, kind, f"{prefix}{name}.")
        else:
            yield prefix + name, kind


def drawn(kind: Any, generator: random.Random) -> Any:
    """A value of a field's type, more often an extreme than a sensible one."""
    match typing.get_origin(kind):
        case typing.Literal:
            return generator.choice([*typing.get_args(kind), "other"])
        case typing.Union | types.UnionType:
            return drawn(generator.choice(typing.get_args(kind)), generator)
        case typing.Annotated:
            return drawn(typing.get_args(kind)[0], generator)
        case _ if typing.get_origin(kind) is tuple:
            values = [
                drawn(typing.get_args(kind)[0], generator) for _ in range(generator.choice([0, 1, 2, 2, 2, 3, 3]))
            ]
            return sorted(values) if generator.random() < 0.8 else values
        case _ if typing.get_origin(kind) is dict:
            return generator.choice(ARGUMENTS)
    choices: dict[Any, Any] = {bool: (True, False), int: WHOLE, float: FLOATS, str: TEXTS}
    return generator.choice(choices[kind])


def recipe(seed: int) -> dict[str, Any]:
    """The base with one to four values drawn, half of the time of a method that is drawn too."""
    generator, values = random.Random(seed), tomllib.loads(BASE)
    method = generator.choice([DEFAULT] * len(METHODS) + list(METHODS))
    values["objective"] = {} if method == DEFAULT else {"name": method}
    known = [(key, kind) for key, kind in fields(METHODS[method]) if key not in {*TOO_SLOW, "objective.name"}]
    for key, kind in generator.sample(known, generator.choice([1, 1, 2, 2, 4])):
        *tables, last = key.split(".")
        place = values
        for table in tables:
            place = place.setdefault(table, {})
        place[last] = drawn(kind, generator)
    return values


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pixels = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 3)):
        for name in "ab":
            folder = tmp_path / "img" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(pixels.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _trains_or_is_refused(seed: int, capsys: pytest.CaptureFixture[str]) -> int:
    Path("drawn.toml").write_text(tomli_w.dumps(recipe(seed)), encoding="utf-8")
    arguments = ["pretrain", "--recipe", "drawn.toml", "--out", f"runs/{seed}", "--threads", "1", "--loader", "plain"]
    code = barlowctl(arguments)
    errors = capsys.readouterr().err
    assert code in (0, 2, 5), f"seed {seed}: {errors}\n{Path('drawn.toml').read_text(encoding='utf-8')}"
    assert "Traceback" not in errors
    assert (code == 0) == ("error: " not in errors and "next: " not in errors), errors
    return code


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_a_drawn_recipe_trains_or_is_refused(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codes = [_trains_or_is_refused(seed, capsys) for seed in range(10)]
    assert min(codes.count(0), codes.count(2)) > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_many_drawn_recipes_train_or_are_refused(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(1000, 1300):
        _trains_or_is_refused(seed, capsys)


@pytest.mark.parametrize("seeds", [range(400), pytest.param(range(400, 1500), marks=pytest.mark.slow)], ids=len)
def test_a_recipe_that_passes_comes_back_from_its_file(seeds: range) -> None:
    """What a run keeps of its recipe is the recipe: of many drawn ones, each refused or read back equal."""
    passed = 0
    for seed in seeds:
        text = tomli_w.dumps(recipe(seed))
        try:
            value = load.parse(text)
        except UserError:
            continue
        passed += 1
        assert load.parse(load.dump(value)) == value
        assert len(load.digest(value)) == 16
    assert passed > len(seeds) / 7.5


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("seed=9223372036854775808", "seed"),
        ("model.projector=[0]", "model.projector"),
        ("model.projector=[]", "model.projector"),
        ("train.epochs=0", "train.epochs"),
        ("train.epochs=4294967296", "train.epochs"),
        ("train.warmup_epochs=2", "warmup_epochs"),
        ("optimizer.lr=nan", "optimizer.lr"),
        ("optimizer.lr=inf", "optimizer.lr"),
        ("optimizer.lr=1e30", "optimizer.lr"),
        ("optimizer.betas=[0.9,1.0]", "optimizer.betas"),
        ("views.first.blur_sigma=[1.0,1e30]", "blur_sigma"),
        ("views.first.crop_ratio=[1e-9,1.0]", "crop_ratio"),
        ("views.std=[0.0,1.0,1.0]", "views.std"),
        ("views.mean=[]", "views.mean"),
        ("eval.resize=100000", "eval.resize"),
        ("name=" + "x" * 101, "name"),
        ("name=", "name"),
        ("name=été", "name"),
    ],
)
def test_values_that_cannot_work_are_refused_by_the_check(override: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        load.parse(BASE, [override])
    assert says in caught.value.message


def test_a_projector_that_no_memory_holds_is_refused(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("drawn.toml").write_text(BASE, encoding="utf-8")
    for widths in ("[2147483647]", "[1000000,1000000]"):
        assert barlowctl(["pretrain", "--recipe", "drawn.toml", "--set", f"model.projector={widths}"]) == 2
        assert "this machine has" in capsys.readouterr().err
    assert not Path("runs").exists()
