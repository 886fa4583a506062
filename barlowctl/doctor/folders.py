"""Folders that are written to: writable, with room on their disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from barlowctl import compiled_code
from barlowctl.caches import cache_home, is_writable, nearest_existing
from barlowctl.doctor.check import Check

DISK_WARN, DISK_FAIL = 10 * 2**30, 2**29  # bytes


def check_folder(name: str, folder: Path, variable: str | None) -> Check:
    """Disk space and writability of a folder we write to.

    Args:
        name: the check's name.
        folder: the folder; need not exist yet.
        variable: the environment variable that moves it, if there is one.
    """
    elsewhere = f"; {variable} moves it" if variable else ""
    if not is_writable(folder):
        return Check(name, "fail", f"cannot write to {folder}", f"make it writable{elsewhere}")
    free = shutil.disk_usage(nearest_existing(folder)).free
    value = f"{folder}: {free / 2**30:.1f} GiB free"
    if free < DISK_FAIL:
        return Check(name, "fail", value, f"make room{elsewhere}")
    if free < DISK_WARN:
        return Check(name, "warn", value, f"enough for small data sets only: make room{elsewhere}")
    return Check(name, "ok", value)


def check_numba_cache(package: Path) -> Check:
    """Compiled kernels are kept from run to run where numba can write them.

    Args:
        package: the folder of the modules that hold kernels.
    """
    named = os.environ.get("NUMBA_CACHE_DIR")
    folders = [Path(named)] if named else [package / "__pycache__", cache_home() / "numba"]
    for folder in folders:
        if is_writable(folder):
            return Check("numba cache", "ok", str(folder))
    return Check(
        "numba cache",
        "warn",
        f"cannot write to {folders[0]}",
        "kernels compile anew in every run (about 10 s): set NUMBA_CACHE_DIR to a folder you can write to",
    )


def check_compiled_code() -> Check:
    """What `train.compile` compiles is found by later runs, in a folder that may be removed."""
    place, name = compiled_code.place(), "compiled code"
    if not place.survives:
        advice = f"train.compile compiles anew in every job: set {compiled_code.TORCH} to a folder you can write to"
        return Check(name, "warn", f"cannot write to {place.folder}", advice)
    size = sum(file.stat().st_size for file in place.folder.rglob("*") if file.is_file())
    return Check(name, "ok", f"{place.folder}" + (f": {size / 2**20:.0f} MiB" if size else ""))
