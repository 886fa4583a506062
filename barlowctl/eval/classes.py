"""Results by class: confusion matrix and accuracy of every class, from scores or predictions."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import torch
from torch import Tensor

from barlowctl import tables
from barlowctl.errors import UserError
from barlowctl.files import atomic_write, write_text


def confusion_matrix(predictions: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Counts `(C, C)` int64: row = true class, column = predicted class.

    Args:
        predictions, labels: `(N,)` integers in [0, num_classes).
    """
    if predictions.shape != labels.shape or predictions.ndim != 1:
        raise UserError(
            f"{tuple(predictions.shape)} predictions against {tuple(labels.shape)} labels", allowed="one each"
        )
    pairs = labels.long() * num_classes + predictions.long()
    return torch.bincount(pairs, minlength=num_classes * num_classes).view(num_classes, num_classes)


def per_class(matrix: Tensor) -> list[float | None]:
    """Share of each true class that was predicted right, None for a class without samples."""
    totals = matrix.sum(dim=1).tolist()
    right = matrix.diagonal().tolist()
    return [hit / total if total else None for hit, total in zip(right, totals, strict=True)]


def class_names(names: Sequence[str], num_classes: int) -> list[str]:
    """One name per class: those known, numbers for the others."""
    return [names[label] if label < len(names) else str(label) for label in range(num_classes)]


def table_files(folder: Path, stem: str) -> tuple[Path, Path, Path]:
    """Where `write_tables` writes."""
    return folder / f"{stem}-per-class.csv", folder / f"{stem}-confusion.csv", folder / f"{stem}-per-class.tex"


def write_tables(folder: Path, stem: str, matrix: Tensor, names: Sequence[str]) -> list[Path]:
    """`<stem>-per-class.csv`, the same for LaTeX, and `<stem>-confusion.csv` (rows: true class); returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = table_files(folder, stem)
    with _csv(files[0]) as stream:
        writer = csv.writer(stream)
        writer.writerow(["class", "images", "right", "top1"])
        for name, row, share, hit in zip(names, matrix, per_class(matrix), matrix.diagonal().tolist(), strict=True):
            writer.writerow([name, int(row.sum()), hit, "" if share is None else f"{100 * share:.4f}"])
    with _csv(files[1]) as stream:
        writer = csv.writer(stream)
        writer.writerow(["true \\ predicted", *names])
        for name, row in zip(names, matrix.tolist(), strict=True):
            writer.writerow([name, *row])
    totals, shares = matrix.sum(dim=1).tolist(), per_class(matrix)
    percents = [tables.MISSING if share is None else f"{100 * share:.2f}" for share in shares]
    cells = [[name, f"{total:,}", text] for name, total, text in zip(names, totals, percents, strict=True)]
    note = tables.latex_comments(["needs \\usepackage{booktabs}", f"{stem}: percent of each class's images"])
    write_text(files[2], f"{note}{tables.latex(['class', 'images', 'top-1'], cells)}\n")
    return list(files)


@contextmanager
def _csv(path: Path) -> Iterator[TextIO]:
    with atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
        yield stream
