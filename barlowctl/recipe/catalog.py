"""Where recipes are found: the ones that ship with barlowctl, and files of one's own."""

from __future__ import annotations

import shutil
from pathlib import Path

from barlowctl import shell
from barlowctl.errors import UserError, did_you_mean
from barlowctl.files import atomic_write, written_as_path
from barlowctl.output_paths import why_not_written


def shipped_directory() -> Path:
    """The folder of shipped recipes: inside an installed wheel, else the checkout's `recipes/`."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def shipped() -> dict[str, Path]:
    """Shipped recipes by name, in alphabetical order."""
    return {path.stem: path for path in sorted(shipped_directory().glob("*.toml"), key=lambda path: path.stem)}


def find(name_or_path: str) -> Path:
    """The file of a shipped recipe's name, or of a path to a TOML file.

    Raises:
        UserError: no shipped recipe of that name and no such file.
    """
    recipes = shipped()
    if name_or_path in recipes:
        return recipes[name_or_path]
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise UserError(
            f"'{name_or_path}' is a folder, not a recipe file",
            allowed=f"a path to a TOML file, or one of: {', '.join(recipes)}",
            next="barlowctl recipes list",
        )
    if path.exists():
        raise UserError(
            f"'{name_or_path}' is a pipe, a socket or a device, which is not opened",
            allowed=f"a path to a TOML file, or one of: {', '.join(recipes)}",
            next="barlowctl recipes list",
        )
    if path.suffix or written_as_path(name_or_path):  # no shipped recipe's name has a dot
        beside = [str(file) for file in path.parent.glob("*.toml")]
        what = f"recipe file '{name_or_path}' does not exist{did_you_mean(str(path), beside)}"
    else:
        what = f"no recipe '{name_or_path}'{did_you_mean(name_or_path, recipes)}"
    raise UserError(
        what,
        allowed=f"a path to a TOML file, or one of: {', '.join(recipes)}",
        next="barlowctl recipes list",
    )


def copy(name_or_path: str, target: Path) -> Path:
    """Copy a recipe's file, comments included, to `target` (a file, or a folder to put it in).

    Raises:
        UserError: the target exists already, its folder does not, or it cannot be written.
    """
    source = find(name_or_path)
    if target.is_dir():
        target = target / source.name
    if target.exists():
        raise UserError(f"'{target}' exists already and is not overwritten", next="name another file")
    if not target.parent.is_dir():
        raise UserError(
            f"the folder '{target.parent}' does not exist",
            next=f"{shell.line('mkdir', '-p', target.parent)} && barlowctl ...",
        )
    try:
        with atomic_write(target, new=True) as temporary:
            shutil.copyfile(source, temporary)
    except OSError as error:
        raise UserError(
            f"'{target}' cannot be written: {why_not_written(error, target.parent)}",
            next="name another place as FILE|FOLDER",
        ) from error
    return target
