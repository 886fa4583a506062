"""Where code that torch and Triton compile on this machine is kept for the processes that come later.

Torch alone keeps it in the folder of temporary files, which a reboot empties, and the end of a cluster's job where that
folder is the job's own. Its key of a C++ kernel has the compiler's options, `-march=native` among them, and not the
processor: hence a folder for each kind of processor, which computers with one home may share.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from barlowctl.caches import cache_home, is_writable

TORCH, TRITON, TRITON_HOME = "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "TRITON_HOME"
VARIABLES = (TORCH, TRITON)
"""What `keep` sets, where it is not set."""

_passing: list[tempfile.TemporaryDirectory[str]] = []


@dataclass(frozen=True)
class Place:
    """Where compiled code goes.

    Attributes:
        folder: of torch's. survives: False: it cannot be written, so that torch has a temporary folder instead.
    """

    folder: Path
    survives: bool

    def __str__(self) -> str:
        if self.survives:
            return f"code is kept in {self.folder}"
        return f"code is not kept for the next job: cannot write to {self.folder}; {TORCH} names another folder"


def home() -> Path:
    """The folder of all of it; whoever removes it has code compiled anew."""
    return cache_home() / "barlowctl" / "compiled"


def named() -> Path | None:
    """What TORCHINDUCTOR_CACHE_DIR names; None if nobody set it but torch, which does as it is imported."""
    value = os.environ.get(TORCH)
    if not value:
        return None
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    return None if value == os.path.abspath(default_cache_dir()) else Path(value).absolute()


def place() -> Place:
    """Where it goes: what TORCHINDUCTOR_CACHE_DIR names, else a folder in `home`. Makes nothing."""
    folder = named() or home() / _kind()
    return Place(folder, is_writable(folder))


def keep() -> Place:
    """Let this process, and those that it starts, find it there and keep it there.

    Variables that are set stay as they are. Torch and Triton rename whole files into place: processes share the folder.
    """
    chosen = place()
    if chosen.survives:
        chosen.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.environ[TORCH] = str(chosen.folder)
        if TRITON_HOME not in os.environ:
            os.environ.setdefault(TRITON, str(chosen.folder / "triton"))
    elif TRITON not in os.environ and not is_writable(Path(os.environ.get(TRITON_HOME) or Path.home()) / ".triton"):
        _passing.append(tempfile.TemporaryDirectory(prefix="barlowctl-triton-"))  # which goes when this process ends
        os.environ[TRITON] = _passing[-1].name
    return chosen


def _kind() -> str:
    """A folder's name, of all that makes compiled code fit: torch, Python, the C library, the processor."""
    import llvmlite.binding as llvm
    import torch

    processor = llvm.get_host_cpu_name() or platform.machine()
    try:
        features = llvm.get_host_cpu_features().flatten()
    except RuntimeError:  # LLVM does not know them here; numba does without too
        features = ""
    parts = (torch.__version__, torch.version.git_version, sys.implementation.cache_tag, *platform.libc_ver())
    digest = hashlib.sha256("\n".join([*map(str, parts), platform.machine(), processor, features]).encode()).hexdigest()
    return f"torch-{torch.__version__}-{processor}-{digest[:12]}"
