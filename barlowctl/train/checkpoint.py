"""Atomic checkpoints: tensors in safetensors, everything else in JSON, no pickle.

    checkpoints/step-00000123/
        model.safetensors       the method's state_dict
        optimizer.safetensors   the tensors of the optimizer's state_dict
        random.safetensors      states of random number generators, uint8
        state.json              step, epoch, scalars, strides, the SHA-256 of each file and its own

A checkpoint is written under a temporary name next to its place, flushed to the disk, and renamed; older
ones go only after that. Restored tensors have the bits, dtype, shape and strides (channels_last) they were
saved with, in freshly allocated memory: a mapped file may be aligned differently, and reductions round
differently then.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

import barlowctl
from barlowctl import shell
from barlowctl.errors import UserError
from barlowctl.files import atomic_write, remove_at_once, remove_partial

FORMAT = 1
MODEL_FILE, OPTIMIZER_FILE, RANDOM_FILE, STATE_FILE = (
    "model.safetensors",
    "optimizer.safetensors",
    "random.safetensors",
    "state.json",
)
_TENSOR_FILES = (MODEL_FILE, OPTIMIZER_FILE, RANDOM_FILE)
_NAME = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True)
class TrainingState:
    """Everything a run needs to go on as if it had never stopped.

    `batch` is the next batch within `epoch`. `model` and `random` are flat dictionaries of tensors;
    `optimizer` is a torch optimizer's state_dict; `extra` may hold numbers, strings, lists, dictionaries and
    tensors.
    """

    step: int
    epoch: int
    batch: int
    recipe_digest: str
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    random: Mapping[str, Tensor] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Loaded:
    """A checkpoint read back: tensors on the CPU, where it lay, and what had to be skipped to find it."""

    state: TrainingState
    path: Path
    notes: tuple[str, ...] = ()


class _Unusable(Exception):
    """This checkpoint cannot be used; the message says why."""


def save(directory: Path, state: TrainingState, *, keep: int) -> Path:
    """Write `directory/step-XXXXXXXX`, then remove all but the newest `keep` checkpoints.

    Checkpoints of later steps are of a future the run has left (it fell back to an older one): they go too.

    Raises:
        UserError: it could not be written; the checkpoints that were there are untouched.
    """
    if keep < 1:
        raise ValueError(f"keep is {keep}: the checkpoint that is written is one")
    directory = Path(directory)
    final = directory / f"step-{state.step:08d}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        remove_partial(directory)
        with atomic_write(final) as temporary:
            temporary.mkdir()
            _write(temporary, state)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"the checkpoint of step {state.step} could not be written to {directory}: {error}",
            next="free space or make it writable, then continue the run with --resume",
        ) from error
    earlier = [path for path in list_checkpoints(directory) if _step(path) < state.step]
    later = [path for path in list_checkpoints(directory) if _step(path) > state.step]
    with contextlib.suppress(OSError):
        for path in [*earlier[: max(0, len(earlier) - (keep - 1))], *later]:
            remove_at_once(path)
    return final


def list_checkpoints(directory: Path) -> list[Path]:
    """The checkpoints in a directory, oldest first, unverified; empty when there is no such directory."""
    directory = Path(directory)
    if not directory.is_dir():
        return []
    checkpoints = [path for path in directory.iterdir() if _NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(checkpoints, key=_step)


def load_latest(directory: Path, *, model_only: bool = False) -> Loaded:
    """The newest checkpoint whose every byte is as it was written.

    Args:
        directory: where `save` wrote.
        model_only: skip the optimizer and the random states (for evaluation and export).

    Raises:
        UserError: there is none, or none is intact.
    """
    checkpoints = list_checkpoints(directory)
    notes: list[str] = []
    for path in reversed(checkpoints):
        try:
            return Loaded(_read(path, model_only), path, tuple(notes))
        except _Unusable as error:
            notes.append(f"checkpoint {path.name} is not usable ({error})")
    if not checkpoints:
        raise UserError(f"there is no checkpoint in {directory}", next=_begin_again(directory.parent))
    raise UserError(
        f"none of the {len(checkpoints)} checkpoints in {directory} is usable: {'; '.join(notes)}",
        next=_begin_again(directory.parent),
    )


def _begin_again(run: Path) -> str:
    """The command that trains a run anew; for what is trained inside another command, that command without these."""
    if (run / "recipe.toml").is_file():
        return shell.line("barlowctl", "pretrain", "--recipe", run / "recipe.toml")
    return f"{shell.line('rm', '-r', run)} && barlowctl ..."


def random_state(device: torch.device | None = None) -> dict[str, Tensor]:
    """States of torch's generators: the CPU's, and each CUDA device's (or only `device`'s) when CUDA is in use."""
    states = {"cpu": torch.get_rng_state()}
    if device is not None:
        if device.type == "cuda":
            index = torch.cuda.current_device() if device.index is None else device.index
            states[f"cuda:{index}"] = torch.cuda.get_rng_state(index)
    elif torch.cuda.is_available() and torch.cuda.is_initialized():
        states |= {f"cuda:{i}": torch.cuda.get_rng_state(i) for i in range(torch.cuda.device_count())}
    return states


def restore_random_state(states: Mapping[str, Tensor]) -> None:
    """Set torch's generators; states of devices that this machine lacks are left out."""
    for name, state in states.items():
        if name == "cpu":
            torch.set_rng_state(state)
        elif torch.cuda.is_available() and int(name.removeprefix("cuda:")) < torch.cuda.device_count():
            torch.cuda.set_rng_state(state, name)


