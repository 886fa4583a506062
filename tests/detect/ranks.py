"""What the ranks of a gang do with a detector: the same calls alone give what they are compared with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from barlowctl.detect import precise_bn
from barlowctl.detect.batch import DetectionBatch, DetectionTarget
from barlowctl.detect.settings import ModelSettings
from barlowctl.distributed import Ranks
from barlowctl.model import synchronize_batch_norm
from barlowctl.train.gradient_sync import GradientSync
from tests.detect import detectors

SIZES = [(64, 96), (64, 80), (48, 96)]
Case = tuple[str, ModelSettings, int]
"""Head, settings, images of a batch."""


def whole_batch(images: int) -> DetectionBatch:
    """Of the images the first has no object: where it is alone on a rank, that has no foreground."""
    sizes = [SIZES[number % len(SIZES)] for number in range(images)]
    batch = replace(detectors.batch(sizes), canvas=(64, 96))
    batch.targets[0] = DetectionTarget(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), ())
    targets = [replace(of_image, boxes=of_image.boxes.double()) for of_image in batch.targets]
    return replace(batch, targets=targets)


def share(batch: DetectionBatch, ranks: Ranks) -> DetectionBatch:
    """A rank's images, unequally many."""
    own = slice(len(batch) * ranks.rank // ranks.size, len(batch) * (ranks.rank + 1) // ranks.size)
    return replace(
        batch,
        images=batch.images[own],
        targets=batch.targets[own],
        indices=batch.indices[own],
        keys=batch.keys[own],
    )


def steps(ranks: Ranks, cases: list[Case]) -> list[tuple[list[float], dict[str, np.ndarray]]]:
    """`step` of each case."""
    return [step(ranks, *case) for case in cases]


def step(ranks: Ranks, head: str, settings: ModelSettings, images: int) -> tuple[list[float], dict[str, np.ndarray]]:
    """Terms, gradients and running statistics of a step, and statistics of PreciseBN, in float64."""
    model = detectors.detector(settings=settings, ranks=ranks, head=head).double().train()
    synchronize_batch_norm(model, ranks, torch.device("cpu"))
    sync = GradientSync(ranks, list(model.parameters()))
    own = share(whole_batch(images), ranks)
    terms = model(own)
    sync.start()
    terms.loss.backward()
    sync.finish()
    values = {name: p.grad.numpy().copy() for name, p in model.named_parameters() if p.grad is not None}
    values |= {name: buffer.numpy().copy() for name, buffer in model.named_buffers()}
    precise_bn.recompute(model, [own], ranks)
    values |= {f"precise {name}": buffer.numpy().copy() for name, buffer in model.named_buffers()}
    return [value.item() for value in terms], values
