"""The methods that other libraries have too: whose losses and training steps are compared."""

from __future__ import annotations

from barlowctl.errors import UserError, did_you_mean, instead
from barlowctl.recipe.objectives import DEFAULT, METHODS

COMPARED = ("barlow-twins", "vicreg", "simclr", "moco", "moco-v2", "byol", "simsiam", "swav")


def check_method(method: str) -> str:
    """The method, if it is compared.

    Raises:
        UserError: no such method, or one that no other library has.
    """
    if method in COMPARED:
        return method
    if method in METHODS:
        raise UserError(
            f"no other library here has '{method}' to compare with",
            allowed=", ".join(COMPARED),
            next=f"--method {DEFAULT}",
        )
    raise UserError(
        f"there is no method '{method}'{did_you_mean(method, COMPARED)}",
        allowed=", ".join(COMPARED),
        next=instead("--method", method, COMPARED),
    )
