"""Files as MATLAB writes them from version 7.3 on, without MATLAB: HDF5 behind a block of text, axes in reverse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

KINDS = {"float64": "double", "float32": "single", "bool": "logical"}


class Cell(list[Any]):
    """A cell array of one column."""


def save(path: Path, **variables: Any) -> Path:
    """What `save(path, '-v7.3')` writes; values have their axes as in MATLAB, `__` parts the fields of a struct."""
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in variables.items():
            _write(file, name.replace("__", "/"), value)
    with path.open("r+b") as file:
        text = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Nov 30 2026 HDF5 schema 1.00 ."
        file.write(text.ljust(124) + b"\0\2IM")
    return path


def _write(file: Any, name: str, value: Any) -> Any:
    import h5py

    if isinstance(value, Cell):
        refs = [_write(file, f"#refs#/{name.replace('/', '_')}{number}", part).ref for number, part in enumerate(value)]
        dataset = file.create_dataset(name, data=np.array([refs], dtype=h5py.ref_dtype))
        dataset.attrs["MATLAB_class"] = np.bytes_("cell")
        return dataset
    if isinstance(value, str):
        dataset = file.create_dataset(name, data=np.array([[ord(letter)] for letter in value], np.uint16))
        dataset.attrs["MATLAB_class"] = np.bytes_("char")
        return dataset
    values = np.atleast_2d(np.asarray(value)).T
    how = {"compression": "gzip", "chunks": tuple(min(3, side) for side in values.shape)} if values.size > 64 else {}
    kind = KINDS.get(values.dtype.name, values.dtype.name)
    dataset = file.create_dataset(name, data=values.astype(np.uint8) if kind == "logical" else values, **how)
    dataset.attrs["MATLAB_class"] = np.bytes_(kind)
    return dataset
