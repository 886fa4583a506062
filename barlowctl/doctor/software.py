"""Packages and programs: there, importable, new enough."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from importlib import metadata, util

from barlowctl import compilers
from barlowctl.doctor.check import REINSTALL, Check

SAME_INDEX = (
    "take both from one index: `pip install --force-reinstall torch torchvision`; builds without CUDA have one of "
    "their own"
)
OLDEST_PYTHON = (3, 11)
OLDEST = {"torch": (2, 11), "torchvision": (0, 26), "timm": (1, 0, 31), "numba": (0, 61)}


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
    package = check_package("torch")
    if package.status == "fail":
        return package
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
    return Check("torch", package.status, f"{torch.__version__} (built for {build})", package.advice)


def check_torchvision() -> Check:
    """torchvision, whose compiled operators must fit torch's version and build: one is called."""
    import torch

    try:
        package = check_package("torchvision")
        if package.status == "fail":
            return package
        from torchvision.ops import nms

        indices = nms(torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]]), torch.tensor([0.2, 0.9]), 0.5)
    except RuntimeError as error:  # its import asks torch for operators that a library of another build did not bring
        if "torchvision::" not in str(error):
            raise
    else:
        if indices.tolist() == [1]:
            return package
    value = f"{metadata.version('torchvision')}: its operators do not fit torch {torch.__version__}"
    return Check("torchvision", "fail", value, SAME_INDEX)


def check_loader() -> Check:
    """Which data loader will be used, and what decodes JPEGs for it."""
    from barlowctl.data.beton import decoders

    decoder = decoders.chosen()
    if decoder is not None:
        return Check("loader", "ok", f"fast (JPEGs by {decoders.described(decoder)})")
    slower = "the plain loader is about 10 times slower for JPEGs"
    return Check("loader", "warn", f"plain (torchvision): {decoders.why_none()}", f"{slower}: pip install simplejpeg")


def check_jpeg() -> Check:
    """Pillow's JPEG codec: of folders that are read as they lie, and of JPEGs that are stored anew."""
    import PIL
    from PIL import features

    if not features.check("jpg"):
        return Check("jpeg", "fail", f"Pillow {PIL.__version__} without JPEG", "pip install --force-reinstall pillow")
    turbo = features.version("libjpeg_turbo")
    if turbo is None:
        value = f"Pillow {PIL.__version__}, plain libjpeg"
        return Check("jpeg", "warn", value, "slow decoding; PyPI's own pillow has libjpeg-turbo")
    return Check("jpeg", "ok", f"Pillow {PIL.__version__}, libjpeg-turbo {turbo}")


def check_compiler() -> Check:
    """A C++ compiler, the one that torch would take: `train.compile` needs it."""
    name = os.environ.get("CXX") or "g++"
    if path := shutil.which(name):
        return Check("compiler", "ok", path)
    missing = f"no {name}" + (", which CXX names" if os.environ.get("CXX") else "")
    return Check("compiler", "warn", missing, f"recipes with train.compile need one: {compilers.installation()}")


def check_optional(name: str, purpose: str, module: str | None = None, extra: str | None = None) -> Check:
    """A package of an extra: absent is fine. module, extra: where they are called otherwise than it."""
    if util.find_spec(module or name) is None:
        which = f"'barlowctl[{extra}]'" if extra else name
        return Check(name, "ok", "not installed", f"optional, {purpose}: pip install {which}")
    return Check(name, "ok", metadata.version(name))
