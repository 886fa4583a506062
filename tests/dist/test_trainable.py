"""What has a batch of its own, over ranks: losses and weights are those of one process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from barlowctl.distributed import ALONE
from tests.dist import gang
from tests.train import ragged

pytestmark = pytest.mark.dist


def test_two_ranks_train_what_one_process_does(tmp_path: Path) -> None:
    expected = ragged.train(ALONE, str(tmp_path / "alone"))
    for rank in gang.together(ragged.train, 2, str(tmp_path / "together")):
        assert rank["largest"] == 3
        np.testing.assert_allclose(rank["loss"], expected["loss"], rtol=1e-10)
        for name, value in expected["weights"].items():
            np.testing.assert_allclose(rank["weights"][name], value, rtol=1e-9, atol=1e-12, err_msg=name)
