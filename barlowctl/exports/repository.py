"""A repository of the Hugging Face Hub: its files beside the card, and the Python that loads them from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from barlowctl.exports.every_format import write_those_that_fit
from barlowctl.exports.exported import ExportedModel
from barlowctl.exports.formats import every_format
from barlowctl.exports.formats.hub_folder import HubFolder
from barlowctl.exports.formats.model_card import NAME, python_block, transformers_section
from barlowctl.exports.formats.onnx_file import OnnxFile
from barlowctl.exports.formats.options import FormatOptions
from barlowctl.exports.formats.timm_loader import LOADER_NAME
from barlowctl.exports.formats.torchvision_file import TorchvisionFile
from barlowctl.exports.writer import check_projector, projector_of, write_compared, write_projector
from barlowctl.model import feature_width

WEIGHTS = "model.safetensors"
BESIDE = {TorchvisionFile.name: "torchvision.safetensors", OnnxFile.name: "model.onnx"}
"""Formats that say what the folder does not, and the names of their files. timm and transformers read the folder."""
CARD, CURVES, RECIPE, LICENSE = NAME, "curves.png", "recipe.toml", "LICENSE"
FILES = (CARD, "config.json", WEIGHTS, LOADER_NAME, *BESIDE.values(), "projector.safetensors", CURVES, RECIPE, LICENSE)
"""Every name that a push may write: those that a later push leaves out are removed."""


@dataclass(frozen=True)
class RepositoryFiles:
    """left_out: of the formats that were asked for: format -> why it is not there. notes: of those that are."""

    left_out: Mapping[str, str]
    notes: tuple[str, ...]


def write_repository(
    model: ExportedModel,
    temporary: Path,
    folder: Path,
    *,
    beside: bool = False,
    with_projector: bool = False,
    **options: Unpack[FormatOptions],
) -> RepositoryFiles:
    """Write the hub folder, loaded back and compared.

    Args:
        temporary: made; where the folder is until it is whole.
        beside: write the formats of `BESIDE` that hold the model too. options: of theirs.

    Raises:
        UserError, OSError, SafetensorError: as `write_compared`.
    """
    if with_projector:
        check_projector(model)
    report = write_compared(model, HubFolder(), temporary, folder)
    named = {BESIDE[format.name]: format for format in every_format(**options) if beside and format.name in BESIDE}
    reports, misfits = write_those_that_fit(model, named, temporary, folder)
    if with_projector:
        write_projector(model, projector_of(temporary, HubFolder.suffix))
    notes = dict.fromkeys(note for written in (report, *reports) for note in written.notes)
    return RepositoryFiles({name: misfit.message for name, misfit in misfits.items()}, tuple(notes))


def loading(model: ExportedModel, repository: str, folder: Path, *, pixels_inside: bool) -> list[tuple[str, str]]:
    """Library and Markdown: how each loads the repository that holds the files of `folder`.

    pixels_inside: the ONNX file takes pixels and normalises them itself.
    """
    sections = [
        ("timm", python_block(*_timm(model, repository))),
        ("transformers", transformers_section(model, repository)),
    ]
    if (folder / BESIDE["torchvision"]).is_file():
        sections.append(("torchvision", python_block(*_torchvision(model, repository))))
    if (folder / BESIDE["onnx"]).is_file():
        sections.append(("ONNX Runtime, without torch", python_block(*_onnx(model, repository, pixels_inside))))
    weights = f"weights = load_file({_file(repository, WEIGHTS)})  # timm's keys"
    lines = ["from huggingface_hub import hf_hub_download", "from safetensors.torch import load_file", "", weights]
    sections.append(("The weights alone", python_block(*lines)))
    if model.preprocessing.channels in (1, 3):
        sections.append(("barlowctl", python_block(*_barlowctl(model, repository))))
    return sections


def _timm(model: ExportedModel, repository: str) -> list[str]:
    create = f'model = timm.create_model("hf-hub:{repository}", pretrained=True).eval()'
    if model.stem == "default":
        imports, load = ["import timm"], [create]
    else:  # a file of the repository teaches timm the network
        imports = ["import runpy", "", "import timm", "from huggingface_hub import hf_hub_download"]
        load = [f"runpy.run_path({_file(repository, LOADER_NAME)})", create]
    if model.preprocessing.channels not in (1, 3):
        return [*imports, "", *load, f"# images: {_input(model)}", "features = model(images)"]
    return [
        *imports,
        "from PIL import Image",
        "",
        *load,
        "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))",
        _picture(model),
        f"features = model(transform(picture)[None])  # (1, {feature_width(model.backbone)})",
    ]


def _torchvision(model: ExportedModel, repository: str) -> list[str]:
    preprocessing, name = model.preprocessing, BESIDE["torchvision"]
    lines = TorchvisionFile().load_lines(model, Path(name)).replace(repr(name), _file(repository, name)).splitlines()
    return [
        "import torch, torchvision",
        "from huggingface_hub import hf_hub_download",
        "from PIL import Image",
        *lines[1:],
        "transform = torchvision.transforms.Compose([",
        f"    torchvision.transforms.Resize({_resized(model)}),",
        f"    torchvision.transforms.CenterCrop({preprocessing.crop}),",
        "    torchvision.transforms.ToTensor(),",
        f"    torchvision.transforms.Normalize({list(preprocessing.mean)}, {list(preprocessing.std)}),",
        "])",
        _picture(model),
        f"features = model(transform(picture)[None])  # (1, {feature_width(model.backbone)})",
    ]


def _resized(model: ExportedModel) -> str:
    preprocessing = model.preprocessing
    size = (preprocessing.crop, preprocessing.crop) if preprocessing.squash else preprocessing.resize
    return f"{size}, torchvision.transforms.InterpolationMode.{preprocessing.interpolation.upper()}"


def _onnx(model: ExportedModel, repository: str, pixels_inside: bool) -> list[str]:
    preprocessing, name = model.preprocessing, BESIDE["onnx"]
    crop, channels = preprocessing.crop, preprocessing.channels
    load = [
        f"file = {_file(repository, name)}",
        'session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])',
    ]
    last = 'features = session.run(["features"], {"images": images})[0]'
    if channels not in (1, 3):
        imports = ["import onnxruntime", "from huggingface_hub import hf_hub_download"]
        shape = f"uint8 (N, {crop}, {crop}, {channels})" if pixels_inside else _input(model)
        return [*imports, "", *load, f"# images: {shape}, as a numpy array", last]
    side, resampling = preprocessing.resize, f"Image.Resampling.{preprocessing.interpolation.upper()}"
    if preprocessing.squash:
        geometry = [f"picture = picture.resize([{crop}, {crop}], {resampling})"]
    else:
        geometry = [
            f"picture = picture.resize([{side} * size // min(picture.size) for size in picture.size], {resampling})",
            f"left, top = (round((size - {crop}) / 2) for size in picture.size)",
            f"picture = picture.crop((left, top, left + {crop}, top + {crop}))",
        ]
    batch = "[None, ..., None]" if channels == 1 else "[None]"
    images = [f"images = np.asarray(picture){batch}  # uint8 (1, {crop}, {crop}, {channels})"]
    if not pixels_inside:
        normalised = f"(images / 255 - {list(preprocessing.mean)}) / {list(preprocessing.std)}"
        images.append(f"images = ({normalised}).transpose(0, 3, 1, 2).astype(np.float32)")
    width = feature_width(model.backbone)
    imports = ["import numpy as np", "import onnxruntime", "from huggingface_hub import hf_hub_download"]
    return [
        *imports, "from PIL import Image", "", *load, _picture(model), *geometry, *images,
        f"{last}  # (1, {width})",
    ]  # fmt: skip


def _barlowctl(model: ExportedModel, repository: str) -> list[str]:
    return [
        "import barlowctl",
        "from huggingface_hub import snapshot_download",
        "",
        f'folder = snapshot_download("{repository}")  # probe and pretrain --init take it, too',
        "network = barlowctl.open_network(folder)",
        f'features = network.features(["picture.jpg"])  # or a folder of images; (N, {feature_width(model.backbone)})',
    ]


def _file(repository: str, name: str) -> str:
    return f'hf_hub_download("{repository}", "{name}")'


def _picture(model: ExportedModel) -> str:
    mode = "L" if model.preprocessing.channels == 1 else "RGB"
    return f'picture = Image.open("picture.jpg").convert("{mode}")'


def _input(model: ExportedModel) -> str:
    crop, channels = model.preprocessing.crop, model.preprocessing.channels
    return f"float32 (N, {channels}, {crop}, {crop}), normalised"
