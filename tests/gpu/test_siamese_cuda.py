"""BYOL, SimSiam and SwAV on a CUDA device: captured as one graph or not, they train what the CPU trains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from barlowctl.distributed import ALONE
from tests.methods.siamese_networks import MAKE, train

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("name", MAKE)
def test_ten_steps_are_those_of_the_cpu(tmp_path: Path, name: str, graph: bool) -> None:
    """In float64: the target's average by progress, prototypes that are kept for three steps, a queue that fills."""
    expected = train(ALONE, name, str(tmp_path / "cpu"))
    actual = train(ALONE, name, str(tmp_path / "cuda"), device="cuda", cuda_graph=graph)
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        limit = 1e-6 * max(float(np.abs(value).max()), 1e-3)  # progress is float32 on both
        np.testing.assert_allclose(actual[key], value, rtol=0, atol=limit, err_msg=key)
