"""Modes of modules, put back as they were."""

from __future__ import annotations

import pytest
from torch import nn

from barlowctl.modes import in_mode


@pytest.mark.parametrize("training", [True, False])
def test_every_submodule_has_its_own_mode_again(training: bool) -> None:
    module = nn.Sequential(nn.Sequential(nn.Dropout()), nn.BatchNorm1d(3), nn.Identity()).train()
    module[0].eval()
    module[0][0].train()
    before = [part.training for part in module.modules()]
    assert set(before) == {True, False}
    with in_mode(module, training=training) as inside:
        assert inside is module
        assert {part.training for part in module.modules()} == {training}
    assert [part.training for part in module.modules()] == before

    def failing() -> None:
        with in_mode(module, training=training):
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        failing()
    assert [part.training for part in module.modules()] == before
