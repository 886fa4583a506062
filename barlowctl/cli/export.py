"""`barlowctl export`: weights that other tools load as they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from barlowctl import launcher
from barlowctl.cli import completion, options
from barlowctl.cli.console import Console
from barlowctl.cli.export_checks import check_run, check_sources, check_unused
from barlowctl.cli.help import examples
from barlowctl.cli.preparing import of_backbone
from barlowctl.cli.subject import newest_finished
from barlowctl.exports.formats import FORMATS
from barlowctl.exports.formats.options import FormatOptions, Precision

if TYPE_CHECKING:
    from barlowctl.assemble.finished import FinishedRun
    from barlowctl.exports import ExportedModel

    Format = str
else:
    Format = Literal[tuple(FORMATS)]

EPILOG = examples(
    "barlowctl export",
    "barlowctl export runs/NAME --format hub --out my-model",
    "barlowctl export runs/NAME --format onnx --with-preprocessing",
    "barlowctl export runs/NAME --best",
    "barlowctl export runs/NAME --all --out my-model",
    "barlowctl export runs/NAME --push USER/NAME --license mit --dry-run",
    "barlowctl export lightly.ckpt --backbone resnet18 --format hub --out mine",
    "barlowctl export --from-official resnet50.pth --format torchvision",
)
WEIGHTS, FORMAT, HUB = "Weights", "Format", "Hugging Face Hub"  # panels of the help
DEFAULT = next(iter(FORMATS))
FORMAT_HELP = "; ".join(f"{name}: {kind.summary}" for name, kind in FORMATS.items())


def export(
    run: Annotated[
        str | None,
        options.run(
            "A run's name or directory, or one of its checkpoints (RUN/checkpoints/step-00000123); or a file or folder "
            "of weights: an export, the authors' .pth, another tool's checkpoint. Default: the newest finished run.",
            "RUN|FILE",
        ),
    ] = None,
    backbone: Annotated[str | None, options.backbone(WEIGHTS)] = None,
    overrides: Annotated[
        list[str] | None,
        options.overrides(
            "Of such a checkpoint: model.stem, model.image_size, ..., views.mean, views.std, eval.resize, eval.crop.",
            WEIGHTS,
        ),
    ] = None,
    best: Annotated[
        bool,
        typer.Option(
            "--best",
            help="Of a run with train.keep_best: the best state in place of the newest.",
            rich_help_panel=WEIGHTS,
        ),
    ] = False,
    format: Annotated[
        Format | None,
        typer.Option("--format", "-f", help=f"{FORMAT_HELP}. Default: {DEFAULT}.", rich_help_panel=FORMAT),
    ] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Every format that holds the network, in one folder; says of the others why they do not.",
            rich_help_panel=FORMAT,
        ),
    ] = False,
    out: Annotated[Path | None, options.out("File (or folder) to write, new. Default: in the run.")] = None,
    with_projector: Annotated[
        bool, typer.Option("--with-projector", help="Write the projector's weights too.", rich_help_panel=WEIGHTS)
    ] = False,
    zero_classifier: Annotated[
        bool,
        typer.Option(
            "--zero-classifier",
            help="torchvision: add a classifier of zeros, for tools that ask for every key. Without it "
            "`load_state_dict(..., strict=False)` starts a new classifier of any number of classes.",
            rich_help_panel=FORMAT,
        ),
    ] = False,
    with_preprocessing: Annotated[
        bool,
        typer.Option(
            "--with-preprocessing",
            help="onnx: the graph takes uint8 images (N, crop, crop, channels) and normalises them itself; resizing "
            "and cropping stay outside. Without it: normalised float32 (N, channels, crop, crop).",
            rich_help_panel=FORMAT,
        ),
    ] = False,
    precision: Annotated[
        Precision,
        typer.Option(
            help="onnx: of the weights and of what is computed with them; the features are float32 in both.",
            rich_help_panel=FORMAT,
        ),
    ] = "fp32",
    from_official: Annotated[
        Path | None,
        typer.Option(
            "--from-official",
            help="Convert a checkpoint the authors published instead of a run.",
            rich_help_panel=WEIGHTS,
        ),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(
            "--push",
            metavar="USER/NAME",
            help="Push a repository: weights, a card written from the run, curves, recipe; with --all torchvision's "
            "file and ONNX too. Log in first: hf auth login.",
            rich_help_panel=HUB,
        ),
    ] = None,
    license: Annotated[
        str | None,
        typer.Option(
            "--license",
            metavar="NAME",
            help="Of the weights, as the Hub calls it: mit, apache-2.0, cc-by-4.0, ..., other.",
            autocompletion=completion.licenses,
            rich_help_panel=HUB,
        ),
    ] = None,
    license_file: Annotated[
        Path | None,
        typer.Option("--license-file", help="The license's text, for the repository.", rich_help_panel=HUB),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Anyone may see it. Without it: private.", rich_help_panel=HUB)
    ] = False,
    overwrite: Annotated[
        bool, options.overwrite("A new commit in a repository that already holds something.", HUB)
    ] = False,
    dry_run: Annotated[
        bool, options.dry_run("Show files, sizes and the card; needs no network, pushes nothing.", HUB)
    ] = False,
    yes: Annotated[bool, options.yes("Push without asking.", HUB)] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Export the backbone as safetensors for timm, torchvision, transformers or the Hub, or as ONNX.

    Every export is loaded back by the library it is for, and its features are compared, before the
    command reports success.
    """
    launcher.refuse_several("export")
    check_sources(run, best, format, every, from_official, push)
    if push is None:
        check_unused(license, license_file, public, overwrite, dry_run, yes)
    of_file = [*of_backbone(backbone), *(overrides or [])]
    is_file = check_run(run, from_official, of_file, best, push)  # before torch is imported, which takes seconds
    from barlowctl.assemble.exporting import default_folder, default_target, name_of
    from barlowctl.cli.export_result import show_export, show_folder
    from barlowctl.exports import export as write
    from barlowctl.exports import export_all

    console = Console(json=json, quiet=quiet)
    of_format: FormatOptions = {
        "zero_classifier": zero_classifier,
        "with_preprocessing": with_preprocessing,
        "precision": precision,
    }
    if push is not None:
        from barlowctl.cli.export_push import push_run
        from barlowctl.measure.publication import Terms

        terms = Terms(repository=push, license=license, license_file=license_file, public=public, overwrite=overwrite)
        terms.check()
        push_run(
            console, _open(_state(run, best, console), console), terms, out=out, dry_run=dry_run, yes=yes,
            all_formats=every, with_projector=with_projector, options=of_format,
        )  # fmt: skip
        return
    format = format or DEFAULT
    if from_official is not None or is_file:
        model, name = _of_file(from_official, run, of_file, console)
        target = Path(f"{name}-all" if every else f"{name}-{format}{FORMATS[format].suffix}")
    else:
        state = _state(run, best, console)
        model, name = _model_of(state, console), name_of(state)
        target = default_folder(state) if every else default_target(state, format)
    if every:
        show_folder(console, export_all(model, out or target, name, with_projector=with_projector, **of_format))
    else:
        show_export(console, write(model, out or target, format, with_projector=with_projector, **of_format))


