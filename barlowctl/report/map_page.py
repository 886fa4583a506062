"""A 2-D map as one HTML page without a network: hovering shows the image, the list of classes singles them out."""

from __future__ import annotations

import base64
import html
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from barlowctl.amounts import counted
from barlowctl.plots.marks import CORNERS, LISTED, look, middles
from barlowctl.plots.style import CLASSES, PAPER, UNLABELLED, css, hexadecimal

TILE = 56
"""Side of a thumbnail in the page's one sheet of thumbnails, in pixels."""


def map_page(
    points: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    names: Sequence[str],
    thumbnails: Sequence[Image.Image],
    title: str,
) -> str:
    """The page.

    Args:
        points: `(N, 2)`. labels: `(N,)`, -1 unlabelled. names: of the images. thumbnails: one each.
    """
    per_row = max(1, math.ceil(math.sqrt(len(thumbnails))))
    low, high = points.min(axis=0), points.max(axis=0)
    span = float(max((high - low).max(), 1e-12))
    placed = (points - (low + high) / 2) / span
    looks = [look(label, len(class_names)) for label in range(len(class_names))]
    data = {
        "x": [round(float(x), 5) for x in placed[:, 0]],
        "y": [round(float(y), 5) for y in placed[:, 1]],
        "span": [round(float(extent) / span, 5) for extent in high - low],
        "label": [int(label) for label in labels],
        "name": list(names),
        "classes": list(class_names),
        "colors": [hexadecimal(color) for color, _ in looks],
        "corners": [CORNERS[shape] for _, shape in looks],
        "middles": [[label, round(x, 5), round(y, 5)] for label, (x, y) in middles(placed, labels).items()],
        "named": len(class_names) > LISTED,
        "smallest": 1.6 if len(class_names) <= len(CLASSES) else 2.4,
        "unlabelled": hexadecimal(UNLABELLED),
        "perRow": per_row,
        "tile": TILE,
    }
    text = json.dumps(data, separators=(",", ":")).replace("</", "<\\/")
    template = Path(__file__).with_name("map.html").read_text(encoding="utf-8")
    page = (
        template.replace("{{style}}", css())
        .replace("{{title}}", html.escape(title))
        .replace("{{count}}", counted(len(points), "image"))
        .replace("{{hide}}", "; click a class to hide it" if class_names else "")
        .replace("{{single}}", ", point at it to single it out" if class_names else "")
    )
    return page.replace("{{sheet}}", _sheet(thumbnails, per_row)).replace("{{data}}", text)


def _sheet(thumbnails: Sequence[Image.Image], per_row: int) -> str:
    """All thumbnails in one picture, as a data URI."""
    rows = math.ceil(len(thumbnails) / per_row)
    sheet = Image.new("RGB", (per_row * TILE, rows * TILE), PAPER)
    for index, picture in enumerate(thumbnails):
        scale = TILE / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        left, top = (index % per_row) * TILE, (index // per_row) * TILE
        how = Image.Resampling.NEAREST if scale > 1.5 else Image.Resampling.LANCZOS
        sheet.paste(
            picture.convert("RGB").resize(size, how), (left + (TILE - size[0]) // 2, top + (TILE - size[1]) // 2)
        )
    stream = io.BytesIO()
    sheet.save(stream, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
