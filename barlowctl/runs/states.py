"""Whether a checkpoint's weights are whole, read without torch: by the sizes of its files, or by every byte."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

STATE_FILE, MODEL_FILE = "state.json", "model.safetensors"
_LENGTH = 8
"""Bytes of a safetensors file before its header, which say how long that is."""


def body_digest(body: dict[str, Any]) -> str:
    """The SHA-256 that a checkpoint's state.json has of what it says."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def damage(checkpoint: Path, *, every_byte: bool = False) -> str | None:
    """Why the weights of a checkpoint cannot be used; None: they can.

    Args:
        every_byte: compare the file of weights with its SHA-256; otherwise its size alone is looked at.
    """
    weights = checkpoint / MODEL_FILE
    try:
        document = json.loads((checkpoint / STATE_FILE).read_bytes())
        if body_digest(document["body"]) != document["sha256"]:
            return f"{STATE_FILE} was altered"
        if not weights.is_file():
            return f"{MODEL_FILE} is not there"
        digest = document["body"]["sha256"][MODEL_FILE]
        whole = sha256_of(weights) == digest if every_byte else weights.stat().st_size == _size(weights)
    except FileNotFoundError:
        return f"{STATE_FILE} is not there"
    except OSError as error:
        return f"{Path(error.filename or checkpoint).name}: {error.strerror}"
    except (ValueError, KeyError, TypeError):
        return f"{STATE_FILE} is not readable"
    return None if whole else f"{MODEL_FILE} was altered or cut short"


def _size(path: Path) -> int:
    """How long a safetensors file is by its own header; -1: it has none."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        if length > path.stat().st_size:
            return -1
        try:
            header = json.loads(file.read(length))
            ends = [value["data_offsets"][1] for name, value in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError):
            return -1
    return _LENGTH + length + max(ends, default=0)
