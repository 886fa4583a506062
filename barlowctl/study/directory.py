"""What of a study is on disk: its cells, which of them are finished, and who works on one.

OUT/study.json, recipe.toml                   the base recipe, the images
OUT/cells/<variant>-<digest>/seed-<seed>/     the run of one cell, with cell.json once it is measured
OUT/<study>.json, .csv, .md, .tex             see `table`
OUT/<study>.png, .svg, .pdf                   see `figure`

A cell is one recipe with one seed. Variants whose recipes are the same, in one study or in several, share it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from barlowctl import shell
from barlowctl.errors import UserError
from barlowctl.files import folder_made, remove, write_text
from barlowctl.locks import holding, is_held
from barlowctl.output_paths import free, why_not_written
from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe
from barlowctl.study.recorded import check_layout
from barlowctl.study.recorded_recipes import recipes_of
from barlowctl.study.study import Study
from barlowctl.study.variant import Variant

Record = Mapping[str, Any]
PATIENCE = 0.1  # seconds: a cell that is only looked at (`Cell.claimed`) is free again in an instant


@dataclass(frozen=True)
class Cell:
    """One recipe with one seed. `variant` is the first of the studies' that is this recipe."""

    variant: Variant
    seed: int
    recipe: Recipe
    path: Path

    @property
    def log(self) -> Path:
        """What a process of its own wrote to its terminal."""
        return self.path.with_name(f"{self.path.name}.log")

    @property
    def record(self) -> Record | None:
        """What cell.json holds: "measures" (or "failed", a reason) and "seconds"; None while it is not finished."""
        file = self.path / "cell.json"
        return read_record(file) if file.is_file() else None

    def finish(self, record: Record) -> None:
        """Keep what was measured; the cell is not run again."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.path / "cell.json", json.dumps(dict(record), indent=2) + "\n")

    @contextmanager
    def claim(self) -> Iterator[bool]:
        """Hold the cell for this process; False where another one holds it."""
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        with holding(self._lock, patience=PATIENCE) as file:
            yield file is not None

    @property
    def claimed(self) -> bool:
        """Whether a process holds the cell now."""
        return is_held(self._lock)

    @property
    def _lock(self) -> Path:
        return self.path.with_name(f".{self.path.name}.lock")

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.variant.name}, seed {self.seed}"


@dataclass(frozen=True)
class StudyDirectory:
    """Studies of one recipe in one directory, with some seeds.

    requested: (study, variant) pairs of which all seeds are to be there; None: of every variant.
    selection: what names the studies to `barlowctl ablate`, beside recipe, seeds and directory: their tables note it.
    """

    out: Path
    base: Recipe
    studies: tuple[Study, ...]
    seeds: tuple[int, ...]
    requested: frozenset[tuple[str, str]] | None = None
    selection: tuple[str, ...] = ()

    @cached_property
    def cells(self) -> list[Cell]:
        """All cells once, seed by seed: a study that is stopped early has every row, with fewer seeds."""
        once: dict[Path, Cell] = {}
        for cell in self._cells.values():
            once.setdefault(cell.path, cell)
        return list(once.values())

    def cell(self, study: Study, variant: Variant, seed: int) -> Cell:
        """The cell of a variant of one of the studies, of any seed; equal recipes have the same one."""
        made = self._cells.get((study.name, variant.name, seed))
        return made or self._make(study, variant, seed)

    def seeds_of(self, study: Study, variant: Variant) -> list[int]:
        """The seeds of which the variant has a finished cell, and those that are requested of it."""
        folder = self.folder_of(study, variant)
        there = {int(file.parent.name.removeprefix("seed-")) for file in folder.glob("seed-*/cell.json")}
        all_seeds = self.requested is None or (study.name, variant.name) in self.requested
        return sorted(there | set(self.seeds if all_seeds else ()))

    def with_finished(self, whole: Sequence[Study]) -> StudyDirectory:
        """The same, and of the studies `whole` every further variant that has a finished cell (and nothing missing)."""

        def with_finished_variants(study: Study) -> Study:
            own = next(variant for variant in self.studies if variant.name == study.name).variants
            rest = replace(self, studies=(study,), seeds=())
            variants = (variant for variant in study.variants if variant in own or rest.seeds_of(study, variant))
            return replace(study, variants=tuple(variants))

        names = [study.name for study in self.studies]
        requested = frozenset((study.name, variant.name) for study in self.studies for variant in study.variants)
        return replace(
            self,
            studies=tuple(with_finished_variants(study) for study in whole if study.name in names),
            requested=requested,
        )

    @cached_property
    def _cells(self) -> dict[tuple[str, str, int], Cell]:
        cells: dict[tuple[str, str, int], Cell] = {}
        for seed in self.seeds:
            for study in self.studies:
                for variant in study.variants:
                    cells[study.name, variant.name, seed] = self._make(study, variant, seed)
        return cells

    def _make(self, study: Study, variant: Variant, seed: int) -> Cell:
        recipe, folder = self._variants[study.name, variant.name]
        return Cell(variant, seed, load.override(recipe, [f"seed={seed}"]), folder / f"seed-{seed}")

    def folder_of(self, study: Study, variant: Variant) -> Path:
        """Where the cells of the variant are, one folder a seed; equal recipes have the same one."""
        return self._variants[study.name, variant.name][1]

    def same_as(self, study: Study, variant: Variant) -> str | None:
        """The earlier variant of the study whose recipe this one's is, if there is one."""
        folder = self.folder_of(study, variant)
        first = next(other.name for other in study.variants if self.folder_of(study, other) == folder)
        return None if first == variant.name else first

    @cached_property
    def _variants(self) -> dict[tuple[str, str], tuple[Recipe, Path]]:
        """(study, variant) -> the recipe, with the base's seed, and the folder of its cells."""
        variants: dict[tuple[str, str], tuple[Recipe, Path]] = {}
        folders: dict[str, Path] = {}
        for study, variant, recipe in recipes_of(self.studies, self.base, self.out):
            mark = load.digest(recipe)[:8]
            there = sorted((self.out / "cells").glob(f"*-{mark}"))  # perhaps under another study's name for it
            own = there[0] if there else self.out / "cells" / f"{variant.name}-{mark}"
            variants[study.name, variant.name] = recipe, folders.setdefault(mark, own)
        return variants

    @property
    def dataset(self) -> str | None:
        """The images of the study in the directory, if there is one of this recipe and it noted them."""
        file = self.out / "study.json"
        noted = read_record(file) if file.is_file() else {}
        return noted.get("dataset") if noted.get("recipe_digest") == load.digest(self.base) else None

    def open(
        self, images: Mapping[str, Any], *, dataset: str | None = None, earlier: Mapping[str, Any] | None = None
    ) -> None:
        """Make the directory, or check that it is of the same recipe and images.

        The folders of all variants are made, so that whoever opens the directory next finds a shared cell where this
        process will put it. Take `cells` after opening.

        Args:
            images: what identifies them. dataset: their name or place. earlier: what versions before noted as `images`.

        Raises:
            UserError: it is of others, or cannot be written to.
        """
        identity = {
            "recipe": self.base.name,
            "recipe_digest": load.digest(self.base),
            "images": dict(images),
            **({"dataset": dataset} if dataset is not None else {}),
        }
        file = self.out / "study.json"
        try:
            with made_and_locked(self.out, ".lock"):
                if not file.is_file():
                    _write_both(self.out / "recipe.toml", load.dump(self.base), file, json.dumps(identity, indent=2))
                self.check()
                before = read_record(file)
                if before.get("images") != identity["images"]:
                    if earlier is None or before.get("images") != dict(earlier):
                        raise _other_images(self.out, before, images)
                    write_text(file, json.dumps(identity, indent=2) + "\n")  # from now on a change is seen
                for cached in ("_variants", "_cells", "cells"):  # another process may have named them meanwhile
                    self.__dict__.pop(cached, None)
                for _, folder in self._variants.values():
                    folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise not_writable(self.out, error) from error

    @property
    def exists(self) -> bool:
        """Whether it was made."""
        return (self.out / "study.json").is_file()

    def check(self) -> None:
        """That the directory, if there is one, is of the study's recipe.

        Raises:
            UserError: it is of another, or of an earlier version.
        """
        file = self.out / "study.json"
        if not file.is_file() or read_record(file).get("recipe_digest") == load.digest(self.base):
            return
        check_layout(self.out)
        own = self.out / "recipe.toml"
        raise UserError(
            f"'{self.out}' holds a study of another recipe than '{self.base.name}' as it is now",
            next="\n".join((f"{shell.line('--recipe', own)} without --set", shell.line("--out", free(self.out)))),
        )


