"""Is this machine ready? Each check as data: what was found, whether it will do, what to do about it.

Prints nothing: `barlowctl doctor` shows the list. Nothing here is changed on the machine, except that
writability is tested with a temporary file where a folder exists.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import barlowctl
from barlowctl import cores, memory
from barlowctl.doctor import folders, hardware, software, system
from barlowctl.doctor.check import REINSTALL, Check


def checks(*, data_home: Path, runs: Path) -> list[Check]:
    """All checks in the order they are shown.

    Args:
        data_home: the folder that holds packed data sets; need not exist yet.
        runs: the folder that holds runs; need not exist yet.
    """
    planned: list[tuple[str, Callable[[], Check]]] = [
        ("system", system.check_system),
        ("python", software.check_python),
        ("torch", software.check_torch),
        ("torchvision", software.check_torchvision),
        ("cuda", hardware.check_cuda),
        ("bf16", hardware.check_bf16),
        ("timm", lambda: software.check_package("timm")),
        ("loader", software.check_loader),
        ("jpeg", software.check_jpeg),
        ("numba", lambda: software.check_package("numba")),
        ("numba cache", lambda: folders.check_numba_cache(Path(barlowctl.__file__).parent)),
        ("compiler", software.check_compiler),
        ("compiled code", folders.check_compiled_code),
        ("cores", lambda: hardware.check_cores(len(cores.bound_to()), cores.quota())),
        ("memory", lambda: hardware.check_memory(memory.available())),
        ("data home", lambda: folders.check_folder("data home", data_home, "BARLOWCTL_DATA")),
        ("runs", lambda: folders.check_folder("runs", runs, None)),
        ("tensorboard", lambda: software.check_optional("tensorboard", "writes TensorBoard files")),
        ("wandb", lambda: software.check_optional("wandb", "logs to Weights & Biases")),
        ("pillow-heif", lambda: software.check_optional("pillow-heif", "reads HEIC photos", "pillow_heif", "heif")),
        ("pydicom", lambda: software.check_optional("pydicom", "reads DICOM scans", extra="dicom")),
        ("astropy", lambda: software.check_optional("astropy", "reads FITS images", extra="fits")),
        ("h5py", lambda: software.check_optional("h5py", "reads HDF5 files", extra="hdf5")),
    ]
    return [_guarded(name, check) for name, check in planned]


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """The check's finding; a broken installation may raise anything, which is a finding too."""
    try:
        return check()
    except Exception as error:  # a library that fails to import raises what it likes
        advice = software.SAME_INDEX if "torchvision::" in str(error) else REINSTALL  # whose import timm's begins with
        return Check(name, "fail", f"{type(error).__name__}: {error}".splitlines()[0], advice)
