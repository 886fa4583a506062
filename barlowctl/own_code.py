"""Somebody's own code, which the package calls: where an error came up in it, and which module registers what."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import barlowctl
from barlowctl import shell
from barlowctl.errors import one_line

PACKAGE = Path(barlowctl.__file__).parent
SITES = {"site-packages", "dist-packages"}
"""Folders of installed packages, a virtual environment's and the system's."""
PARTS = ("network", "method", "optimizer")
"""What of a run can be somebody's own."""
FIRST = "a process that imports what registers it first: nothing that a run's folder says is imported"
"""What is allowed where nobody has registered a part that a run has."""
_NAME = re.compile(r"[\w.-]+")
_folders: dict[Path, None] = {}


def place(error: BaseException) -> str | None:
    """File and line of the innermost code that the package has called and that is somebody's; None: ours failed.

    Somebody's is what is neither Python's nor of a package that this one needs. What that code calls in turn, as
    torch's operations, counts as its.
    """
    called, own = False, None
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = frame.f_code.co_filename
        path = Path(name).resolve()
        if path.is_relative_to(PACKAGE):
            called, own = True, None
        elif called and not name.startswith("<") and not _is_needed(path):
            own = f"{name}, line {line}"
    return own


def source_of(made: Any) -> dict[str, str]:
    """Where somebody's class or function is: its module, that one's file and sha256; of a notebook's cell no file."""
    about = {"module": made.__module__, "file": "", "sha256": ""}
    try:
        file = Path(inspect.getsourcefile(inspect.unwrap(made)) or "").absolute()
        about |= {"file": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    except (OSError, TypeError):
        pass
    return about


def registration_of(made: Any) -> dict[str, str]:
    """Where somebody registers a class or function: where it is, or, of another package's, the module that does so."""
    about = source_of(made)
    if about["file"] and not (_is_needed(Path(about["file"])) or Path(about["file"]).is_relative_to(PACKAGE)):
        return about
    frame = inspect.currentframe()
    while frame is not None and Path(frame.f_code.co_filename).is_relative_to(PACKAGE):
        frame = frame.f_back
    if frame is None:
        return about
    module, file = frame.f_globals.get("__name__", "__main__"), Path(frame.f_code.co_filename)
    if not file.is_file():
        return {"module": module, "file": "", "sha256": ""}
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    return {"module": module, "file": str(file.absolute()), "sha256": sha256}


def remember_folder(folder: Path) -> None:
    """Note that a recipe of this folder is read: where it is a run's or a study's, that notes who registered what."""
    _folders.pop(folder.absolute(), None)
    _folders[folder.absolute()] = None


def registered_then(part: str, name: str) -> dict[str, str]:
    """What a run noted of who had registered a network or a method, of the folders whose recipes are read; {}: none.

    Args:
        part: of `PARTS`.
    """
    for folder in reversed(_folders):  # the newest first: that of the command at hand
        for file in (folder / "run.json", *sorted(folder.glob("cells/*/seed-*/run.json"))):
            with suppress(OSError, ValueError):
                about = note_of(json.loads(file.read_text(encoding="utf-8")), part)
                if about and about["name"] == name:
                    return about
    return {}


def note_of(values: Any, part: str) -> dict[str, str]:
    """What a run's run.json says of its network or method: name, module, file and sha256; {}: it is nobody's own."""
    about = values.get(part) if isinstance(values, dict) else None
    return about if isinstance(about, dict) and {"name", "module", "file", "sha256"} <= about.keys() else {}


def versions(values: Any) -> str:
    """What tells apart the versions of what is somebody's of a run, by its run.json; "": nothing is."""
    about = (note_of(values, part) for part in PARTS)
    return " ".join(noted["sha256"][:8] for noted in about if noted)


def who(about: Mapping[str, str]) -> str:
    """The module and the file that registered something, for people."""
    return f"{about['module']} ({about['file']})" if about["file"] else about["module"]


def first_step(about: Mapping[str, str]) -> str:
    """What to do where nobody has registered what a run notes: the same command, with an `--import` of it."""
    if importable := _importable(about):
        return f"--import {shell.line(importable)} barlowctl ..."
    return f"in Python: run what registers {about['name']!r}, as then"


def _importable(about: Mapping[str, str]) -> str:
    """What `--import` takes for what a run notes: its module where Python finds that from here, else its file."""
    module, file = about["module"], Path(about["file"])
    names_module = not file.is_file() or "." in module or file.name == "__init__.py" or SITES & set(file.parts)
    if module != "__main__" and (names_module or _is_here(module, file)):
        return module
    return str(file) if about["file"] else ""


def _is_here(module: str, file: Path) -> bool:
    """Whether a module's file lies in this folder, where `--import` looks for it."""
    here = Path(f"{module}.py")
    return here.is_file() and here.samefile(file)


def line_of(made: Any) -> str:
    """File and line of somebody's class or function, behind a comma; nothing of one in a notebook's cell."""
    if not (file := source_of(made)["file"]):
        return ""
    try:
        return f", {file}, line {inspect.getsourcelines(inspect.unwrap(made))[1]}"
    except (OSError, TypeError):
        return f", {file}"


def place_of_caller(error: BaseException) -> str | None:
    """File and line of somebody's code that has called the package, which refuses something; None: nobody's has."""
    own = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = frame.f_code.co_filename
        path = Path(name).resolve()
        if not (path.is_relative_to(PACKAGE) or name.startswith("<") or _is_needed(path)):
            own = f"{name}, line {line}"
    return own


def _is_needed(file: Path) -> bool:
    """Whether a file is Python's, or of an installed package that this one needs."""
    sites = [number for number, part in enumerate(file.parts) if part in SITES]
    if not sites:
        return any(file.is_relative_to(Path(sysconfig.get_path(kind)).resolve()) for kind in ("stdlib", "platstdlib"))
    needed = _needed()
    return not needed or file.parts[sites[-1] + 1].removesuffix(".py") in needed


@cache
def _needed() -> frozenset[str]:
    """What the packages that this one needs are imported by, those of its extras too; nothing: it is not installed."""
    distributions, remaining = set(), ["barlowctl"]
    while remaining:
        name = remaining.pop()
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        distributions.add(_plain(name))
        own = name == "barlowctl"
        names = [_NAME.match(line) for line in requirements if own or "extra ==" not in line]
        remaining += [match[0] for match in names if match and _plain(match[0]) not in distributions]
    if not distributions:
        return frozenset()
    imported = metadata.packages_distributions().items()
    return frozenset(name for name, sources in imported if distributions & set(map(_plain, sources)))


def _plain(distribution: str) -> str:
    """The name of a distribution, as two spellings of it have it in common."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


@contextmanager
def exits_are_errors() -> Iterator[None]:
    """Take sys.exit() in somebody's own code, which the package calls, for an error: the process is not theirs to end.

    Raises:
        RuntimeError: it was called there; the traceback leads to the line.
    """
    try:
        yield
    except SystemExit as end:
        if place(end) is None:
            raise
        raise RuntimeError(f"SystemExit({end.code!r}), which would end the whole process").with_traceback(
            end.__traceback__
        ) from None


def reason_of(error: BaseException) -> str:
    """An error in one line, with file and line where it came up in somebody's own code."""
    where = place(error)
    return one_line(error) if where is None else f"{one_line(error)}, in {where}"