# ---- one checkpoint directory ----------------------------------------------------------------------------


def _write(directory: Path, state: TrainingState) -> None:
    optimizer_tensors: dict[str, Tensor] = {}
    optimizer = _flatten(state.optimizer, "", optimizer_tensors)
    extra = _flatten(state.extra, "extra", optimizer_tensors)
    layout = {
        MODEL_FILE: _write_tensors(directory / MODEL_FILE, state.model),
        OPTIMIZER_FILE: _write_tensors(directory / OPTIMIZER_FILE, optimizer_tensors),
        RANDOM_FILE: _write_tensors(directory / RANDOM_FILE, state.random),
    }
    body = {
        "format": FORMAT,
        "barlowctl": barlowctl.__version__,
        "torch": str(torch.__version__),
        "step": state.step,
        "epoch": state.epoch,
        "batch": state.batch,
        "recipe_digest": state.recipe_digest,
        "optimizer": optimizer,
        "extra": extra,
        "layout": layout,
        "sha256": {name: _sha256(directory / name) for name in _TENSOR_FILES},
    }
    text = json.dumps({"body": body, "sha256": _body_digest(body)}, indent=1, allow_nan=False)
    (directory / STATE_FILE).write_text(text + "\n")


def _read(directory: Path, model_only: bool) -> TrainingState:
    try:
        document = json.loads((directory / STATE_FILE).read_bytes())
        body = document["body"]
        if _body_digest(body) != document["sha256"]:
            raise _Unusable(f"{STATE_FILE} was altered")
        if body["format"] != FORMAT:
            raise _Unusable(f"it has format {body['format']}, this version reads format {FORMAT}")
        tensors: dict[str, dict[str, Tensor]] = {}
        for name in _TENSOR_FILES[:1] if model_only else _TENSOR_FILES:
            if _sha256(directory / name) != body["sha256"][name]:
                raise _Unusable(f"{name} was altered or cut short")
            tensors[name] = _read_tensors(directory / name, body["layout"][name])
    except OSError as error:
        raise _Unusable(f"{error.strerror}: {Path(error.filename or directory).name}") from error
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise _Unusable(f"{STATE_FILE} is not readable: {error}") from error
    saved = tensors.get(OPTIMIZER_FILE)
    return TrainingState(
        step=body["step"],
        epoch=body["epoch"],
        batch=body["batch"],
        recipe_digest=body["recipe_digest"],
        model=tensors[MODEL_FILE],
        optimizer={} if saved is None else _unflatten(body["optimizer"], saved),
        random=tensors.get(RANDOM_FILE, {}),
        extra={} if saved is None else _unflatten(body["extra"], saved),
    )


def _body_digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---- tensors ---------------------------------------------------------------------------------------------


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
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


def _read_tensors(path: Path, layout: Mapping[str, Any]) -> dict[str, Tensor]:
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


# ---- nested values: tensors out, JSON stays ----------------------------------------------------------------


def _flatten(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
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
            return [_flatten(item, f"{path}.{i}", tensors) for i, item in enumerate(value)]
        case tuple():
            return {"tuple": [_flatten(item, f"{path}.{i}", tensors) for i, item in enumerate(value)]}
        case Mapping():
            items = [
                [_flatten(key, path, tensors), _flatten(item, f"{path}.{key}".strip("."), tensors)]
                for key, item in value.items()
            ]
            return {"items": items}
    raise TypeError(f"{path} is a {type(value).__name__}, which a checkpoint cannot hold")


def _unflatten(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    match value:
        case {"tensor": name}:
            return tensors[name]
        case {"float": text}:
            return float(text)
        case {"tuple": items}:
            return tuple(_unflatten(item, tensors) for item in items)
        case {"items": items}:
            return {_unflatten(key, tensors): _unflatten(item, tensors) for key, item in items}
        case list():
            return [_unflatten(item, tensors) for item in value]
    return value


def _step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match is not None, path
    return int(match.group(1))
