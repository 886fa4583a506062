"""A module's state as the files hold it, and the files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn


def state_dict(module: nn.Module) -> dict[str, Tensor]:
    """The module's state on the CPU, row-major, floating-point numbers as float32, no two sharing memory."""
    return {
        key: (value.float() if value.is_floating_point() else value)
        .detach()
        .cpu()
        .clone(memory_format=torch.contiguous_format)
        for key, value in module.state_dict().items()
    }


def save(weights: dict[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write a .safetensors file; the same content is the same bytes, so that a second push has nothing to send."""
    save_file(weights, path, metadata=dict(metadata))
    _order_metadata(path)


def _order_metadata(path: Path) -> None:
    """Sort the metadata by their keys, in place: safetensors writes them in the order of a hash table, each time anew.

    The file begins with the header's length (8 bytes, little-endian) and the header, JSON that ends in spaces.
    """
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
        assert len(text) <= size, "the same JSON in another order is no longer"
        file.seek(8)
        file.write(text.ljust(size))
