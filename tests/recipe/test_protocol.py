"""Protocols of classifiers, with values in place of theirs."""

from __future__ import annotations

import pytest

from barlowctl.errors import UserError
from barlowctl.recipe.protocol import PROTOCOLS, override


@pytest.mark.parametrize("text", ["epochs=10", "epochs=10.0", 'epochs="10"'])
def test_drops_and_warm_up_move_with_the_epochs_however_they_are_written(text: str) -> None:
    assert override(PROTOCOLS["semi-1"], [text]).drops == (6, 8)  # of 12 and 16 of 20
    assert override(PROTOCOLS["finetune-modern"], [text]).warmup_epochs == 0.5  # of 5 of 100


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("epochs=true", "a number, not true or false"),
        ("drops=[true,16]", "numbers, not true or false"),
        ("betas=[true, 0.9]", "numbers, not true or false"),
        ("betas=[0.9]", "two numbers, e.g. [0.9, 0.999]"),
        ("betas=[0.9, 1.5]", "less than 1"),
        ("epochs=1.5", "a whole number"),
    ],
)
def test_what_is_refused_is_named_as_it_was_typed(text: str, allowed: str) -> None:
    with pytest.raises(UserError) as refused:
        override(PROTOCOLS["linear"], ["momentum=0.8", text])
    assert (refused.value.message, refused.value.allowed) == (f"--set {text}", allowed)
    assert refused.value.next is not None
    assert f"--set={text}" in refused.value.next
