"""Weights to start from: a run, an export, the authors' files, timm's or any state dict, read as one kind of thing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from timm.data.config import resolve_data_config
from torch import Tensor, nn

from barlowctl import shell
from barlowctl.assemble.finished import open_run
from barlowctl.assemble.model import preprocessing_of
from barlowctl.assemble.published import locate, published, tags_of, untrained
from barlowctl.errors import UserError, add_note
from barlowctl.exports import ExportedModel, read_export, read_official
from barlowctl.exports.keys import is_bound, one_line
from barlowctl.exports.model_folder import read_config, read_model_folder
from barlowctl.exports.reader import read_projector
from barlowctl.exports.state_dicts import is_official, is_safetensors, read_state_dict
from barlowctl.generators import own_generator
from barlowctl.model import Preprocessing
from barlowctl.recipe.objectives import DEFAULT
from barlowctl.runs import rundir
from barlowctl.runs.weights import HUB, TORCH_SUFFIXES, WHAT, refuse_graph, refuse_missing


@dataclass(frozen=True)
class Network:
    """Which network weights are of: keys of a recipe's `[model]`."""

    architecture: str
    stem: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Weights:
    """Trained weights, on the CPU, and what is known of them.

    Attributes:
        name: as it was named. kind: for people: "run", "export", ...
        backbone: key -> tensor; keys of timm's network where that is known, else as the file has them.
        heads: name of a head -> key -> tensor; those of `method`.
        network: None: the file does not say.
        preprocessing: of the images they were trained on; None: the file does not say.
        source: where they come from, for the records of a run: path, step, epochs, ...
        notes: what the user should know.
    """

    name: str
    kind: str
    backbone: Mapping[str, Tensor]
    heads: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    method: str | None = None
    network: Network | None = None
    preprocessing: Preprocessing | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @cached_property
    def sha256(self) -> str:
        """Of names, types, shapes and bytes: the same for the same weights in another kind of file."""
        digest = hashlib.sha256()
        for name, tensor in self._tensors():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def check_finite(self) -> None:
        """Refuse weights that no training can start from.

        Raises:
            UserError: there are none, or a value is infinite or not a number.
        """
        if not self.backbone:
            raise UserError(f"'{self.name}' holds no weights", allowed=WHAT, next="barlowctl runs list")
        for name, tensor in self._tensors():
            if is_bound(name, tensor) and not bool(tensor.isnan()):
                continue
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise UserError(
                    f"'{self.name}': {name} has values that are infinite or not a number",
                    allowed="weights of a training that did not diverge",
                    next="name another one with --init",
                )

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        parts = {"backbone": self.backbone, **self.heads}
        for part, state in sorted(parts.items()):
            for key, tensor in sorted(state.items()):
                yield f"{part}.{key}", tensor


def read_weights(what: str) -> Weights:
    """Whatever `what` names (see `WHAT`).

    Raises:
        UserError: nothing of that name, it cannot be read, or no training can start from it.
    """
    path, notes = locate(what)
    try:
        with own_generator():  # networks draw weights before they have those of a file
            weights = _read(path, what)
    except UserError as error:
        for note in notes:
            add_note(error, note)
        raise
    weights.check_finite()
    return Weights(**{**vars(weights), "notes": (*notes, *weights.notes)})


def _read(path: Path, what: str) -> Weights:
    if rundir.is_run(path) or rundir.run_of_checkpoint(path):
        return _of_run(path, what)
    if path.is_dir():
        return _of_folder(path, what)
    refuse_graph(str(path))
    if path.is_file():
        return _of_safetensors(path, what) if is_safetensors(path) else _of_torch_file(path, what)
    if what.startswith(HUB):
        return _of_timm(what)
    if "://" in what:
        raise UserError(
            f"'{what}' is an address, and weights are read from this machine",
            allowed=WHAT,
            next="download it, and name the file with --init",
        )
    refuse_missing(what)
    return _of_timm(what)


def _of_run(path: Path, what: str) -> Weights:
    run = open_run(path)
    recipe, model = run.recipe, run.recipe.model
    return Weights(
        what,
        "run",
        run.method.backbone.state_dict(),
        {name: head.state_dict() for name, head in run.method.heads().items()},
        recipe.objective.name,
        Network(model.backbone, model.stem, model.network_args),
        preprocessing_of(recipe),
        {"path": str(path.absolute()), "step": run.step, "recipe": recipe.name, **_before(recipe.init.weights)},
        run.notes,
    )


def _before(weights: str) -> dict[str, str]:
    """What a run itself started from."""
    return {"init": weights} if weights else {}


