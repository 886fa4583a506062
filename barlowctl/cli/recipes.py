"""`barlowctl recipes`: list, show, copy and compare recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from barlowctl import shell
from barlowctl.cli import completion, options
from barlowctl.cli.console import Console
from barlowctl.cli.help import Command, Group, examples

app = typer.Typer(
    cls=Group,
    help="List, show, copy and compare recipes.",
    epilog=examples("barlowctl recipes list", "barlowctl recipes copy quickstart mine.toml"),
    no_args_is_help=True,
)

Name = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="A shipped recipe's name, or a TOML file.", autocompletion=completion.recipes
    ),
]

WIDE = 150  # columns of a terminal with room for what a recipe has beside what its description says


@app.command("list", cls=Command, epilog="barlowctl recipes list")
def list_recipes(json: options.Json = False, quiet: options.Quiet = False) -> None:
    """The recipes that ship with barlowctl."""
    from barlowctl.recipe import catalog, load

    console = Console(json=json, quiet=quiet)
    loaded = {name: load.load(str(path)) for name, path in catalog.shipped().items()}
    rows = [
        (name, recipe.data.dataset, recipe.model.backbone, recipe.train.epochs, recipe.train.batch_size)
        for name, recipe in loaded.items()
    ]
    described = [(*row, loaded[row[0]].description) for row in rows]
    whole = ("name", "dataset", "backbone", "epochs", "batch", "what")
    if console.rich.width >= WIDE:
        console.table("Recipes", whole, described)
    else:
        console.table("Recipes", ("name", "what"), [(row[0], row[-1]) for row in described])
    console.next("barlowctl recipes show quickstart", "barlowctl pretrain --recipe quickstart --dry-run")
    console.result(
        {
            "recipes": [
                dict(zip(("name", "dataset", "backbone", "epochs", "batch_size", "description"), row, strict=True))
                for row in described
            ]
        }
    )


@app.command("show", cls=Command, epilog="barlowctl recipes show resnet50 --resolved --set train.batch_size=256")
def show(
    recipe: Name,
    resolved: Annotated[bool, typer.Option("--resolved", help="Every value, defaults and overrides included.")] = False,
    overrides: options.Overrides = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """A recipe's file as it is written, or with every value filled in."""
    from barlowctl.recipe import catalog, load
    from barlowctl.recipe.idle import refuse_idle
    from barlowctl.recipe.text import read_text

    console = Console(json=json, quiet=quiet)
    value = load.load(recipe, overrides or ())
    refuse_idle([value], overrides or ())
    plain = not resolved and not overrides
    text = read_text(catalog.find(recipe)) if plain else load.dump(value)
    if not json:
        console.document(text.rstrip() + "\n")
    console.result({"recipe": value.model_dump(mode="json"), "digest": load.digest(value)})


@app.command("copy", cls=Command, epilog="barlowctl recipes copy quickstart mine.toml")
def copy(
    recipe: Name,
    target: Annotated[Path, typer.Argument(metavar="FILE|FOLDER", help="A new file, or a folder.")] = Path("."),
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Copy a recipe, comments included, to make it your own."""
    from barlowctl.recipe import catalog

    console = Console(json=json, quiet=quiet)
    path = catalog.copy(recipe, target)
    console.say(f"copied to {path}")
    console.next(shell.line("barlowctl", "pretrain", "--recipe", path))
    console.result({"path": str(path)})


@app.command("diff", cls=Command, epilog="barlowctl recipes diff resnet50 resnet50-300ep")
def diff(first: Name, second: Name, json: options.Json = False, quiet: options.Quiet = False) -> None:
    """The values in which two recipes differ."""
    from barlowctl.recipe import load

    console = Console(json=json, quiet=quiet)
    changes = load.diff(load.load(first), load.load(second))
    if changes:
        console.table("", ("key", first, second), [(key, _text(old), _text(new)) for key, old, new in changes])
    else:
        console.say(f"{first} and {second} are the same run")
    console.result({"differences": [{"key": key, "first": old, "second": new} for key, old, new in changes]})


def _text(value: object) -> str:
    return "-" if value is None else str(value)
