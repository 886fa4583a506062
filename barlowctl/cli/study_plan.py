"""What a study would run: its variants and what they cost, or a Slurm array of its open cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from barlowctl.amounts import counted
from barlowctl.cli.live import duration
from barlowctl.cli.study_command import StudyCommand
from barlowctl.errors import UserError

if TYPE_CHECKING:
    from barlowctl.study.estimate import Estimate
    from barlowctl.study.study import Study


def show_plan(command: StudyCommand) -> None:
    """What would be run, and what it would cost."""
    from barlowctl.assemble.machine import pool_speed_up

    directory, console = command.directory, command.console
    estimated = _estimated(command)
    open_cells = [cell for cell in directory.cells if cell.record is None]
    seconds = sum(estimated.of(cell).total for cell in open_cells)
    documents = []
    for study in directory.studies:
        rows, variants = [], []
        for variant in study.variants:
            cost = estimated.of(directory.cell(study, variant, directory.seeds[0]))
            same = directory.same_as(study, variant)
            rows.append((variant.name, (variant.changes or "(the recipe as it is)") + (f"   = {same}" if same else ""),
                         duration(cost.train), duration(cost.measure), variant.published[0]))  # fmt: skip
            variants.append(
                {
                    "name": variant.name,
                    "overrides": variant.overrides,
                    "same_as": same,
                    "published_top1": variant.published[0],
                    "seconds": {"train": cost.train, "measure": cost.measure, "source": cost.source},
                }
            )
        title = f"{study.title} ({study.source}) on recipe {directory.base.name}"
        console.table(title, ("variant", "overrides", "training", "measuring", "paper top-1"), rows)
        whole = _say_notes(command, study)
        documents.append({"study": study.name, "note": study.note, "notes": whole, "variants": variants})
    if weights := directory.base.init.weights:
        console.say(f"start: every variant from {weights}")
    for source in dict.fromkeys(cost.source for cost in estimated.costs.values()):
        console.say(f"estimate: {source}")
    finished = len(directory.cells) - len(open_cells)
    speedup = pool_speed_up(command.parallel, command.runtime, directory.base.train.cpu_threads)
    at_once = f", {duration(seconds / speedup)} with {command.parallel} at a time" if command.parallel > 1 else ""
    finished_text = f", {finished} of them finished" if finished else ""
    console.say(
        f"{counted(len(directory.cells), 'cell')} ({counted(len(directory.seeds), 'seed')}; equal recipes "
        f"once){finished_text}: "
        f"about {duration(seconds)} one after another{at_once}, on this machine as busy as it is; "
        f"{duration(seconds * estimated.cpu_share)} of a CPU's time"
    )
    console.result(
        {
            "recipe_name": directory.base.name,
            "start": weights or None,
            "seeds": list(directory.seeds),
            "studies": documents,
            "cells": len(directory.cells),
            "finished": finished,
            "seconds": seconds,
            "cpu_seconds": seconds * estimated.cpu_share,
            "parallel": command.parallel,
            "wall_seconds": seconds / speedup,
        }
    )


def _estimated(command: StudyCommand) -> Estimate:
    """What each cell costs, once all of them are recipes."""
    from barlowctl.study.backbones import check_backbones
    from barlowctl.study.estimate import estimate

    directory = command.directory
    check_backbones(directory.base, directory.cells)
    with command.console.waiting("timing a step of each variant ..."):
        return estimate(directory.base, directory.cells, command.runtime, command.data, command.without)


def _say_notes(command: StudyCommand, study: Study) -> list[str]:
    """Say what the study has to be read with; returned are the lines on variants whose batch is all images."""
    from barlowctl.assemble.resolve import whole_set
    from barlowctl.study.cells import counter_of_trained_on
    from barlowctl.study.table import notes_on

    directory, images = command.directory, counter_of_trained_on(command.directory.base, command.data)
    notes = {}
    for variant in study.variants:
        recipe = directory.cell(study, variant, directory.seeds[0]).recipe
        notes[variant.name] = list(filter(None, [whole_set(recipe, images(recipe))]))
    whole = notes_on(notes)
    for line in ([f"Note: {study.note}."] if study.note else []) + whole:
        command.console.say(line)
    return whole


def print_array_script(command: StudyCommand, arguments: list[str], sbatch_options: Mapping[str, str]) -> None:
    """A Slurm array with a task per open cell, on standard output.

    Args:
        arguments: of `ablate`, for each task. sbatch_options: name -> value.

    Raises:
        UserError: no cell is open.
    """
    from barlowctl.launchers import slurm
    from barlowctl.study.cells import open_directory, open_images

    directory = command.directory
    images = open_images(directory.base, command.data)
    open_directory(directory, images)
    cells = [number for number, cell in enumerate(directory.cells) if cell.record is None]
    if not cells:
        raise UserError(f"all cells in '{directory.out}' are finished", next="--show without --print-sbatch")
    text = slurm.study_script(
        cells,
        arguments,
        out=directory.out,
        at_once=command.parallel if command.parallel > 1 else None,
        gpu=command.runtime.device != "cpu",
        cores=command.runtime.threads or directory.base.train.cpu_threads,
        options=sbatch_options,
    )
    if command.console.json:
        command.console.result({"script": text, "open_cells": cells})
    else:
        command.console.document(text)
