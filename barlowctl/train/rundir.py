"""A run's directory: what it holds, how it is made, found again and never overwritten.

recipe.toml      the resolved recipe, complete      metrics.jsonl   one JSON object per record
run.json         command, environment, git, data    checkpoints/    see `checkpoint`
result.json      written when the run is complete   lock            held while a process trains
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from barlowctl.errors import UserError

RECORDED_PACKAGES = ("barlowctl", "torch", "torchvision", "timm", "numpy", "numba", "ffcv", "safetensors")


def runs_home() -> Path:
    """Where runs go by default: `BARLOWCTL_RUNS`, else `./runs`."""
    return Path(os.environ.get("BARLOWCTL_RUNS", "runs"))


def create(path: Path | None, name: str) -> Path:
    """A new, empty run directory: `path`, else `<runs home>/<name>-<date>-<time>`.

    Raises:
        UserError: `path` exists already, or cannot be made.
    """
    given = path is not None
    stem = runs_home() / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    path = path or stem
    for attempt in range(100):
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            if given:
                raise UserError(
                    f"'{path}' exists already, and a run is never overwritten",
                    next=f"barlowctl pretrain --resume {path}   (or another --out)",
                ) from None
            path = stem.with_name(f"{stem.name}-{attempt + 2}")
        except OSError as error:
            raise UserError(
                f"the run directory '{path}' cannot be made: {error.strerror}", next="name another place with --out"
            ) from error
    raise UserError(f"'{runs_home()}' has too many runs named '{stem.name}'", next="name the run with --out")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file atomically."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(values, indent=2, default=str) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a run.

    Raises:
        UserError: it is missing or does not parse.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"'{path.parent}' is not a run: it has no {path.name}", next="barlowctl pretrain --recipe quickstart"
        ) from None
    except ValueError as error:
        raise UserError(f"'{path}' is damaged: {error}", next="restore it from a copy, or start a new run") from error


def newest_finished() -> Path:
    """The most recently finished run of the runs home.

    Raises:
        UserError: there is none.
    """
    finished = sorted(runs_home().glob("*/result.json"), key=lambda path: path.stat().st_mtime)
    if not finished:
        raise UserError(
            f"no finished run in '{runs_home()}'",
            allowed="a run directory as argument (runs are looked for in BARLOWCTL_RUNS, else ./runs)",
            next="barlowctl pretrain --recipe quickstart",
        )
    return finished[-1].parent


@contextmanager
def lock(run: Path) -> Iterator[None]:
    """Hold the run for this process, so that no second one trains in it.

    Raises:
        UserError: another process holds it.
    """
    with open(run / "lock", "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise UserError(
                f"'{run}' is being trained by {holder}", next="wait for it, or stop it, then resume"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def environment() -> dict[str, Any]:
    """What a run was made with: versions, machine, command, git state."""
    return {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor_cores": len(os.sched_getaffinity(0)),
        "packages": {name: version for name in RECORDED_PACKAGES if (version := _version(name))},
        "git": _git_state(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_state() -> dict[str, Any] | None:
    """Commit and cleanliness of the checkout this package runs from, if it runs from one."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        tracked = git("ls-files", "--", str(Path(__file__).resolve()))
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))} if tracked else None
    except (OSError, subprocess.SubprocessError):
        return None
