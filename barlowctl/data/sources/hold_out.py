"""A test split of labelled images that have none: some of each class, the same ones every time.

Where several images are of one patient, scene or object, all of them go to one side (`groups`): a picture of the same
person on both sides makes every measurement too good.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import numpy as np

from barlowctl.amounts import counted
from barlowctl.data.sources.picture import Picked, Source
from barlowctl.data.sources.read_options import ReadOptions
from barlowctl.data.tree.splits import choices
from barlowctl.errors import UserError

_SPLITS = ("train", "test")
_POSITION = re.compile(r"(row |.*\[)\d+\]?")
"""How images that are no files are called: `row 7` of Parquet files, `train[7]` of arrays."""


class Part(Picked):
    """The training images that are left, or those that are held out."""

    splits: Collection[str] = _SPLITS

    def __init__(self, source: Source, rows: np.ndarray, split: str) -> None:
        super().__init__(source, rows)
        self.split, self.files = split, source.files


def part(source: Source, split: str, options: ReadOptions, there: Collection[str]) -> Part:
    """The images of `source`, opened as its training split, that are of a split; those without a label are trained on.

    Args:
        options: hold_out: percentage of each class. One image at least is held out of a class of two or more, and one
            stays. groups: a regular expression; images whose names have the same match (its first group, where it has
            one) stay together, and the percentage is met as nearly as that allows. groups_column: a column in place
            of the names; without an expression its values are the groups.
        there: other splits that the images have.

    Raises:
        UserError: they have a test split, no class has two labelled images (or groups), or a name has no match.
    """
    percent = options.hold_out or 0
    if there:
        raise UserError(
            f"--hold-out is {percent}, but {source.path} has held-out images: {', '.join(there)}",
            allowed="--hold-out where there is one split",
            next=_without_hold_out(options),
        )
    if split not in _SPLITS:
        raise UserError(
            f"--hold-out makes no {split} split", allowed=f"--split {' and '.join(_SPLITS)}", next=choices(_SPLITS)
        )
    names, labels = _described(source)
    left_out: np.ndarray = np.zeros(0, np.int64)
    if options.groups is None and options.groups_column is None:
        held = held_out_of_each(labels, percent)
        if lacking := _classes_without(labels, held):
            source.scan_report.note(f"held out: nothing of {counted(lacking, 'class', 'classes')} with a single image")
    else:
        held, left_out = _held_out_by_groups(source, names, labels, options)
    if not len(held):
        raise _nothing_held_out(source, labels, options)
    rows = held if split == "test" else np.setdiff1d(np.arange(len(labels)), [*held, *left_out])
    return Part(source, rows, split)


def _nothing_held_out(source: Source, labels: np.ndarray, options: ReadOptions) -> UserError:
    percent, groups, column = options.hold_out or 0, options.groups, options.groups_column
    named = f"--hold-out is {percent}, but no class of {source.path} has two labelled images"
    by_column = groups is None and column is not None
    if len(held_out_of_each(labels, percent)):  # without the groups there would be some
        option, value = ("--groups-column", column) if by_column else ("--groups", groups)
        apart = f"{named} of different groups ({option} is '{value}')"
        if source.deeper_classes:  # patients may be the classes: held out without their groups, each is on both sides
            return UserError(
                f"{apart}; the images lie deeper than the folders that are their classes",
                allowed="classes of several groups each, such as the folders that the images lie in",
                next="--class-folders inner",
            )
        column_of_patients = "a column whose values differ from patient to patient"
        match = "a regular expression whose match differs from patient to patient, e.g. 'patient[0-9]+'"
        return UserError(apart, allowed=column_of_patients if by_column else match, next=f"without {option}")
    return UserError(
        named,
        allowed="class folders, or a table of labels beside the images (docs/data.md)",
        next="--class-folders inner" if source.other_classes else _without_hold_out(options),
    )


def _without_hold_out(options: ReadOptions) -> str:
    """What to type to hold nothing out: groups go with it."""
    without = "without --hold-out"
    without += "" if options.groups is None else " --groups"
    without += "" if options.groups_column is None else " --groups-column"
    return without


def _described(source: Source) -> tuple[list[str], np.ndarray]:
    described = [source.describe(row) for row in range(len(source))]
    return [name for name, _ in described], np.array([label for _, label in described], np.int64)


def _held_out_by_groups(
    source: Source, names: list[str], labels: np.ndarray, options: ReadOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Positions that are held out, and of images of the same groups that have no label; both are said."""
    column = options.groups_column
    groups = names if column is None else _values_of(source, column)
    if options.groups is not None:
        if column is None and are_positions(names):
            raise UserError(
                f"--groups is '{options.groups}', a part of names, and the images of {source.path} have none: the "
                f"first is {names[0]}",
                allowed="images that are files; of Parquet files --groups-column and a column",
                next="without --groups",
            )
        try:
            groups = group_of_each(groups, options.groups)
        except UserError as error:
            allowed = f"{error.allowed}; or --groups-column and a column of the table"
            raise UserError(error.message, allowed=allowed, next="without --groups") from error
    chosen = held_out_groups(labels, groups, options.hold_out or 0)
    of_chosen = np.array([group in chosen for group in groups], bool)
    held, left_out = np.flatnonzero(of_chosen & (labels >= 0)), np.flatnonzero(of_chosen & (labels < 0))
    share = len(held) / max(1, (labels >= 0).sum())
    note = f"held out: {len(chosen):,} of {len(set(groups)):,} groups, {share:.0%} of the labelled images"
    if lacking := _classes_without(labels, held):
        note += f"; of {counted(lacking, 'class', 'classes')} all images are of one group, which is trained on"
    if len(left_out):
        note += f"; {counted(len(left_out), 'image')} of these groups without a label in neither split"
    source.scan_report.note(note)
    return held, left_out