def _of_folder(path: Path, what: str) -> Weights:
    if (path / "config.json").is_file():
        return _of_export(path, what) if "barlowctl" in read_config(path) else _of_model_folder(path, what)
    suffixes = (".safetensors", *TORCH_SUFFIXES)
    files = sorted(file.name for file in path.iterdir() if file.suffix in suffixes and "projector" not in file.name)
    raise UserError(
        f"'{what}' is a folder, and neither a run (no recipe.toml) nor a model (no config.json)"
        + (f"; it has {', '.join(files[:3])}" if files else ""),
        allowed=WHAT,
        next=_instead(what, path / files[0]) if files else "barlowctl runs list",
    )


def _instead(what: str, path: Path) -> str:
    """Advice to name that path; `--init` may be there several times."""
    return f"{shell.line('--init', path)} {shell.line('without', f'--init={what}')}"


def _of_model_folder(path: Path, what: str) -> Weights:
    folder = read_model_folder(path)
    return Weights(
        what,
        f"{folder.library} folder",
        folder.state,
        network=_network(folder.architecture, "default", folder.arguments) if folder.architecture else None,
        preprocessing=folder.preprocessing,
        source={"path": str(path.absolute())},
    )


def _of_safetensors(path: Path, what: str) -> Weights:
    try:
        with safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"'{what}' cannot be read: {one_line(error)}",
            allowed="a whole .safetensors file",
            next="copy it again",
        ) from error
    if metadata.get("part") == "projector":
        alone = path.name == "projector.safetensors"
        raise UserError(
            f"'{what}' is the projector alone",
            allowed="the export that it lies with: its projector is taken with it",
            next=_instead(what, path.parent if alone else path.with_name(path.name.replace(".projector", ""))),
        )
    return _of_export(path, what) if "architecture" in metadata else _of_state_dict(path, what)


def _of_export(path: Path, what: str) -> Weights:
    model = read_export(path)
    projector = read_projector(path)
    method = model.provenance.get("method", DEFAULT)  # exports of before there was another method do not say it
    return Weights(
        what,
        "export" if "barlowctl" in model.provenance else "model",
        model.backbone.state_dict(),
        {} if projector is None else {"projector": projector},
        method if "barlowctl" in model.provenance else None,
        _network_of(model),
        model.preprocessing,
        {"path": str(path.absolute()), **model.provenance},
    )


def _of_torch_file(path: Path, what: str) -> Weights:
    if not is_official(path):
        return _of_state_dict(path, what)
    model = read_official(path)
    return Weights(
        what,
        "authors' checkpoint",
        model.backbone.state_dict(),
        {} if model.projector is None else {"projector": model.projector.state_dict()},
        DEFAULT,
        _network_of(model),
        model.preprocessing,
        {"path": str(path.absolute()), **model.provenance},
    )


def _of_state_dict(path: Path, what: str) -> Weights:
    return Weights(what, "state dict", read_state_dict(path), source={"path": str(path.absolute())})


def _of_timm(name: str) -> Weights:
    architecture, _, tag = name.partition(".")
    if not tag and not name.startswith(HUB):
        untrained(architecture, allowed=WHAT)
        tags = tags_of(architecture)
        if not tags:
            raise UserError(f"timm has no published weights of {architecture}", allowed=WHAT, next="without --init")
        name = f"{architecture}.{tags[0]}"
    backbone: nn.Module = published(name, allowed=WHAT)
    config = resolve_data_config(pretrained_cfg=getattr(backbone, "pretrained_cfg", {}), model=backbone)
    if name.startswith(HUB):
        architecture = str((getattr(backbone, "pretrained_cfg", None) or {}).get("architecture", ""))
    return Weights(
        name,
        "timm's published weights",
        backbone.state_dict(),
        network=Network(architecture, "default", {}) if architecture else None,
        preprocessing=Preprocessing.of_timm(config),
        source={"timm": name},
    )


def _network_of(model: ExportedModel) -> Network:
    return _network(model.architecture, model.stem, model.timm_args)


def _network(architecture: str, stem: str, arguments: Mapping[str, Any]) -> Network:
    """With the arguments as a recipe has them: a square's side as one number, and none that says nothing (timm's None).

    Whether images may be of any size follows from the sizes of a recipe.
    """
    values = {key: value for key, value in arguments.items() if value is not None and key != "dynamic_img_size"}
    for key in ("img_size", "patch_size"):
        side = values.get(key)
        if isinstance(side, list | tuple) and len(set(side)) == 1:
            values[key] = side[0]
    return Network(architecture, stem, values)