@contextmanager
def made_and_locked(out: Path, lock: str) -> Iterator[None]:
    """A study's directory with a lock of that name in it, held for the block; what was made is gone if that fails."""
    new = not out.exists()
    with folder_made(out), holding(out / lock):
        try:
            yield
        except BaseException:
            if new and os.listdir(out) == [lock]:
                remove(out / lock)
            raise


def _write_both(first: Path, text: str, second: Path, other: str) -> None:
    """Two files that belong together, or none of them."""
    write_text(first, text)
    try:
        write_text(second, other + "\n")
    except BaseException:
        remove(first)
        raise


def not_writable(out: Path, error: OSError) -> UserError:
    """What is said where a study's directory cannot be written to."""
    refused = Path(error.filename or out)
    folder = refused.parent if out in refused.parents else out  # its own, or that of cells
    why = why_not_written(error, folder)
    return UserError(f"'{folder}' cannot be written to: {why}", next="name another directory with --out")


def _other_images(out: Path, before: Record, images: Mapping[str, Any]) -> UserError:
    noted = before.get("images")
    noted = noted if isinstance(noted, dict) else {}
    changed = [split for split, digest in images.items() if noted.get(split) != digest]
    where = f" ({before['dataset']} as it was then)" if "dataset" in before else ""
    return UserError(
        f"'{out}' holds a study of other images{where}: the {' and '.join(changed)} images differ",
        allowed="the images it was begun with, wherever they lie now (--data), or a new directory",
        next=shell.line("--out", free(out)),
    )


def read_record(file: Path) -> Record:
    """A record of a study.

    Raises:
        UserError: it was damaged since.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(
            f"'{file}' cannot be read: {error}",
            allowed="what `barlowctl ablate` wrote there; without it the training is not repeated, but measured anew",
            next=f"{shell.line('rm', file)} && barlowctl ...",
        ) from error
    if not isinstance(values, dict):
        raise UserError(f"'{file}' is not a record of a study", next=f"{shell.line('rm', file)} && barlowctl ...")
    return values
