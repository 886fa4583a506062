"""Measures the cells of Table 5 after a few steps, and the backbone before the first: `make study`, or

    python docs/study/early.py studies/fashion-mnist [STEPS]

A finished cell is begun again with its own recipe and seed, so it takes the same first STEPS steps (default 120),
and is measured there as the study measures at the end, but for the linear classifier. Results go into the folder of
the cell, `early.json`, and are not computed twice. `generate.py` makes the tables.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from barlowctl.assemble.diagnosis import diagnose
from barlowctl.assemble.job import prepare, pretrain
from barlowctl.assemble.labelled import Labelled, open_labelled
from barlowctl.assemble.machine import Runtime, choose_device
from barlowctl.assemble.probing import Tasks, measure
from barlowctl.assemble.subjects import Subject, floor
from barlowctl.errors import RunStopped
from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe
from barlowctl.train.events import Event, StepDone

STEPS = 120


def after(recipe: Recipe, steps: int, labelled: Labelled, runtime: Runtime) -> dict[str, Any]:
    """kNN (percent), mean C_ii and rms C_ij of a recipe after its first steps."""
    done = 0

    def count(event: Event) -> None:
        nonlocal done
        done = event.step if isinstance(event, StepDone) else done

    job = prepare(recipe, runtime)
    with tempfile.TemporaryDirectory() as folder, suppress(RunStopped):
        pretrain(job, Path(folder), count, digest="", stop=lambda: done >= steps)
    assert done == steps, f"the run has {done} steps"
    subject = Subject(recipe.name, "run", job.method.eval().backbone, recipe, Path())
    _, found = next(measure(subject, labelled, runtime, tasks=Tasks(linear=False)))
    seen = diagnose(job.method, labelled.train, recipe, runtime, choose_device(runtime.device))
    return {"knn": found["knn"]["top1"], "effective_rank": found["effective_rank"], **seen.values()}


def before(recipe: Recipe, labelled: Labelled, runtime: Runtime) -> dict[str, float]:
    """kNN and linear top-1 (percent) of the backbone that the recipe's seed begins with."""
    start = Subject(recipe.name, "run", prepare(recipe, runtime).method.backbone, recipe, Path())
    _, found = next(measure(floor(start, "random-init"), labelled, runtime))
    return {"knn": found["knn"]["top1"], "linear_top1": found["linear"]["top1"]}


def main(arguments: Sequence[str]) -> None:
    """Command line: the study's directory, and after how many steps."""
    if not 1 <= len(arguments) <= 2:
        raise SystemExit(__doc__)
    source, steps = Path(arguments[0]), int(arguments[1]) if len(arguments) == 2 else STEPS
    table = json.loads((source / "loss.json").read_text(encoding="utf-8"))
    variants = [row["variant"] for row in table["rows"]]
    cells = [file for file in source.glob("cells/*/*/cell.json") if _of(file)["variant"] in variants]
    for file in sorted(cells, key=lambda file: (_of(file)["seed"], variants.index(_of(file)["variant"]))):
        out = file.with_name("early.json")
        if out.is_file() and json.loads(out.read_text(encoding="utf-8"))["steps"] == steps:
            continue
        recipe = load.load(str(file.with_name("recipe.toml")))
        runtime, labelled = Runtime(threads=recipe.train.cpu_threads or None), open_labelled(recipe, None)
        result: dict[str, Any] = {"steps": steps, "after": after(recipe, steps, labelled, runtime)}
        if not _of(file)["overrides"]:
            result["before"] = before(recipe, labelled, runtime)
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(f"{_of(file)['variant']}, seed {_of(file)['seed']}: {result['after']}", flush=True)


def _of(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
