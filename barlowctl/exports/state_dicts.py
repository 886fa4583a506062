"""State dicts as others save them: plain, or within a checkpoint of a training, in safetensors or torch's files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from barlowctl.errors import UserError, kind_of
from barlowctl.exports.keys import one_line
from barlowctl.exports.torch_file import torch_load
from barlowctl.exports.torchvision_keys import named_by_part

KINDS = (
    "a state dict of tensors (.safetensors, or torch.save's .pth, .pt, .bin, .ckpt), or a checkpoint that holds one "
    "under 'state_dict', 'model' or another of its usual names"
)
_NEXT = "name another file"
# Where trainings keep the weights within a checkpoint, in the order in which they are looked for: averaged ones first
# (as timm does), of a student and a teacher the teacher (DINO's are what is evaluated).
WITHIN = (
    "state_dict_ema", "model_ema", "teacher", "state_dict", "model_state_dict", "model_state", "model", "network",
    "net", "module", "backbone", "encoder", "classy_state_dict", "base_model", "trunk",  # the last three: VISSL's
)  # fmt: skip


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, by the keys that they have there (see `named_by_part`).

    Raises:
        UserError: it cannot be read, or holds no tensors under their names.
    """
    if is_safetensors(path):
        try:
            return named_by_part(load_file(path))
        except (OSError, SafetensorError) as error:
            raise UserError(f"'{path}' cannot be read: {one_line(error)}", allowed=KINDS, next=_NEXT) from error
    return named_by_part(tensors_of(torch_load(path, allowed=KINDS, next=_NEXT), path))


def is_safetensors(path: Path) -> bool:
    """By the name, else by what stands after the length of the header: files of the hub's cache have no suffix."""
    if path.suffix == ".safetensors":
        return True
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def tensors_of(document: Any, path: Path) -> dict[str, Tensor]:
    """The state dict within what torch.save wrote; what is no tensor in it is left out.

    Raises:
        UserError: there is none; with the names of what there is.
    """
    part = document
    while isinstance(part, Mapping):
        if tensors := {str(key): value for key, value in part.items() if isinstance(value, Tensor)}:
            return tensors
        names = [name for name in WITHIN if isinstance(part.get(name), Mapping)]
        if not names:
            break
        part = part[names[0]]
    content = kind_of(document)
    if isinstance(document, Mapping):
        keys = [str(key) for key in document]
        content = f"a dictionary of {', '.join(keys[:6])}" + (", ..." if len(keys) > 6 else "") if keys else "nothing"
    raise UserError(f"'{path}' holds {content}, and no weights among it", allowed=KINDS, next=_NEXT)


def is_official(path: Path) -> bool:
    """Whether a file of torch.save is a checkpoint of the authors' `main.py`: a backbone with its projector.

    Raises:
        UserError: it cannot be read.
    """
    document = torch_load(path, allowed=KINDS, next=_NEXT)
    model = document.get("model") if isinstance(document, Mapping) else None
    keys = [str(key).removeprefix("module.") for key in model] if isinstance(model, Mapping) else []
    return bool(keys) and all(key.startswith(("backbone.", "projector.", "bn.")) for key in keys)
