"""Diagnostics of a method: of its features, and of the cross-correlation of its embeddings of two views."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from barlowctl.assemble.data import ImageSet, training_loader
from barlowctl.assemble.machine import Runtime
from barlowctl.assemble.model import preprocessing_of
from barlowctl.data.images.unreadable import OnMeasuring
from barlowctl.eval import diagnostics
from barlowctl.files import atomic_write
from barlowctl.methods import Method
from barlowctl.model import in_mode
from barlowctl.plots import matrix, panels
from barlowctl.plots.images import save_image
from barlowctl.recipe.schema import Recipe

SAMPLES = 2048
"""Images whose two views are embedded: enough for D up to about a thousand, and a second or two of a CPU."""
_BATCH = 256
OF_C = ("mean_diagonal", "rms_off_diagonal")
"""The metrics of a `Diagnosis`."""


@dataclass(frozen=True)
class Diagnosis:
    """What C looks like.

    Attributes:
        mean_diagonal: of C: the share of an embedding's variance that survives the distortions; healthy near 1.
        rms_off_diagonal: root mean square of the rest; healthy near chance, 1 / sqrt(samples).
        singular_values: of C, descending. block: C of the first 128 dimensions.
        samples: images they were computed from.
    """

    mean_diagonal: float
    rms_off_diagonal: float
    singular_values: Tensor
    block: Tensor
    samples: int

    def values(self) -> dict[str, float]:
        """As metrics."""
        return {"mean_diagonal": self.mean_diagonal, "rms_off_diagonal": self.rms_off_diagonal}


def diagnose(
    method: Method,
    source: ImageSet,
    recipe: Recipe,
    runtime: Runtime,
    device: torch.device,
    members: np.ndarray | None = None,
    on_unreadable: OnMeasuring | None = None,
) -> Diagnosis | None:
    """Embed two distorted views of the same images, always the same views, and look at their cross-correlation.

    None: the method compares no pair of embeddings.

    Runs in evaluation mode and without gradients; the method's state and modes are left as they were.

    Args:
        members: positions of the images to draw from; None: all.
        on_unreadable: None: leave such images out where the recipe goes on past them.
    """
    pool = np.arange(source.num_samples) if members is None else members
    chosen = pool[np.linspace(0, len(pool) - 1, min(SAMPLES, len(pool))).round().astype(np.int64)]
    loader = training_loader(
        source,
        recipe,
        runtime,
        device,
        batch_size=min(_BATCH, len(chosen)),
        shuffle=False,
        subset=chosen,
        on_unreadable=on_unreadable or ("skip" if recipe.data.on_unreadable == "replace" else "raise"),
    )
    to_input = preprocessing_of(recipe).normalization().to(device)
    embedded: tuple[list[Tensor], list[Tensor]] = ([], [])
    with loader, in_mode(method, training=False), torch.inference_mode():
        for batch in loader.epoch(0):
            if not len(batch.indices):
                continue
            for rows, view in zip(embedded, batch.views[:2], strict=False):
                z = method.project(to_input(view.to(device)))
                if z is None:
                    return None
                rows.append(z.detach().to("cpu", torch.float32, copy=True))
    z1, z2 = (torch.cat(parts) for parts in embedded)
    summary = diagnostics.correlation_summary(z1, z2)
    return Diagnosis(
        mean_diagonal=summary.mean_diagonal,
        rms_off_diagonal=summary.rms_off_diagonal,
        singular_values=diagnostics.correlation_spectrum(z1, z2),
        block=diagnostics.correlation_block(z1, z2),
        samples=len(z1),
    )


def save_spectra(path: Path, diagnosis: Diagnosis | None, eigenvalues: Tensor) -> None:
    """Spectra and the block of C, where there is one, as safetensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    of_c = {"singular_values": diagnosis.singular_values.float(), "block": diagnosis.block} if diagnosis else {}
    tensors = {**of_c, "eigenvalues": eigenvalues.float()}
    with atomic_write(path) as temporary:
        save_file({key: value.contiguous().clone() for key, value in tensors.items()}, temporary)


def correlation_pictures(folder: Path) -> tuple[Path, Path]:
    """Where `save_pictures` puts them."""
    return folder / "correlation.png", folder / "spectra.png"


def save_pictures(folder: Path, diagnosis: Diagnosis, eigenvalues: Tensor, width: int) -> list[Path]:
    """`correlation.png` (the block of C) and `spectra.png` in `folder`; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = correlation_pictures(folder)
    dimensions = len(diagnosis.block)
    title = f"C of the first {dimensions} of {width} dimensions, {diagnosis.samples:,} images (red 1, white 0, blue -1)"
    save_image(matrix.heat_map(diagnosis.block.numpy(), low=-1, high=1, title=title, diverging=True), files[0])
    series = {
        "singular values of C (embeddings)": diagnosis.singular_values.numpy(),
        "eigenvalues of the covariance (features), shares": eigenvalues.numpy(),
    }
    save_image(panels.spectra(series, "Spectra"), files[1])
    return list(files)
