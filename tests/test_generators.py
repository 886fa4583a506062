"""torch's own generators, drawn from for a while."""

from __future__ import annotations

import pytest
import torch

from barlowctl.generators import own_generator


def test_what_is_drawn_inside_changes_nothing_outside() -> None:
    torch.manual_seed(1)
    first, second = torch.rand(2).split(1)
    torch.manual_seed(1)
    assert torch.rand(1) == first
    with own_generator():
        assert torch.rand(1) == second  # it goes on from where it is
        torch.rand(5)
    with own_generator(7):
        seeded = torch.rand(3)
    with pytest.raises(KeyboardInterrupt), own_generator(8):
        raise KeyboardInterrupt
    assert torch.rand(1) == second
    assert torch.equal(seeded, torch.rand(3, generator=torch.Generator().manual_seed(7)))


def test_a_seed_is_of_the_generators_that_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.manual_seed` would seed every GPU of the process, and only one is put back."""

    def everywhere(seed: int) -> None:
        raise AssertionError("seeded every device")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", everywhere)
    monkeypatch.setattr(torch.cuda, "manual_seed", everywhere)
    with own_generator(3, torch.device("cpu")):
        assert torch.initial_seed() == 3
