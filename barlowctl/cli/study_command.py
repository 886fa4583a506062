"""A study as the command line was asked for it, and the arguments of processes that do one of its cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from barlowctl.cli.console import Console

if TYPE_CHECKING:
    from barlowctl.assemble.machine import Runtime
    from barlowctl.study.directory import StudyDirectory
    from barlowctl.study.study import Study


@dataclass(frozen=True)
class StudyCommand:
    """
    directory: with the selected variants. whole: its studies with all their variants.
    parallel: cells at a time. without: variants that were left out by name.
    """

    console: Console
    directory: StudyDirectory
    whole: tuple[Study, ...]
    runtime: Runtime
    data: str | None
    parallel: int
    without: Sequence[str] = ()

    def arguments_of_a_cell(self, selection: list[str], recipe: str | None, overrides: list[str]) -> list[str]:
        """Arguments of `ablate` for a process that does one cell; `--cell` and the device come after them.

        Args:
            selection: the studies and variants, as arguments.
        """
        from barlowctl.data import home

        workers, loader = self.runtime.workers, self.runtime.loader
        arguments = [*selection, "--seeds", str(len(self.directory.seeds)), "--out", str(self.directory.out), "--quiet"]
        arguments += ["--recipe", recipe] if recipe else []
        arguments += ["--data", home.anywhere(self.data)] if self.data else []
        arguments += ["--workers", str(workers)] if workers else []
        arguments += ["--loader", loader] if loader != "auto" else []
        return arguments + [part for override in overrides for part in ("--set", override)]


def slot_arguments(device: str, threads: int | None) -> list[str]:
    """What a process may use, as arguments."""
    return ["--device", device, *(["--threads", str(threads)] if threads else [])]
