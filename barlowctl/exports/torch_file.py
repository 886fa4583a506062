"""Files of torch.save (.pth, .pt, .bin), read without trusting them: weights only, no code is run.

Beside what torch takes, the options of a training as `argparse` has them (timm, DINO and others keep theirs) are taken:
names and values.
"""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from barlowctl.errors import UserError
from barlowctl.exports.keys import one_line


def exclude_bias_and_norm(parameter: Tensor) -> bool:
    """Stands for the function of this name that early versions of the authors' LARS keep in param_groups."""
    return parameter.ndim == 1


def torch_load(path: Path, *, allowed: str, next: str) -> Any:
    """What torch.save wrote, on the CPU.

    Args:
        allowed, next: what an error says would be accepted, and what to do.

    Raises:
        UserError: missing, or not readable with `weights_only`; in words why.
    """
    if path.is_dir():
        raise UserError(f"'{path}' is a folder, not a file", allowed=allowed, next=next)
    if not path.is_file():
        raise UserError(f"there is no file {path}", allowed=allowed, next=next)
    if kind := _other_kind(path):
        raise UserError(
            f"'{path}' cannot be read as weights: it is {kind}, and no file of torch.save", allowed=allowed, next=next
        )
    harmless = [(exclude_bias_and_norm, "__main__.exclude_bias_and_norm"), argparse.Namespace]
    try:
        with torch.serialization.safe_globals(harmless):  # type: ignore[arg-type]
            return torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        OSError,
        KeyError,
        ValueError,
        AttributeError,
        IndexError,
        TypeError,
    ) as error:
        raise UserError(
            f"'{path}' cannot be read as weights: {_why(path, error)}", allowed=allowed, next=next
        ) from error


_STARTS = {
    b"GGUF": "a GGUF file of quantized weights",
    b"\x89HDF": "an HDF5 file, as Keras writes them",
    b"\x93NUMPY": "an array of NumPy",
    b"\x1f\x8b": "compressed by gzip",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"7z": "a 7-Zip archive",
    b"{": "JSON text, which may name the files that hold the weights",
}
_SUFFIXES = {
    ".onnx": "an ONNX graph",
    ".tflite": "a TFLite graph",
    ".pb": "a TensorFlow graph",
    ".msgpack": "weights of Flax",
    ".engine": "compiled by TensorRT",
}
_MEMBERS = (
    (r"(.*/)?archive_format", "a program of torch.export"),
    (r"(.*/)?(code/.*\.py|constants\.pkl)", "a TorchScript program"),
    (r".*\.weights\.h5", "a model of Keras"),
    (r".*\.npy", "an archive of NumPy's arrays"),
    (
        r"(.*/)?(model\.safetensors|pytorch_model\.bin|config\.json)",
        "the zip archive of a folder, which can be named once it is unpacked",
    ),
)
"""Names within a zip archive, and what it is then."""


def _other_kind(path: Path) -> str | None:
    """Which other file of weights or graphs it is, by its first bytes, by what is in the archive, or by its name."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(re.fullmatch(r"(.*/)?data\.pkl", name) for name in names) and not any(
            re.fullmatch(_MEMBERS[1][0], name) for name in names
        ):
            return None  # what torch.save writes
        return next((kind for form, kind in _MEMBERS if any(re.fullmatch(form, name) for name in names)), None)
    with path.open("rb") as file:
        start = file.read(16)
    if start.startswith((b"\x80", b"PK")) or start[8:9] == b"{":  # a pickle, an archive cut short, safetensors
        return None
    return next((kind for begins, kind in _STARTS.items() if start.startswith(begins)), _SUFFIXES.get(path.suffix))


def _why(path: Path, error: Exception) -> str:
    """The reason, from the file's first bytes or out of torch's message of many lines."""
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        return "the file is empty"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the file itself: `git lfs pull` fetches it"
    if start.lstrip()[:1] == b"<":
        return "it is a web page, not the file itself"
    if start[8:9] == b"{":
        return "it looks like a safetensors file, which probe, transfer and embed read as it is"
    if called := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return (
            f"it holds {called[1]}, which is code and not weights, and is not run; a program that can load it saves "
            "the weights alone: torch.save(model.state_dict(), 'weights.pth')"
        )
    if "central directory" in str(error) or start.startswith(b"PK"):
        return "it is not whole: the end of the archive is missing or damaged"
    if not start.startswith(b"\x80"):  # nor a zip file: what torch.save wrote begins with one of both
        return f"it is no file of torch.save: it begins with {start[:8]!r}"
    detail = str(error).partition("WeightsUnpickler error:")[2].strip()
    return detail.splitlines()[0] if detail else one_line(error)
