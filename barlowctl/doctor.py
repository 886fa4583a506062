"""Is this machine ready? Each check as data: what was found, whether it will do, what to do about it.

Prints nothing: `barlowctl doctor` shows the list. Nothing here is changed on the machine, except that
writability is tested with a temporary file where a folder exists.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Literal

from barlowctl import cores

Status = Literal["ok", "warn", "fail"]

OLDEST_PYTHON = (3, 11)
OLDEST = {"torch": (2, 11), "torchvision": (0, 26), "timm": (1, 0, 20), "numba": (0, 61)}
DISK_WARN, DISK_FAIL = 10 * 2**30, 2**29  # bytes
MEMORY_WARN = 4 * 2**30  # bytes
REINSTALL = "in a checkout run `make setup`; elsewhere `pip install --upgrade barlowctl`"


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        name: what was looked at, a word or two.
        status: "ok"; "warn": works, with less; "fail": something barlowctl needs is missing or broken.
        value: what was found.
        advice: what to do; empty when there is nothing to do.
    """

    name: str
    status: Status
    value: str
    advice: str = ""


def checks(*, data_home: Path, runs: Path) -> list[Check]:
    """All checks in the order they are shown.

    Args:
        data_home: the folder that holds packed data sets; need not exist yet.
        runs: the folder that holds runs; need not exist yet.
    """
    planned: list[tuple[str, Callable[[], Check]]] = [
        ("python", check_python),
        ("torch", check_torch),
        ("torchvision", check_torchvision),
        ("cuda", check_cuda),
        ("bf16", check_bf16),
        ("timm", lambda: check_package("timm")),
        ("loader", check_loader),
        ("jpeg", check_jpeg),
        ("numba", lambda: check_package("numba")),
        ("numba cache", lambda: check_numba_cache(Path(__file__).parent)),
        ("compiler", check_compiler),
        ("cores", lambda: check_cores(len(cores.bound_to()), cores.quota())),
        ("memory", lambda: check_memory(available_memory())),
        ("data home", lambda: check_folder("data home", data_home, "BARLOWCTL_DATA")),
        ("runs", lambda: check_folder("runs", runs, None)),
        ("tensorboard", lambda: check_optional("tensorboard", "writes TensorBoard files")),
        ("wandb", lambda: check_optional("wandb", "logs to Weights & Biases")),
    ]
    return [_guarded(name, check) for name, check in planned]


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """The check's finding; a broken installation may raise anything, which is a finding too."""
    try:
        return check()
    except Exception as error:  # a library that fails to import raises what it likes
        return Check(name, "fail", f"{type(error).__name__}: {error}".splitlines()[0], REINSTALL)


# Software


def check_python() -> Check:
    """The interpreter's version."""
    value = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info[:2] < OLDEST_PYTHON:
        return Check("python", "fail", value, "install Python 3.11 or newer")
    return Check("python", "ok", value)


def parsed_version(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: "2.15.0+cu132" is (2, 15, 0)."""
    leading = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(number) for number in leading[0].split(".")) if leading else ()


def check_package(name: str) -> Check:
    """A required package: there, importable, and new enough."""
    if util.find_spec(name) is None:
        return Check(name, "fail", "not installed", REINSTALL)
    __import__(name)
    version = metadata.version(name)
    oldest = OLDEST[name]
    if parsed_version(version) < oldest:
        needed = ".".join(map(str, oldest))
        return Check(name, "warn", version, f"{needed} or newer is tested; {REINSTALL}")
    return Check(name, "ok", version)


def check_torch() -> Check:
    """torch and what it was built for."""
    found = check_package("torch")
    if found.status == "fail":
        return found
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
    return Check("torch", found.status, f"{torch.__version__} (built for {build})", found.advice)


def check_torchvision() -> Check:
    """torchvision, whose compiled operators must fit torch's version: one is called."""
    found = check_package("torchvision")
    if found.status == "fail":
        return found
    import torch
    from torchvision.ops import nms

    kept = nms(torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]]), torch.tensor([0.2, 0.9]), 0.5)
    if kept.tolist() != [1]:
        return Check("torchvision", "fail", f"{found.value}: its operators do not fit torch", REINSTALL)
    return found


def check_loader() -> Check:
    """Which data loader will be used, and why."""
    from barlowctl.data.beton import decode

    available, where = decode.available()
    if available:
        return Check("loader", "ok", f"fast (ffcv {metadata.version('ffcv')})")
    return Check(
        "loader",
        "warn",
        f"plain (torchvision): {where}",
        "the plain loader is about 5 times slower; for the fast one run `make setup` in a checkout",
    )


def check_jpeg() -> Check:
    """Pillow's JPEG codec: used where ffcv is not, and to check images while packing."""
    import PIL
    from PIL import features

    if not features.check("jpg"):
        return Check("jpeg", "fail", f"Pillow {PIL.__version__} without JPEG", "pip install --force-reinstall pillow")
    turbo = features.version("libjpeg_turbo")
    if turbo is None:
        value = f"Pillow {PIL.__version__}, plain libjpeg"
        return Check("jpeg", "warn", value, "slow decoding; PyPI's own pillow has libjpeg-turbo")
    return Check("jpeg", "ok", f"Pillow {PIL.__version__}, libjpeg-turbo {turbo}")


