"""Run by test_fused.py in a process in which Triton interprets its kernels: `fused` beside `batched`, into a file.

TRITON_INTERPRET=1 python -m tests.data.views.interpreted OUT.npz NAME/CHANNELS...
"""

from __future__ import annotations

import sys

import numpy as np
import torch

from barlowctl.data.views import batched, fused
from barlowctl.data.views.parameters import draw_parameters
from barlowctl.data.views.spec import ViewSpec
from tests.data.views_double import photograph

HEIGHT, WIDTH, COUNT = 32, 36, 5  # 1,152 pixels: two programs an image, the second of them cut short
EVERYTHING = ViewSpec(
    32, jitter=1.0, hue=0.5, saturation=1.5, grayscale=0.4, blur=0.6, solarize=0.5, gamma=0.7, erase=0.6
)
SPECS = {
    "second view": ViewSpec(32, jitter=0.5, blur=0.1, solarize=0.2),
    "everything": EVERYTHING,
    "moco": ViewSpec(
        32, grayscale_first=True, grayscale=0.5, brightness_added=True, solarize=0.5, solarize_threshold=99.5
    ),
    "wide blur": ViewSpec(32, jitter=0.0, grayscale=0.0, blur=0.7, blur_sigma=(0.1, 15.0)),
    "nothing": ViewSpec(32, jitter=0.0, grayscale=0.0, blur=0.0),
}


def pictures() -> np.ndarray:
    """uint8 (COUNT, HEIGHT, WIDTH, 3): photographs, and colours with tied channels."""
    photos = [photograph(name, HEIGHT, WIDTH) for name in ("astronaut", "coffee", "chelsea", "rocket")]
    ties = np.random.default_rng(0).choice([0, 1, 127, 128, 254, 255], photos[0].shape)
    return np.stack([*photos, ties]).astype(np.uint8)


def main(out: str, *cases: str) -> None:
    made: dict[str, np.ndarray] = {}
    for case in cases:
        name, channels = case.split("/")
        pixels = torch.from_numpy(np.ascontiguousarray(pictures()[..., : int(channels)]))
        drawn = draw_parameters(SPECS[name], 3, 5, np.arange(1000, 1000 + COUNT), 1)
        planes = batched.distort(pixels.permute(0, 3, 1, 2).float(), drawn) + 0.5
        made[f"{case}/batched"] = planes.to(torch.uint8).permute(0, 2, 3, 1).numpy()
        made[f"{case}/fused"] = fused.distort(pixels, drawn).numpy()
        made[f"{case}/before"] = pixels.numpy()
    np.savez(out, **made)


if __name__ == "__main__":
    main(*sys.argv[1:])
