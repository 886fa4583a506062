"""A contact sheet: originals beside the views that the real loader makes of them, as one PNG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from barlowctl.data.images.display import displayed
from barlowctl.data.images.unreadable import Problem, UnreadableImage
from barlowctl.data.views.spec import Spec
from barlowctl.errors import UserError
from barlowctl.files import atomic_write, folder_made
from barlowctl.output_paths import why_not_written
from barlowctl.plots.style import FAINT, INK, PAPER, TEXT

if TYPE_CHECKING:
    from PIL.Image import Image

    from barlowctl.data.loaders.base import ViewLoader

MakeLoader = Callable[[np.ndarray], "ViewLoader"]
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

    Small views and patches, which follow one another in one size, share a column, in the order of their numbers.

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
    random = np.random.Generator(np.random.Philox(key=seed))
    indices = np.sort(random.choice(source.num_samples, size=count, replace=False)).astype(np.int64)
    if make_loader is None:
        make_loader = _fast_loader(source, views, seed, channels)
    with make_loader(indices) as loader:
        batch = next(iter(loader.epoch(0)))
        pixels = [view.cpu().numpy().copy() for view in batch.views]  # a GPU's loader makes them there
        problems = [loader.problems[index] for index in loader.unreadable]
        positions = batch.indices.tolist()
    if not positions:
        raise UnreadableImage(
            source.path, problems[0].name, problems[0].reason, next="give images that can be read"
        )  # it skips them already
    columns = _columns(views)
    rows = [
        (_title(source, index), [source.image(index), *(_in_column(pixels, row, column) for column in columns)])
        for row, index in enumerate(positions)
    ]
    sheet = contact_sheet(rows, ["original", *(_name(views, column) for column in columns)])
    try:
        with folder_made(out.parent), atomic_write(out, durable=False) as temporary:
            sheet.save(temporary, "PNG")
    except OSError as error:
        raise UserError(
            f"cannot write {out}: {why_not_written(error, out.parent)}", next="choose another --out"
        ) from error
    return Preview(out, len(positions), problems)


def _columns(views: Sequence[Spec]) -> list[list[int]]:
    """Which views stand in which column: the largest ones alone, others with those of their size and kind."""
    largest = max(view.output_size for view in views)
    kinds = [(view.output_size, getattr(view, "patch", None) is not None) for view in views]
    columns: list[list[int]] = []
    for number, kind in enumerate(kinds):
        if columns and kind[0] < largest and kind == kinds[columns[-1][-1]]:
            columns[-1].append(number)
        else:
            columns.append([number])
    return columns


def _in_column(pixels: Sequence[np.ndarray], row: int, column: Sequence[int]) -> np.ndarray | list[np.ndarray]:
    """An image's views of a column: one alone as it is."""
    views = [pixels[number][row] for number in column]
    return views if len(views) > 1 else views[0]


def _name(views: Sequence[Spec], column: Sequence[int]) -> str:
    """What stands above a column; sizes where there are several."""
    view = views[column[0]]
    what = "patch" if getattr(view, "patch", None) is not None else "view"
    if len(column) > 1:
        several = "patches" if what == "patch" else "views"
        numbers = f"{several} {column[0] + 1} to {column[-1] + 1}"
    else:
        numbers = f"{what} {column[0] + 1}"
    sizes = {spec.output_size for spec in views}
    return f"{numbers}: {view.output_size} px" if len(sizes) > 1 else numbers


Cell = np.ndarray | Sequence[np.ndarray]
"""An image, uint8 (H, W, 1 or 3), or several of one size that share a column."""


