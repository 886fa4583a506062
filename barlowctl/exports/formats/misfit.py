"""A model that a format does not hold, or not here."""

from __future__ import annotations

from barlowctl.errors import UserError


class Misfit(UserError):
    """This format cannot be had of this model on this machine, whatever the disk does; another one may be.

    Where every format is written, a misfit is said and left out; any other error ends the export.
    """
