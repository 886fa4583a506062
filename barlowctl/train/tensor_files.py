"""Tensors in safetensors files that come back as they were: bits, dtype, shape, strides, and which are the same one.

Strides with holes or overlaps (a slice, an expanded tensor) are the exception: such a tensor comes back row-major.

Nested values (an optimizer's state) become JSON whose tensors lie in such a file. Tensors are read into freshly
allocated memory: a mapped file may be aligned differently, and reductions round differently then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from barlowctl.errors import kind_of


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Write the tensors row-major; returns what safetensors cannot say: strides, and which are the same."""
    strides: dict[str, list[int]] = {}
    same: dict[str, str] = {}
    first: dict[tuple[Any, ...], str] = {}
    contents: dict[str, Tensor] = {}
    memory: set[int] = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach()
        if tensor.numel():
            identity = (
                tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride(),
            )  # fmt: skip
            if identity in first:
                same[name] = first[identity]
                continue
            first[identity] = name
        # Not is_contiguous(): it overlooks the strides of dimensions of size 1 (1x1 convolutions).
        if tensor.stride() != _row_major_strides(tensor.shape) and _fills_its_memory(tensor):
            strides[name] = list(tensor.stride())
        row_major = tensor.cpu().contiguous()
        address = row_major.untyped_storage().data_ptr()
        if address in memory:  # safetensors refuses views of one another
            row_major = row_major.clone()
        memory.add(row_major.untyped_storage().data_ptr())
        contents[name] = row_major
    save_file(contents, path)
    return {"strides": strides, "same": same}


def read_tensors(path: Path, layout: Mapping[str, Any]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    with safe_open(path, framework="pt") as file:
        for name in list(file.keys()):
            mapped = file.get_tensor(name)
            strides = layout["strides"].get(name) or _row_major_strides(mapped.shape)
            own = torch.empty_strided(mapped.shape, strides, dtype=mapped.dtype)
            tensors[name] = own.copy_(mapped)
    for name, original in layout["same"].items():
        tensors[name] = tensors[original]
    return tensors


def _row_major_strides(shape: torch.Size) -> tuple[int, ...]:
    return torch.empty(shape, device="meta").stride()


def _fills_its_memory(tensor: Tensor) -> bool:
    """Whether some order of the dimensions makes the tensor contiguous: no holes and no overlaps."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True


def flatten(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """JSON for a nested value; its tensors go to `tensors` under their path."""
    match value:
        case Tensor():
            tensors[path] = value
            return {"tensor": path}
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else {"float": repr(value)}
        case list():
            return [flatten(item, f"{path}.{i}", tensors) for i, item in enumerate(value)]
        case tuple():
            return {"tuple": [flatten(item, f"{path}.{i}", tensors) for i, item in enumerate(value)]}
        case Mapping():
            items = [
                [flatten(key, path, tensors), flatten(item, f"{path}.{key}".strip("."), tensors)]
                for key, item in value.items()
            ]
            return {"items": items}
    raise TypeError(f"{path} is {kind_of(value)}, which a checkpoint cannot hold")


def unflatten(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    match value:
        case {"tensor": name}:
            return tensors[name]
        case {"float": text}:
            return float(text)
        case {"tuple": items}:
            return tuple(unflatten(item, tensors) for item in items)
        case {"items": items}:
            return {unflatten(key, tensors): unflatten(item, tensors) for key, item in items}
        case list():
            return [unflatten(item, tensors) for item in value]
    return value
