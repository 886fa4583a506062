"""A run of a network that is not timm's: who registers it, and whether that has changed since the run began."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from barlowctl.model import registered
from barlowctl.runs import rundir


@contextmanager
def explained(run: Path | None) -> Iterator[None]:
    """Where a network is unknown that somebody had registered when the run began, say what registers it.

    Args:
        run: None: a new one.
    """
    try:
        yield
    except registered.UnknownNetwork as error:
        about = _noted(run) if run is not None else {}
        if not about:
            raise
        module, file = about["module"], about["file"]
        place = f"{module} ({file})" if file else module
        raise registered.UnknownNetwork(
            f"the network of the run '{run}' is {about['name']!r}, which {place} registered with timm when it began",
            allowed="a Python program that registers it first; commands have timm's own networks",
            next=f"in Python: run what registers it, {file or 'as then'}; then barlowctl.load({str(run)!r})"
            if module == "__main__"
            else f"in Python: import {module}; then barlowctl.load({str(run)!r})",
        ) from error


def note_changed(run: Path) -> tuple[str, ...]:
    """What is to be said where the file that registers the network is another one than when the run began."""
    before = _noted(run)
    now = registered.record(before["name"]) if before else {}
    if not before.get("sha256") or not now.get("sha256") or now["sha256"] == before["sha256"]:
        return ()
    return (f"the network is built by {now['file']}, which is not as it was when the run began",)


def _noted(run: Path) -> dict[str, str]:
    file = run / "run.json"
    about = rundir.read_json(file).get("network") if file.is_file() else None
    return about if isinstance(about, dict) and {"name", "module", "file", "sha256"} <= about.keys() else {}
