"""VOC 2007's average precision, as the devkit's VOCevaldet/VOCevalcls describe it, in plain Python.

Precision after each image by descending score; for each of eleven recalls, the largest precision at a recall that
is no smaller (0 where none is); their mean. The area measure adds, for each positive, 1 / P times the largest
precision from there on.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image


def eleven_points(scores: list[float], present: list[bool]) -> float:
    curve = _curve(scores, present)
    total = Fraction(0)
    for tenth in range(11):
        best = Fraction(0)
        for precision, recall in curve:
            if recall >= Fraction(tenth, 10) and precision > best:
                best = precision
        total += best
    return float(total / 11)


def area(scores: list[float], present: list[bool]) -> float:
    curve = _curve(scores, present)
    total, before = Fraction(0), Fraction(0)
    for position, (_, recall) in enumerate(curve):
        if recall > before:
            total += (recall - before) * max(precision for precision, _ in curve[position:])
            before = recall
    return float(total)


def _curve(scores: list[float], present: list[bool]) -> list[tuple[Fraction, Fraction]]:
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    positives, hits, curve = sum(present), 0, []
    for rank, index in enumerate(order, start=1):
        hits += present[index]
        curve.append((Fraction(hits, rank), Fraction(hits, positives)))
    return curve


def squashed(path: Path, size: int) -> np.ndarray:
    """The whole picture at size x size, uint8 (H, W, 3), by Pillow's antialiased bicubic, rounded once."""
    with Image.open(path) as image:
        planes = [
            Image.fromarray(np.asarray(plane, dtype=np.float32)).resize((size, size), Image.Resampling.BICUBIC)
            for plane in image.convert("RGB").split()
        ]
    return (np.stack([np.asarray(plane) for plane in planes], axis=2) + 0.5).clip(0, 255).astype(np.uint8)


def four_windows(last: np.ndarray) -> np.ndarray:
    """(F, H, W) -> (4 F,): means without the last or first row, and the last or first column."""
    channels, height, width = last.shape
    windows = [
        last[:, row : height - 1 + row, column : width - 1 + column].reshape(channels, -1)
        for row in (0, 1)
        for column in (0, 1)
    ]
    return np.stack([window.astype(np.float64).mean(1) for window in windows], axis=1).flatten()
