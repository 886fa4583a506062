"""Feature maps written to a file, and drawn beside their images with principal components as colours."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from barlowctl.data.images.display import displayed
from barlowctl.data.images.unreadable import UnreadableImage
from barlowctl.data.names import written
from barlowctl.errors import UserError
from barlowctl.eval.components import colours, principal_components
from barlowctl.eval.map_file import MapFile, write_maps
from barlowctl.files import folder_made
from barlowctl.measure.patch_features import PatchFeatures, PatchImage
from barlowctl.measure.subjects import Subject
from barlowctl.output_paths import free_bytes, whole
from barlowctl.plots.images import grid

SIDE, PAIRS = 168, 3  # of the picture: pixels of a square, images in a row


def extract_maps(
    features: PatchFeatures,
    out: Path | None,
    *,
    drawn: int = 0,
    metadata: Mapping[str, str],
    advance: Callable[[], None],
) -> list[PatchImage]:
    """Write the map of every image to `out`, one at a time; return `drawn` of them, evenly spread.

    Those of them that cannot be read are not replaced, unless that is all of them: then one other is returned.

    The file has `maps/NAME` float32 `(F, h, w)` for each image, `names` (UTF-8, a name a line), `labels` int32 and
    `sizes` int32 `(N, 2)` (height and width of what the network got), these three in one order; and `metadata`.

    Args:
        out: None: only those that are returned are computed. advance: is called after every image.

    Raises:
        UserError: too many images for a file, no room for it, or an image that cannot be read.
    """
    count = features.source.num_samples
    chosen = np.unique(np.linspace(0, count - 1, min(drawn, count)).round().astype(int)).tolist()
    returned: list[PatchImage] = []
    written_rows: list[tuple[int, tuple[int, ...]]] = []
    with ExitStack() as stack:
        file: MapFile | None = None
        if out is not None:
            stack.enter_context(folder_made(out.parent))
            file = stack.enter_context(write_maps(out, features.names, metadata))
        for image in features.each(chosen if out is None else range(count)):
            if image.position in chosen:
                returned.append(image)
            if file is not None and out is not None:
                if not written_rows:
                    _check_room(out, image.map.nbytes * count)
                file.add(features.names[image.position], image.map)
                written_rows.append((image.position, image.pixels.shape[:2]))
            advance()
        if drawn and not returned and features.unreadable:  # none of those that were chosen: then any other one
            others = [position for position, _ in written_rows[:1]] if file else sorted({*range(count)} - {*chosen})
            returned += islice(features.each(others), 1)
        if not written_rows and not returned and features.unreadable:
            first = features.unreadable[0]
            reason = f"{first.reason}; no other one of the images can be read either"
            raise UnreadableImage(features.source.path, first.name, reason, next="give images that can be read")
        if file is not None:
            _finish(file, features, written_rows, metadata)
    return sorted(returned, key=lambda image: image.position)


def _finish(
    file: MapFile, features: PatchFeatures, rows: list[tuple[int, tuple[int, ...]]], metadata: Mapping[str, str]
) -> None:
    positions = [position for position, _ in rows]
    names = "\n".join(features.names[position] for position in positions).encode()
    unreadable = [problem.name for problem in features.unreadable]
    file.finish(
        {
            "labels": np.asarray(features.source.labels)[positions].astype(np.int32),
            "sizes": np.array([size for _, size in rows], dtype=np.int32).reshape(-1, 2),
            "names": np.frombuffer(names, dtype=np.uint8),
        },
        {**metadata, **({"unreadable": json.dumps(unreadable)} if unreadable else {})},
    )


def _check_room(out: Path, needed: int) -> None:
    """Refuse maps that the disk has no room for, before all of them are computed."""
    free = free_bytes(out.parent)
    if needed > free:
        raise UserError(
            f"'{out}' would have about {needed / 1e9:,.1f} GB of maps, and the disk has {free / 1e9:,.1f} GB left",
            next="make room, or name another place with --patches",
        )


def metadata_of(subject: Subject, features: PatchFeatures, identity: Mapping[str, Any]) -> dict[str, str]:
    """What a file of maps says of itself; all strings."""
    return {
        "network": subject.name,
        "images": written(os.path.abspath(features.source.path)),
        "split": features.split,
        "class_names": json.dumps(list(features.source.class_names)),
        **{key: written(str(value)) for key, value in features.as_dict().items()},
        **{key: written(str(value)) for key, value in whole(subject.metadata).items()},
        "identity": json.dumps(dict(identity)),
    }


def draw_components(features: PatchFeatures, images: Sequence[PatchImage]) -> tuple[Image.Image, list[float]]:
    """Images beside their maps, and the shares of the variance that the three colours show.

    The components are those of the patches of all these images together: a colour means the same in each of them.

    Raises:
        UserError: features that are not finite.
    """
    rows = torch.cat([_patches(image.map) for image in images])
    components = principal_components(rows)
    painted = colours(components.scores(rows)).split([image.map.shape[1] * image.map.shape[2] for image in images])
    pictures: list[list[Image.Image]] = []
    captions: list[list[str]] = []
    for number, (image, colour) in enumerate(zip(images, painted, strict=True)):
        if number % PAIRS == 0:
            pictures.append([])
            captions.append([])
        pictures[-1] += [_original(image), _enlarged(colour, image, features.maps.stride)]
        captions[-1] += [features.names[image.position], f"{image.map.shape[1]} x {image.map.shape[2]}"]
    return grid(pictures, captions, side=SIDE), [round(float(share), 4) for share in components.shares]


def _patches(map: np.ndarray) -> Tensor:
    """`(F, h, w)` -> `(h w, F)`."""
    return torch.from_numpy(map).flatten(1).T


def _original(image: PatchImage) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(displayed(image.pixels)))


def _enlarged(colour: Tensor, image: PatchImage, stride: int) -> Image.Image:
    """Colours of an image's patches, each as large as it is in the image, and no more than the image shows."""
    height, width = image.pixels.shape[:2]
    _, rows, columns = image.map.shape
    small = Image.fromarray(colour.reshape(rows, columns, 3).numpy())
    large = small.resize((columns * stride, rows * stride), Image.Resampling.NEAREST)
    return large.crop((0, 0, min(width, large.width), min(height, large.height)))
