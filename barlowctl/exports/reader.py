"""Exports read back: a safetensors file that barlowctl wrote, or a folder as on the Hugging Face Hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from barlowctl.errors import UserError
from barlowctl.exports.exported import ExportedModel
from barlowctl.exports.keys import describe_difference, one_line, without_classifier
from barlowctl.exports.torchvision_keys import from_torchvision
from barlowctl.model import Preprocessing, build_backbone
from barlowctl.model.backbone import RESERVED_ARGS
from barlowctl.model.preprocessing import interpolation_of

KINDS = "a .safetensors file that `barlowctl export` wrote, or a folder with config.json and model.safetensors"
ADDED_LATER = ("squash", "bits", "range", "background", "bands", "pooling")
"""Values of `Preprocessing` that exports before November 2026 lack, and others where they are at their defaults."""
ORIGIN = ("barlowctl", "recipe", "recipe_digest", "method", "run", "step", "source", "epochs", "init", "init_sha256")
"""What our exports note of where the weights come from."""


def read_export(path: Path) -> ExportedModel:
    """The backbone of an export and what one must know to use it.

    Raises:
        UserError: missing, damaged, or without the metadata that says which network it is.
    """
    if path.is_dir():
        return _read_hub(path)
    try:
        with safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"'{path}' cannot be read: {one_line(error)}",
            allowed=KINDS,
            next="name a file that `barlowctl export` wrote",
        ) from error
    if "architecture" not in metadata:
        raise UserError(
            f"'{path}' does not say which network it holds (no 'architecture' in its metadata)",
            allowed=KINDS,
            next="put it into a hub folder: config.json with its timm 'architecture', and model.safetensors",
        )
    try:
        preprocessing = Preprocessing(
            resize=int(metadata["resize"]),
            crop=int(metadata["input_size"]),
            interpolation=interpolation_of(metadata["interpolation"]),
            mean=tuple(json.loads(metadata["mean"])),
            std=tuple(json.loads(metadata["std"])),
            **_added({key: json.loads(metadata[key]) for key in ADDED_LATER if key in metadata}),
        )
        arguments, stem = json.loads(metadata["timm_args"]), metadata["stem"]
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"the metadata of '{path}' are not those of an export: {one_line(error)}",
            allowed=KINDS,
            next="name a file that `barlowctl export` wrote",
        ) from error
    return _build(path, weights, metadata["architecture"], arguments, stem, preprocessing, metadata)


def read_projector(path: Path) -> dict[str, Tensor] | None:
    """The weights of the projector that lies with an export; None where there is none.

    Raises:
        UserError: it is damaged.
    """
    file = path / "projector.safetensors" if path.is_dir() else path.with_suffix(".projector.safetensors")
    if not file.is_file():
        return None
    try:
        return dict(load_file(file))
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"'{file}', the projector of that export, cannot be read: {one_line(error)}",
            allowed=KINDS,
            next="export it again, or move the file away",
        ) from error


def _read_hub(path: Path) -> ExportedModel:
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        weights = load_file(path / "model.safetensors")
        own = dict(config.get("barlowctl", {}))  # what we write beside timm's keys
        architecture = str(own.get("architecture", config["architecture"]))
        timm_config = {**_timm_preprocessing(architecture), **config.get("pretrained_cfg", {})}
        preprocessing = replace(Preprocessing.of_timm(timm_config), **_added(own))
        arguments = dict(config.get("model_args", {}))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"'{path}' is not a model folder: {one_line(error)}",
            allowed=KINDS,
            next="name a file that `barlowctl export` wrote",
        ) from error
    if (taken := arguments.pop("in_chans", preprocessing.channels)) != preprocessing.channels:
        raise UserError(
            f"'{path / 'config.json'}' says that the network takes {taken} channels (in_chans), and has mean and std "
            f"of {preprocessing.channels}",
            allowed="as many numbers as channels",
        )
    arguments = {key: value for key, value in arguments.items() if key not in RESERVED_ARGS}  # timm notes num_classes
    noted = {**config.get("provenance", {}), **({"barlowctl": own["version"]} if "version" in own else {})}
    return _build(path, weights, architecture, arguments, str(own.get("stem", "default")), preprocessing, noted)


def _added(config: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `ADDED_LATER` that are noted, as `Preprocessing` takes them."""
    noted = {key: config[key] for key in ADDED_LATER if key in config}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in noted.items()}


def _timm_preprocessing(architecture: str) -> dict[str, Any]:
    cfg = timm.get_pretrained_cfg(architecture, allow_unregistered=True)
    return cfg.to_dict() if cfg is not None else {}


def _build(
    path: Path,
    weights: Mapping[str, Tensor],
    architecture: str,
    timm_args: Mapping[str, Any],
    stem: str,
    preprocessing: Preprocessing,
    noted: Mapping[str, Any],
) -> ExportedModel:
    backbone = build_backbone(architecture, in_chans=preprocessing.channels, stem=stem, **timm_args)
    expected = backbone.state_dict()
    selected = without_classifier(expected, from_torchvision(weights, expected) or weights)
    if difference := describe_difference(expected, selected):
        raise UserError(
            f"'{path}' does not fit {architecture}: the file {difference}",
            allowed=KINDS,
            next="name a file that `barlowctl export` wrote",
        )
    backbone.load_state_dict(selected)
    return ExportedModel(
        backbone=backbone.eval(),
        architecture=architecture,
        timm_args=timm_args,
        stem=stem,
        preprocessing=preprocessing,
        provenance={"source_file": path.name, **{key: str(noted[key]) for key in ORIGIN if key in noted}},
    )
