"""A format whose library says nothing while it loads."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext


class Silent:
    """What most formats are: there is nothing to hold back."""

    def quietly(self) -> AbstractContextManager[None]:
        return nullcontext()
