"""How kernels of ours are compiled. What is not a number stays so."""

from __future__ import annotations

from typing import Any

FLAGS = {"contract", "nsz", "reassoc"}  # of floating point; not those by which a value that is no number may vanish
KERNEL: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": FLAGS}
