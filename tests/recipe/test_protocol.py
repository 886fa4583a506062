"""Protocols of classifiers, with values in place of theirs."""

from __future__ import annotations

import re

import pytest

from barlowctl.errors import UserError
from barlowctl.recipe.allowed import allowed
from barlowctl.recipe.protocol import PROTOCOLS, Protocol, override


@pytest.mark.parametrize("text", ["epochs=10", "epochs=10.0", 'epochs="10"'])
def test_drops_and_warm_up_move_with_the_epochs_however_they_are_written(text: str) -> None:
    assert override(PROTOCOLS["semi-1"], [text]).drops == (6, 8)  # of 12 and 16 of 20
    assert override(PROTOCOLS["finetune-modern"], [text]).warmup_epochs == 0.5  # of 5 of 100


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("epochs=true", "a whole number from 1 to 2,147,483,647"),
        ("drops=[true,16]", "a list, each a whole number from 0 to 2,147,483,647"),
        ("betas=[true, 0.9]", "a list of two, each a number from 0 below 1"),
        ("betas=[0.9]", "a list of two, each a number from 0 below 1"),
        ("betas=[0.9, 1.5]", "a list of two, each a number from 0 below 1"),
        ("epochs=1.5", "a whole number from 1 to 2,147,483,647"),
    ],
)
def test_what_is_refused_is_named_as_it_was_typed(text: str, instead: str) -> None:
    with pytest.raises(UserError) as refused:
        override(PROTOCOLS["linear"], ["momentum=0.8", text])
    assert (refused.value.message, refused.value.allowed) == (f"--set {text}", instead)
    assert refused.value.next is not None
    assert f"--set={text}" in refused.value.next


@pytest.mark.parametrize("key", [key for key in Protocol.model_fields if key != "name"])
def test_every_value_is_refused_in_the_words_of_a_recipe(key: str) -> None:
    """Of a number both ends: pydantic's words name the one that was broken."""
    with pytest.raises(UserError) as refused:
        override(PROTOCOLS["linear"], [f"{key}=nan"])
    words = str(refused.value.allowed)
    assert words == allowed(Protocol.model_json_schema()["properties"][key], quoted=str)
    assert "number" not in words or re.search(r"(from|above) \S+ (to|below) \S+$", words)
