"""Every compared method, stopped and resumed: bit for bit the run that was never stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from barlowctl.distributed import ALONE
from barlowctl.errors import RunStopped
from tests.dist import methods
from tests.dist.work import train_method

RUN = replace(methods.TRAINED, dtype="float32", batches=3)


@pytest.mark.parametrize("name", methods.MAKERS)
def test_a_resumed_run_is_the_run(name: str, tmp_path: Path) -> None:
    """Momentum encoder, queue, memory bank, the draws of a shuffle, the number of the step
    and what is frozen for how long are part of the state."""

    def begin() -> methods.Method:
        return methods.MAKERS[name](ALONE).float()

    run = methods.run_of(name, RUN)
    whole = train_method(ALONE, begin(), run, str(tmp_path / "whole"))
    with pytest.raises(RunStopped):
        train_method(ALONE, begin(), run, str(tmp_path / "stopped"), stop_at=2)
    resumed = train_method(ALONE, begin(), run, str(tmp_path / "stopped"), resume=True)
    assert len(whole["loss"]) == 6
    assert resumed["loss"].tolist() == whole["loss"].tolist()[2:]
    for key in whole.keys() - {"loss", "path"}:
        np.testing.assert_array_equal(resumed[key], whole[key], err_msg=key)
