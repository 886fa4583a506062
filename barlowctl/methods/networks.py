"""Networks that a method is made of: refused when it is made where they are none, which a step would say late."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable

from torch import nn

from barlowctl.errors import UserError, explained, kind_of

NETWORK, OPTIONAL = "nn.Module", "nn.Module | None"
"""Annotations of a constructor's arguments that are networks, as they are written."""


def with_networks(constructor: Callable[..., None]) -> Callable[..., None]:
    """A constructor that refuses what is no network where its annotations say that one is taken.

    Raises:
        UserError: when it is called: an argument is none.
    """
    signature = inspect.signature(constructor)

    @functools.wraps(constructor)
    def construct(*arguments: object, **named: object) -> None:
        try:
            bound = signature.bind(*arguments, **named).arguments
        except TypeError:  # which Python says, in the name of the constructor
            bound = {}
        for name, value in bound.items():
            takes = signature.parameters[name].annotation
            if takes in (NETWORK, OPTIONAL) and not isinstance(value, nn.Module) and (value, takes) != (None, OPTIONAL):
                given = value.__name__ if isinstance(value, type) else "None" if value is None else kind_of(value)
                made = f", which is called first: {given}(...)" if isinstance(value, type) else ""
                raise UserError(
                    f"{name} is {given}{made}",
                    allowed="a network, a torch.nn.Module" + (", or None" if takes == OPTIONAL else ""),
                )
        constructor(*arguments, **named)

    return explained(construct)
