"""A `.beton` file in memory, with the attributes that loaders read, whose bytes tests may spoil."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

from barlowctl.errors import UserError


class MemoryBeton:
    """Images, raw (H, W, 3) uint8 arrays or JPEG bytes, laid out one after another."""

    def __init__(self, items: list[np.ndarray | bytes], labels: list[int] | None = None) -> None:
        self.path = Path("memory.beton")
        self.num_samples = len(items)
        self.labels = np.arange(len(items)) % 3 if labels is None else np.array(labels)
        self.modes = np.array([int(isinstance(item, np.ndarray)) for item in items], dtype=np.uint8)
        shapes = [item.shape if isinstance(item, np.ndarray) else jpeg_shape(item) for item in items]
        self.heights, self.widths = (np.array([shape[i] for shape in shapes]) for i in (0, 1))
        parts = [item.tobytes() if isinstance(item, np.ndarray) else item for item in items]
        self.sizes = np.array([len(part) for part in parts])
        self.pointers = np.concatenate([[0], np.cumsum(self.sizes)[:-1]]).astype(np.int64)
        self.bytes = np.frombuffer(b"".join(parts), np.uint8).copy()

    def check_whole(self) -> None:
        """Memory is never cut short."""

    def name_of(self, index: int) -> str:
        return f"sample {index}"

    def image(self, index: int) -> np.ndarray:
        data = self.bytes[self.pointers[index] :][: self.sizes[index]]
        if self.modes[index] == 1:
            return data.reshape(self.heights[index], self.widths[index], 3).copy()
        try:
            return np.array(Image.open(io.BytesIO(data.tobytes())).convert("RGB"))
        except OSError as error:
            raise UserError(f"sample {index} of {self.path} is broken") from error


def jpeg_shape(data: bytes) -> tuple[int, int]:
    width, height = Image.open(io.BytesIO(data)).size
    return height, width


def jpeg(image: np.ndarray, quality: int = 95) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def photograph(name: str = "astronaut", height: int = 120, width: int = 160) -> np.ndarray:
    """A photograph from scikit-image, (height, width, 3) uint8."""
    image = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
    return np.array(image.resize((width, height), Image.Resampling.LANCZOS))


def noise_images(count: int, seed: int = 0, sides: tuple[int, int] = (20, 50)) -> list[np.ndarray]:
    """Images of differing sizes: smooth colour ramps with noise."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        height, width = (int(side) for side in rng.integers(*sides, 2))
        ramp = np.linspace(0, 1, height)[:, None, None] * rng.uniform(0, 200, 3) + np.linspace(0, 50, width)[:, None]
        images.append(np.clip(ramp + rng.normal(0, 5, (height, width, 3)), 0, 255).astype(np.uint8))
    return images
