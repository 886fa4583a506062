"""BYOL, SimSiam and SwAV over ranks: terms, gradients and ten steps are those of one process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from barlowctl.distributed import ALONE
from tests.dist import gang
from tests.methods import siamese_networks

pytestmark = pytest.mark.dist


@pytest.mark.parametrize("size", [2, 4])
def test_gradients_and_ten_steps_are_those_of_one_process(tmp_path: Path, size: int) -> None:
    """Distinct shards whose sizes differ, a short last batch, moving averages, prototypes and the queue among it."""
    expected = siamese_networks.everything(ALONE, str(tmp_path / "alone"))
    for rank in gang.together(siamese_networks.everything, size, str(tmp_path / "together")):
        for what, values in expected.items():
            assert rank[what].keys() == values.keys()
            for name, value in values.items():
                limit = 1e-9 * max(float(np.abs(value).max()), 1e-3)
                np.testing.assert_allclose(rank[what][name], value, rtol=0, atol=limit, err_msg=f"{what}: {name}")
