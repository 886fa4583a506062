"""What is read of /proc/cpuinfo."""

from __future__ import annotations

from pathlib import Path

import pytest

from barlowctl import processor

X86 = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Some Xeon @ 2.80GHz
flags\t\t: fpu avx512_bf16 sse

processor\t: 1
vendor_id\t: another
model name\t: another
flags\t\t: fpu
"""
ARM = """processor\t: 0
BogoMIPS\t: 2100.00
Features\t: fp asimd bf16
"""


@pytest.mark.parametrize(
    ("text", "name", "flags", "intels"),
    [
        (X86, "Some Xeon @ 2.80GHz", {"fpu", "avx512_bf16", "sse"}, True),
        (X86.replace("GenuineIntel", "AuthenticAMD"), "Some Xeon @ 2.80GHz", {"fpu", "avx512_bf16", "sse"}, False),
        (X86.replace("avx512_bf16 ", ""), "Some Xeon @ 2.80GHz", {"fpu", "sse"}, True),
        (ARM, "unknown", {"fp", "asimd", "bf16"}, False),
        (None, "unknown", set(), False),
    ],
)
def test_the_first_processor_is_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, name: str, flags: set[str], intels: bool
) -> None:
    """macOS and Windows have no such file: nothing is known of their processors."""
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    for read_once in (processor._fields, processor._multiplies_bf16):  # by path, and pytest may give it to the next
        read_once.cache_clear()
    assert processor.name() == name
    assert processor.flags() == flags
    assert processor.is_intels() == intels
    assert processor.multiplies_bf16() == bool(flags & {"avx512_bf16", "bf16"})
