"""A grid file that is nearly one is refused with what is wrong with it and with what a grid looks like."""

from __future__ import annotations

from pathlib import Path

import pytest

from barlowctl.errors import UserError
from barlowctl.study.grid import SHAPE, read_grid


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[variants.small]\n"train.epochs" = 2\n', "[variants.small] is a table in a table: a variant's is [small]"),
        ('[variant.a]\ntrain.epochs = 2\n[variant.b]\n', "[variant.a] is a table in a table: a variant's is [a]"),
        ('[[variants]]\nname = "small"\n', "[[variants]] is a list of tables, and not a variant"),
        ('[small.overrides]\n"train.epochs" = 2\n', "[small] has 'overrides', and a variant has the keys of a recipe"),
        ('[small]\nset = ["train.epochs=2"]\n', "[small] has 'set', and a variant has the keys of a recipe"),
        ("[train]\nepochs = 3\n", "[train] is a section of a recipe, and not a variant: the key is train.epochs"),
        ("[views.first]\nblur = 1\n", "section of a recipe, and not a variant: the key is views.first.blur"),
        ('"train.epochs" = [1, 2]\n', "'train.epochs' is a value, and not a variant"),
        ('title = "Crops"\n', "has no variants"),
        ("title = 3\n[a]\n", "title is 3"),
        ("[a]\nseed = 4\n", "[a] sets the seed, and every variant has the same seeds"),
        ('[a]\n"data.dataset" = "photos"\n', "[a] sets data.dataset, and every variant trains on the same images"),
        ('[a.data]\nbands = [1]\n', "[a] sets data.bands, and every variant trains on the same images"),
        ('{"small": {}}', "is not valid TOML"),
    ],
)  # fmt: skip
def test_what_is_nearly_a_grid_is_refused_with_what_a_grid_looks_like(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UserError) as raised:
        read_grid(path)
    assert message in raised.value.message
    assert SHAPE in (raised.value.allowed or "")


@pytest.mark.parametrize(("name", "kind"), [("mine.json", "JSON"), ("mine.yaml", "YAML")])
def test_a_file_of_another_kind_is_called_by_it(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_text('{"small": {"train.epochs": 2}}')
    with pytest.raises(UserError, match=f"is {kind}, and not TOML"):
        read_grid(tmp_path / name)


def test_what_a_grid_looks_like_is_a_grid(tmp_path: Path) -> None:
    """The lines that an error shows, and each way to write a key."""
    path = tmp_path / "mine.toml"
    path.write_text(
        '[baseline]\n[small-crops]\n"views.first.crop_scale" = [0.08, 0.5]\n'
        "[b]\ntrain.epochs = 2\n[c.train]\nepochs = 2\n"
    )
    assert '"views.first.crop_scale" = [0.08, 0.5]' in SHAPE
    assert [(variant.name, variant.overrides) for variant in read_grid(path).variants] == [
        ("baseline", ()),
        ("small-crops", ("views.first.crop_scale=[0.08, 0.5]",)),
        ("b", ("train.epochs=2",)),
        ("c", ("train.epochs=2",)),
    ]
