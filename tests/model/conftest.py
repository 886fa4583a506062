"""What tests of networks share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from barlowctl import processor
from barlowctl.kernels.tiles import sums as tile_sums
from barlowctl.model.cpu import tile_products


@pytest.fixture
def one_thread() -> Iterator[None]:
    """The number of threads with which most of these tests were made."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def on_intel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on a processor of Intel's with AVX-512 and MKL, wherever the tests run."""
    _be(monkeypatch, tmp_path, "GenuineIntel", "AVX512")


@pytest.fixture
def on_amd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on one of AMD's with AVX-512."""
    _be(monkeypatch, tmp_path, "AuthenticAMD", "AVX512")


@pytest.fixture
def without_avx512(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on one of AMD's with vectors of 256 bits."""
    _be(monkeypatch, tmp_path, "AuthenticAMD", "AVX2")


@pytest.fixture
def multiplies_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels of products in bfloat16 are called on any processor: without its instructions they are slow, and right.

    Which way a network takes is another thing: it depends on the processor, and this fixture changes it.
    """
    if not tile_products.is_usable():
        if tile_sums.HAS_TILES:
            pytest.skip("kernels are compiled for tiles, and the system was not asked for them")
        monkeypatch.setattr(tile_products, "is_usable", lambda: True)


def _be(monkeypatch: pytest.MonkeyPatch, folder: Path, vendor: str, capability: str) -> None:
    monkeypatch.setattr(processor, "CPUINFO", folder / "cpuinfo")
    (folder / "cpuinfo").write_text(f"vendor_id\t: {vendor}\n")
    monkeypatch.setattr(tile_products, "is_usable", lambda: False)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
