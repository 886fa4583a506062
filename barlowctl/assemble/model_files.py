"""A network in a file or folder, to be measured or exported: an export, the authors' files, or weights alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from timm.data.config import resolve_data_config
from torch import nn

from barlowctl import shell
from barlowctl.amounts import counted
from barlowctl.assemble.matching import Match, match
from barlowctl.assemble.misfit import described, differences, listed, recognised, reshaped
from barlowctl.assemble.showing import NORMALIZED_BY, PREPARED_BY, key_of, measuring, prepared_otherwise
from barlowctl.assemble.weights import Network, Weights, read_weights
from barlowctl.errors import UserError
from barlowctl.exports import ExportedModel, read_export, read_official
from barlowctl.exports.model_folder import read_config
from barlowctl.exports.state_dicts import is_safetensors
from barlowctl.model import Preprocessing, build_backbone, built_for, check_input, patch_side, without_data
from barlowctl.recipe.initial import for_channels
from barlowctl.recipe.network import Model
from barlowctl.recipe.overrides import as_typed, without

NETWORK = ("model.backbone", "model.stem", "model.image_size", "model.patch_size", "model.backbone_args")
"""Keys of a recipe that say which network weights are of that do not say it themselves."""


@dataclass(frozen=True)
class ModelFile:
    """A network that was read, and what the user should know of it.

    Attributes:
        kind: "export", "official" (of the authors) or "state dict" (weights that do not say which network they are of).
    """

    model: ExportedModel
    kind: str
    notes: tuple[str, ...] = ()


def open_model_file(path: Path, overrides: Sequence[str] = ()) -> tuple[ModelFile, Sequence[str]]:
    """The network at `path`, and the overrides that it has not taken: of weights alone it takes all.

    Args:
        overrides: `key=value` of `NETWORK`, `NORMALIZED_BY` and `PREPARED_BY`.

    Raises:
        UserError: it cannot be read; or of weights alone: they are of no usual network and none is named, they are of
            another one than is named, or it is not known how large its images are.
    """
    if _says_itself(path):
        return ModelFile(read_export(path), "export"), overrides
    if path.is_file() and not is_safetensors(path) and not any(is_of_weights(override) for override in overrides):
        try:
            return ModelFile(read_official(path), "official"), overrides
        except UserError:
            return _of_weights(path, overrides), ()
    return _of_weights(path, overrides), ()


def open_to_export(path: Path, overrides: Sequence[str] = ()) -> ModelFile:
    """The same to be exported, with all overrides.

    Raises:
        UserError: also, overrides of what says itself how images are shown to it.
    """
    file, remaining = open_model_file(path, overrides)
    if remaining:
        raise UserError(
            f"{as_typed(remaining)}: '{path}' says itself which network it holds, and how images are shown to it",
            allowed="overrides of weights alone, such as another tool's checkpoint",
            next=without(remaining),
        )
    return file


def is_of_weights(override: str) -> bool:
    """Whether it says what most files and names say themselves: which network, and how its input is normalised."""
    key = key_of(override)
    return key in (*NETWORK, *NORMALIZED_BY) or key.startswith("model.backbone_args.")


def _says_itself(path: Path) -> bool:
    """Whether a file or folder says which network it holds, as exports do and timm's folders."""
    try:
        if path.is_dir():
            return not read_config(path).keys().isdisjoint(("barlowctl", "architecture"))
        if not is_safetensors(path):
            return False
        with safe_open(path, "pt") as file:
            return "architecture" in (file.metadata() or {})
    except (OSError, SafetensorError, UserError):
        return True  # whoever reads it says what is wrong


def _of_weights(path: Path, overrides: Sequence[str]) -> ModelFile:
    weights = read_weights(str(path))
    keys = {key_of(override) for override in overrides}
    taken = (*PREPARED_BY, *NORMALIZED_BY, *NETWORK)
    model = measuring({"data": {}, "views": {}, "eval": {}, "model": {}}, overrides, taken).model
    network, how = _network(weights, model, keys)
    backbone, matched, channels = _filled(weights, network)
    own, whose = _preprocessing(weights, network, backbone, channels)
    if network.stem != "default" and weights.preprocessing is None and "eval.crop" not in keys:
        raise UserError(
            f"'{weights.name}' does not say how large its images were, and stem '{network.stem}' is for small ones",
            allowed="the side of the images that it was trained on, in pixels",
            next="--set eval.resize=32 --set eval.crop=32",
        )
    rest = [override for override in overrides if key_of(override).partition(".")[0] != "model"]
    preprocessing = replace(prepared_otherwise(own, rest, beside=NORMALIZED_BY), pooling=model.pooling)
    check_input(backbone, preprocessing.crop, in_chans=preprocessing.channels)
    notes = [*weights.notes, *([f"the file does not say which network it holds: {how}"] if how else [])]
    if whose:
        notes.append(f"{whose}: {preprocessing} (--set eval.resize, eval.crop, views.mean and views.std change it)")
    if left := [*matched.beside]:
        notes.append(f"left, beside the network: {counted(len(left), 'tensor')}, {listed(left)}")
    exported = ExportedModel(
        backbone=backbone.eval(),
        architecture=network.architecture,
        timm_args=network.arguments,
        stem=network.stem,
        preprocessing=preprocessing,
        provenance={"source_file": path.name},
    )
    return ModelFile(exported, "state dict", tuple(notes))


