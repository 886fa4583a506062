"""One annotation file of Pascal VOC: the image's size and its objects, as they are written."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

from barlowctl.data.tree.regular import read_regular
from barlowctl.errors import UserError

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


class VocObject(NamedTuple):
    """box: xmin, ymin, xmax, ymax as in the file: 1-based, the last pixel included, perhaps with a fraction."""

    name: str
    box: tuple[float, float, float, float]
    difficult: bool


class VocDocument(NamedTuple):
    """size: height and width; None where the file does not say it."""

    size: tuple[int, int] | None
    objects: list[VocObject]


def read_document(path: Path) -> VocDocument:
    """What an annotation file says.

    Raises:
        UserError: it cannot be read, is no XML, or an object has no name or box.
    """
    try:
        root = ElementTree.fromstring(read_regular(path))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}", next="copy it again") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the latter: an encoding that nobody knows
        raise UserError(
            f"{path} is no XML: {error}", allowed="an annotation file of Pascal VOC", next=_again(path)
        ) from error
    if root.tag != "annotation":
        raise UserError(
            f"{path} is no annotation of Pascal VOC: it holds <{root.tag}>", allowed="<annotation>", next=_again(path)
        )
    return VocDocument(_size(root), [_object(path, entry) for entry in root.findall("object")])


def _again(path: Path) -> str:
    return f"mend or copy {path} again, or take its image out of the list"


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    try:
        height, width = (int(root.findtext(f"size/{name}", "0")) for name in ("height", "width"))
    except ValueError:
        return None
    return (height, width) if height > 0 and width > 0 else None


def _object(path: Path, entry: ElementTree.Element) -> VocObject:
    name = (entry.findtext("name") or "").strip()
    if not name:
        raise UserError(
            f"{path}: an object has no name", allowed="<name> of its class in every <object>", next=_again(path)
        )
    texts = [entry.findtext(f"bndbox/{corner}") for corner in _CORNERS]
    try:
        left, top, right, bottom = (float(text or "") for text in texts)
        is_finite = all(map(math.isfinite, (left, top, right, bottom)))
    except ValueError:
        is_finite = False
    if not is_finite:
        box = ", ".join(f"{corner} {text!r}" for corner, text in zip(_CORNERS, texts, strict=True))
        raise UserError(
            f"{path}: an object '{name}' has the box {box}",
            allowed="four numbers in <bndbox>: xmin, ymin, xmax, ymax",
            next=_again(path),
        )
    difficult = (entry.findtext("difficult") or "").strip().lower() in ("1", "true")
    return VocObject(name, (left, top, right, bottom), difficult)
