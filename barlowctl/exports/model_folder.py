"""Folders as others put them on the Hugging Face Hub: timm's, and those of transformers for families that timm has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from torch import Tensor

from barlowctl.errors import UserError
from barlowctl.exports.keys import one_line
from barlowctl.exports.state_dicts import read_state_dict
from barlowctl.exports.transformers_keys import FAMILIES, in_timms_words
from barlowctl.model import Preprocessing
from barlowctl.model.backbone import RESERVED_ARGS
from barlowctl.model.preprocessing import interpolation_of

FILES = ("model.safetensors", "pytorch_model.bin")
KINDS = (
    "config.json with timm's 'architecture' or one of these 'model_type's of transformers: "
    f"{', '.join(FAMILIES)}; beside it {' or '.join(FILES)}"
)
_NEXT = "name another folder"
_BICUBIC = 3  # of Pillow, which transformers numbers its interpolations by


@dataclass(frozen=True)
class ModelFolder:
    """What a folder holds.

    Attributes:
        state: key -> tensor, timm's keys. library: "timm" or "transformers".
        architecture: its timm name; None: the folder does not say. arguments: further ones of `timm.create_model`.
        preprocessing: None: the folder does not say.
    """

    state: Mapping[str, Tensor]
    library: str
    architecture: str | None
    arguments: Mapping[str, Any]
    preprocessing: Preprocessing | None


def read_config(path: Path) -> dict[str, Any]:
    """The folder's config.json.

    Raises:
        UserError: it cannot be read, or is no table.
    """
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"'{path / 'config.json'}' cannot be read: {one_line(error)}", allowed=KINDS, next=_NEXT
        ) from error
    if not isinstance(config, dict):
        raise UserError(f"'{path / 'config.json'}' is no table of keys and values", allowed=KINDS, next=_NEXT)
    return config


def read_model_folder(path: Path) -> ModelFolder:
    """Weights with timm's keys, and what the folder's configuration says of them.

    Raises:
        UserError: no weights in it, or a network that is not known here.
    """
    config = read_config(path)
    model_type, architecture = config.get("model_type"), config.get("architecture")
    if architecture is None and model_type not in FAMILIES:
        named = f"transformers' '{model_type}'" if model_type else "a network that it does not name"
        raise UserError(
            f"'{path}' holds {named}, which has no counterpart in timm that is known here", allowed=KINDS, next=_NEXT
        )
    files = [path / name for name in FILES if (path / name).is_file()]
    if not files:
        index = [file.name for file in path.glob("*.index.json")]
        why = f"its weights are in several files ({index[0]})" if index else "it has no weights"
        raise UserError(f"'{path}': {why}", allowed=KINDS, next=_NEXT)
    state = read_state_dict(files[0])
    if model_type in FAMILIES:
        state = in_timms_words(model_type, state) or {}
    if architecture is None:
        return ModelFolder(state, "transformers", None, {}, _of_processor(path))
    known = timm.get_pretrained_cfg(str(architecture), allow_unregistered=True)
    timm_config = {**(known.to_dict() if known else {}), **config.get("pretrained_cfg", {})}
    arguments = {key: value for key, value in config.get("model_args", {}).items() if key not in RESERVED_ARGS}
    return ModelFolder(state, "timm", str(architecture), arguments, _of_timm(timm_config))


def _of_timm(config: Mapping[str, Any]) -> Preprocessing | None:
    try:
        return Preprocessing.of_timm(config)
    except (KeyError, TypeError, ValueError, IndexError):
        return None


def _of_processor(path: Path) -> Preprocessing | None:
    """From transformers' preprocessor_config.json; None where it does not say what mean and std were."""
    try:
        values = json.loads((path / "preprocessor_config.json").read_text(encoding="utf-8"))
        size = _side(values.get("crop_size") or values["size"])
        resize = max(size, int(size / float(values.get("crop_pct") or 1.0)), _side(values["size"]))
        return Preprocessing(
            squash=_squashes(values),
            resize=resize,
            crop=size,
            interpolation=interpolation_of("bicubic" if values.get("resample") == _BICUBIC else "bilinear"),
            mean=tuple(map(float, values["image_mean"])),
            std=tuple(map(float, values["image_std"])),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _squashes(values: Mapping[str, Any]) -> bool:
    """Whether whole pictures are resized to a square: a `size` of both sides, of which nothing is cut.

    One number is both sides too, as `ViTImageProcessor` reads it; beside `crop_pct` it is the shorter one.
    """
    size = values.get("size")
    square = not size.get("shortest_edge") if isinstance(size, Mapping) else "crop_pct" not in values
    return square and not values.get("do_center_crop", False)


def _side(size: Any) -> int:
    """A number of pixels, however transformers writes it."""
    if isinstance(size, Mapping):
        return int(size.get("shortest_edge") or size["height"])
    return int(size)
