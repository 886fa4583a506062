"""What the pages name is there: files, names in them, keys of recipes, recipes, methods, targets of make, tests."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from barlowctl.recipe import load
from barlowctl.recipe.catalog import shipped
from barlowctl.recipe.objectives import METHODS
from barlowctl.recipe.schema import Recipe
from tests.cli.tree import ROOT

CHECKOUT = Path(__file__).resolve().parents[2]
OF_THE_CODE = ("CONTRIBUTING.md", "docs/glossary.md")
DOCS = sorted([*CHECKOUT.glob("docs/*.md"), *CHECKOUT.glob("docs/howto/*.md")])
OF_OTHERS = "translated.md"  # which has files and keys of other tools; test_translated reads ours
PAGES = (
    *("README.md", "CONTRIBUTING.md"),
    *(str(page.relative_to(CHECKOUT)) for page in DOCS if page.name != OF_OTHERS),
)
FOLDERS = "barlowctl|tests|docs|benchmarks|recipes|\\.ci"
PATH = re.compile(rf"`((?:{FOLDERS})/[\w./-]+)`")
DOTTED = re.compile(r"`(barlowctl(?:\.\w+)+)`")
NAME_IN_PATH = re.compile(rf"`([\w.]+)`(?:\s+is a\s+\w+)?\s+in\s+`((?:{FOLDERS})/[\w./-]+)`")


def text(page: str) -> str:
    return (CHECKOUT / page).read_text(encoding="utf-8")


def missing(words: str) -> Iterator[str]:
    """Paths that are not there, and names that are not in the file they are said to be in."""
    for path in PATH.findall(words):
        if not (CHECKOUT / path).exists():
            yield path
    for name, path in NAME_IN_PATH.findall(words):
        file = CHECKOUT / path
        name = name.rpartition(".")[2]
        if file.is_file() and not re.search(rf"\b{name}\b", file.read_text(encoding="utf-8")):
            yield f"{name} in {path}"
    yield from (name for name in DOTTED.findall(words) if not importable(name))


def importable(name: str) -> bool:
    """Whether a dotted name is a module, or a name in one."""
    file = CHECKOUT.joinpath(*name.split("."))
    if file.with_suffix(".py").is_file() or (file / "__init__.py").is_file():
        return True
    module = file.parent.with_suffix(".py") if file.parent.with_suffix(".py").is_file() else file.parent / "__init__.py"
    return module.is_file() and re.search(rf"\b{file.name}\b", module.read_text(encoding="utf-8")) is not None


@pytest.mark.parametrize("page", PAGES)
def test_files_and_names_are_there(page: str) -> None:
    words = text(page)
    if page in OF_THE_CODE:
        assert len(PATH.findall(words)) > 30
        assert len(NAME_IN_PATH.findall(words)) > 10
    assert list(missing(words)) == []


def test_the_readme_has_every_command() -> None:
    rows = dict(re.findall(r"^\| `barlowctl (\w+)` \| (.*) \|$", text("README.md"), re.MULTILINE))
    assert rows.keys() == ROOT.commands.keys()
    for name, command in ROOT.commands.items():
        inner: set[str] = set(getattr(command, "commands", {}))
        assert inner <= set(re.findall(r"`([a-z]+)`", rows[name])), name


KEY = re.compile(r"(?<![\w./-])((?:data|views|model|objective|optimizer|train|eval)(?:\.[a-z_]+){1,2})(?=`| ?=|\s)")
RECIPE = re.compile(r"`((?:resnet50|fashion-mnist|imagenet100|cifar10|quickstart)[\w-]*)`")
FILES = (".md", ".png", ".csv", ".tar", ".beton", ".json", ".txt")
NO_RECIPES = {"fashion-mnist", "imagenet100", "cifar10", "fashion-mnist-NAME", "resnet50-NAME", "resnet50_NAME"}


def is_key(dotted: str) -> bool:
    """Whether a recipe has a key or a section of that name, of any method."""
    first, *rest = dotted.split(".")
    sections = METHODS.values() if first == "objective" else [Recipe.model_fields[first].annotation]
    return any(_has(section, rest) for section in sections)


def _has(section: object, names: list[str]) -> bool:
    if not names:
        return True
    if not (isinstance(section, type) and issubclass(section, BaseModel)):
        return False
    field = section.model_fields.get(names[0])
    return field is not None and _has(field.annotation, names[1:])


OF_THE_PAGE = ("objective.args", "objective.args.lambd", "objective.args.temperature", "optimizer.args")
"""Keys of what docs/python.md registers."""


def test_keys_and_recipes_are_there() -> None:
    written = [page for page in PAGES if page != "docs/architecture.md"]  # which has modules of such names
    keys = {(page, key) for page in written for key in KEY.findall(text(page)) if not key.endswith(FILES)}
    recipes = {(page, name) for page in PAGES for name in RECIPE.findall(text(page)) if name not in NO_RECIPES}
    assert len(keys) > 80
    assert len(recipes) > 25
    assert {(page, key) for page, key in keys if not (is_key(key) or key in OF_THE_PAGE)} == set()
    assert {(page, name) for page, name in recipes if name not in shipped()} == set()


def test_the_page_of_methods_has_each_methods_keys_and_recipes() -> None:
    """Each method has a section that names its keys and its recipes; a default in a table is that of the schema."""
    sections = re.split(r"^## ", text("docs/methods.md"), flags=re.MULTILINE)[1:]
    by_name = {name: part for part in sections for name in part.partition("\n")[0].split(", ") if name in METHODS}
    assert by_name.keys() == METHODS.keys()
    explained = METHODS["barlow-twins"].model_fields.keys() - {"name"}  # in docs/objective.md
    for name, method in METHODS.items():
        keys = method.model_fields.keys() - {"name", "scale", "form"}
        keys -= explained if method.title.endswith("Twins") else set()
        assert [key for key in keys if not re.search(rf"\b{key}(?:`| = )", by_name[name])] == [], name
        for key, default in re.findall(r"^\| `(\w+)` \| ([\w.]+) \|", by_name[name], re.MULTILINE):
            assert str(method.model_fields[key].default).lower() == default, (name, key)
    for recipe in shipped():
        name = load.load(recipe).objective.name
        if name in recipe or name != "barlow-twins":
            assert f"`{recipe}`" in by_name[name], recipe


def test_what_is_not_there_is_seen() -> None:
    words = (
        "`Nothing` in `barlowctl/errors.py`, `UserError` in `barlowctl/errors.py`, `barlowctl/errors2.py`, "
        "`barlowctl.cli.app.run`, `barlowctl.cli`, `barlowctl.cli.app.runs_`"
    )
    assert list(missing(words)) == ["barlowctl/errors2.py", "Nothing in barlowctl/errors.py", "barlowctl.cli.app.runs_"]
    assert [is_key(key) for key in ("views.first.blur", "objective.queue", "objective.lamda", "views.first.blurr")] == [
        True,
        True,
        False,
        False,
    ]


def test_targets_of_make_are_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
    for page in ("CONTRIBUTING.md", "README.md"):
        named = re.findall(r"(?:`|^)make ([a-z-]+)", text(page), re.MULTILINE)
        assert len(named) > 3
        assert set(named) <= targets, page


def test_tests_that_are_named_are_there() -> None:
    source = "".join(file.read_text(encoding="utf-8") for file in (CHECKOUT / "tests").rglob("test_*.py"))
    named = [name for name in re.findall(r"`(test_\w+)`", text("CONTRIBUTING.md")) if name != "test_options_2"]
    assert named
    assert [name for name in named if f"def {name}(" not in source] == []


def test_the_comparison_of_two_runs_sees_what_differs(tmp_path: Path) -> None:
    """The Python that CONTRIBUTING.md gives for "the same numbers": times may differ, a loss may not."""
    script = text("CONTRIBUTING.md").partition("<<'END'\n")[2].partition("END\n```")[0]
    for name, wait, loss in (("before", 1.0, 0.5), ("same", 2.0, 0.5), ("other", 1.0, 0.25)):
        record = f'{{"event": "step", "step": 1, "loss": {loss}, "data_wait": {wait}, "images_per_second": {wait}}}\n'
        (tmp_path / name).write_text(record)

    def compare(other: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-", str(tmp_path / "before"), str(tmp_path / other)]
        return subprocess.run(command, input=script, capture_output=True, text=True)

    assert compare("same").stdout == "1 records, all the same\n"
    assert compare("other").returncode == 1
    assert "0.25" in compare("other").stderr


def test_methods_members_are_those_of_the_table() -> None:
    from barlowctl.methods.base import Method, Trainable

    table = text("CONTRIBUTING.md").partition("| what | meaning |\n")[2].partition("\n\n")[0]
    cells = [line.strip(" |").split(" | ")[0] for line in table.splitlines()]
    named = {name for cell in cells for name in re.findall(r"`(\w+)", cell)}
    parts = vars(Trainable) | Trainable.__annotations__ | vars(Method) | Method.__annotations__
    own = {name for name in parts if not name.startswith("_")}
    assert named == own - {"forward", "embed"}
