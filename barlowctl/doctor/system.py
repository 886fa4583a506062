"""The operating system: what works on it. Tests run on Linux alone; the others are told what they lack."""

from __future__ import annotations

import platform

from barlowctl.doctor.check import Check

WSL = "in an administrator's PowerShell run `wsl --install`, and use barlowctl in the Linux that this brings (WSL 2)"
WHY_NOT_WINDOWS = "Windows has neither the locks of files nor the signals that keep a run safe"


def is_windows() -> bool:
    """Whether this is Windows itself; WSL 2 is Linux."""
    return platform.system() == "Windows"


def check_system() -> Check:
    """The operating system, with what does not work on it."""
    system = platform.system()
    value = f"{system} {platform.machine()}"
    if system == "Linux":
        return Check("system", "ok", value)
    if is_windows():
        return Check("system", "fail", f"{value}: not supported", f"{WHY_NOT_WINDOWS}: {WSL}")
    if system == "Darwin":
        return Check("system", "warn", f"macOS {platform.machine()}: {_apple_gpu()}", "tests run on Linux only")
    return Check("system", "warn", value, "tests run on Linux only")


def _apple_gpu() -> str:
    import torch

    return "the CPU is used, and Apple's GPU (MPS) is not" if torch.backends.mps.is_available() else "the CPU is used"
