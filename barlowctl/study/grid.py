"""A study of one's own, from a TOML file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path

from barlowctl.errors import UserError
from barlowctl.recipe.schema import Recipe
from barlowctl.recipe.text import read_text
from barlowctl.study.studies import NAMES
from barlowctl.study.study import Study
from barlowctl.study.variant import EDIT_GRID, NAME, Variant

SHAPE = (
    "a table for each variant, whose entries are keys of a recipe: [baseline], which may be empty, and "
    '[small-crops] with "views.first.crop_scale" = [0.08, 0.5] in a line below it'
)
OTHERS = (".json", ".yaml", ".yml")
"""Endings of files of other kinds, where grids of other tools are."""
OF_ALL_VARIANTS = {"data.dataset", "data.range", "data.background", "data.bands"}
"""Which images a study is of, and how their files are read: what tells its variants apart is something else."""
NOT_NAMED = {"overrides", "parameters", "recipe", "set", "values"}
"""What other tools call that which a variant changes."""


def read_grid(path: Path) -> Study:
    """One's own study from a TOML file: each table is a variant, its entries are recipe overrides.

        title = "Crop size"          # optional
        [baseline]
        [small]
        "views.first.crop_scale" = [0.08, 0.5]

    The first variant is the one that the others are compared with.

    Raises:
        UserError: no such file, not TOML, or no variants.
    """
    try:
        values = tomllib.loads(read_text(path))
    except OSError as error:
        raise UserError(f"grid file '{path}' cannot be read: {error.strerror}", next="name a TOML file") from error
    except (ValueError, RecursionError) as error:
        what = f"is {path.suffix[1:].upper()}, and not TOML" if path.suffix in OTHERS else f"is not valid TOML: {error}"
        raise UserError(f"grid file '{path}' {what}", allowed=SHAPE, next=EDIT_GRID) from error
    title = values.pop("title", path.stem)
    if not isinstance(title, str):
        raise UserError(f"{path}: title is {title!r}", allowed=f"a text, or no title; {SHAPE}", next=EDIT_GRID)
    variants = []
    for name, settings in values.items():
        if (why := _no_variant(name, settings)) is not None:
            raise UserError(f"{path}: {why}", allowed=SHAPE, next=EDIT_GRID)
        overrides = tuple(f"{key}={_toml(value)}" for key, value in _flat(settings))
        variants.append(Variant(name, overrides, grid=str(path)))
    if not variants:
        raise UserError(f"{path} has no variants", allowed=SHAPE, next=EDIT_GRID)
    if path.stem in (*NAMES, "study") or not NAME.fullmatch(path.stem):
        raise UserError(
            f"the study in '{path}' would be named '{path.stem}'",
            allowed="a file name of letters, digits and . _ + - that is neither 'study' nor one of the paper's",
            next="rename the file",
        )
    return Study(path.stem, title, path.name, tuple(variants), variants[0].name)


def _no_variant(name: str, settings: object) -> str | None:
    """What an entry of a grid file is instead of a variant, in words; None: it is one, as far as its shape says."""
    if isinstance(settings, list) and settings and all(isinstance(value, dict) for value in settings):
        return f"[[{name}]] is a list of tables, and not a variant"
    if not isinstance(settings, dict):
        return f"'{name}' is a value, and not a variant"
    if "seed" in settings:
        return f"[{name}] sets the seed, and every variant has the same seeds (--seeds N: 0 to N - 1)"
    of_images = [key for key, _ in _flat(settings) if key in OF_ALL_VARIANTS]
    if of_images:
        return (
            f"[{name}] sets {of_images[0]}, and every variant trains on the same images, read alike, which are those "
            "that it is measured on"
        )
    sections = Recipe.model_fields
    strange = [key for key in settings if key.partition(".")[0] not in sections]
    if strange and name in sections:
        key = _flat({name: {strange[0]: settings[strange[0]]}})[0][0]
        return f"[{name}] is a section of a recipe, and not a variant: the key is {key}"
    if set(strange) & NOT_NAMED:
        return f"[{name}] has '{min(set(strange) & NOT_NAMED)}', and a variant has the keys of a recipe themselves"
    tables = [key for key in strange if isinstance(settings[key], dict)]
    return f"[{name}.{tables[0]}] is a table in a table: a variant's is [{tables[0]}]" if tables else None


def _flat(values: Mapping[str, object], prefix: str = "") -> list[tuple[str, object]]:
    pairs: list[tuple[str, object]] = []
    for key, value in values.items():
        pairs += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
    return pairs


def _toml(value: object) -> str:
    """A value as one line of TOML. What JSON can say in a line is the same in TOML."""
    import tomli_w

    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        if "{" not in text:
            return text
    except (TypeError, ValueError):  # dates, infinity
        pass
    return tomli_w.dumps({"value": value}, multiline_strings=False).removeprefix("value = ").replace("\n", " ").strip()
