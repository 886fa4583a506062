"""What can be measured: a run, an export, the authors' files, or any timm model, as one kind of thing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import timm
from timm.data.config import resolve_data_config
from torch import nn

from barlowctl.assemble.evaluation import while_training
from barlowctl.assemble.finished import FinishedRun, open_run
from barlowctl.assemble.model import build_checked_backbone, build_recipe_backbone
from barlowctl.assemble.model_files import ModelFile, open_model_file
from barlowctl.assemble.published import locate, published, tags_of, untrained
from barlowctl.assemble.run_images import dataset_to_measure, preprocessing_of_run, require
from barlowctl.assemble.showing import prepared_otherwise
from barlowctl.data.images.unreadable import OnMeasuring
from barlowctl.errors import UserError
from barlowctl.generators import own_generator
from barlowctl.model import Preprocessing, check_input, pooled_otherwise, unlike_timm
from barlowctl.recipe.caution import of_geometry
from barlowctl.recipe.schema import Recipe
from barlowctl.runs import history, rundir
from barlowctl.runs.subjects import SUFFIXES, WHAT, refuse_other_paths
from barlowctl.runs.weights import HUB


@dataclass(frozen=True)
class Subject:
    """A frozen network and how images are shown to it.

    Attributes:
        name: for tables. kind: "run", "export", "official", "timm", "random" or "pixels".
        backbone: images -> features, on the CPU, in evaluation mode.
        preprocessing: from an image to its input.
        folder: where results go.
        untrained: makes the same network with fresh weights, from torch's current generator, and with other arguments
            of `timm.create_model` where some are given; None: it is none.
        seed: of what is random in its measurements.
        images: those it is measured on unless others are named, as `--data` takes them: a run's own.
        on_unreadable: what is done about images that cannot be read, unless something is said of it.
        run: with its recipe and its projector.
        metadata: what identifies it in a result.
        notes: what the user should know.
    """

    name: str
    kind: str
    backbone: nn.Module
    preprocessing: Preprocessing
    folder: Path
    untrained: Callable[..., nn.Module] | None = None
    seed: int = 0
    images: str | None = None
    on_unreadable: OnMeasuring = "raise"
    run: FinishedRun | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def measured_on(self, data: str | None) -> str:
        """The images to measure on: `data`, or its own.

        Raises:
            UserError: it has none.
        """
        images = self.images if data is None else data
        if images is None:
            raise UserError(
                "this network has no data of its own",
                allowed="a dataset in the data home, a folder with train/ and test/",
                next="name a data set, or a folder with train/ and test/, with --data",
            )
        return images


def open_subject(what: str, *, overrides: Sequence[str] = ()) -> Subject:
    """Whatever `what` names (see `WHAT`).

    Args:
        overrides: of how images are shown to it: `eval.resize=256`, `eval.crop`, `data.range`, ..., and of its pooling;
            of weights that do not say it themselves, see `open_model_file`.

    Raises:
        UserError: nothing of that name, it cannot be read, or it does not take images of that geometry.
    """
    refuse_other_paths(what)
    path, same_name = locate(what)
    with own_generator():
        subject, overrides = _opened(path, what, overrides)
    trained_at = subject.preprocessing.crop if subject.run is None else subject.run.recipe.views.size
    if overrides:
        subject = shown_otherwise(subject, overrides)
    preprocessing = subject.preprocessing
    return replace(
        subject, notes=(*same_name, *subject.notes, *of_geometry(trained_at, preprocessing.resize, preprocessing.crop))
    )


def _opened(path: Path, what: str, overrides: Sequence[str]) -> tuple[Subject, Sequence[str]]:
    """What lies at `path`, which `what` named, and the overrides that are still to be applied to it.

    Networks draw weights before they have those of a file.
    """
    if (run := rundir.run_of_checkpoint(path)) or rundir.is_run(path):
        images = partial(dataset_to_measure, run or path)
        return of_run(open_run(path), images=images), overrides
    if path.is_dir() and not (path / "config.json").is_file():
        open_run(path)  # says what a run directory is
        raise AssertionError(path)
    if path.is_dir() or path.suffix in SUFFIXES:
        file, remaining = open_model_file(path, overrides)
        return _of_file(path, file), remaining
    return _of_timm(what), overrides


def images_of(subject: Subject, data: str | None) -> str:
    """The images that were named, else those of the run.

    Raises:
        UserError: none were named and there is no run, or the run's images are gone or changed.
    """
    if data is None and subject.run is not None:
        require(subject.run.path, subject.run.recipe)
    return subject.measured_on(data)


def shown_otherwise(subject: Subject, overrides: Sequence[str], *, beside: Sequence[str] = ()) -> Subject:
    """The subject with images prepared in another way; a crop that it cannot take is refused before images are read.

    Args:
        beside: as of `prepared_otherwise`.
    """
    own = subject.preprocessing
    preprocessing = prepared_otherwise(own, overrides, beside=beside)
    if (pooling := preprocessing.pooling) != own.pooling:
        anew, backbone = subject.untrained, pooled_otherwise(subject.backbone, pooling).eval()
        untrained = None if anew is None else lambda **others: pooled_otherwise(anew(**others), pooling)
        subject = replace(subject, backbone=backbone, untrained=untrained)
    try:
        check_input(subject.backbone, preprocessing.crop, in_chans=preprocessing.channels)
    except UserError as error:
        error.next = f"--set eval.resize={own.resize} --set eval.crop={own.crop}"
        raise
    return replace(subject, preprocessing=preprocessing)


def of_run(run: FinishedRun, images: Callable[[Recipe], str] | None = None) -> Subject:
    """A run as what is measured. `images`: of its recipe, those it is measured on unless others are named."""
    recipe = run.recipe
    return Subject(
        recipe.name if run.newest else f"{recipe.name}, step {run.step}",
        "run",
        run.method.backbone,
        preprocessing_of_run(run.path, recipe),
        run.path,
        untrained=partial(build_recipe_backbone, recipe),
        seed=recipe.seed,
        images=None if images is None else images(recipe),
        on_unreadable=while_training(recipe),
        run=run,
        metadata={"run": str(run.path), "step": run.step},
        notes=run.notes,
    )


def _of_file(path: Path, file: ModelFile) -> Subject:
    model = file.model
    metadata = {"weights_file": str(path), "architecture": model.architecture, "provenance": dict(model.provenance)}
    untrained = partial(_built_anew, model.architecture, model.preprocessing, model.stem, model.timm_args)
    backbone = model.backbone.float().eval()
    name = path.resolve().name if path.is_dir() else path.stem  # resnet50.a1_in1k, a folder, has no suffix
    return Subject(
        name, file.kind, backbone, model.preprocessing, folder_of(name), untrained, metadata=metadata, notes=file.notes
    )


def _of_timm(name: str) -> Subject:
    architecture, _, tag = name.partition(".")
    anew = partial(_built_anew, architecture)
    notes: tuple[str, ...] = ()
    if name.startswith(HUB):
        tag, anew = "published", partial(_built_anew_as_on_the_hub, name)
    if tag:
        backbone = published(name, allowed=WHAT)
    else:
        with own_generator(0):
            backbone = untrained(architecture, allowed=WHAT)
        tags = [f"{architecture}.{known}" for known in tags_of(architecture)]
        notes = (f"{architecture} has random weights" + (f"; published ones: {', '.join(tags[:6])}" if tags else ""),)
    config = resolve_data_config(pretrained_cfg=getattr(backbone, "pretrained_cfg", {}), model=backbone)
    return Subject(
        name,
        "timm" if tag else "random",
        backbone.eval(),
        preprocessing := Preprocessing.of_timm(config),
        folder_of(name),
        partial(anew, preprocessing, "default", {}),
        metadata={"timm": name, "weights": tag or "random"},
        notes=(*notes, *unlike_timm(config)),
    )


def _built_anew(
    architecture: str, preprocessing: Preprocessing, stem: str, arguments: Mapping[str, Any], **others: Any
) -> nn.Module:
    """That network with fresh weights, from torch's current generator."""
    return build_checked_backbone(
        architecture, preprocessing.channels, (preprocessing.crop,), stem=stem, arguments={**arguments, **others}
    )


def _built_anew_as_on_the_hub(
    name: str, preprocessing: Preprocessing, stem: str, arguments: Mapping[str, Any], **others: Any
) -> nn.Module:
    """The same of a name on the Hugging Face Hub: its configuration there says which network it is."""
    model: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **arguments, **others)
    return model


def folder_of(name: str) -> Path:
    """Where results go of what is no run."""
    return rundir.runs_home() / history.PROBES / _plain(name)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip(".-_") or "model"
