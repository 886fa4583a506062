"""What can be measured: a run, an export, the authors' files, or any timm model, as one kind of thing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.config import resolve_data_config
from torch import nn

from barlowctl import shell
from barlowctl.assemble.finished import open_run
from barlowctl.assemble.model import build_recipe_backbone
from barlowctl.assemble.run_images import dataset_to_measure
from barlowctl.errors import UserError, did_you_mean
from barlowctl.export import ExportedModel, read_export, read_official
from barlowctl.export.keys import one_line
from barlowctl.model import build_backbone, check_input
from barlowctl.objective import BarlowTwins
from barlowctl.recipe import load
from barlowctl.recipe.caution import cautions
from barlowctl.recipe.schema import Data, Eval, Model, Recipe, Views
from barlowctl.train import rundir

WHAT = (
    "a run directory, a file or folder that `barlowctl export` wrote, the authors' .pth files, or a timm model name "
    "(resnet50: random weights; resnet50.a1_in1k: timm's published ones)"
)


class Pixels(nn.Module):
    """The pixels themselves as features, in [0, 1] and not normalised: the floor that needs no network."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1).float() / 255


@dataclass(frozen=True)
class Subject:
    """A frozen network and how images are shown to it.

    Attributes:
        name: for tables. kind: "run", "export", "official", "timm", "random" or "pixels".
        backbone: images -> features, on the CPU, in evaluation mode.
        recipe: channels, mean, std, geometry and interpolation of evaluation images, and the seed. For what is no
            run it says nothing about how the weights came about.
        folder: where results go.
        method: of a run: with its projector.
        images: of a run: those it was trained on, as `--data` takes them.
        facts: what identifies it in a result.
        notes: what the user should know.
    """

    name: str
    kind: str
    backbone: nn.Module
    recipe: Recipe
    folder: Path
    method: BarlowTwins | None = None
    images: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def open_subject(what: str, *, data: str | None = None, geometry: Sequence[str] = ()) -> Subject:
    """Whatever `what` names (see `WHAT`).

    Args:
        data: the images it will be measured on; a run has its own as a default.
        geometry: overrides of `eval.resize` and `eval.crop`.

    Raises:
        UserError: nothing of that name, it cannot be read, or it does not take images of that geometry.
    """
    path = Path(what)
    if (path / "recipe.toml").is_file():
        subject = _of_run(path)
    elif path.is_dir() and (path / "config.json").is_file():
        subject = _of_export(path, read_export(path), "export", data)
    elif path.is_dir():
        open_run(path)  # says what a run directory is
        raise AssertionError(path)
    elif path.suffix == ".safetensors":
        subject = _of_export(path, read_export(path), "export", data)
    elif path.suffix in (".pth", ".pt", ".tar"):
        subject = _of_export(path, read_official(path), "official", data)
    elif len(path.parts) > 1:
        raise UserError(f"'{what}' does not exist", allowed=WHAT, next="barlowctl runs list")
    else:
        subject = _of_timm(what, data)
    recipe = load.override(subject.recipe, geometry) if geometry else subject.recipe
    if geometry:
        _check_crop(subject, recipe)
    return replace(subject, recipe=recipe, notes=(*subject.notes, *cautions(recipe)))


def _check_crop(subject: Subject, recipe: Recipe) -> None:
    """Refuse a crop that the network cannot take, before images are read for it."""
    try:
        check_input(subject.backbone, recipe.eval.crop, in_chans=recipe.data.channels)
    except UserError as error:
        own = subject.recipe.eval
        error.next = f"--set eval.resize={own.resize} --set eval.crop={own.crop}"
        raise


def floor(subject: Subject, name: str) -> Subject:
    """The floor `name` ("pixels", "random-init") of a subject: shown the same images, with nothing learned."""
    recipe, folder = subject.recipe, subject.folder
    match name:
        case "pixels":
            return Subject("raw pixels", "pixels", Pixels(), recipe, folder)
        case "random-init":
            torch.manual_seed(recipe.seed)
            return Subject("random backbone", "random", build_recipe_backbone(recipe).eval(), recipe, folder)
    raise AssertionError(name)