def _network(weights: Weights, model: Model, keys: set[str]) -> tuple[Network, str]:
    """Which network the weights are of, and how that is known where they do not say it.

    Raises:
        UserError: it is not.
    """
    if "model.backbone" in keys:
        return Network(model.backbone, model.stem, model.network_args), f"taken as {model.backbone}, as was said"
    own, how = weights.network, ""
    if own is None and (own := recognised(weights)) is not None:
        how = f"recognised as timm's {described(own)}"
    if own is None:
        raise UserError(
            f"'{weights.name}' does not say which network it holds, and is none of the usual ones that are "
            f"recognised; its keys: {listed(list(weights.backbone), 3)}",
            allowed="its name in timm, with --backbone; and --set model.stem, model.image_size, model.patch_size and "
            "model.backbone_args where it was built otherwise",
            next="say which it is, e.g. --backbone resnet18",
        )
    stem = model.stem if "model.stem" in keys else own.stem
    return Network(own.architecture, stem, {**own.arguments, **model.network_args}), how


def _filled(weights: Weights, network: Network) -> tuple[nn.Module, Match, int]:
    """The network with all of the weights in it, and how many channels its input has.

    Raises:
        UserError: they are not its own.
    """
    arguments: dict[str, Any] = {"stem": network.stem, **network.arguments}
    with without_data():
        skeleton = build_backbone(network.architecture, in_chans=3, **arguments)
    on_meta = {key: value.to("meta") for key, value in weights.backbone.items()}
    channels = _channels(match(skeleton, on_meta).reshaped)
    backbone = build_backbone(network.architecture, in_chans=channels, **arguments)
    matched = match(backbone, weights.backbone)
    if not matched.complete or matched.reshaped:
        raise _misfit(weights, network, backbone, matched)
    backbone.load_state_dict(dict(matched.taken), strict=False)
    return backbone, matched, channels


def _channels(reshaped: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]) -> int:
    """Of the input, by the filters that are for others than three channels and else the same."""
    for before, after in reshaped.values():
        if len(before) == len(after) == 4 and (before[0], *before[2:]) == (after[0], *after[2:]):
            return before[1]
    return 3


def _misfit(weights: Weights, network: Network, backbone: nn.Module, matched: Match) -> UserError:
    theirs = recognised(weights)
    if theirs is not None and (theirs.architecture, theirs.stem) == (network.architecture, network.stem):
        theirs = None  # built otherwise
    what = f": it is {described(theirs)}" if theirs is not None else f". {differences(weights, matched)}"
    advice = "name another one with --backbone"
    if theirs is not None:
        name, stem = f"model.backbone={theirs.architecture}", f"model.stem={theirs.stem}"
        advice = shell.line("--set", name, "--set", stem, "without", "--backbone")
    elif matched.complete and (side := _side(backbone, matched)):
        what = f": its position embeddings are for images of {side} pixels a side"
        advice = f"--set model.image_size={side}"
    elif matched.complete:
        what = f". It has other shapes: {listed([reshaped(*item) for item in matched.reshaped.items()])}"
    return UserError(
        f"'{weights.name}' does not fit {described(network)}{what}",
        allowed="the network that the weights are of, to the last tensor: --backbone, and --set model.stem, "
        "model.image_size, model.patch_size and model.backbone_args",
        next=advice,
    )


def _side(backbone: nn.Module, matched: Match) -> int | None:
    """Side of the square images that position embeddings alone are for, where nothing else differs."""
    patch, own = patch_side(backbone), built_for(backbone)
    if patch is None or own is None or len(matched.reshaped) != 1:
        return None
    ((before, after),) = matched.reshaped.values()
    if len(before) != 3 or before[::2] != after[::2]:
        return None
    patches = before[1] - (after[1] - (own // patch) ** 2)
    side = math.isqrt(patches) if patches > 0 else 0
    return side * patch if side and side**2 == patches else None


def _preprocessing(weights: Weights, network: Network, backbone: nn.Module, channels: int) -> tuple[Preprocessing, str]:
    """How images become its input, as the weights or timm say it; and where it is timm's, that it is."""
    if weights.preprocessing is not None:
        return weights.preprocessing, ""
    config = resolve_data_config(pretrained_cfg=getattr(backbone, "pretrained_cfg", {}), model=backbone)
    if isinstance(side := network.arguments.get("img_size"), int):
        config["input_size"] = (3, side, side)
    own = Preprocessing.of_timm(config)
    mean, std = (for_channels(values, channels) for values in (own.mean, own.std))
    return replace(own, mean=mean, std=std), f"images are prepared as timm does for {network.architecture}"