def contact_sheet(rows: Sequence[tuple[str, Sequence[Cell]]], columns: Sequence[str]) -> Image:
    """Images in a grid, each row under its title; six rows and more stand in two blocks side by side.

    Args:
        rows: (title, images); as many as there are columns. Those that share a column are shown at the scale of the
            largest image beside the first column.
        columns: what stands above them.
    """
    from PIL import Image, ImageDraw

    from barlowctl.plots.images import paste_framed
    from barlowctl.plots.text import fitted, font, suited

    blocks = 1 if len(rows) < 6 else 2
    per_block = -(-len(rows) // blocks)
    largest = max(max(np.shape(image)[-3:-1]) for _, images in rows for image in images[1:])
    cell = min(CELL, max(SMALLEST, largest))
    scale = cell // largest if largest <= cell else cell / largest
    drawn = [[_fit_cell(image, cell, scale) for image in images] for _, images in rows]
    widths = [max(cell, *(image.width for image in column)) for column in zip(*drawn, strict=True)]
    lefts = [sum(widths[:column]) + column * _GAP for column in range(len(widths))]
    block_width = lefts[-1] + widths[-1]
    height = max(cell, *(image.height for images in drawn for image in images))
    row_height = _CAPTION + height + _GAP
    size = (
        2 * _MARGIN + blocks * block_width + (blocks - 1) * 3 * _MARGIN,
        2 * _MARGIN + _CAPTION + per_block * row_height - _GAP,
    )
    sheet = Image.new("RGB", size, PAPER)
    pen, text = ImageDraw.Draw(sheet), font(TEXT, (title for title, _ in rows))
    for block in range(blocks):
        left = _MARGIN + block * (block_width + 3 * _MARGIN)
        for column, name in enumerate(columns):
            pen.text((left + lefts[column], _MARGIN), fitted(name, text, widths[column]), fill=FAINT, font=text)
        for place, row in enumerate(range(block * per_block, min((block + 1) * per_block, len(rows)))):
            top = _MARGIN + _CAPTION + place * row_height
            own = suited(rows[row][0], text)
            pen.text((left, top), fitted(rows[row][0], own, block_width), fill=INK, font=own)
            for column, image in enumerate(drawn[row]):
                corner = (left + lefts[column], top + _CAPTION)
                room = (widths[column] - image.width, height - image.height)
                paste_framed(sheet, image, corner[0] + room[0] // 2, corner[1] + room[1] // 2)
    return sheet


def _fit_cell(cell: Cell, side: int, scale: float) -> Image:
    """An image at the largest size that fits, enlarged by whole factors so that its pixels stay visible; several at
    `scale` in a grid, row by row: a square one where their number is one (patches), else no higher than the cell."""
    if isinstance(cell, np.ndarray):
        image = _picture(cell)
        longer = max(image.size)
        return _scaled(image, side // longer if longer <= side else side / longer)
    from PIL import Image

    tiles = [_scaled(_picture(pixels), scale) for pixels in cell]
    width, height = tiles[0].size
    at_most, square = max(1, (side + _GAP) // (height + _GAP)), round(len(tiles) ** 0.5)
    across = square if square**2 == len(tiles) else max(-(-len(tiles) // at_most), square)
    down = -(-len(tiles) // across)
    grid = Image.new("RGB", (across * (width + _GAP) - _GAP, down * (height + _GAP) - _GAP), PAPER)
    for number, tile in enumerate(tiles):
        grid.paste(tile, (number % across * (width + _GAP), number // across * (height + _GAP)))
    return grid


def _picture(pixels: np.ndarray) -> Image:
    from PIL import Image

    return Image.fromarray(np.ascontiguousarray(displayed(pixels)))


def _scaled(image: Image, scale: float) -> Image:
    from PIL import Image

    filter_ = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), filter_)


def _title(source: Originals, index: int) -> str:
    height, width = source.image(int(index)).shape[:2]
    label = int(source.labels[index])
    name = source.class_names[label] if 0 <= label < len(source.class_names) else f"class {label}"
    return f"#{index}  {width} x {height}" + (f"  {name}" if label >= 0 else "")


def _fast_loader(source: Any, views: Sequence[Spec], seed: int, channels: int) -> MakeLoader:
    def make(indices: np.ndarray) -> ViewLoader:
        from barlowctl.data.loaders.fast import FastLoader

        return FastLoader(
            source, views=views, batch_size=len(indices), seed=seed, channels=channels, shuffle=False, subset=indices
        )

    return make