def _of_file(
    official: Path | None, file: str | None, overrides: list[str], console: Console
) -> tuple[ExportedModel, str]:
    """What a file or folder of weights holds, and what its exports are called after; says what should be known."""
    if official is not None:
        from barlowctl.exports import read_official

        return read_official(official), official.stem
    assert file is not None
    from barlowctl.assemble.model_files import open_to_export

    opened = open_to_export(Path(file), overrides)
    for note in opened.notes:
        console.say(f"note: {note}")
    path = Path(file)
    return opened.model, path.resolve().name if path.is_dir() else path.stem


def _state(run: str | None, best: bool, console: Console) -> Path:
    """The run, or the state of it, that is exported."""
    from barlowctl.runs import rundir

    state = newest_finished(console) if run is None else rundir.find_state(run)
    return _best_of(state, console) if best else state


def _best_of(run: Path, console: Console) -> Path:
    """The checkpoint that a run keeps as its best; says why it is that."""
    from barlowctl.assemble.exporting import best_state
    from barlowctl.criteria import when

    choice, weights = best_state(run)
    measure = choice.criterion.name
    console.say(f"the best by {measure}: {choice.value:.5g} {when(choice.epoch - 1)} (step {choice.step})")
    return weights


def _model_of(state: Path, console: Console) -> ExportedModel:
    from barlowctl.assemble.exporting import model_of

    return model_of(_open(state, console))


def _open(state: Path, console: Console) -> FinishedRun:
    """The run read back; says what should be known of it."""
    from barlowctl.assemble.finished import open_run
    from barlowctl.recipe.caution import cautions

    opened = open_run(state)
    for note in (*opened.notes, *cautions(opened.recipe)):
        console.say(f"note: {note}")
    return opened