def _values_of(source: Source, column: str) -> list[str]:
    """What stands in a column for each image, as text."""
    values = [str("" if value is None else value).strip() for value in source.column(column)]
    if lacking := sum(value in ("", "nan") for value in values):
        raise UserError(
            f"--groups-column is '{column}', which {lacking:,} of {counted(len(values), 'image')} have no value in",
            allowed="a column that says of each image which group it is of",
            next="without --groups-column",
        )
    return values


def _classes_without(labels: np.ndarray, held: np.ndarray) -> int:
    """How many classes no image is held out of."""
    return len(set(labels[labels >= 0].tolist()) - set(labels[held].tolist()))


def are_positions(names: Sequence[str]) -> bool:
    """Whether these are positions and no names: alike except for a number, as those of rows and arrays are."""
    matches = [_POSITION.fullmatch(name) for name in names]
    return len({match and match[1] for match in matches}) == 1 and matches[0] is not None


def group_of_each(names: Sequence[str], pattern: str, key: str = "--groups") -> list[str]:
    """What the pattern matches in each name: its first group, where it has one.

    Args:
        key: what the pattern was given as.

    Raises:
        UserError: it is no regular expression, or a name has no match. What to type is for the caller to add.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"{key} is '{pattern}': {error}", allowed="a regular expression (Python's re)") from error
    matches = [expression.search(name) for name in names]
    groups = [None if match is None else match[min(1, expression.groups)] for match in matches]
    unmatched = [name for name, group in zip(names, groups, strict=True) if not group]
    if unmatched:
        raise UserError(
            f"{key} is '{pattern}', which {len(unmatched):,} of {counted(len(names), 'name')} have no match for: "
            f"{unmatched[0]}",
            allowed="a regular expression with a match in each name, e.g. 'patient[0-9]+'",
        )
    return [group for group in groups if group]


def held_out_groups(labels: np.ndarray, groups: list[str], percent: int) -> set[str]:
    """Whole groups that hold about a percentage of each class: those of a fixed order that bring the shares nearer.

    Of each class that is in two groups or more at least one is held out, and one stays.

    Args:
        labels: (N,), -1 for none.    groups: of each image.
    """
    rows = np.flatnonzero(labels >= 0)
    names = sorted({groups[row] for row in rows})
    position = {name: index for index, name in enumerate(names)}
    held_by = [dict[int, int]() for _ in names]  # class -> images
    for row in rows.tolist():
        of_group, label = held_by[position[groups[row]]], int(labels[row])
        of_group[label] = of_group.get(label, 0) + 1
    classes, counts = np.unique(labels[rows], return_counts=True)
    goal = {int(c): max(1, round(int(n) * percent / 100)) for c, n in zip(classes, counts, strict=True)}
    held, left = dict.fromkeys(goal, 0), dict.fromkeys(goal, 0)
    for of_group in held_by:
        for label in of_group:
            left[label] += 1
    chosen: set[str] = set()

    def take(index: int) -> None:
        chosen.add(names[index])
        for label, count in held_by[index].items():
            held[label] += count
            left[label] -= 1

    def may_go(index: int) -> bool:
        return names[index] not in chosen and all(left[label] > 1 for label in held_by[index])

    order = np.random.Generator(np.random.Philox(key=0)).permutation(len(names)).tolist()
    for index in order:
        nearer = sum(
            (abs(held[c] - goal[c]) - abs(held[c] + count - goal[c])) / goal[c] for c, count in held_by[index].items()
        )
        if nearer > 0 and may_go(index):
            take(index)
    for label in goal:
        with_it = [index for index in order if label in held_by[index] and may_go(index)]
        if not held[label] and with_it:
            take(min(with_it, key=lambda index: sum(held_by[index].values())))
    return chosen


def held_out_of_each(labels: np.ndarray, percent: int) -> np.ndarray:
    """Positions that are held out of each class, sorted: a draw that depends on nothing but the labels' order."""
    held = []
    for label in np.unique(labels[labels >= 0]):
        rows = np.flatnonzero(labels == label)
        count = min(max(round(len(rows) * percent / 100), 1), len(rows) - 1)
        order = np.random.Generator(np.random.Philox(key=int(label))).permutation(len(rows))
        held.append(rows[order[:count]])
    return np.sort(np.concatenate(held)) if held else np.zeros(0, np.int64)
