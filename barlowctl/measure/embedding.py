"""Any images through a frozen network: features for other tools, neighbours and a map to look at."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from barlowctl.assemble.data import ImageSet
from barlowctl.assemble.evaluation import EVALUATION_BATCH, extract, extract_readable
from barlowctl.assemble.labelled import image_names
from barlowctl.assemble.machine import Runtime, choose_device, set_threads
from barlowctl.data.images.conversion import Conversion
from barlowctl.data.images.display import displayed
from barlowctl.data.images.unreadable import OnMeasuring, UnreadableImage
from barlowctl.data.loaders.plain import Pictures
from barlowctl.data.names import written
from barlowctl.data.sources import SPLITS
from barlowctl.data.sources.benchmarks import ListedFiles
from barlowctl.errors import UserError
from barlowctl.eval import features
from barlowctl.eval.embeddings import Embeddings, not_finite
from barlowctl.eval.knn import nearest
from barlowctl.eval.projection import project
from barlowctl.files import write_text
from barlowctl.measure.identity import mark_page, mark_png
from barlowctl.measure.subjects import Subject
from barlowctl.output_paths import Outputs, whole
from barlowctl.plots.images import grid, save_image
from barlowctl.plots.scatter import scatter
from barlowctl.report.map_page import map_page


def embed(
    subject: Subject,
    source: ImageSet,
    split: str,
    runtime: Runtime,
    *,
    on_unreadable: OnMeasuring = "raise",
    identity: Mapping[str, Any] | None = None,
    advance: Callable[[int], None] = lambda images: None,
) -> Embeddings:
    """Features of the images of a source, in its order.

    Args:
        advance: is told after each batch how many images it had.
        on_unreadable: "skip": images that cannot be read have no row.
        identity: `Identity.as_dict()`, to be kept with the features.
    """
    device = choose_device(runtime.device)
    set_threads(runtime)
    backbone = subject.backbone.to(device).eval()
    extracted = extract_readable(
        backbone, source, subject.preprocessing, runtime, device, on_unreadable=on_unreadable, advance=advance
    )
    in_memory = isinstance(source, Pictures) and source.in_memory
    metadata = {
        "network": subject.name,
        "images": written(str(source.path) if in_memory else os.path.abspath(source.path)),
        "split": split,
        **{key: str(value) for key, value in subject.preprocessing.as_result().items()},
        **{key.replace(" ", "_"): text for key, text in source.scan_report.first_lines().items()},
        **{key: str(value) for key, value in whole(subject.metadata).items()},
    }
    if identity is not None:
        metadata["identity"] = json.dumps(dict(identity))
    if extracted.unreadable:
        metadata["unreadable"] = json.dumps([problem.name for problem in extracted.unreadable])
    of_all = image_names(source, split)
    names = [of_all[position] for position in extracted.positions]
    return Embeddings(
        extracted.features.numpy(),
        names,
        extracted.labels.numpy(),
        list(source.class_names),
        metadata,
        extracted.positions,
        extracted.unreadable,
        (*source.scan_report.notes, *not_finite(extracted.features.numpy(), names)),
    )


def is_input(images: object) -> bool:
    """Whether images are a network's input already: a floating point tensor."""
    return isinstance(images, torch.Tensor) and images.is_floating_point()


def embed_input(subject: Subject, images: torch.Tensor, runtime: Runtime) -> Embeddings:
    """Features of what is a network's input already, (N, C, H, W), normalised.

    Raises:
        UserError: another shape.
    """
    channels = subject.preprocessing.channels
    if images.ndim != 4 or images.shape[1] != channels or not len(images):
        raise UserError(f"a tensor of shape {tuple(images.shape)}", allowed=f"(N, {channels}, height, width)")
    device = choose_device(runtime.device)
    set_threads(runtime)
    backbone = subject.backbone.to(device).eval()
    labels = torch.full((len(images),), -1)
    batches = (
        _InputBatch((part,), of_part)
        for part, of_part in zip(images.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True)
    )
    rows = features.extract(backbone, batches, lambda part: part.float(), device)[0].numpy()
    names = [f"images[{index}]" for index in range(len(images))]
    return Embeddings(rows, names, labels.numpy(), [], {"network": subject.name}, notes=not_finite(rows, names))


class _InputBatch(NamedTuple):
    views: tuple[torch.Tensor]
    labels: torch.Tensor


def check_queries(queries: Sequence[str], source: ImageSet, split: str) -> None:
    """Refuse, before features are computed, queries of `find_neighbours` that are nothing, or have no neighbours.

    Raises:
        UserError: one is no position, no name of an image, and no file that can be read; or it is the only image.
    """
    names = image_names(source, split)
    known = set(names)
    for query in queries:
        if query in known or written(query) in known:
            if len(names) == 1:
                raise _alone()
            continue
        if query.isdecimal():
            if len(names) == 1 and int(query) == 0:
                raise _alone()
            if len(query) > 18 or int(query) >= len(names):
                raise UserError(
                    f"image {query} does not exist", allowed=f"0 to {len(names) - 1}", next="--neighbours 0"
                )
        elif Path(query).is_file():
            try:
                _outside_picture(source, Path(query)).image(0)
            except UnreadableImage as error:
                raise _unreadable(error) from error
        else:
            raise UserError(
                f"'{query}' is neither one of the images nor a file",
                allowed=f"a position, a name such as '{names[0]}', or an image file",
                next="--neighbours 0",
            )


def _unreadable(error: UnreadableImage) -> UserError:
    """The error of a query that is no image: it is none of the images, so that leaving it out would not help."""
    return UserError(error.message, next="name another image with --neighbours")


def _alone() -> UserError:
    return UserError("an image alone has no neighbours", allowed="at least 2 images", next="give a folder of images")


