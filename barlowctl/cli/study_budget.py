"""`--budget`: the length of every variant of a study, from what was asked for and what a step costs here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from barlowctl.cli.console import Console

if TYPE_CHECKING:
    from barlowctl.assemble.machine import Runtime
    from barlowctl.recipe.schema import Recipe
    from barlowctl.study.study import Study


def limit_studies(
    console: Console,
    text: str,
    selected: Sequence[Study],
    whole: Sequence[Study],
    base: Recipe,
    runtime: Runtime,
    data: str | None,
    out: Path,
    without: Sequence[str],
) -> tuple[list[Study], list[Study]]:
    """The selected studies and the whole ones with each variant as long as the budget `text` says.

    For a budget of CPU-seconds steps are timed, of selected variants alone: those are the whole studies then. `without`
    are variants that are left out by name; of the whole studies, those that cannot be trained so are too.

    Raises:
        UserError: no budget, images that are not here, or what cannot be trained.
    """
    from barlowctl.study import budget
    from barlowctl.study.cells import counter_of_trained_on
    from barlowctl.study.directory import StudyDirectory

    allowance = budget.parse(text)
    trained_on = counter_of_trained_on(base, data)
    cost = budget.StepCosts(out, runtime, data, console.say)
    if allowance.unit == "cpu-seconds":
        StudyDirectory(out, base, (), ()).check()  # ahead of what takes time
    limited = [budget.limit(study, base, allowance, trained_on, cost, without=without) for study in selected]
    if allowance.unit == "cpu-seconds":
        return limited, limited
    return limited, [budget.limit(study, base, allowance, trained_on, cost, leaves_out=True) for study in whole]
