"""Why this rank would end the run: kept until all ranks hear of it, at the same place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from barlowctl.errors import EXIT_INTERNAL, UserError


@dataclass
class Ending:
    """What asks this rank to end the run.

    Attributes:
        stop: whether somebody asks from outside, as a signal does.
        trouble: an error that ends the run. interrupted: KeyboardInterrupt came, or `stop()` was true.
    """

    stop: Callable[[], bool]
    trouble: Exception | None = None
    interrupted: bool = False

    @property
    def due(self) -> bool:
        """Whether there is something that the other ranks must hear before the next step."""
        return self.interrupted or self.trouble is not None

    @property
    def code(self) -> int:
        """The exit code of the trouble; 0: there is none."""
        return 0 if self.trouble is None else getattr(self.trouble, "exit_code", EXIT_INTERNAL)

    def is_due_now(self) -> bool:
        """Whether it is due, or somebody asks now."""
        self.interrupted = self.interrupted or self.stop()
        return self.due

    def meet(self, error: Exception) -> None:
        """Keep an error of the loader."""
        if self.stop():  # what stops this process may have reached the loader's processes before
            self.interrupted = True
        elif isinstance(error, OSError):
            self.trouble = UserError(f"the images could not be read: {error}", next="barlowctl doctor")
            self.trouble.__cause__ = error
        else:
            self.trouble = error