def find_neighbours(
    subject: Subject,
    source: ImageSet,
    embeddings: Embeddings,
    queries: Sequence[str],
    runtime: Runtime,
    *,
    top: int,
) -> tuple[Image.Image, list[dict[str, Any]]]:
    """A picture with a row per query: the image, then its `top` nearest among the others; and these as values.

    Args:
        queries: each a position, the name of one of the images, or an image file from anywhere; see `check_queries`.

    Raises:
        UserError: an image that cannot be read, or fewer images than neighbours asked for.
    """
    bank = torch.from_numpy(embeddings.features)
    rows, captions, listed = [], [], []
    for query in queries:
        position = _position(query, embeddings)
        if position is None:
            first, feature = _outside(subject, source, Path(query), runtime)
        else:
            first, feature = _picture(source, embeddings.position_of(position)), bank[position : position + 1]
        count = top + (0 if position is None else 1)
        similarity, index = nearest(bank, feature, top=min(count, len(bank)))
        pairs = [(int(i), float(s)) for s, i in zip(similarity[0], index[0], strict=True) if int(i) != position][:top]
        if not pairs:
            raise _alone()
        rows.append([first, *(_picture(source, embeddings.position_of(i)) for i, _ in pairs)])
        outside = written(Path(query).name)  # of a path what a caption has room for
        name = outside if position is None else (embeddings.class_of(position) or embeddings.names[position])
        captions.append(
            [f"query: {name}", *(f"{embeddings.class_of(i) or embeddings.names[i]}, {s:.2f}" for i, s in pairs)]
        )
        near = [
            {"name": embeddings.names[i], "class": embeddings.class_of(i), "similarity": round(s, 6)} for i, s in pairs
        ]
        listed.append({"query": query if query in embeddings.names else written(query), "neighbours": near})
    return grid(rows, captions), listed


def draw_neighbours(picture: Image.Image, out: Path, key: str) -> None:
    """Write the picture of `find_neighbours`, of the identity `key`."""
    save_image(picture, out, pnginfo=mark_png(key))


def _set_of(embeddings: Embeddings) -> str:
    """The images, for people: `photos`, or of a split's folder or file `fashion-mnist (test)`."""
    path = Path(embeddings.metadata.get("images", "images"))
    name = path.name.removesuffix(".beton")
    return f"{path.parent.name} ({name})" if name in SPLITS and path.parent.name else name


def draw_map(
    source: ImageSet,
    embeddings: Embeddings,
    outs: Sequence[Path],
    projection: str,
    outputs: Outputs,
    *,
    at_most: int,
    seed: int,
    key: str,
) -> int:
    """A 2-D map of the identity `key` as `.png` or `.html` files; returns the number of images on it."""
    members = np.arange(len(embeddings.features))
    if len(members) > at_most:
        order = np.random.Generator(np.random.Philox(key=seed)).permutation(len(members))
        members = np.sort(order[:at_most])
    points = project(embeddings.features[members], projection, seed=seed)
    labels = embeddings.labels[members]
    classes = [
        embeddings.class_names[i] if i < len(embeddings.class_names) else str(i)
        for i in range(int(labels.max(initial=-1)) + 1)
    ]
    network = embeddings.metadata.get("network", "features")
    title = f"{network}: {_set_of(embeddings)} by {'t-SNE' if projection == 'tsne' else 'UMAP'}"
    for out in outs:
        if out.suffix == ".png":
            with outputs.writing(out, flag="--map"):
                save_image(scatter(points, labels, classes, title), out, pnginfo=mark_png(key))
        else:
            names = [embeddings.names[index] for index in members]
            thumbnails = [_picture(source, embeddings.position_of(int(index))) for index in members]
            page = mark_page(map_page(points, labels, classes, names, thumbnails, title), key)
            with outputs.writing(out, flag="--map"):
                write_text(out, page, errors="backslashreplace")  # paths need not be UTF-8
    return len(members)


def _picture(source: ImageSet, index: int) -> Image.Image:
    return _picture_of(source.image(index))


def _picture_of(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(displayed(pixels)))


def _position(query: str, embeddings: Embeddings) -> int | None:
    """The row of a query that `check_queries` let pass; None for a file from elsewhere."""
    for name in (query, written(query)):  # as the files of `embed` have it, or as the file is called
        if name in embeddings.names:
            return embeddings.names.index(name)
    if query.isdecimal():
        rows = {embeddings.position_of(row): row for row in range(len(embeddings.names))}
        if int(query) in rows:
            return rows[int(query)]
    elif Path(query).is_file():
        return None
    raise UserError(
        f"image '{query}' is one of those that cannot be read",
        allowed="another one",
        next=f"--neighbours {embeddings.position_of(0)}",
    )


def _outside_picture(images: ImageSet, path: Path) -> Pictures:
    """An image file from anywhere, to be converted as `images` are."""
    file = ListedFiles("an image", path.parent, "query", [path.name], np.array([-1]), [])
    if isinstance(images, Pictures):
        return Pictures(file, images.conversion)
    noted = images.info.get("conversion")
    return Pictures(file, Conversion.noted(noted) if noted else None)


def _outside(subject: Subject, images: ImageSet, path: Path, runtime: Runtime) -> tuple[Image.Image, torch.Tensor]:
    """An image file from anywhere, converted as `images` are, and its features."""
    source = _outside_picture(images, path)
    device = choose_device(runtime.device)
    plain = Runtime(runtime.device, runtime.threads, 1, "auto")
    try:
        feature, _ = extract(subject.backbone.to(device).eval(), source, subject.preprocessing, plain, device)
    except UnreadableImage as error:
        raise _unreadable(error) from error
    return _picture_of(source.image(0)), feature
