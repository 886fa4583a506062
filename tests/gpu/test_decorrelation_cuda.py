"""VICReg, Mixed and multi-crop Barlow Twins, PIRL on a CUDA device: captured or not, they train what the CPU trains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from barlowctl.distributed import ALONE
from tests.dist import methods
from tests.dist.work import train_method

pytestmark = pytest.mark.gpu

NAMES = ("vicreg", "mixed-barlow-twins", "multi-crop", "pirl", "pirl, cross-entropy")


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_ten_steps_are_those_of_the_cpu(tmp_path: Path, name: str, graph: bool) -> None:
    """In float64: what is mixed, the jigsaws and the negatives of every step, the bank, and Z of the first batch."""
    run = replace(methods.TRAINED, small=methods.SMALL.get(name, 0))
    expected = train_method(ALONE, methods.MAKERS[name](ALONE), run, str(tmp_path / "cpu"))
    on_gpu = replace(run, device="cuda", cuda_graph=graph)
    actual = train_method(ALONE, methods.MAKERS[name](ALONE), on_gpu, str(tmp_path / "cuda"))
    assert actual.keys() == expected.keys()
    del expected["path"]  # a step's event comes a step later there, with the weights of then
    for key, value in expected.items():
        limit = 1e-6 * max(float(np.abs(value).max()), 1e-3)  # alpha and progress are float32 on both
        np.testing.assert_allclose(actual[key], value, rtol=0, atol=limit, err_msg=key)
