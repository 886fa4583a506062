"""Something to train that takes no views: images of several sizes, and a loss that is a mean over them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from barlowctl.distributed import ALONE, Ranks
from barlowctl.methods import Targets, Trainable
from barlowctl.objective.batch_mean import batch_mean
from barlowctl.train import engine
from barlowctl.train.events import StepDone
from barlowctl.train.schedule import warmup_drops

INTERVAL, IMAGES, ITERATIONS = 4, 6, 10


class RaggedTerms(NamedTuple):
    loss: Tensor
    squared: Tensor


@dataclass(frozen=True)
class RaggedBatch:
    images: list[Tensor]
    values: Tensor
    indices: Tensor

    @property
    def labels(self) -> Tensor:
        return torch.full_like(self.indices, -1)

    def to(self, device: torch.device) -> RaggedBatch:
        return RaggedBatch([image.to(device) for image in self.images], self.values.to(device), self.indices)

    def hold(self, event: Any) -> None:
        """Nothing is used again."""

    def parts(self, count: int) -> list[RaggedBatch]:
        rows = zip(
            np.array_split(np.arange(len(self.images)), count),
            self.values.tensor_split(count),
            self.indices.tensor_split(count),
            strict=True,
        )
        return [RaggedBatch([self.images[i] for i in which], *values) for which, *values in rows]


class RaggedLoader:
    """An endless stream that depends on the iteration alone; every rank has its part of each batch."""

    def __init__(self, ranks: Ranks = ALONE) -> None:
        self.ranks = ranks

    def epoch(self, epoch: int, *, start_batch: int = 0) -> Iterator[RaggedBatch]:
        for iteration in range(epoch * INTERVAL + start_batch, (epoch + 1) * INTERVAL):
            generator = torch.Generator().manual_seed(iteration)
            sizes = torch.randint(3, 9, (IMAGES, 2), generator=generator).tolist()
            images = [torch.randint(0, 256, (3, h, w), dtype=torch.uint8, generator=generator) for h, w in sizes]
            values = torch.rand(IMAGES, generator=generator, dtype=torch.float64)
            whole = RaggedBatch(images, values, torch.arange(IMAGES) + iteration * IMAGES)
            yield whole.parts(self.ranks.size)[self.ranks.rank]

    def shares(self, batch: int) -> list[int]:
        return [len(part) for part in np.array_split(np.arange(IMAGES), self.ranks.size)]


class Ragged(Trainable):
    terms = {"squared": "the mean squared error"}  # noqa: RUF012

    def __init__(self, ranks: Ranks = ALONE) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.ranks = ranks
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
        self.last = nn.Linear(4, 1).double()
        self.largest = 0  # images at once

    def forward(self, batch: RaggedBatch, targets: Targets) -> RaggedTerms:
        self.largest = max(self.largest, len(batch.images))
        features = torch.cat([self.layers(image[None].double() / 255) for image in batch.images])
        errors = (self.last(features).squeeze(1) - batch.values) ** 2
        loss = batch_mean(errors, self.ranks, targets.shares)
        return RaggedTerms(loss, loss.detach())

    def parts(self, batch: RaggedBatch, count: int) -> Sequence[RaggedBatch] | None:
        return batch.parts(count)


def train(
    ranks: Ranks, folder: str, *, stop_at: int | None = None, resume: bool = False, micro_batch: int = 0
) -> dict[str, Any]:
    """Losses of the steps taken, the learning rates, and the weights at the end."""
    method = Ragged(ranks)
    group = {"name": "weights", "params": list(method.parameters()), "lr": 0.5, "peak_lr": 0.5}
    losses: list[float] = []
    rates: list[float] = []

    def sink(event: Any) -> None:
        if isinstance(event, StepDone):
            losses.append(event.values["loss"])
            rates.append(event.values["lr_weights"])

    values = engine.train(
        method,
        RaggedLoader(ranks),
        torch.optim.SGD([group], lr=0.5, momentum=0.9, weight_decay=1e-3),
        engine.Settings(
            epochs=ITERATIONS / INTERVAL,
            steps_per_epoch=INTERVAL,
            warmup_epochs=0.0,
            final_lr_scale=0.0,
            precision="fp32",
            log_every_steps=1,
            checkpoint_every_epochs=1,
            keep_checkpoints=1,
            evaluate_every_epochs=0,
            lr_schedule=lambda step: warmup_drops(step, warmup_steps=3, start_scale=0.1, drops=(6, 8)),
            micro_batch=micro_batch,
        ),
        to_input=None,
        device=torch.device("cpu"),
        emit=sink,
        checkpoints=Path(folder),
        recipe_digest="d",
        stop=lambda: stop_at is not None and len(losses) >= stop_at,
        resume=resume,
        ranks=ranks,
    )
    return {
        "steps": values["steps"],
        "loss": np.array(losses),
        "rates": rates,
        "largest": method.largest,
        "weights": {name: value.numpy() for name, value in method.state_dict().items()},
    }
