"""What Linux says of the processor; of another system's nothing is known."""

from __future__ import annotations

from functools import cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
BF16 = frozenset({"amx_bf16", "avx512_bf16", "bf16"})
"""Flags of processors that multiply in bfloat16."""


def name() -> str:
    """The processor's name, or `unknown`."""
    return _first("model name") or "unknown"


def flags() -> frozenset[str]:
    """What the first processor can do, in the kernel's words; empty where it does not tell."""
    return frozenset((_first("flags") or _first("features")).split())


def multiplies_bf16() -> bool:
    """Whether it multiplies in bfloat16; others emulate that, several times slower than float32."""
    return _multiplies_bf16(CPUINFO)


def is_intels() -> bool:
    """Whether it is one of Intel's."""
    return _first("vendor_id") == "GenuineIntel"


@cache
def _multiplies_bf16(cpuinfo: Path) -> bool:
    return not BF16.isdisjoint(flags())


def _first(field: str) -> str:
    return _fields(CPUINFO).get(field, "")


@cache
def _fields(cpuinfo: Path) -> dict[str, str]:
    """Of the first processor, by their names in small letters."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return {}
    pairs = [line.partition(":") for line in reversed(lines)]
    return {key.strip().lower(): value.strip() for key, _, value in pairs}
