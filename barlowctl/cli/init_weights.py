"""The option `--init`: weights to start from, those of a new run as a value of its recipe."""

from __future__ import annotations

import json

from barlowctl.errors import UserError


def overrides_with_init(
    overrides: list[str] | None, init: str | None, resume: str | None = None, *, look: bool = False
) -> list[str] | None:
    """What `--set` and `--init` say of the recipe.

    Args:
        look: whether there is anything is looked at once, before torch is imported.

    Raises:
        UserError: a run is to go on, which has weights of its own; nothing is there.
    """
    if init is None:
        return overrides
    if resume is not None:
        raise UserError(
            "--init and --resume exclude each other: --resume goes on with a run and its own weights, --init starts a "
            "new run",
            allowed="one of them; a new run from the weights of that one: --recipe RECIPE --init RUN",
            next="without --init",
        )
    named = from_anywhere(init)
    if look:
        from barlowctl.runs.weights import refuse_graph, refuse_missing

        refuse_missing(named)
        refuse_graph(named)
    return [*(overrides or ()), f"init.weights={json.dumps(named)}"]


def from_anywhere(init: str) -> str:
    """What `--init` names; a path is made absolute, for whoever reads the recipe elsewhere."""
    from barlowctl.runs.weights import named_from_anywhere

    return named_from_anywhere(init)