def _of_run(path: Path) -> Subject:
    run = open_run(path)
    return Subject(
        run.recipe.name,
        "run",
        run.method.backbone,
        run.recipe,
        path,
        method=run.method,
        images=dataset_to_measure(path, run.recipe),
        facts={"run": str(path), "step": run.step},
        notes=run.notes,
    )


def _of_export(path: Path, model: ExportedModel, kind: str, data: str | None) -> Subject:
    recipe = _recipe(
        path.stem,
        model.architecture,
        model.timm_args,
        model.stem,
        model.in_chans,
        model.mean,
        model.std,
        Eval(resize=model.resize, crop=model.input_size),
        model.interpolation,
        data,
    )
    facts = {"weights_file": str(path), "architecture": model.architecture, "provenance": dict(model.provenance)}
    return Subject(path.stem, kind, model.backbone.float().eval(), recipe, _folder(path.stem), facts=facts)


def _of_timm(name: str, data: str | None) -> Subject:
    architecture, _, tag = name.partition(".")
    notes: tuple[str, ...] = ()
    if tag:
        backbone = _published(architecture, name, tag)
    else:
        torch.manual_seed(0)
        backbone = _built(architecture)
        tags = timm.list_pretrained(f"{architecture}.*")
        notes = (f"{architecture} has random weights" + (f"; published ones: {', '.join(tags[:6])}" if tags else ""),)
    config = resolve_data_config(pretrained_cfg=getattr(backbone, "pretrained_cfg", {}), model=backbone)
    size = config["input_size"][-1]
    recipe = _recipe(
        name,
        architecture,
        {},
        "default",
        3,
        config["mean"],
        config["std"],
        Eval(resize=int(size / config["crop_pct"]), crop=size),
        config["interpolation"],
        data,
    )
    facts = {"timm": name, "weights": tag or "random"}
    return Subject(name, "timm" if tag else "random", backbone.eval(), recipe, _folder(name), facts=facts, notes=notes)


def _built(architecture: str) -> nn.Module:
    known = timm.list_models()
    if architecture not in known:
        start = re.sub(r"[^a-z0-9_]", "", architecture.lower())[:6]
        raise UserError(
            f"'{architecture}' is neither a path nor a timm model{did_you_mean(architecture, known)}",
            allowed=WHAT,
            next=shell.line(
                "python",
                "-c",
                f'import timm; print(timm.list_models("*{start}*"))',
            ),
        )
    return build_backbone(architecture, in_chans=3)


def _published(architecture: str, name: str, tag: str) -> nn.Module:
    _built(architecture)
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag not in tags:
        raise UserError(
            f"timm has no weights '{tag}' of {architecture}{did_you_mean(tag, tags)}",
            allowed=", ".join(tags) or f"{architecture} alone: random weights",
        )
    try:
        model: nn.Module = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # whatever the hub's client raises: no network, no cache, no space
        raise UserError(
            f"the weights of {name} could not be had: {type(error).__name__}: {one_line(error)[:200]}",
            allowed="a network, once: they are downloaded and kept",
            next=shell.line("python", "-c", f'import timm; timm.create_model("{name}", pretrained=True)'),
        ) from error
    return model


def _recipe(
    name: str,
    architecture: str,
    timm_args: Mapping[str, Any],
    stem: str,
    channels: int,
    mean: Sequence[float],
    std: Sequence[float],
    geometry: Eval,
    interpolation: str,
    data: str | None,
) -> Recipe:
    """What evaluation needs to know of a network that is no run, in the form that a run has it."""
    return Recipe(
        name=_plain(name),
        description="not a run: how images are shown to this network",
        data=Data(dataset=data or "", channels=3 if channels == 3 else 1),
        views=Views(
            size=geometry.crop,
            interpolation="bicubic" if interpolation == "bicubic" else "bilinear",
            mean=tuple(mean),
            std=tuple(std),
        ),
        model=Model(backbone=architecture, backbone_args=dict(timm_args), stem=stem),
        eval=geometry,
    )


def _folder(name: str) -> Path:
    return rundir.runs_home() / "probes" / _plain(name)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip(".-_") or "model"
