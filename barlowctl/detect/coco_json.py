"""One annotation file of COCO: images, objects and classes, checked before anything is made of them."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from barlowctl.data.tree.regular import read_regular
from barlowctl.detect.left_out import BEYOND, LeftOut, box_fault, first, reaches_beyond
from barlowctl.detect.objects import Object
from barlowctl.detect.regions import is_region, lengths_of, outline_of_region
from barlowctl.errors import UserError

LAYOUT = "JSON of COCO's instances: lists of images, annotations and categories"
NO_OUTLINE = "without an outline, where others have one, left out"


@dataclass(frozen=True)
class CocoImage:
    """One of `images`. size: height and width; None: the file does not say it."""

    id: int
    file: str
    size: tuple[int, int] | None


@dataclass(frozen=True)
class CocoDocument:
    """A checked file. Every entry of `annotations` is of one of the images and categories.

    annotations: as they are in the file. categories: number -> name, by number.
    """

    path: Path
    images: list[CocoImage]
    annotations: list[dict[str, Any]]
    categories: dict[int, str]


def read_document(path: Path) -> CocoDocument:
    """An annotation file.

    Raises:
        UserError: it cannot be read, is of another layout, repeats an id, or an object's image or class is not there.
    """
    document = _parse(path)
    images = [_image(path, entry) for entry in document["images"]]
    categories = dict(sorted(_category(path, entry) for entry in document["categories"]))
    annotations: list[dict[str, Any]] = document["annotations"]
    for name, ids in (
        ("image", [image.id for image in images]),
        ("category", [_integer(path, "category", entry, "id") for entry in document["categories"]]),
        ("annotation", [entry["id"] for entry in annotations if isinstance(entry, dict) and "id" in entry]),
    ):
        twice = [str(id) for id, count in Counter(map(str, ids)).items() if count > 1]
        if twice:
            raise UserError(
                f"{path}: {len(twice):,} {name} {'id is' if len(twice) == 1 else 'ids are'} there more than once: "
                f"{first(twice)}",
                next=f"give every {name} an id of its own",
            )
    if not images:
        raise UserError(f"{path} lists no images", allowed=LAYOUT, next=_again(path))
    if not categories:
        raise UserError(f"{path} lists no categories", allowed=LAYOUT, next=_again(path))
    _check_references(path, annotations, {image.id for image in images}, categories)
    return CocoDocument(path, images, annotations, categories)


def objects_by_image(
    document: CocoDocument, sizes: Sequence[tuple[int, int]], problems: LeftOut
) -> tuple[list[list[tuple[Object, dict[str, Any]]]], bool]:
    """The objects of each image that can be used, each with its entry in the file; and whether there are outlines."""
    positions = {image.id: position for position, image in enumerate(document.images)}
    labels = {number: label for label, number in enumerate(document.categories)}
    outlined = any(entry.get("segmentation") and not entry.get("iscrowd") for entry in document.annotations)
    images: list[list[tuple[Object, dict[str, Any]]]] = [[] for _ in sizes]
    for number, entry in enumerate(document.annotations):
        place = _name(entry, number)
        position = positions[entry["image_id"]]
        box = _box(document.path, place, entry)
        crowd = bool(entry.get("iscrowd"))
        if fault := box_fault(box, *sizes[position]):
            problems.add(fault, place)
            continue
        parts, region = _outline(document.path, place, entry, sizes[position])
        if region is not None and not crowd:
            parts = outline_of_region(region)
        if outlined and not parts and not crowd:
            problems.add(NO_OUTLINE, place)
            continue
        if reaches_beyond(box, *sizes[position]):
            problems.add(BEYOND, place)
        area = _area(entry, box, parts, region)
        rle = region if crowd else None
        images[position].append((Object(box, labels[entry["category_id"]], area, False, crowd, parts, rle), entry))
    return images, outlined


def _again(path: Path) -> str:
    return f"mend or copy {path} again"


def _parse(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(read_regular(path))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}", next="copy it again") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON: {error}", allowed=LAYOUT, next=_again(path)) from error
    lists = ("images", "annotations", "categories")
    lacking = [name for name in lists if not isinstance(document, dict) or not isinstance(document.get(name), list)]
    if lacking:
        hint = " (a file of images alone, such as COCO's of its test images)" if lacking == ["annotations"] else ""
        raise UserError(f"{path} has no list of {lacking[0]}{hint}", allowed=LAYOUT, next=_again(path))
    entries = document["images"] + document["annotations"] + document["categories"]
    if not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{path}: an entry of its lists is no object", allowed=LAYOUT, next=_again(path))
    return document


def _integer(path: Path, kind: str, entry: dict[str, Any], key: str) -> int:
    value = entry.get(key)
    if not isinstance(value, int):
        raise UserError(
            f"{path}: {kind} {json.dumps(entry)[:80]} has the {key} {value!r}",
            allowed="a whole number",
            next=_again(path),
        )
    return value


def _image(path: Path, entry: dict[str, Any]) -> CocoImage:
    id, file = _integer(path, "image", entry, "id"), entry.get("file_name")
    if not isinstance(file, str) or not file:
        raise UserError(
            f"{path}: image {id} has the file_name {file!r}", allowed="the name of its file", next=_again(path)
        )
    size = (entry.get("height"), entry.get("width"))
    is_known = all(isinstance(side, int) and side > 0 for side in size)
    return CocoImage(id, file, size if is_known else None)  # type: ignore[arg-type]


def _category(path: Path, entry: dict[str, Any]) -> tuple[int, str]:
    number = _integer(path, "category", entry, "id")
    return number, str(entry.get("name", number))


def _check_references(
    path: Path, annotations: list[dict[str, Any]], images: set[int], categories: dict[int, str]
) -> None:
    """Refuse objects of images or classes that are not in the file."""
    for key, known, what in (("category_id", categories, "categories"), ("image_id", images, "images")):
        lost = [
            f"{_name(entry, number)} ({key} {entry.get(key)!r})"
            for number, entry in enumerate(annotations)
            if not isinstance(entry.get(key), int) or entry[key] not in known
        ]
        if lost:
            raise UserError(
                f"{path}: {len(lost):,} of its {len(annotations):,} annotations have a {key} that is not among its "
                f"{len(known):,} {what}: {first(lost)}",
                allowed=", ".join(map(str, sorted(categories))) if what == "categories" else None,
                next=f"add the {what} that are missing, or take these annotations out",
            )


def _name(entry: dict[str, Any], number: int) -> str:
    return f"annotation {entry.get('id', f'number {number + 1}')}"


def _box(path: Path, place: str, entry: dict[str, Any]) -> tuple[float, float, float, float]:
    box = entry.get("bbox")
    if not _are_numbers(box) or len(box) != 4:  # type: ignore[arg-type]
        raise UserError(
            f"{path}: {place} has the bbox {json.dumps(box)[:80]}",
            allowed="left, top, width, height",
            next=_again(path),
        )
    left, top, width, height = map(float, box)  # type: ignore[arg-type]
    return left, top, left + width, top + height


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, int | float) and math.isfinite(value) for value in values)


def _outline(
    path: Path, place: str, entry: dict[str, Any], size: tuple[int, int]
) -> tuple[list[np.ndarray], dict[str, Any] | None]:
    """The parts of a polygon, of three corners and more each, or the run lengths of a region."""
    segmentation = entry.get("segmentation")
    if not segmentation:
        return [], None
    if isinstance(segmentation, list) and all(_are_numbers(part) for part in segmentation):
        return [
            np.array(part, dtype=np.float32).reshape(-1, 2)
            for part in segmentation
            if len(part) % 2 == 0 and len(part) >= 6
        ], None
    if is_region(segmentation, *size):
        return [], segmentation
    raise UserError(
        f"{path}: {place} has the segmentation {json.dumps(segmentation)[:80]}",
        allowed=f"polygons (lists of x, y, x, y, ...), or run lengths of {size[0]} x {size[1]} pixels",
        next=_again(path),
    )


def _area(
    entry: dict[str, Any],
    box: tuple[float, float, float, float],
    parts: list[np.ndarray],
    region: dict[str, Any] | None,
) -> float:
    """The annotation's own; where it has none, that of its outline, its region or its box."""
    area = entry.get("area")
    if isinstance(area, int | float) and math.isfinite(area):
        return float(area)
    if parts:
        return sum(_shoelace(part.astype(np.float64)) for part in parts)
    if region is not None and (lengths := lengths_of(region["counts"])):
        return float(sum(lengths[1::2]))
    return (box[2] - box[0]) * (box[3] - box[1])


def _shoelace(corners: np.ndarray) -> float:
    x, y = corners.T
    return float(abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2)


def annotations_of(images: Sequence[Sequence[tuple[Object, dict[str, Any]]]]) -> Iterator[dict[str, Any]]:
    """What COCO's metric takes of the objects, in their order. pycocotools takes an id of 0 for none: ids from 1 on."""
    id = 0
    for image in images:
        for entry, values in image:
            id += 1
            yield {
                "id": id,
                "image_id": values["image_id"],
                "category_id": values["category_id"],
                "bbox": values["bbox"],
                "area": entry.area,
                "iscrowd": int(entry.crowd),
                **({"segmentation": _valid(values["segmentation"])} if values.get("segmentation") else {}),
            }


def _valid(segmentation: Any) -> Any:
    """Without parts that are no polygons: pycocotools takes two corners for a box."""
    if isinstance(segmentation, dict):
        return segmentation
    return [part for part in segmentation if len(part) % 2 == 0 and len(part) >= 6]
