"""The settings of a row of the step's benchmark: network, number format, where its images come from.

A row's process gets it as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from barlowctl.assemble.model import preprocessing_of
from barlowctl.recipe import load
from barlowctl.recipe.lambd import lambd_of
from barlowctl.recipe.objectives import only_barlow_twins
from barlowctl.recipe.schema import Recipe

OURS = "ours"
SAME_IN_JSON = ("kind", "threads", "warmup", "steps", "optimizer", "products", "norms", "one_pass")
CHECKED = 16
"""Images on which the rows' losses are compared."""


@dataclass(frozen=True)
class Images:
    """JPEGs for rows that load: in class folders, and packed. workers: threads or processes of each loader."""

    folder: Path
    packed: Path
    workers: int


@dataclass(frozen=True)
class StepSettings:
    """
    kind: whose step it is (`step.KINDS`), or "peak".
    recipe: network, objective, batch, size, precision and memory format, as the row has them.
    optimizer: "own": the recipe's with us; of the others `documented` and `LARS` differ where their example has SGD.
    products: whether our convolutions are products or Winograd's where that is faster (`choose_convolutions`).
    norms: whether batch norms are our kernels' there (`choose_norms`).
    one_pass: whether views share a pass where that is faster (`OnePass`).
    loading: None: synthetic images that lie on the device.
    """

    kind: str
    recipe: Recipe
    device: torch.device
    threads: int
    warmup: int
    steps: int
    optimizer: str = "own"
    products: bool = True
    norms: bool = True
    one_pass: bool = True
    loading: Images | None = None

    @property
    def lambd(self) -> float:
        """Weight of the redundancy term, in all rows."""
        own = only_barlow_twins(self.recipe.objective, "this comparison")
        return lambd_of(own.lambd, self.recipe.model.projector[-1])[0]

    def to_json(self) -> dict[str, Any]:
        """For `BenchmarkProcess`."""
        loading = None if self.loading is None else {key: str(value) for key, value in asdict(self.loading).items()}
        same = {key: getattr(self, key) for key in SAME_IN_JSON}
        return {**same, "recipe": load.dump(self.recipe), "device": str(self.device), "loading": loading}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> StepSettings:
        """The other way round."""
        images = values["loading"]
        return cls(
            recipe=load.parse(values["recipe"]),
            device=torch.device(values["device"]),
            loading=images and Images(Path(images["folder"]), Path(images["packed"]), int(images["workers"])),
            **{key: values[key] for key in SAME_IN_JSON},
        )

    def pixels(self, images: int) -> list[Tensor]:
        """Two views of random pixels, uint8 `(images, S, S, C)` on the device; the first rows are the same for all."""
        generator = torch.Generator().manual_seed(0)
        shape = (2, self.recipe.views.size, self.recipe.views.size, preprocessing_of(self.recipe).channels)
        made = [torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator) for _ in range(images)]
        both = torch.stack(made, dim=1)
        return [view.contiguous().to(self.device) for view in both]
