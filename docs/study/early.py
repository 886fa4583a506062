"""Measures the cells of Table 5 after a few steps, and the backbone before the first: `make study`, or

    python docs/study/early.py studies/fashion-mnist [STEPS]

A finished cell is begun again with its own recipe and seed, so it takes the same first STEPS steps (default 120),
and is measured there as the study measures at the end, except for the linear classifier. Results go into the folder of
the cell, `early.json`, and are not computed twice; seeds that only some variants have are left out. `generate.py`
makes the tables.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from barlowctl.assemble import precision
from barlowctl.assemble.data import choices_of
from barlowctl.assemble.diagnosis import diagnose
from barlowctl.assemble.finished import FinishedRun
from barlowctl.assemble.job import prepare, pretrain
from barlowctl.assemble.labelled import Labelled, open_labelled
from barlowctl.assemble.machine import Runtime, choose_device
from barlowctl.assemble.model import preprocessing_of
from barlowctl.errors import RunStopped
from barlowctl.files import write_text
from barlowctl.measure.baselines import baseline
from barlowctl.measure.probing import probe
from barlowctl.measure.subjects import of_run
from barlowctl.measure.tasks import Tasks
from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe
from barlowctl.study import studies
from barlowctl.study.directory import Cell, StudyDirectory
from barlowctl.train.events import Event, StepDone

STEPS = 120


def after(cell: Cell, steps: int, labelled: Labelled, runtime: Runtime) -> dict[str, Any]:
    """kNN (percent), mean C_ii and rms C_ij of a cell after its first steps, in the precision that it has."""
    recipe = cell.recipe
    done = 0

    def count(event: Event) -> None:
        nonlocal done
        done = event.step if isinstance(event, StepDone) else done

    job = prepare(recipe, runtime)
    job.earlier_precision = precision.recorded_by(cell.path)
    with tempfile.TemporaryDirectory() as folder, suppress(RunStopped):  # a loss that is not finite ends here too
        pretrain(job, Path(folder), count, digest="", stop=lambda: done >= steps)
    if done < steps:
        raise SystemExit(f"{recipe.name} with seed {recipe.seed} ended after {done} steps, before step {steps}")
    subject = of_run(FinishedRun(Path(), recipe, job.method.eval(), done, False, ()))
    _, result = next(probe(subject, labelled, runtime, tasks=Tasks(linear=False)))
    seen = diagnose(job.method, labelled.train, recipe, runtime, choose_device(runtime.device))
    return {"knn": result["knn"]["top1"], "effective_rank": result["effective_rank"], **(seen.values() if seen else {})}


def before(recipe: Recipe, labelled: Labelled, runtime: Runtime) -> dict[str, float]:
    """kNN and linear top-1 (percent) of the backbone that the recipe's seed begins with."""
    start = of_run(FinishedRun(Path(), recipe, prepare(recipe, runtime).method, 0, False, ()))
    _, result = next(probe(baseline(start, "random-init"), labelled, runtime))
    return {"knn": result["knn"]["top1"], "linear_top1": result["linear"]["top1"]}


def main(arguments: Sequence[str]) -> None:
    """Command line: the study's directory, and after how many steps."""
    if not 1 <= len(arguments) <= 2:
        raise SystemExit(__doc__)
    source, steps = Path(arguments[0]), int(arguments[1]) if len(arguments) == 2 else STEPS
    directory = StudyDirectory(source, load.load(str(source / "recipe.toml")), (studies.loss(),), ())
    (study,) = directory.studies
    seeds = {variant: numbers for variant in study.variants if (numbers := set(directory.seeds_of(study, variant)))}
    shared = set.intersection(*seeds.values()) if seeds else set()
    for cell in (directory.cell(study, variant, seed) for seed in sorted(shared) for variant in seeds):
        out = cell.path / "early.json"
        measured = "measures" in (cell.record or {})  # one that failed has no later steps to compare with
        if not measured or (out.is_file() and json.loads(out.read_text(encoding="utf-8"))["steps"] == steps):
            continue
        runtime = Runtime(threads=cell.recipe.train.cpu_threads or None)
        labelled = open_labelled(cell.recipe.data.dataset, choices_of(preprocessing_of(cell.recipe)))
        result: dict[str, Any] = {"variant": cell.variant.name, "steps": steps}
        result["after"] = after(cell, steps, labelled, runtime)
        if cell.variant.name == study.baseline:
            result["before"] = before(cell.recipe, labelled, runtime)
        write_text(out, json.dumps(result, indent=2) + "\n")
        print(f"{cell.label}: {result['after']}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
