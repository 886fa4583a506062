"""What `--import` names, imported before the command runs: modules and files that register parts of somebody's own."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path

from barlowctl import own_code, program, shell
from barlowctl.errors import UserError, nearest

ALLOWED = "a module of this folder or of an installed package (my_networks), or a .py file (code/my_networks.py)"


def import_all(names: Sequence[str], arguments: Sequence[str]) -> None:
    """Import modules and files, in their order; this folder is on Python's path, as for `python -m`.

    What they print goes to standard error: standard output is the command's.

    Args:
        names: what `--import` names. arguments: what was typed behind that.

    Raises:
        UserError: there is none of a name, or it raises an error.
    """
    if not names:
        return
    _put_on_path(os.getcwd())
    for name in names:
        try:
            with own_code.exits_are_errors(), redirect_stdout(sys.stderr):
                _import_file(name) if program.is_file(name) else importlib.import_module(name)
        except UserError as error:  # of what it registers
            place = own_code.place_of_caller(error)
            error.message += f", in {place}" if place and place not in error.message else ""
            raise
        except Exception as error:
            if not _is_missing(error, name):
                raise UserError(
                    f"{program.IMPORT} {name}: {own_code.reason_of(error)}",
                    allowed="a module that can be imported without an error",
                    next="BARLOWCTL_DEBUG=1 barlowctl ...",
                ) from error
            raise _nothing_of_that_name(name, names, arguments) from None


def _import_file(name: str) -> None:
    """Import a file as the module of its stem, its folder on Python's path, as if Python had been started with it.

    Raises:
        UserError: its name is another module's.    FileNotFoundError: there is none.
    """
    file = Path(name).absolute()
    module = re.sub(r"\W", "_", file.stem)
    if not file.is_file():
        raise FileNotFoundError(name)
    if (loaded := sys.modules.get(module)) is not None and _is_of(getattr(loaded, "__file__", None), file):
        return
    other = importlib.util.find_spec(module) if loaded is None else loaded.__spec__
    if loaded is not None or (other is not None and not _is_of(other.origin, file)):
        raise UserError(
            f"{program.IMPORT} {name}: Python has another module named {module!r}"
            + (f", {other.origin}" if other is not None and other.origin else ""),
            allowed="a file whose name is no other module's",
            next=f"rename {name}",
        )
    _put_on_path(str(file.parent))
    spec = importlib.util.spec_from_file_location(module, file)
    assert spec is not None, file
    assert spec.loader is not None, file  # a .py file has both
    sys.modules[module] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(sys.modules[module])
    except BaseException:
        del sys.modules[module]
        raise


def _is_of(origin: str | None, file: Path) -> bool:
    return origin is not None and os.path.exists(origin) and os.path.samefile(origin, file)


def _put_on_path(folder: str) -> None:
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _is_missing(error: Exception, name: str) -> bool:
    """Whether there is nothing of a name, and not something that it imports in turn."""
    if isinstance(error, FileNotFoundError):
        return program.is_file(name) and error.args == (name,)
    parents = [name.rsplit(".", dots)[0] for dots in range(name.count(".") + 1)]
    return isinstance(error, ModuleNotFoundError) and error.name in parents


def _nothing_of_that_name(name: str, names: Sequence[str], arguments: Sequence[str]) -> UserError:
    """The error of a module or file that is not there: next is the command with the nearest one."""
    candidates = list(_modules(Path(name).parent if program.is_file(name) else Path(), files=program.is_file(name)))
    near = None if name in program.COMMANDS else nearest(name, candidates, cutoff=0.7)
    what = "file" if program.is_file(name) else "module"
    if name in program.COMMANDS:
        hint = f": {name!r} is a command, and what is imported stands in front of it"
    else:
        hint = f", did you mean {near!r}?" if near else ""
    corrected = [word for other in names for word in (program.IMPORT, near if other == name else other)]
    return UserError(
        f"{program.IMPORT} {name}: there is no {what} {name!r}{hint}",
        allowed=ALLOWED,
        next=shell.line("barlowctl", *corrected, *arguments) if near else "barlowctl --help",
    )


def _modules(folder: Path, *, files: bool) -> Iterator[str]:
    """Modules of a folder by their names, or by their files."""
    for path in sorted(folder.glob("*.py")):
        yield str(path) if files else path.stem
    if not files:
        yield from (path.parent.name for path in sorted(folder.glob("*/__init__.py")))
