"""Which name was meant."""

from __future__ import annotations

import pytest

from barlowctl.errors import did_you_mean, instead, nearest

KEYS = ["name", "lr", "lr_biases", "momentum", "weight_decay", "batch_size", "epochs"]


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("lr_weights", "lr"),  # more letters in common with weight_decay
        ("lr_bias", "lr_biases"),  # a slip, though it goes on from lr
        ("lr-biases", "lr_biases"),
        ("epoch", "epochs"),
        ("momentun", "momentum"),
        ("decay", "weight_decay"),
        ("zzz", None),
    ],
)
def test_a_slip_comes_first_then_what_the_name_goes_on_from(value: str, meant: str | None) -> None:
    assert nearest(value, KEYS) == meant
    assert did_you_mean(value, KEYS) == (f", did you mean '{meant}'?" if meant else "")
    assert instead("--key", value, KEYS) == f"--key {meant or 'name'}"


def test_of_several_that_it_goes_on_from_the_longest_is_meant() -> None:
    assert nearest("lr_biases_of_the_head", KEYS) == "lr_biases"
    assert nearest("decay", KEYS, cutoff=0.9) is None
