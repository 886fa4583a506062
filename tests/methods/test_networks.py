"""What is no network is refused when a method is made, whatever the method and the argument."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from torch import nn

from barlowctl import methods
from barlowctl.errors import UserError
from barlowctl.methods import Method
from barlowctl.methods.networks import NETWORK, OPTIONAL

NUMBERS = {"width": 4, "batch": 8, "images": 40, "prototypes": 6, "num_classes": 3, "frozen": False, "queue": 16,
           "negatives": 8}  # fmt: skip
METHODS = [kind for kind in vars(methods).values() if inspect.isclass(kind) and issubclass(kind, Method)
           and kind is not Method]  # fmt: skip


def networks_of(method: type[Method]) -> dict[str, str]:
    parameters = inspect.signature(method.__init__).parameters.values()
    return {one.name: one.annotation for one in parameters if one.annotation in (NETWORK, OPTIONAL)}


def arguments_of(method: type[Method]) -> dict[str, Any]:
    parameters = inspect.signature(method.__init__).parameters
    numbers = {name: value for name, value in NUMBERS.items() if name in parameters}
    return {**{name: nn.Linear(4, 4) for name in networks_of(method)}, **numbers}


@pytest.mark.parametrize("method", METHODS)
def test_what_is_no_network_is_refused_by_its_name(method: type[Method]) -> None:
    assert method(**arguments_of(method)).backbone is not None
    assert "backbone" in networks_of(method)
    for name, takes in networks_of(method).items():
        optional = ", or None" if takes == OPTIONAL else ""
        for value, words in ((3, "an int"), (nn.Linear, "Linear, which is called first: Linear(...)"), (None, "None")):
            if optional and value is None:
                continue
            with pytest.raises(UserError) as refused:
                method(**{**arguments_of(method), name: value})
            assert refused.value.message == f"{name} is {words}"
            assert refused.value.__notes__ == [f"allowed: a network, a torch.nn.Module{optional}"]
    assert len(METHODS) >= 9


def test_a_network_that_may_be_none_may() -> None:
    part = nn.Linear(4, 4)
    assert methods.BarlowTwins(part, part, predictor=None).predictor is None
    assert methods.SimSiam(part, part, None).predictor is None


def test_arguments_that_there_are_not_are_pythons_to_refuse() -> None:
    part = nn.Linear(4, 4)
    with pytest.raises(TypeError, match=r"BarlowTwins.*missing 1 required positional argument: 'projector'"):
        methods.BarlowTwins(part)  # type: ignore[call-arg]
