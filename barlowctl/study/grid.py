"""A study of one's own, from a TOML file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path

from barlowctl.errors import UserError
from barlowctl.recipe.text import read_text
from barlowctl.study.studies import NAMES
from barlowctl.study.study import Study
from barlowctl.study.variant import EDIT_GRID, NAME, Variant


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
        raise UserError(f"grid file '{path}' is not valid TOML: {error}", next=EDIT_GRID) from error
    title = values.pop("title", path.stem)
    if not isinstance(title, str):
        raise UserError(
            f"{path}: title is {title!r}", allowed="a text; variants are tables, e.g. [baseline]", next=EDIT_GRID
        )
    variants = []
    for name, settings in values.items():
        if not isinstance(settings, dict):
            raise UserError(f"{path}: '{name}' is a value, not a variant", allowed=f"a table: [{name}]", next=EDIT_GRID)
        overrides = tuple(f"{key}={_toml(value)}" for key, value in _flat(settings))
        variants.append(Variant(name, overrides))
    if not variants:
        raise UserError(f"{path} has no variants", allowed="one table per variant, e.g. [baseline]", next=EDIT_GRID)
    if path.stem in (*NAMES, "study") or not NAME.fullmatch(path.stem):
        raise UserError(
            f"the study in '{path}' would be named '{path.stem}'",
            allowed="a file name of letters, digits and . _ + - that is neither 'study' nor one of the paper's",
            next="rename the file",
        )
    return Study(path.stem, title, path.name, tuple(variants), variants[0].name)


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
