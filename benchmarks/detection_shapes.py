"""A generated set for detection: ellipses, rectangles and triangles on textured ground, in COCO's and in VOC's layout.

    python benchmarks/detection_shapes.py FOLDER [--train 400] [--test 100] [--seed 0]

FOLDER/coco has annotations/instances_train2017.json and so on, FOLDER/VOCdevkit has VOC2007 and VOC2012; both have the
same images and objects. Every area is known in closed form. What real annotations have is there too:

- COCO: class numbers that are not contiguous nor in order, image ids with gaps, a crowd of run lengths, an image
  without objects, an object in two parts;
- VOC: 1-based boxes of whole pixels that include the last one, one with a fraction, a difficult object (the crowd).
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

CLASSES = {7: "rectangle", 12: "triangle", 3: "ellipse"}
"""COCO's number -> name, in the order of the file. By number they are ellipse, rectangle, triangle, as by name."""
SIDES = (120, 260)
ELLIPSE_CORNERS = 48
SUPERSAMPLING = 4
OVERLAP = 0.3

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Shape:
    """One object: its class's number, the corners of its parts (each (m, 2), x and y in pixels), its area in pixels."""

    category: int
    parts: tuple[np.ndarray, ...]
    area: float
    crowd: bool = False

    @property
    def box(self) -> Box:
        """Left, top, right, bottom."""
        corners = np.concatenate(self.parts)
        left, top, right, bottom = (*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist())
        return left, top, right, bottom


@dataclass(frozen=True)
class Scene:
    """One image and its objects."""

    name: str
    id: int
    pixels: np.ndarray
    shapes: tuple[Shape, ...]


def rectangle(left: float, top: float, width: float, height: float) -> Shape:
    """Area: width x height."""
    right, bottom = left + width, top + height
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    return Shape(7, (corners,), width * height)


def split_rectangle(left: float, top: float, width: float, height: float) -> Shape:
    """Two halves with a gap of a fifth of the width between them. Area: 0.8 x width x height."""
    parts = [rectangle(left + shift * width, top, 0.4 * width, height).parts[0] for shift in (0.0, 0.6)]
    return Shape(7, tuple(parts), 0.8 * width * height)


def triangle(left: float, top: float, width: float, height: float, tip: float) -> Shape:
    """A horizontal base, and a tip above it at `tip` of the width. Area: width x height / 2."""
    corners = np.array([[left + tip * width, top], [left + width, top + height], [left, top + height]])
    return Shape(12, (corners,), width * height / 2)


def ellipse(left: float, top: float, width: float, height: float) -> Shape:
    """A regular polygon of n corners, stretched. Area: n/2 x sin(2 pi / n) x width/2 x height/2."""
    angles = np.arange(ELLIPSE_CORNERS) * (2 * math.pi / ELLIPSE_CORNERS)
    center, radii = np.array([left + width / 2, top + height / 2]), np.array([width / 2, height / 2])
    corners = center + radii * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    area = ELLIPSE_CORNERS / 2 * math.sin(2 * math.pi / ELLIPSE_CORNERS) * width * height / 4
    return Shape(3, (corners,), area)


