"""Diagnostics of a method: of its features, and of the cross-correlation of its embeddings of two views."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from barlowctl.amounts import counted
from barlowctl.assemble.data import ImageSet
from barlowctl.assemble.machine import Runtime
from barlowctl.assemble.model import preprocessing_of
from barlowctl.assemble.sample_views import sample_views
from barlowctl.data.images.unreadable import OnMeasuring
from barlowctl.eval import diagnostics
from barlowctl.files import atomic_write
from barlowctl.methods import Method
from barlowctl.modes import in_mode
from barlowctl.plots import matrix, panels
from barlowctl.plots.images import save_image
from barlowctl.recipe.schema import Recipe

SAMPLES = 2048
"""Images whose two views are embedded: enough for D up to about a thousand, and a second or two of a CPU."""
_BATCH = 256


@dataclass(frozen=True)
class Correlation:
    """What C, the cross-correlation of the embeddings of two views, looks like.

    Attributes:
        mean_diagonal: of C: the share of an embedding's variance that survives the distortions; healthy near 1.
        rms_off_diagonal: root mean square of the rest; healthy near chance, 1 / sqrt(samples).
        singular_values: of C, descending. block: C of the first 128 dimensions.
    """

    mean_diagonal: float
    rms_off_diagonal: float
    singular_values: Tensor
    block: Tensor

    @classmethod
    def of(cls, z1: Tensor, z2: Tensor) -> Correlation:
        """Of the embeddings `(N, D)` of two views."""
        summary = diagnostics.correlation_summary(z1, z2)
        spectrum, block = diagnostics.correlation_spectrum(z1, z2), diagnostics.correlation_block(z1, z2)
        return cls(summary.mean_diagonal, summary.rms_off_diagonal, spectrum, block)


@dataclass(frozen=True)
class Diagnosis:
    """What the embeddings look like.

    Attributes:
        embedding_spread: of the first view: 1: directions are spread evenly, 0: all the same, collapsed.
        correlation: None: the method compares no pair of views that have one network's embeddings.
        samples: images they were computed from.
    """

    embedding_spread: float
    correlation: Correlation | None
    samples: int

    def values(self) -> dict[str, float]:
        """As metrics."""
        c = self.correlation
        of_c = {"mean_diagonal": c.mean_diagonal, "rms_off_diagonal": c.rms_off_diagonal} if c else {}
        return {"embedding_spread": self.embedding_spread, **of_c}


def diagnose(
    method: Method,
    source: ImageSet,
    recipe: Recipe,
    runtime: Runtime,
    device: torch.device,
    members: np.ndarray | None = None,
    on_unreadable: OnMeasuring | None = None,
) -> Diagnosis | None:
    """Embed full-size distorted views of the same images, always the same views, and look at the embeddings.

    None: the method compares no embeddings.

    Runs in evaluation mode and without gradients; the method's state and modes are left as they were.

    Args:
        members: positions of the images to draw from; None: all.
        on_unreadable: None: leave such images out where the recipe goes on past them.
    """
    loader, views = sample_views(
        source, recipe, runtime, device, members, images=SAMPLES, batch_size=_BATCH, on_unreadable=on_unreadable
    )
    to_input = preprocessing_of(recipe).normalization().to(device)
    embedded: list[list[Tensor]] = [[] for _ in range(views)]
    with loader, in_mode(method, training=False), torch.inference_mode():
        for batch in loader.epoch(0):
            if not len(batch.indices):
                continue
            for rows, view in zip(embedded, batch.views, strict=True):
                z = method.project(to_input(view.to(device)))
                if z is None:
                    return None
                rows.append(z.detach().to("cpu", torch.float32, copy=True))
    z1, *others = (torch.cat(rows) for rows in embedded)
    return Diagnosis(
        embedding_spread=diagnostics.feature_spread(z1),
        correlation=Correlation.of(z1, others[0]) if others else None,
        samples=len(z1),
    )


def save_spectra(
    path: Path, diagnosis: Diagnosis | None, eigenvalues: Tensor, more: Mapping[str, Tensor] | None = None
) -> None:
    """Spectra and the block of C, where there is one, as safetensors; `more`: tensors beside them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    c = diagnosis and diagnosis.correlation
    of_c = {"singular_values": c.singular_values.float(), "block": c.block} if c else {}
    tensors = {**of_c, "eigenvalues": eigenvalues.float(), **(more or {})}
    with atomic_write(path) as temporary:
        save_file({key: value.contiguous().clone() for key, value in tensors.items()}, temporary)


def pictures(folder: Path, diagnosis: Diagnosis | None) -> tuple[Path, ...]:
    """Where `save_pictures` puts them."""
    of_c = (folder / "correlation.png",) if diagnosis and diagnosis.correlation else ()
    return (*of_c, folder / "spectra.png")


def save_pictures(folder: Path, diagnosis: Diagnosis | None, eigenvalues: Tensor, width: int) -> list[Path]:
    """`correlation.png` (the block of C, where there is one) and `spectra.png` in `folder`; returns the files.

    Args:
        eigenvalues: of the features. width: of the embeddings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = pictures(folder, diagnosis)
    series: dict[str, np.ndarray] = {}
    if diagnosis and (c := diagnosis.correlation):
        title = f"C of the first {len(c.block)} of {width} dimensions, {counted(diagnosis.samples, 'image')}"
        title += " (red 1, white 0, blue -1)"
        save_image(matrix.heat_map(c.block.numpy(), low=-1, high=1, title=title, diverging=True), files[0])
        series["singular values of C (embeddings)"] = c.singular_values.numpy()
    series["eigenvalues of the covariance (features), shares"] = eigenvalues.numpy()
    save_image(panels.spectra(series, "Spectra"), files[-1])
    return list(files)
