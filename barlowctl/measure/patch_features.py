"""Feature maps of whole images, one after another: read, resized, through a backbone."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn

from barlowctl.assemble.data import ImageSet
from barlowctl.assemble.labelled import image_names
from barlowctl.assemble.machine import Runtime, choose_device, set_threads
from barlowctl.data.images.unreadable import OnMeasuring, Problem, UnreadableImage
from barlowctl.data.loaders.base import check_source
from barlowctl.errors import UserError
from barlowctl.generators import own_generator
from barlowctl.measure.subjects import Subject
from barlowctl.model import Preprocessing
from barlowctl.model.feature_maps import FeatureMaps

PIXELS = 16 * 224**2  # of a batch
LARGEST_BATCH = 64


class PatchImage(NamedTuple):
    """An image as the network got it, uint8 `(H, W, C)`, and its map, float32 `(F, h, w)`; `position` in the source."""

    position: int
    pixels: np.ndarray
    map: np.ndarray


@dataclass
class PatchFeatures:
    """The maps of a subject on the images of a source.

    unreadable: images without a map, filled as they are met.
    """

    maps: FeatureMaps
    source: ImageSet
    split: str
    preprocessing: Preprocessing
    device: torch.device
    on_unreadable: OnMeasuring
    unreadable: list[Problem] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.names = image_names(self.source, self.split)
        self._normalization = self.preprocessing.normalization().to(self.device)

    def as_dict(self) -> dict[str, Any]:
        """What the maps are, for a result."""
        maps = self.maps
        return {
            "layer": maps.layer,
            "layer_name": maps.name,
            "layers": maps.layers,
            "channels": maps.channels,
            "stride": maps.stride,
            "image_size": maps.size,
            "whole_images": maps.any_size,
        }

    def each(self, positions: Sequence[int]) -> Iterator[PatchImage]:
        """The maps of some images; those of one size are computed together, so that their order may change."""
        waiting: dict[tuple[int, ...], list[tuple[int, np.ndarray]]] = {}
        for position, pixels in self._prepared(positions):
            group = waiting.setdefault(pixels.shape, [])
            group.append((position, pixels))
            if len(group) >= min(LARGEST_BATCH, max(1, PIXELS // (pixels.shape[0] * pixels.shape[1]))):
                yield from self._computed(waiting.pop(pixels.shape))
            elif sum(map(len, waiting.values())) > LARGEST_BATCH:  # of many sizes: the fullest group goes
                yield from self._computed(waiting.pop(max(waiting, key=lambda shape: len(waiting[shape]))))
        for group in waiting.values():
            yield from self._computed(group)

    def _computed(self, group: list[tuple[int, np.ndarray]]) -> Iterator[PatchImage]:
        images = torch.from_numpy(np.stack([pixels for _, pixels in group])).to(self.device)
        maps = self.maps(self._normalization(images)).float().cpu().numpy()
        for (position, pixels), of_image in zip(group, maps, strict=True):
            yield PatchImage(position, pixels, of_image)

    def _prepared(self, positions: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Images as the network takes them, read one after another in a thread while it computes."""
        ahead: deque[tuple[int, Future[np.ndarray]]] = deque()
        with ThreadPoolExecutor(max_workers=1) as reader:
            try:
                for position in positions:
                    ahead.append((position, reader.submit(self._read, position)))
                    if len(ahead) > LARGEST_BATCH:
                        yield from self._arrived(*ahead.popleft())
                while ahead:
                    yield from self._arrived(*ahead.popleft())
            finally:
                for _, future in ahead:
                    future.cancel()

    def _arrived(self, position: int, future: Future[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
        try:
            yield position, future.result()
        except UserError as error:
            if self.on_unreadable == "raise":
                raise
            reason = error.reason if isinstance(error, UnreadableImage) else error.message
            self.unreadable.append(Problem(self.names[position], reason))

    def _read(self, position: int) -> np.ndarray:
        """uint8 `(H, W, C)`: the whole image, its shorter side resized; where only squares are taken, their centre."""
        pixels = self.source.image(position)
        if self.preprocessing.channels == 1:
            pixels = np.array(Image.fromarray(pixels).convert("L"))[..., None]
        size, multiple = self.maps.size, self.maps.multiple
        shorter = min(pixels.shape[:2])
        sides = [max(1, round(size * side / shorter / multiple)) * multiple for side in pixels.shape[:2]]
        resized = _resized(pixels, (sides[0], sides[1]), self.preprocessing.interpolation)
        if self.maps.any_size:
            return resized
        top, left = ((side - size) // 2 for side in resized.shape[:2])
        return np.ascontiguousarray(resized[top : top + size, left : left + size])


def _resized(pixels: np.ndarray, sides: tuple[int, int], interpolation: str) -> np.ndarray:
    """Antialiased, rounded once at the end, as the loaders resize."""
    if pixels.shape[:2] == sides:
        return pixels
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    made = torch.nn.functional.interpolate(image, sides, mode=interpolation, antialias=True, align_corners=False)
    rounded: np.ndarray = (made[0] * 255 + 0.5).clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    return rounded


def open_patch_features(
    subject: Subject,
    source: ImageSet,
    split: str,
    runtime: Runtime,
    *,
    layer: int | None = None,
    image_size: int | None = None,
    on_unreadable: OnMeasuring = "raise",
) -> PatchFeatures:
    """The maps of one layer of a subject's backbone.

    Args:
        layer: see `FeatureMaps`. image_size: of an image's shorter side; None: the network's own.

    Raises:
        UserError: it has no maps, no such layer, or does not take images of that size.
    """
    device = choose_device(runtime.device)
    set_threads(runtime)
    preprocessing = subject.preprocessing
    check_source(source, preprocessing.channels)
    backbone = _of_any_size(subject).to(device).eval()
    maps = FeatureMaps(backbone, layer, size=image_size or preprocessing.crop, in_chans=preprocessing.channels)
    return PatchFeatures(maps, source, split, preprocessing, device, on_unreadable)


def _of_any_size(subject: Subject) -> nn.Module:
    """The subject's backbone; where timm can resample position embeddings to other sizes, one that does."""
    if getattr(subject.backbone, "dynamic_img_size", True) or subject.untrained is None:
        return subject.backbone
    try:
        with own_generator():
            backbone = subject.untrained(dynamic_img_size=True)
        backbone.load_state_dict(subject.backbone.state_dict())
    except (UserError, RuntimeError):  # it has no such argument, or is another network with it
        return subject.backbone
    return backbone
