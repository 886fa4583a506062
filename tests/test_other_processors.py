"""Kernels on other processors than the one that tests run on: all of them compile, and compute what they should.

On a machine that has what a kernel takes for granted, nothing else would say that others lack it. LLVM ends the process
where an instruction is not to be had.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

AVX2 = "+avx,+avx2,+bmi,+bmi2,+f16c,+fma"
AVX512 = f"{AVX2},+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl"
ANY = "no vectors to speak of"
PROCESSORS = {
    ANY: ("generic", "", (4, False, False)),
    "AVX2": ("haswell", AVX2, (8, False, False)),
    "AVX-512": ("skylake-avx512", AVX512, (16, False, False)),
    "AVX-512 with bf16": ("cooperlake", f"{AVX512},+avx512bf16", (16, True, False)),
    "tiles": ("sapphirerapids", f"{AVX512},+avx512bf16,+amx-tile,+amx-bf16", (16, True, True)),
}
"""x86's, by LLVM's names; and of each float32 numbers of a vector, and whether it rounds to bf16, and has tiles."""

IMPORTED = """
import importlib, os, pkgutil
import barlowctl
for module in pkgutil.walk_packages(barlowctl.__path__, "barlowctl."):
    if not module.name.endswith("__main__"):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if error.name.startswith("barlowctl"):
                raise
import torch
from barlowctl.kernels import float_vectors, layer_norm
from barlowctl.kernels.batch_norm import loops, threads, vectors
from barlowctl.kernels.number_formats import LIKE
from barlowctl.kernels.tiles import sums
assert threads.loops_of(LIKE[torch.bfloat16]) is (vectors if float_vectors.ROUNDS else loops)
for dtype in LIKE:
    threads._functions(dtype), layer_norm.normalizing(dtype), layer_norm.differentiating(dtype)
print(float_vectors.LANES, float_vectors.ROUNDS, sums.HAS_TILES)
"""

TESTS = (
    "kernels/test_norm_vectors.py",
    "kernels/test_tile_vectors.py",
    "model/cpu/test_depthwise.py::test_gradients_are_those_of_the_convolution",
    "model/cpu/test_fused_attention.py::test_it_is_the_formula",
    "model/cpu/test_fused_attention.py::test_what_is_no_number_stays_so_where_it_is_seen",
    "model/cpu/test_fused_layer_norm.py::test_it_is_the_layer_norm",
    "model/cpu/test_pooled_norm.py::test_it_is_what_the_three_compute",
    "model/cpu/test_tabulated_activations.py::test_every_number_is_the_function_rounded_once",
    "model/cpu/test_tile_products.py::test_it_is_the_convolution",
    "model/cpu/test_tile_rows.py::test_it_is_the_convolution",
    "model/cpu/test_tile_rows.py::test_a_linear_with_a_bias_is_torchs",
    "model/cpu/test_winograd.py::test_it_is_the_convolution_up_to_rounding",
    "model/cpu/test_winograd.py::test_what_is_no_number_stays_so",
)
"""What is right to the last bits, of each kind of kernels."""


def on(processor: str, command: list[str], cache: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with kernels for such a processor, all of which are compiled anew."""
    name, features, _ = PROCESSORS[processor]
    own = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features, "NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, *command]
    return subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("processor", PROCESSORS)
def test_every_module_can_be_imported(processor: str, tmp_path: Path) -> None:
    """Kernels that are compiled where they stand, for an address, are so then; none of them is called."""
    if processor != ANY and platform.machine().lower() not in {"x86_64", "amd64"}:
        pytest.skip("LLVM compiles for x86 here only where the machine is one")
    done = on(processor, ["-c", IMPORTED], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(part) for part in PROCESSORS[processor][2]]


@pytest.mark.slow
@pytest.mark.parametrize("processor", [ANY, "AVX2"])
def test_other_processors_compute_the_same(processor: str, tmp_path: Path) -> None:
    if processor != ANY and not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        pytest.skip("this processor has none")
    tests = [str(Path(__file__).parent / test) for test in TESTS]
    done = on(processor, ["-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider", *tests], tmp_path)
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout.splitlines()[-1]