def overlap(first: Box, second: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    both = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return both / (sum(areas) - both)


def ground(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    """float (H, W, 3) in 0..255: a colour, waves of several directions over it, and noise."""
    y, x = np.mgrid[:height, :width]
    values = np.full((height, width, 3), generator.uniform(60, 195, 3))
    for _ in range(4):
        angle, period = generator.uniform(0, math.pi), generator.uniform(6, 60)
        wave = np.sin((x * math.cos(angle) + y * math.sin(angle)) * 2 * math.pi / period + generator.uniform(0, 6.3))
        values += wave[..., None] * generator.uniform(-18, 18, 3)
    return values + generator.normal(0, 6, values.shape)


def draw(generator: np.random.Generator, pixels: np.ndarray, shape: Shape) -> None:
    """Fill a shape in place, its edge smoothed: a colour that differs from the ground's, with waves of its own."""
    left, top, right, bottom = (int(edge) for edge in (*np.floor(shape.box[:2]), *np.ceil(shape.box[2:])))
    region = pixels[top:bottom, left:right]
    height, width = region.shape[:2]
    mask = Image.new("L", (width * SUPERSAMPLING, height * SUPERSAMPLING))
    pen = ImageDraw.Draw(mask)
    for part in shape.parts:
        # Pillow fills the pixels whose centres the edge goes through as well: half a fine pixel less.
        corners = (part - (left, top)) * SUPERSAMPLING - 0.5
        pen.polygon([tuple(corner) for corner in corners.tolist()], fill=255)
    share = np.asarray(mask.resize((width, height), Image.Resampling.BOX), dtype=np.float64)[..., None] / 255
    inside = ground(generator, height, width)
    behind = pixels[::4, ::4].mean(axis=(0, 1))
    shift = np.where(generator.random(3) < 0.5, -1, 1) * generator.uniform(50, 100, 3)
    color = np.where((behind + shift > 25) & (behind + shift < 230), behind + shift, behind - shift)
    inside = inside - inside.mean(axis=(0, 1)) + color
    region[:] = region * (1 - share) + inside * share


def place(generator: np.random.Generator, height: int, width: int, kind: int) -> Shape:
    """A shape of a kind (0..2) anywhere in the image."""
    short = min(height, width)
    w, h = (generator.uniform(0.2, 0.55) * short for _ in range(2))
    left, top = generator.uniform(1, width - w - 1), generator.uniform(1, height - h - 1)
    if kind == 0:
        return ellipse(left, top, w, h)
    return rectangle(left, top, w, h) if kind == 1 else triangle(left, top, w, h, generator.uniform(0.2, 0.8))


def crowd(generator: np.random.Generator, height: int, width: int) -> list[Shape]:
    """Nine small ellipses beside one another, to be drawn, and the box around them as a crowd, to be annotated."""
    side = 0.09 * min(height, width)
    left, top = generator.uniform(1, width - 4 * side - 1), generator.uniform(1, height - 4 * side - 1)
    small = [ellipse(left + 1.3 * side * i, top + 1.3 * side * j, side, side) for i in range(3) for j in range(3)]
    bounds = np.array([shape.box for shape in small])
    low, high = np.floor(bounds[:, :2].min(axis=0)), np.ceil(bounds[:, 2:].max(axis=0))
    box = rectangle(*low.tolist(), *(high - low).tolist())
    return [*small, Shape(3, box.parts, box.area, crowd=True)]


def scene(split: str, number: int, seed: int) -> Scene:
    """Image `number` of a split. Of every sixteen one is empty, one has a crowd, one an object in two parts."""
    generator = np.random.default_rng([seed, split == "test", number])
    height, width = (int(side) for side in generator.integers(SIDES[0], SIDES[1] + 1, 2))
    pixels = ground(generator, height, width)
    annotated: list[Shape] = []
    if number % 16 == 5:
        *small, annotated_crowd = crowd(generator, height, width)
        for shape in small:
            draw(generator, pixels, shape)
        annotated.append(annotated_crowd)
    count = 0 if number % 16 == 9 else int(generator.integers(1, 5))
    for index in range(count):
        for _ in range(50):
            shape = place(generator, height, width, int(generator.integers(3)))
            if number % 16 == 1 and index == 0:
                left, top, right, bottom = shape.box
                shape = split_rectangle(left, top, right - left, bottom - top)
            if all(overlap(shape.box, other.box) < (0.01 if other.crowd else OVERLAP) for other in annotated):
                draw(generator, pixels, shape)
                annotated.append(shape)
                break
    rounded = np.clip(pixels + 0.5, 0, 255).astype(np.uint8)
    id = 100 + 7 * number + (50_000 if split == "test" else 0)
    return Scene(f"{split}_{number:05d}", id, rounded, tuple(annotated))


def run_lengths(box: Box, height: int, width: int) -> dict[str, Any]:
    """A box of whole pixels as COCO's uncompressed run lengths, column by column, the first of pixels outside."""
    left, top, right, bottom = map(int, box)
    mask = np.zeros((height, width), dtype=bool)
    mask[top:bottom, left:right] = True
    flat = np.concatenate([[False], mask.ravel(order="F")])
    edges = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate([[0], edges, [mask.size]]))
    return {"size": [height, width], "counts": counts.tolist()}


def coco_entry(shape: Shape, scene: Scene, id: int) -> dict[str, Any]:
    """One of COCO's annotations."""
    left, top, right, bottom = shape.box
    height, width = scene.pixels.shape[:2]
    polygons = [part.round(2).ravel().tolist() for part in shape.parts]
    return {
        "id": id,
        "image_id": scene.id,
        "category_id": shape.category,
        "bbox": [round(left, 2), round(top, 2), round(right - left, 2), round(bottom - top, 2)],
        "area": shape.area,
        "iscrowd": int(shape.crowd),
        "segmentation": run_lengths(shape.box, height, width) if shape.crowd else polygons,
    }


def voc_document(scene: Scene, *, fraction: bool) -> str:
    """VOC's XML of an image. fraction: the first box has one, as a few of 2011 do."""
    height, width = scene.pixels.shape[:2]
    lines = [
        "<annotation>",
        f"\t<filename>{scene.name}.jpg</filename>",
        f"\t<size><width>{width}</width><height>{height}</height><depth>3</depth></size>",
    ]
    for number, shape in enumerate(scene.shapes):
        left, top, right, bottom = shape.box
        xmin = f"{left + 1:.6f}" if fraction and number == 0 else str(math.floor(left) + 1)
        corners = zip(
            ("xmin", "ymin", "xmax", "ymax"),
            (xmin, math.floor(top) + 1, math.ceil(right), math.ceil(bottom)),
            strict=True,
        )
        lines += [
            "\t<object>",
            f"\t\t<name>{CLASSES[shape.category]}</name>",
            f"\t\t<difficult>{int(shape.crowd)}</difficult>",
            f"\t\t<bndbox>{''.join(f'<{name}>{value}</{name}>' for name, value in corners)}</bndbox>",
            "\t</object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])


def write_coco(folder: Path, split: str, scenes: list[Scene]) -> None:
    """Images and annotations of a split, called train2017 or val2017."""
    name = "train2017" if split == "train" else "val2017"
    for place in (folder / "annotations", folder / name):
        place.mkdir(parents=True, exist_ok=True)
    annotations: list[dict[str, Any]] = []
    images = []
    for scene in scenes:
        height, width = scene.pixels.shape[:2]
        images.append({"id": scene.id, "file_name": f"{scene.name}.jpg", "height": height, "width": width})
        annotations += [
            coco_entry(shape, scene, 1000 + 3 * (len(annotations) + number))
            for number, shape in enumerate(scene.shapes)
        ]
        Image.fromarray(scene.pixels).save(folder / name / f"{scene.name}.jpg", quality=92)
    categories = [{"id": id, "name": name} for id, name in CLASSES.items()]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations" / f"instances_{name}.json").write_text(json.dumps(document))


def write_voc(folder: Path, coco: Path, split: str, scenes: list[Scene]) -> None:
    """The same as VOC: training images half in 2007 and half in 2012, test images in 2007."""
    halves = {"VOC2007": scenes} if split == "test" else {"VOC2007": scenes[::2], "VOC2012": scenes[1::2]}
    for year, scenes_of_year in halves.items():
        root = folder / year
        for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (root / name).mkdir(parents=True, exist_ok=True)
        for number, scene in enumerate(scenes_of_year):
            (root / "Annotations" / f"{scene.name}.xml").write_text(voc_document(scene, fraction=number == 0))
            source = coco / ("train2017" if split == "train" else "val2017") / f"{scene.name}.jpg"
            shutil.copyfile(source, root / "JPEGImages" / source.name)
        lines = "".join(f"{scene.name}\n" for scene in scenes_of_year)
        (root / "ImageSets" / "Main" / ("trainval.txt" if split == "train" else "test.txt")).write_text(lines)


def write_shapes(folder: Path, *, train: int = 48, test: int = 16, seed: int = 0) -> dict[str, list[Scene]]:
    """Both layouts, in `folder`/coco and `folder`/VOCdevkit; returns what is in them, split by split."""
    splits = {
        split: [scene(split, number, seed) for number in range(count)]
        for split, count in (("train", train), ("test", test))
    }
    for split, scenes in splits.items():
        write_coco(folder / "coco", split, scenes)
        write_voc(folder / "VOCdevkit", folder / "coco", split, scenes)
    return splits


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=400)
    parser.add_argument("--test", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write_shapes(arguments.folder, train=arguments.train, test=arguments.test, seed=arguments.seed)
    print(f"{arguments.train} training and {arguments.test} test images in {arguments.folder}/coco and VOCdevkit")


if __name__ == "__main__":
    main()
