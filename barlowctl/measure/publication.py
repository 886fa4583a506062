"""A run as a repository of the Hugging Face Hub: files and card, written into a folder and pushed from there."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Unpack

import barlowctl
from barlowctl.assemble.exporting import model_of
from barlowctl.assemble.finished import FinishedRun
from barlowctl.eval.features import backbone_digest
from barlowctl.exports import ExportedModel
from barlowctl.exports.formats import format_named
from barlowctl.exports.formats.hub_folder import HubFolder
from barlowctl.exports.formats.options import FormatOptions
from barlowctl.exports.hub import Commit, check_repository, upload
from barlowctl.exports.licenses import check_license
from barlowctl.exports.repository import CARD, CURVES, FILES, LICENSE, RECIPE, loading, write_repository
from barlowctl.exports.writer import taken, written_whole
from barlowctl.measure import run_card
from barlowctl.model import feature_width
from barlowctl.output_paths import check_folder
from barlowctl.plots.images import save_image
from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe
from barlowctl.report import citations, model_card
from barlowctl.runs import history

_WHAT = {
    "model.safetensors": "the weights, timm's keys",
    "config.json": "architecture and preprocessing, for timm and transformers",
    "register_with_timm.py": "teaches timm the network",
    "torchvision.safetensors": "the weights, torchvision's keys",
    "model.onnx": "the graph with its weights, for ONNX Runtime",
    "projector.safetensors": "the projector that the method trained on top, which features do not need",
    CURVES: "curves of the training",
    RECIPE: "the whole recipe: `barlowctl pretrain --recipe recipe.toml --data IMAGES`",
    LICENSE: "the license",
}


@dataclass(frozen=True, kw_only=True)
class Terms:
    """On which terms a run is published.

    Attributes:
        repository: USER/NAME. license: its identifier on the Hub; None is refused. license_file: its text.
        public: anyone may see it. overwrite: a repository that holds something gets these files.
    """

    repository: str
    license: str | None
    license_file: Path | None = None
    public: bool = False
    overwrite: bool = False

    def check(self) -> None:
        """Refuse what the Hub would refuse, before anything is computed.

        Raises:
            UserError: no such name, no license, or not its text.
        """
        check_repository(self.repository)
        check_license(self.license, self.license_file)


@dataclass(frozen=True)
class Publication:
    """A folder that is or was to be pushed.

    Attributes:
        folder: where its files are. files: name -> bytes. card: the text of README.md.
        left_out: of the formats: format -> why it is not there. notes: what should be known.
        commit: on the Hub; None: it was not pushed.
    """

    folder: Path
    files: Mapping[str, int]
    card: str = field(repr=False)
    left_out: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    commit: Commit | None = None


def prepare(
    run: FinishedRun,
    terms: Terms,
    folder: Path,
    *,
    all_formats: bool = False,
    with_projector: bool = False,
    **options: Unpack[FormatOptions],
) -> Publication:
    """Write the folder: weights loaded back and compared, card, curves, recipe. Needs no network.

    Args:
        folder: new. all_formats: torchvision's file and an ONNX file too, where they hold the network.
        options: of theirs.

    Raises:
        UserError: the terms are refused, the folder is taken, or the weights cannot be exported.
    """
    terms.check()
    if not all_formats:
        format_named(HubFolder.name, **options)  # which has none of them
    if folder.exists():
        raise taken(folder)
    check_folder(folder.parent, named=folder)
    recipe, model = run_card.publishable(run.recipe, history.read(run.path)), _published_model(run)
    measured = run_card.measurements(run.path, backbone_digest(model.backbone))
    with written_whole(folder) as temporary:
        written = write_repository(
            model, temporary, folder, beside=all_formats, with_projector=with_projector, **options
        )
        picture = run_card.drawn(history.read(run.path))
        if picture is not None:
            save_image(picture, temporary / CURVES)
        (temporary / RECIPE).write_text(load.dump(recipe), encoding="utf-8")
        if terms.license_file is not None:
            shutil.copyfile(terms.license_file, temporary / LICENSE)
        pixels_inside = options.get("with_preprocessing", False)
        usage = loading(model, terms.repository, temporary, pixels_inside=pixels_inside)
        card = model_card.text(_card(run, recipe, model, terms, temporary, measured, usage))
        (temporary / CARD).write_text(card, encoding="utf-8")
        sizes = {file.name: file.stat().st_size for file in sorted(temporary.iterdir())}
    others = [f"{name} does not say that it is of these weights: not in the card" for name in measured.left_out]
    return Publication(folder, sizes, card, written.left_out, (*written.notes, *others))


def push(publication: Publication, terms: Terms, *, progress: bool = False) -> Publication:
    """Push what was prepared. progress: let huggingface_hub draw bars on standard error.

    Raises:
        UserError: see `upload`.
    """
    commit = upload(
        publication.folder,
        terms.repository,
        public=terms.public,
        overwrite=terms.overwrite,
        replaced=FILES,
        progress=progress,
    )
    return replace(publication, commit=commit)


def _published_model(run: FinishedRun) -> ExportedModel:
    """The run's network, whose files name no path of this machine."""
    model = model_of(run)
    provenance = dict(model.provenance)
    if "init" in provenance:
        provenance["init"] = run_card.public(provenance["init"])
    return replace(model, provenance=provenance)


def _card(
    run: FinishedRun,
    recipe: Recipe,
    model: ExportedModel,
    terms: Terms,
    folder: Path,
    measured: run_card.Measurements,
    usage: list[tuple[str, str]],
) -> model_card.ModelCard:
    assert terms.license is not None
    recorded, preprocessing = history.read(run.path), model.preprocessing
    channels = {1: "grey ", 3: ""}.get(preprocessing.channels, f"{preprocessing.channels}-channel ")
    unlabelled = f"pre-trained without labels by {recipe.objective.title}"
    trained = "trained with labels" if recipe.objective.labels else unlabelled
    summary = (
        f"A `{model.architecture}` without a classifier, {trained} on "
        f"{run_card.learned_from(recipe, recorded)}, with barlowctl {barlowctl.__version__}. It makes "
        f"{feature_width(model.backbone):,} numbers of a {channels}picture of {preprocessing.crop} x "
        f"{preprocessing.crop} pixels: features to search, cluster or classify by, or weights to start from."
    )
    limits = [
        f"It has seen {recipe.data.dataset} and nothing else: pictures of another kind may look alike to it.",
        "It was not examined for bias.",
    ]
    if changed := preprocessing.departures("range", "bands", "squash"):
        values = ", ".join(f"{key} = {value}" for key, value in changed.items())
        limits.append(f"Its files were read with {values}, which timm and transformers do not do by themselves.")
    return model_card.ModelCard(
        repository=terms.repository,
        license=terms.license,
        license_file=LICENSE if terms.license_file is not None else "",
        method=recipe.objective.name,
        summary=summary,
        images=str(preprocessing),
        datasets=run_card.datasets_of(run.recipe, recorded),
        results=measured.results,
        without_labels=measured.without_labels,
        usage=usage,
        files={name: what for name, what in _WHAT.items() if (folder / name).is_file()},
        training=run_card.training(run, recipe, recorded, load.digest(run.recipe)),
        recipe=RECIPE,
        curves=CURVES if (folder / CURVES).is_file() else "",
        limits=limits,
        citation=citations.bibtex(recipe.objective.name, barlowctl.__version__),
    )
