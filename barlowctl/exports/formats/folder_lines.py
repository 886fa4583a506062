"""Python that loads a folder as on the Hugging Face Hub, in timm and in transformers, and what it does not do there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from barlowctl.exports.exported import ExportedModel

TASK = "image-feature-extraction"
"""What the Hub, and `transformers.pipeline`, call the work of such a network."""


def timm_lines(model: ExportedModel, path: Path) -> str:
    """Lines that leave timm's network in `model`."""
    from barlowctl.exports.formats.timm_loader import LOADER_NAME
    from barlowctl.model import registered

    own = "".join(f"{line}\n" for line in registered.registering_lines(model.architecture))
    create = f"model = timm.create_model({f'local-dir:{path}'!r}, pretrained=True).eval()"
    if model.stem == "default":
        return f"{own}import timm\n{create}"
    return f"{own}import runpy, timm\nrunpy.run_path({str(path / LOADER_NAME)!r})\n{create}"


def transformers_lines(model: ExportedModel, place: Path | str) -> str:
    """Lines that leave a TimmWrapperModel in `model`, and its image processor in `processor`.

    place: a folder, or a repository of the Hub.
    """
    channels = model.preprocessing.channels
    lines = [
        "from transformers import AutoImageProcessor, AutoModel",
        f"processor = AutoImageProcessor.from_pretrained({str(place)!r})",
        f"model = AutoModel.from_pretrained({str(place)!r}).eval()",
    ]
    if channels in (1, 3):
        grey = '.convert("L")' if channels == 1 else ""
        lines.append(f"# features of a Pillow picture: model(**processor(picture{grey})).pooler_output")
    return "\n".join(lines)


def limits_of(model: ExportedModel) -> list[str]:
    """What transformers' image processor and pipelines do not do for this network, in sentences."""
    preprocessing = model.preprocessing
    limits = []
    if preprocessing.channels == 1:
        limits.append(
            'transformers does not turn pictures grey: give AutoImageProcessor picture.convert("L"); '
            f'pipeline("{TASK}") makes every picture RGB and cannot be used with 1 channel'
        )
    elif preprocessing.channels != 3:
        limits.append(
            f"transformers opens no pictures of {preprocessing.channels} channels: give AutoImageProcessor a torch "
            f'tensor of (N, {preprocessing.channels}, H, W) in [0, 1]; pipeline("{TASK}") cannot be used'
        )
    if changed := preprocessing.departures("range", "bands"):
        values = ", ".join(f"{key} = {value}" for key, value in changed.items())
        limits.append(f"the run read its files with {values}, which transformers does not do: give it pictures read so")
    return limits
