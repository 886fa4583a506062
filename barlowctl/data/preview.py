"""A contact sheet: originals beside the views that the real loader makes of them, as one PNG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from barlowctl.data.images.unreadable import Problem, UnreadableImage
from barlowctl.data.views.spec import Spec
from barlowctl.errors import UserError
from barlowctl.files import atomic_write
from barlowctl.plots.style import FAINT, INK, PAPER, TEXT

if TYPE_CHECKING:
    from PIL.Image import Image

    from barlowctl.data.loaders.fast import Loader

MakeLoader = Callable[[np.ndarray], "Loader"]
CELL, SMALLEST = 224, 112
"""Pixels: the largest side of a cell, and what small images are enlarged to."""

_CAPTION, _GAP, _MARGIN = 18, 6, 12


@dataclass(frozen=True)
class Preview:
    """What was drawn: the picture, how many images are on it, and those that could not be read."""

    path: Path
    samples: int
    unreadable: list[Problem]


class Originals(Protocol):
    """Where the undistorted images come from: a `Beton`, or the plain loader's `Pictures`."""

    path: Path
    num_samples: int
    labels: np.ndarray
    class_names: list[str]

    def image(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8."""


def preview(
    source: Originals,
    views: Sequence[Spec],
    out: str | Path,
    *,
    samples: int = 8,
    seed: int = 0,
    channels: int = 3,
    make_loader: MakeLoader | None = None,
) -> Preview:
    """Write a PNG with a row for each of `samples` images: the original, then each view of epoch 0.

    Args:
        source: the images.
        views: what is made of each.
        samples: how many images (all of them if there are fewer), drawn by `seed`.
        seed: of the draw and of the views; a run with this seed shows the model the same views.
        make_loader: indices -> a loader that yields them in this order in one batch; None: the fast loader.

    An image that cannot be read has no row where the loader skips it; no other one stands in for it.

    Raises:
        UnreadableImage: where the loader does not skip, or none can be read.
        UserError: a picture that cannot be written.
    """
    if samples < 1:
        raise UserError(f"samples is {samples}", allowed="1 or more")
    out = Path(out)
    count = min(samples, source.num_samples)
    pen = np.random.Generator(np.random.Philox(key=seed))
    indices = np.sort(pen.choice(source.num_samples, size=count, replace=False)).astype(np.int64)
    if make_loader is None:
        make_loader = _fast_loader(source, views, seed, channels)
    with make_loader(indices) as loader:
        batch = next(iter(loader.epoch(0)))
        pixels = [view.numpy().copy() for view in batch.views]
        problems = [loader.problems[index] for index in loader.unreadable]
        shown = batch.indices.tolist()
    if not shown:
        raise UnreadableImage(source.path, problems[0].name, problems[0].reason)
    rows = [
        (_title(source, index), [source.image(index), *(view[row] for view in pixels)])
        for row, index in enumerate(shown)
    ]
    sides = [view.output_size for view in views]
    names = [f"view {i + 1}" + (f": {side} px" if len(set(sides)) > 1 else "") for i, side in enumerate(sides)]
    sheet = contact_sheet(rows, ["original", *names])
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(out, durable=False) as temporary:
            sheet.save(temporary, "PNG")
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}", next="choose another --out") from error
    return Preview(out, len(shown), problems)


def contact_sheet(rows: Sequence[tuple[str, Sequence[np.ndarray]]], columns: Sequence[str]) -> Image:
    """Images in a grid, each row under its title; six rows and more stand in two blocks side by side.

    Args:
        rows: (title, images), images uint8 (H, W, 1 or 3); as many as there are columns.
        columns: what stands above them.
    """
    from PIL import Image, ImageDraw

    from barlowctl.plots.text import fitted, font

    blocks = 1 if len(rows) < 6 else 2
    per_block = -(-len(rows) // blocks)
    cell = min(CELL, max(SMALLEST, max(image.shape[0] for _, images in rows for image in images[1:])))
    block_width = len(columns) * (cell + _GAP) - _GAP
    row_height = _CAPTION + cell + _GAP
    size = (
        2 * _MARGIN + blocks * block_width + (blocks - 1) * 3 * _MARGIN,
        2 * _MARGIN + _CAPTION + per_block * row_height - _GAP,
    )
    sheet = Image.new("RGB", size, PAPER)
    pen, text = ImageDraw.Draw(sheet), font(TEXT)
    for block in range(blocks):
        left = _MARGIN + block * (block_width + 3 * _MARGIN)
        for column, name in enumerate(columns):
            pen.text((left + column * (cell + _GAP), _MARGIN), name, fill=FAINT, font=text)
        for place, (title, images) in enumerate(rows[block * per_block : (block + 1) * per_block]):
            top = _MARGIN + _CAPTION + place * row_height
            pen.text((left, top), fitted(title, text, block_width), fill=INK, font=text)
            for column, image in enumerate(images):
                shown = _fit_cell(image, cell)
                corner = (left + column * (cell + _GAP), top + _CAPTION)
                sheet.paste(shown, (corner[0] + (cell - shown.width) // 2, corner[1] + (cell - shown.height) // 2))
    return sheet


def _fit_cell(pixels: np.ndarray, cell: int) -> Image:
    """The image at the largest size that fits, enlarged by whole factors so that its pixels stay visible."""
    from PIL import Image

    image = Image.fromarray(np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels)
    longer = max(image.size)
    if longer <= cell:
        factor = cell // longer
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    size = max(1, round(image.width * cell / longer)), max(1, round(image.height * cell / longer))
    return image.resize(size, Image.Resampling.LANCZOS)


def _title(source: Originals, index: int) -> str:
    height, width = source.image(int(index)).shape[:2]
    label = int(source.labels[index])
    name = source.class_names[label] if 0 <= label < len(source.class_names) else f"class {label}"
    return f"#{index}  {width} x {height}" + (f"  {name}" if label >= 0 else "")


def _fast_loader(source: Any, views: Sequence[Spec], seed: int, channels: int) -> MakeLoader:
    def make(indices: np.ndarray) -> Loader:
        from barlowctl.data.loaders.fast import FastLoader

        return FastLoader(
            source, views=views, batch_size=len(indices), seed=seed, channels=channels, shuffle=False, subset=indices
        )

    return make
