"""Atomic checkpoints: tensors in safetensors, everything else in JSON, no pickle.

    checkpoints/step-00000123/
        model.safetensors       the method's state_dict
        optimizer.safetensors   the tensors of the optimizer's state_dict, and those of `extra`
        random.safetensors      states of random number generators, uint8
        state.json              step, epoch, batch, scalars, strides, the SHA-256 of each file and its own

A checkpoint is written under a temporary name next to its place, flushed to the disk, and renamed; older
ones go only after that. Restored tensors have the bits, dtype, shape and strides (channels_last) they were
saved with, as far as `tensor_files` says.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

import barlowctl
from barlowctl import shell
from barlowctl.amounts import counted
from barlowctl.errors import UserError
from barlowctl.files import atomic_write, remove_at_once, remove_partial
from barlowctl.output_paths import why_not_written
from barlowctl.runs import rundir
from barlowctl.runs.states import MODEL_FILE, STATE_FILE, body_digest, sha256_of
from barlowctl.train.tensor_files import flatten, read_tensors, unflatten, write_tensors

FORMAT = 1
OPTIMIZER_FILE, RANDOM_FILE = "optimizer.safetensors", "random.safetensors"
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


def save(directory: Path, state: TrainingState, *, keep: int, protected: int | None = None) -> Path:
    """Write `directory/step-XXXXXXXX`, then remove all but the newest `keep` checkpoints and that of step `protected`.

    Checkpoints of later steps are of a future the run has left (it fell back to an older one): they go too.

    Args:
        keep: how many stay, the one that is written among them; at least 1.
        protected: a step whose checkpoint stays beside those, if it is there; None: no other one.

    Raises:
        ValueError: `keep` is less than 1; nothing is written.
        UserError: it could not be written; the checkpoints that were there are untouched.
    """
    if keep < 1:
        raise ValueError(f"keep is {keep}, not at least 1: the checkpoint that is written stays")
    directory = Path(directory)
    final = directory / f"step-{state.step:08d}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        remove_partial(directory)
        with atomic_write(final) as temporary:
            temporary.mkdir()
            _write(temporary, state)
    except (OSError, SafetensorError) as error:
        why = why_not_written(error, directory, needed=_bytes_of(state))
        raise UserError(
            f"the checkpoint of step {state.step} could not be written to '{directory}': {why}",
            next="free space or make it writable, then go on",
        ) from error
    rotate(directory, state.step, keep=keep, protected=protected)
    return final


def rotate(directory: Path, step: int, *, keep: int, protected: int | None = None) -> None:
    """Remove what `save` removes when the newest checkpoint is that of `step`."""
    earlier = [path for path in list_checkpoints(directory) if _step(path) < step]
    later = [path for path in list_checkpoints(directory) if _step(path) > step]
    with contextlib.suppress(OSError):
        for path in [*earlier[: max(0, len(earlier) - (keep - 1))], *later]:
            if _step(path) != protected:
                remove_at_once(path)


def list_checkpoints(directory: Path) -> list[Path]:
    """The checkpoints in a directory, oldest first, unverified; empty when there is no such directory."""
    directory = Path(directory)
    if not directory.is_dir():
        return []
    checkpoints = [path for path in directory.iterdir() if _NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(checkpoints, key=_step)


def load_latest(directory: Path, *, model_only: bool = False) -> Loaded:
    """The newest checkpoint of which every byte that is read is as it was written.

    Args:
        directory: where `save` wrote.
        model_only: read and verify the model's tensors alone, for evaluation and export; `optimizer`, `random` and
            `extra` are empty then.

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
    if list_checkpoints(directory) != checkpoints:  # a run that goes on has replaced them meanwhile
        return load_latest(directory, model_only=model_only)
    if not checkpoints:
        raise UserError(f"there is no checkpoint in {directory}", next=_begin_again(directory.parent))
    raise UserError(
        f"none of the {counted(len(checkpoints), 'checkpoint')} in {directory} is usable: {'; '.join(notes)}",
        next=_begin_again(directory.parent),
    )


def load(path: Path, *, model_only: bool = False) -> Loaded:
    """That checkpoint, of which every byte that is read is as it was written.

    Raises:
        UserError: it is not intact.
    """
    try:
        return Loaded(_read(path, model_only), path)
    except _Unusable as error:
        raise UserError(
            f"checkpoint '{path}' is not usable ({error})",
            allowed="another one of the run",
            next=shell.line("ls", path.parent),
        ) from error


def _begin_again(run: Path) -> str:
    """How to begin again: a run anew, on its images; else delete what a command trained, and type that command."""
    if (run / "recipe.toml").is_file():
        images = _images_of(run)
        of_images = () if images is None else ("--data", images)
        return shell.line("barlowctl", "pretrain", "--recipe", run / "recipe.toml", *of_images)
    return f"{shell.line('rm', '-r', run)} && barlowctl ..."


def _images_of(run: Path) -> str | None:
    """What a run was given as `--data`, or its recipe's; None: it did not note it, or the note is damaged."""
    file = run / "run.json"
    try:
        data = rundir.read_json(file).get("data") if file.is_file() else None
    except UserError:
        return None
    dataset = data.get("dataset") if isinstance(data, dict) else None
    return dataset if isinstance(dataset, str) else None


def _bytes_of(state: TrainingState) -> int:
    """What the tensors of a state take."""
    nested: dict[str, Tensor] = {}
    flatten([state.optimizer, state.extra], "", nested)
    return sum(t.numel() * t.element_size() for part in (state.model, state.random, nested) for t in part.values())


def _write(directory: Path, state: TrainingState) -> None:
    optimizer_tensors: dict[str, Tensor] = {}
    optimizer = flatten(state.optimizer, "", optimizer_tensors)
    extra = flatten(state.extra, "extra", optimizer_tensors)
    layout = {
        MODEL_FILE: write_tensors(directory / MODEL_FILE, state.model),
        OPTIMIZER_FILE: write_tensors(directory / OPTIMIZER_FILE, optimizer_tensors),
        RANDOM_FILE: write_tensors(directory / RANDOM_FILE, state.random),
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
        "sha256": {name: sha256_of(directory / name) for name in _TENSOR_FILES},
    }
    text = json.dumps({"body": body, "sha256": body_digest(body)}, indent=1, allow_nan=False)
    (directory / STATE_FILE).write_text(text + "\n")


def _read(directory: Path, model_only: bool) -> TrainingState:
    try:
        document = json.loads((directory / STATE_FILE).read_bytes())
        body = document["body"]
        if body_digest(body) != document["sha256"]:
            raise _Unusable(f"{STATE_FILE} was altered")
        if body["format"] != FORMAT:
            raise _Unusable(f"it has format {body['format']}, this version reads format {FORMAT}")
        tensors: dict[str, dict[str, Tensor]] = {}
        for name in _TENSOR_FILES[:1] if model_only else _TENSOR_FILES:
            if sha256_of(directory / name) != body["sha256"][name]:
                raise _Unusable(f"{name} was altered or cut short")
            tensors[name] = read_tensors(directory / name, body["layout"][name])
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
        optimizer={} if saved is None else unflatten(body["optimizer"], saved),
        random=tensors.get(RANDOM_FILE, {}),
        extra={} if saved is None else unflatten(body["extra"], saved),
    )


def _step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match is not None, path
    return int(match.group(1))
