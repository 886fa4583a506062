"""Amounts as people read them: a number with its noun, a rate. A leaf: standard library only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


def counted(number: float, noun: str, plural: str | None = None) -> str:
    """`1 epoch`, `2 epochs`, `0.5 epochs`, `12,000 images`, `1 class`; plural: where it is not the noun and an s."""
    amount = f"{number:,}" if isinstance(number, int) else f"{number:g}"
    return f"{amount} {noun if number == 1 else plural or f'{noun}s'}"


def megabytes(size: float) -> str:
    """Bytes of a disk: `12,345 MB`, `3.14 MB`, `0.008 MB`."""
    return f"{size / 1e6:,.0f} MB" if size >= 1e7 else f"{size / 1e6:.3g} MB"


def rate(value: float) -> str:
    """A rate, with two significant digits at least: `12,000`, `127`, `8.3`, `0.31`."""
    return f"{value:,.0f}" if abs(value) >= 10 else f"{float(f'{value:.2g}'):g}"


def of_labels(title: str, measured: Mapping[str, Any]) -> str:
    """The title of a measurement, or where a list names the labelled images, with their number in place of a share."""
    if not (name := measured.get("list")):
        return title
    return re.sub(r"\d+ % labels", lambda _: f"{counted(measured['images'], 'label')} of {name}", title)
