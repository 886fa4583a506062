"""A resumable runner of studies: every finished cell is on disk and is never run again.

OUT/study.json                          the study, its recipe and its seeds
OUT/cells/<variant>/seed-<seed>/        the run of one cell, with cell.json once it is measured
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from barlowctl.ablate.studies import Study, Variant
from barlowctl.errors import UserError

Measures = Mapping[str, float]
RunCell = Callable[[Variant, int, Path], Measures]

COLUMNS = ("knn", "linear_top1", "linear_top5", "effective_rank", "feature_spread")


@dataclass(frozen=True)
class Cell:
    """One variant with one seed."""

    variant: Variant
    seed: int
    path: Path

    @property
    def measures(self) -> Measures | None:
        """What was measured, or None while it is not."""
        file = self.path / "cell.json"
        if not file.is_file():
            return None
        values: Measures = json.loads(file.read_text(encoding="utf-8"))
        return values


def cells(study: Study, seeds: Sequence[int], out: Path) -> list[Cell]:
    """The cells of a study, variant by variant."""
    return [
        Cell(variant, seed, out / "cells" / variant.name / f"seed-{seed}")
        for variant in study.variants
        for seed in seeds
    ]


def check_same_study(study: Study, recipe_digest: str, out: Path) -> None:
    """Note the study in its directory, or make sure that it is the one noted there.

    Raises:
        UserError: the directory holds another study, or the same one of another recipe.
    """
    identity = {
        "study": study.name,
        "recipe_digest": recipe_digest,
        "variants": {variant.name: list(variant.overrides) for variant in study.variants},
    }
    file = out / "study.json"
    if file.is_file():
        before = json.loads(file.read_text(encoding="utf-8"))
        changed = [key for key, value in identity.items() if before.get(key) != value]
        if changed:
            raise UserError(
                f"'{out}' holds a study that differs in its {', '.join(changed)}",
                next="name another --out, or run it with the recipe and overrides it was started with",
            )
        return
    out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(identity, indent=2) + "\n", encoding="utf-8")


def run_once(cell: Cell, run_cell: RunCell) -> None:
    """Run a cell unless it is measured already, and keep what was measured."""
    if cell.measures is not None:
        return
    values = run_cell(cell.variant, cell.seed, cell.path)
    _write(cell.path / "cell.json", dict(values))


def _write(path: Path, values: object) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def write_table(path: Path, study: Study, recipe: str, rows: Sequence[Mapping[str, object]]) -> None:
    """The study's table as JSON."""
    _write(path, {"study": study.name, "source": study.source, "recipe": recipe, "rows": list(rows)})


def table(study: Study, done: Sequence[Cell]) -> list[dict[str, object]]:
    """A row per variant: mean and spread (standard deviation) over seeds, difference to the first variant."""
    rows: list[dict[str, object]] = []
    base: dict[str, float] = {}
    for variant in study.variants:
        measured = [cell.measures for cell in done if cell.variant.name == variant.name]
        found = [values for values in measured if values is not None]
        row: dict[str, object] = {"variant": variant.name, "seeds": len(found)}
        for column in COLUMNS:
            values = [cell[column] for cell in found if column in cell]
            if not values:
                continue
            mean = statistics.fmean(values)
            row[column] = mean
            row[f"{column}_std"] = statistics.stdev(values) if len(values) > 1 else None
            if variant is study.variants[0]:
                base[column] = mean
            row[f"{column}_difference"] = mean - base[column] if column in base else None
        row["published_top1"], row["published_top5"] = variant.published
        rows.append(row)
    return rows