def check_numba_cache(package: Path) -> Check:
    """Compiled kernels are kept from run to run where numba can write them.

    Args:
        package: the folder of the modules that hold kernels.
    """
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    places = [Path(chosen)] if chosen else [package / "__pycache__", Path.home() / ".cache"]
    for place in places:
        if is_writable(place):
            return Check("numba cache", "ok", str(place))
    return Check(
        "numba cache",
        "warn",
        f"cannot write to {places[0]}",
        "kernels compile anew in every run (about 10 s): set NUMBA_CACHE_DIR to a folder you can write to",
    )


def check_compiler() -> Check:
    """A C++ compiler, the one that torch would take: `train.compile` needs it."""
    wanted = os.environ.get("CXX") or "g++"
    if found := shutil.which(wanted):
        return Check("compiler", "ok", found)
    missing = f"no {wanted}" + (", which CXX names" if os.environ.get("CXX") else "")
    return Check("compiler", "warn", missing, "recipes with train.compile need one: apt-get install g++")


def check_optional(name: str, purpose: str) -> Check:
    """A package of an extra: absent is fine."""
    if util.find_spec(name) is None:
        return Check(name, "ok", "not installed", f"optional, {purpose}: pip install {name}")
    return Check(name, "ok", metadata.version(name))


# Hardware


def check_cuda() -> Check:
    """The GPUs torch can use; a GPU it cannot use is a warning that says why."""
    import torch

    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        value = "; ".join(f"{device.name}, {device.total_memory / 2**30:.0f} GiB" for device in devices)
        return Check("cuda", "ok", value)
    driver = Path("/proc/driver/nvidia/version")
    if not driver.exists():
        return Check("cuda", "ok", "no NVIDIA GPU: runs on the CPU")
    line = driver.read_text().splitlines()[0].removeprefix("NVRM version: ")
    if torch.version.cuda is None:
        return Check("cuda", "warn", f"driver there ({line}), torch built without CUDA", "install PyPI's torch")
    return Check(
        "cuda",
        "warn",
        f"driver there ({line}), no usable GPU",
        f"torch wants a driver for CUDA {torch.version.cuda}: see nvidia-smi and CUDA_VISIBLE_DEVICES",
    )


def check_bf16() -> Check:
    """Whether bfloat16 arithmetic is done by the hardware."""
    import torch

    if torch.cuda.is_available():
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Check("bf16", "ok", "in the GPU's hardware")
        return Check("bf16", "warn", "emulated on this GPU", "train.precision fp16 is faster here")
    flags = cpu_flags(Path("/proc/cpuinfo"))
    native = sorted(flags & {"amx_bf16", "avx512_bf16", "bf16"})
    if native:
        return Check("bf16", "ok", f"in the CPU's hardware ({', '.join(native)})")
    return Check("bf16", "ok", "emulated on this CPU", "a run measures whether fp32 is faster, and says so")


def cpu_flags(cpuinfo: Path) -> set[str]:
    """The first processor's feature flags; empty where the kernel does not tell."""
    if not cpuinfo.exists():
        return set()
    for line in cpuinfo.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() in ("flags", "features"):
            return set(value.split())
    return set()


def check_cores(bound: int, quota: float | None) -> Check:
    """Cores, and a container's quota below them, which makes threads wait for one another.

    Args:
        bound: cores this process may run on.
        quota: cores' worth of time granted, None for no limit.
    """
    if quota is not None and quota < bound:
        threads = max(1, int(quota))
        value = f"{bound} visible, {quota:g} granted to this container"
        return Check("cores", "warn", value, f"libraries start {bound} threads: set OMP_NUM_THREADS={threads}")
    return Check("cores", "ok", str(bound))


def available_memory() -> int | None:
    """Bytes that can be had without swapping, within a container's limit; None where nobody tells."""
    found = list(_memory_limits())
    return min(found) if found else None


def _memory_limits() -> Iterator[int]:
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                yield int(line.split()[1]) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and limit.read_text().strip() != "max":
        yield int(limit.read_text()) - int(used.read_text())


def check_memory(available: int | None) -> Check:
    """Memory, in bytes, that is free for a run."""
    if available is None:
        return Check("memory", "warn", "unknown on this system", "a run wants 4 GiB or more")
    value = f"{available / 2**30:.1f} GiB available"
    if available < MEMORY_WARN:
        return Check("memory", "warn", value, "smaller batches need less: --set train.batch_size=128")
    return Check("memory", "ok", value)


def is_writable(folder: Path) -> bool:
    """Whether a file can be made in the folder, or in the nearest existing one above it."""
    try:
        with tempfile.TemporaryFile(dir=nearest_existing(folder)):
            return True
    except OSError:
        return False


def nearest_existing(folder: Path) -> Path:
    """The folder itself, else the nearest existing one above it."""
    folder = folder.expanduser().absolute()
    return next(place for place in (folder, *folder.parents) if place.exists())


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
