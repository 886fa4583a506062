"""Which images of a run are trained on, and which are held out for the online kNN: images, or groups of them."""

from __future__ import annotations

import numpy as np

from barlowctl import shell
from barlowctl.amounts import counted
from barlowctl.assemble.data import ImageSet, count_classes
from barlowctl.criteria import CRITERIA
from barlowctl.data.beton.reader import Beton
from barlowctl.data.sources.hold_out import are_positions, group_of_each
from barlowctl.errors import UserError
from barlowctl.recipe.schema import Recipe

_WITHOUT_GROUPS = "--set data.holdout_groups="


def learned_from(source: ImageSet, recipe: Recipe) -> np.ndarray:
    """Positions of the images that the recipe's method can learn from: all, or those with a label. Sorted, int64.

    Raises:
        UserError: it learns from labels, and there are none, or of one class only.
    """
    if not recipe.objective.labels:
        return np.arange(source.num_samples)
    labelled = np.flatnonzero(source.labels >= 0)
    if len(labelled) == 0 or count_classes(source) < 2:
        what = "have no labels" if len(labelled) == 0 else "are all of one class"
        raise UserError(
            f"objective.name is '{recipe.objective.name}', which learns from labels, and the images of "
            f"'{source.path}' {what}",
            allowed="images in a folder for each class, or a data set with labels of two classes or more",
            next="--set objective.name=barlow-twins",
        )
    return labelled


def held_out(source: ImageSet, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Positions kept for training and held out: a draw keyed by the seed. Sorted, int64. See `check_holdout`.

    With data.holdout_groups whole groups are drawn, and data.holdout is met as nearly as they allow.

    Raises:
        UserError: see `learned_from`; images without names, names without a match, or one match for all.
    """
    pool, holdout = learned_from(source, recipe), recipe.data.holdout
    generator = np.random.Generator(np.random.Philox(key=recipe.seed))
    if holdout and recipe.data.holdout_groups:
        held = _held_out_by_groups(source, pool, recipe, generator)
        return pool[~held], pool[held]
    order = pool[generator.permutation(len(pool))]
    return np.sort(order[holdout:]), np.sort(order[:holdout])


def count(source: ImageSet | None, images: int, recipe: Recipe) -> tuple[int, int]:
    """How many images the recipe's method can learn from, and how many of these are held out. See `held_out`.

    Args:
        source: None where the images are not here yet. images: how many there are.
    """
    if source is None:
        return images, recipe.data.holdout
    usable = len(learned_from(source, recipe))
    if recipe.data.holdout and recipe.data.holdout_groups:
        return usable, len(held_out(source, recipe)[1])
    return usable, recipe.data.holdout


def _held_out_by_groups(
    source: ImageSet, pool: np.ndarray, recipe: Recipe, generator: np.random.Generator
) -> np.ndarray:
    """Which of `pool` are held out (bool). How many groups, and of how many, is noted in the source's report."""
    pattern = recipe.data.holdout_groups
    named = not isinstance(source, Beton) or source.has_names
    names = [source.name_of(row) for row in pool.tolist()] if named else []
    if not named or are_positions(names):
        raise UserError(
            f"data.holdout_groups is '{pattern}', a part of names, and the images of {source.path} have none"
            + (f": the first is {names[0]}" if named else ""),
            allowed="images that are files, or what `barlowctl data pack` made of them; groups in a column of Parquet "
            "files are held out by `barlowctl data pack --hold-out 20 --groups-column COLUMN`, into a test split",
            next=_WITHOUT_GROUPS,
        )
    try:
        groups = group_of_each(names, pattern, "data.holdout_groups")
    except UserError as error:
        raise UserError(error.message, allowed=error.allowed, next=_WITHOUT_GROUPS) from error
    _, of_each, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        raise UserError(
            f"data.holdout_groups is '{pattern}', which matches '{groups[0]}' in each of "
            f"{counted(len(names), 'name')}: no group would be left to train on",
            allowed="a regular expression whose match differs from patient to patient, e.g. 'patient[0-9]+'",
            next=_WITHOUT_GROUPS,
        )
    chosen = whole_groups(sizes, recipe.data.holdout, generator)
    images = counted(int(sizes[chosen].sum()), "image")
    source.scan_report.note(f"held out: {chosen.sum():,} of {counted(len(sizes), 'group')}, {images}")
    held: np.ndarray = chosen[of_each]
    return held


def whole_groups(sizes: np.ndarray, goal: int, generator: np.random.Generator) -> np.ndarray:
    """Which groups are held out (bool): in an order that is drawn, those that bring the count of images nearer `goal`.

    Where none does, the smallest; and one stays at least.

    Args:
        sizes: how many images each group has, of two or more groups.
    """
    chosen, held = np.zeros(len(sizes), bool), 0
    for group in generator.permutation(len(sizes)).tolist():
        nearer = abs(held + int(sizes[group]) - goal) < abs(held - goal)
        if nearer and chosen.sum() < len(sizes) - 1:
            chosen[group] = True
            held += int(sizes[group])
        if held >= goal:
            break
    if not held:
        chosen[int(np.argmin(sizes))] = True
    return chosen


def without_queries(recipe: Recipe) -> str:
    """What to set to train without queries, and so without what is measured on them."""
    changes = ["eval.queries=off", *(["eval.linear=false"] if recipe.eval.linear else [])]
    for key in ("keep_best", "stop"):
        measure = getattr(recipe.train, key)
        if measure != "off" and CRITERIA[measure].labels:
            changes.append(f"train.{key}=off")
    return shell.line(*(word for change in changes for word in ("--set", change)))


def check_holdout(count: int, recipe: Recipe, held: int | None = None) -> None:
    """Refuse to hold out none of `count` images that are to be queries, or so many that less than a batch is left.

    Args:
        held: how many whole groups hold; None: as many as data.holdout says.

    Raises:
        UserError: with how many could be; of none, also with what does without them.
    """
    holdout = recipe.data.holdout
    held = holdout if held is None else held
    room = count - recipe.train.batch_size
    if recipe.eval.queries == "holdout" and holdout == 0:
        some = min(count // 10, max(room, 0))
        raise UserError(
            "data.holdout is 0, and eval.queries is 'holdout': the online kNN has no images to be asked about",
            next=(f"--set data.holdout={some}\n" if some else "") + without_queries(recipe),
        )
    if held >= count or count >= recipe.train.batch_size > count - held:
        in_groups = recipe.data.holdout_groups
        whole = f" ({held:,} in whole groups)" if in_groups else ""
        fewer = f"--set data.holdout={min(count // 10, room) if room >= 0 else count // 10}"
        smaller = f"--set train.batch_size={max(2, (count - held) // 2)}"
        raise UserError(
            f"data.holdout is {holdout}{whole} of {counted(count, 'image')}, which leaves less than a batch of "
            f"{recipe.train.batch_size}",
            next=smaller if in_groups else fewer,
        )
