"""Exports read back: a safetensors file that barlowctl wrote, or a folder as on the Hugging Face Hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from barlowctl.errors import UserError
from barlowctl.export.exported import ExportedModel
from barlowctl.export.keys import describe_difference, one_line, without_classifier
from barlowctl.model import build_backbone

KINDS = "a .safetensors file that `barlowctl export` wrote, or a folder with config.json and model.safetensors"


def read_export(path: Path) -> ExportedModel:
    """The backbone of an export and what one must know to use it.

    Raises:
        UserError: missing, damaged, or without the facts that say which network it is.
    """
    if path.is_dir():
        return _read_hub(path)
    try:
        with safe_open(path, "pt") as file:
            facts = dict(file.metadata() or {})
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"'{path}' cannot be read: {one_line(error)}", allowed=KINDS) from error
    if "architecture" not in facts:
        raise UserError(
            f"'{path}' does not say which network it holds (no 'architecture' in its metadata)",
            allowed=KINDS,
            next="put it into a hub folder: config.json with its timm 'architecture', and model.safetensors",
        )
    values = {key: json.loads(facts[key]) for key in ("timm_args", "mean", "std", "in_chans", "input_size", "resize")}
    return _build(path, weights, facts["architecture"], facts["stem"], facts["interpolation"], values)


def _read_hub(path: Path) -> ExportedModel:
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        weights = load_file(path / "model.safetensors")
        own = dict(config.get("barlowctl", {}))  # what we write beside timm's keys
        architecture = str(own.get("architecture", config["architecture"]))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"'{path}' is not a model folder: {one_line(error)}", allowed=KINDS) from error
    preprocessing = {**_timm_preprocessing(architecture), **config.get("pretrained_cfg", {})}
    arguments = dict(config.get("model_args", {}))
    channels, size = preprocessing["input_size"][0], preprocessing["input_size"][-1]
    values = {
        "timm_args": {key: value for key, value in arguments.items() if key != "in_chans"},
        "mean": preprocessing["mean"],
        "std": preprocessing["std"],
        "in_chans": arguments.get("in_chans", channels),
        "input_size": size,
        "resize": int(size / preprocessing["crop_pct"]),
    }
    stem = str(own.get("stem", "default"))
    return _build(path, weights, architecture, stem, preprocessing["interpolation"], values)


def _timm_preprocessing(architecture: str) -> dict[str, Any]:
    cfg = timm.get_pretrained_cfg(architecture, allow_unregistered=True)
    return cfg.to_dict() if cfg is not None else {}


def _build(
    path: Path,
    weights: Mapping[str, Tensor],
    architecture: str,
    stem: str,
    interpolation: str,
    values: Mapping[str, Any],
) -> ExportedModel:
    backbone = build_backbone(architecture, in_chans=values["in_chans"], stem=stem, **values["timm_args"])
    wanted = backbone.state_dict()
    kept = without_classifier(wanted, weights)
    if difference := describe_difference(wanted, kept):
        raise UserError(f"'{path}' does not fit {architecture}: the file {difference}", allowed=KINDS)
    backbone.load_state_dict(kept)
    return ExportedModel(
        backbone=backbone.eval(),
        architecture=architecture,
        timm_args=values["timm_args"],
        stem=stem,
        in_chans=values["in_chans"],
        mean=tuple(values["mean"]),
        std=tuple(values["std"]),
        input_size=values["input_size"],
        resize=values["resize"],
        interpolation="bicubic" if interpolation == "bicubic" else "bilinear",
        provenance={"source_file": path.name},
    )
