"""docs/recipe.md says what the schema of recipes says."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from barlowctl.recipe.objectives import METHODS
from barlowctl.recipe.schema import Recipe


@pytest.fixture(scope="module")
def generator(script_of: Callable[[str], ModuleType]) -> ModuleType:
    return script_of("generate_recipe_reference.py")


def test_the_reference_is_fresh(generator: ModuleType) -> None:
    assert generator.REFERENCE.read_text(encoding="utf-8") == generator.reference(), "stale: run `make docs`"


def rows(text: str) -> dict[str, list[str]]:
    """Heading -> the cells of its table's rows."""
    sections = [section.partition("\n") for section in text.split("\n## ")[1:]]
    return {
        title: [line.strip("| ").split(" | ") for line in body.splitlines() if line.startswith("| `")]
        for title, _, body in sections
    }


def test_every_key_has_a_row_with_its_default_and_what_it_is(generator: ModuleType) -> None:
    tables = rows(generator.reference())
    train = {name: (default, allowed, what) for name, default, allowed, what in tables["`[train]`"]}
    assert set(train) == {f"`{key}`" for key in Recipe.model_fields["train"].annotation.model_fields}  # type: ignore[union-attr]
    assert train["`batch_size`"] == ("`2048`", "a whole number from 2 on", "images per step, over all devices")
    assert train["`precision`"][1] == '`"fp32"`, `"bf16"`, `"fp16"`'
    assert train["`final_lr_scale`"][:2] == ("`0.001`", "a number from 0 to 1")
    views = {cells[0]: cells[1:3] for cells in tables["`[views.first]`, `[views.second]`"]}
    assert views["`blur`"] == ["`1.0`, `0.1`", "a number from 0 to 1"]
    assert views["`crop_scale`"] == ["`[0.08, 1.0]`", "a list of two, each a number from 1e-12 to 1,000,000"]
    lambd = next(cells for cells in tables['`[objective]`, `name = "barlow-twins"`'] if cells[0] == "`lambd`")
    assert lambd[1:3] == ["`0.0051`", 'a number from 0 to 1,000,000 or `"auto"`']
    assert {f'`[objective]`, `name = "{method}"`' for method in METHODS} <= tables.keys()
    assert [cells for table in tables.values() for cells in table if len(cells) != 4 or not all(cells)] == []
