"""Triton's kernels of the chain: what they compute, interpreted on the CPU, and that they compile for a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from barlowctl.data.views.parameters import draw_parameters
from barlowctl.data.views.spec import ViewSpec
from tests.data.views.interpreted import SPECS, pictures

pytest.importorskip("triton", reason="torch's builds without CUDA have no Triton")


CASES = [f"{name}/3" for name in SPECS] + ["everything/1"]
SLOW = [f"{name}/1" for name in SPECS if name != "everything"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Mapping[str, np.ndarray]]:
    """What a case's process has made, of the default tests' cases or of the slow ones."""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}

    @cache
    def of_all(cases: tuple[str, ...]) -> Mapping[str, np.ndarray]:
        out = tmp_path_factory.mktemp("fused") / "made.npz"
        subprocess.run([sys.executable, "-m", "tests.data.views.interpreted", out, *cases], check=True, env=environment)
        with np.load(out) as file:
            return dict(file)

    return lambda case: of_all(tuple(CASES if case in CASES else SLOW))


@pytest.mark.parametrize("case", [*CASES, *(pytest.param(case, marks=pytest.mark.slow) for case in SLOW)])
def test_the_batched_chain_is_met(made: Callable[[str], Mapping[str, np.ndarray]], case: str) -> None:
    """To a level, and mostly to none, except for pixels at solarisation's threshold."""
    name, channels = case.split("/")
    before, batched, fused = (made(case)[f"{case}/{key}"] for key in ("before", "batched", "fused"))
    assert fused.shape == before.shape == (*pictures().shape[:3], int(channels))
    difference = np.abs(fused.astype(int) - batched.astype(int))
    assert (difference > 1).mean() < 1e-3
    assert (difference > 0).mean() < 5e-3
    if name == "nothing":
        assert np.array_equal(fused, before)
    else:
        assert np.abs(fused.astype(int) - before.astype(int)).max() > 20


def test_these_draws_have_everything_in_them() -> None:
    """Every column of a kernel's table has two values at least, so that no branch is left out above."""
    from barlowctl.data.views import fused
    from barlowctl.data.views.chain_kernels import WIDTH

    keys = np.arange(1000, 1000 + len(pictures()))
    specs = [SPECS[name] for name in ("second view", "everything", "moco")]
    lines = np.concatenate([fused.table(draw_parameters(spec, 3, 5, keys, 1), 3) for spec in specs])
    assert lines.shape[1] == WIDTH.value
    assert all(len(np.unique(column)) > 1 for column in lines.T)
    assert set(np.unique(lines[:, :4])) == {-1.0, 0.0, 1.0, 2.0, 3.0}
    assert set(np.unique(lines[:, 9])) == {0.0, 1.0, 2.0}  # no grey, grey last, grey first


def test_enhanced_images_are_left_to_the_batched_chain() -> None:
    from barlowctl.data.views import fused

    drawn = draw_parameters(ViewSpec(16, photometric=0.5), 0, 0, np.arange(20), 0)
    assert not fused.can(drawn, 3)
    assert [fused.can(drawn.part(i, i + 1), 3) for i in range(20)] == [not chosen for chosen in drawn.autocontrast]


@pytest.mark.slow
def test_the_kernels_compile_for_a_gpu_that_is_not_here(tmp_path: Path) -> None:
    """To machine code of an H100, without spilling registers into memory."""
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-W", "ignore", "-m", "tests.data.views.compiled_kernels", "90"]
    lines = subprocess.run(command, check=True, env=environment, capture_output=True, text=True).stdout.split()
    assert lines == ["sum_gray", "distort", "blur_rows", "blur_columns"]
