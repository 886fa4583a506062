"""`barlowctl runs best`: which run, and which state of it, is the best by a measure, and where its weights are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from barlowctl import criteria, shell
from barlowctl.cli import options
from barlowctl.cli.console import Console
from barlowctl.errors import UserError

if TYPE_CHECKING:
    from barlowctl.criteria import Criterion
    from barlowctl.runs.best import Choice
    from barlowctl.runs.history import History


def best(
    names: Annotated[
        list[str] | None, options.run("Names or directories of runs. Default: all of BARLOWCTL_RUNS (else ./runs).")
    ] = None,
    by: Annotated[
        criteria.Name | None,
        typer.Option(
            "--by",
            help="The measure of online evaluations to choose by; alpha: the nearest to 1, of all others the highest. "
            "Default: the first of these that a run has.",
        ),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """The best evaluation of each run by a measure, the best run first: epoch, value, weights, and what to do next.

    Nothing is chosen on test images: the online evaluations measure on held-out training images or the val split,
    and lidar, rankme and alpha use no labels at all.
    """
    from barlowctl.runs import best as choosing

    console = Console(json=json, quiet=quiet)
    runs, left_out = _opened(names)
    measured = choosing.first_measured(runs)
    if measured is None:
        raise UserError(
            f"no evaluation is recorded in {_listed(runs)}",
            allowed="runs whose recipe has eval.every_epochs above 0, after their first evaluation",
            next=shell.line("barlowctl", "runs", "show", runs[0].path),
        )
    criterion = measured if by is None else criteria.CRITERIA[by]
    choices = choosing.rank([choice for run in runs if (choice := choosing.choose(run, criterion))])
    lacking = [run for run in runs if not choosing.measures(run, criterion)]
    if not choices:
        raise UserError(
            f"{criterion.name} is not measured in {_listed(runs)}; measured by: {criterion.measured_by}",
            allowed=", ".join(_measured_in(runs)),
            next=shell.line("--by", measured.name),
        )
    rows = [(c.run.name, c.run.state, c.epoch, c.step, f"{c.value:.5g}", _weights(c)) for c in choices]
    columns = ("run", "state", "epoch", "step", criterion.title, "weights")
    console.table(f"Best by {criterion.title}: {criterion.rule}", columns, rows)
    notes = [*_notes(choices, lacking, criterion), *left_out]
    for note in notes:
        console.say(f"note: {note}")
    commands = _next(choices)
    console.next(*commands)
    console.result(
        {
            "by": criterion.name,
            "rule": criterion.rule,
            "best": choices[0].as_dict(),
            "runs": [choice.as_dict() for choice in choices],
            "not_measured": [run.name for run in lacking],
            "notes": notes,
            "next": commands,
        }
    )


def _opened(names: list[str] | None) -> tuple[list[History], list[str]]:
    """See `history.opened`.

    Raises:
        UserError: a name that is no run, or no run at all.
    """
    from barlowctl.runs import history, rundir

    runs, left_out = history.opened(names or [])
    if not runs:
        raise UserError(f"no run in '{rundir.runs_home()}'", next="barlowctl pretrain --recipe quickstart")
    return runs, left_out


def _measured_in(runs: list[History]) -> list[str]:
    from barlowctl.runs.best import measures

    return [own.name for own in criteria.CRITERIA.values() if any(measures(run, own) for run in runs)]


def _listed(runs: list[History]) -> str:
    names = [run.name for run in runs]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _weights(choice: Choice) -> str:
    if choice.weights is not None:
        return choice.weights.name
    is_damaged = f"step-{choice.step:08d}" in choice.damaged
    where = "damaged" if is_damaged else "not there" if choice.start is None else f"its start, {choice.start}"
    if choice.stored is None or choice.stored_value is None:
        return where
    return f"{where}; best of its checkpoints: {choice.stored.name} ({choice.stored_value:.5g})"


def _notes(choices: list[Choice], lacking: list[History], criterion: Criterion) -> list[str]:
    """What has to be known beside the table: ties, missing measures, weights that are gone, unlike measurements."""
    from barlowctl.runs.best import differences

    best, *others = choices
    notes = []
    if best.ties:
        notes.append(f"{best.run.name}: as good at step {', '.join(map(str, best.ties))}")
    if equal := [choice.run.name for choice in others if choice.score == best.score]:
        notes.append(f"as good as {best.run.name}: {', '.join(equal)}")
    if lacking:
        notes.append(f"{criterion.name} is not measured in {_listed(lacking)} (measured by: {criterion.measured_by})")
    for key, values in differences(choices).items():
        pairs = ", ".join(f"{choice.run.name} {value}" for choice, value in zip(choices, values, strict=True))
        notes.append(f"the values are not on one scale, {key} {'differ' if key == 'images' else 'differs'}: {pairs}")
    if best.start is not None:
        notes.append(
            f"{best.run.name} was best before its first step: the weights are those it began with, {best.start}; no "
            "state that it trained is better"
        )
    elif best.weights is None and f"step-{best.step:08d}" not in best.damaged:
        notes.append(
            f"the weights of {best.run.name} at step {best.step} are not there: a run keeps its newest "
            f'checkpoints, and the best one too with train.keep_best = "{criterion.name}"'
        )
    for choice in choices:
        notes += [
            f"checkpoint {name} of {choice.run.name} is not usable ({why})" for name, why in choice.damaged.items()
        ]
    return notes


def _next(choices: list[Choice]) -> list[str]:
    """What to do with the best weights that are there: of the best run that has any."""
    subject = next((subject for choice in choices if (subject := choice.subject) is not None), None)
    if subject is None:
        return [shell.line("barlowctl", "runs", "show", choices[0].run.path)]
    return [shell.line("barlowctl", "export", subject), shell.line("barlowctl", "probe", subject)]
