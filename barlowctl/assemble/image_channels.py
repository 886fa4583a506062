"""Whether images have the channels that a recipe is for; if not, what to set."""

from __future__ import annotations

from typing import Protocol

from barlowctl import shell
from barlowctl.amounts import counted
from barlowctl.channels import are_bands, stored_as
from barlowctl.errors import UserError
from barlowctl.recipe.schema import Recipe


class HasChannels(Protocol):
    """What was opened; see `channels.stored_as`."""

    @property
    def stored_channels(self) -> int: ...


def check_channels(recipe: Recipe, source: HasChannels, name: str, packed: bool) -> None:
    """Refuse images of other channels than the recipe's.

    Args:
        name: of the images, for people. packed: whether their bands were chosen before.

    Raises:
        UserError: says what would do.
    """
    has, channels = source.stored_channels, recipe.data.channels
    if has == stored_as(channels):
        return
    if not packed and not recipe.data.bands:
        raise UserError(
            f"data.channels is {channels}, and no bands of the files in {name} are chosen",
            allowed="a number in data.bands for each channel, from 1 on",
            next=_setting([f"data.bands=[{','.join(map(str, range(1, channels + 1)))}]"]),
        )
    changes = [f"data.channels={has}", *recipe.views.changes_for(has)]
    raise UserError(
        f"images of {name} have {counted(has, 'band')}, and data.channels is {channels}"
        if are_bands(has)
        else f"images of {name} are grey or have colours, and data.channels is {channels}",
        allowed=f"{has}" if are_bands(has) else "1 (grey) or 3 (RGB)",
        next=_setting(changes),
    )


def _setting(changes: list[str]) -> str:
    return shell.line(*(word for change in changes for word in ("--set", change)))
