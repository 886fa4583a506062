"""Write, load back, compare, and only then give the files their names."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import model_entrypoint
from torch import Tensor

from barlowctl import memory, shell
from barlowctl.errors import UserError
from barlowctl.exports.exported import ExportedModel, ExportReport
from barlowctl.exports.formats import Format, format_named
from barlowctl.exports.formats.misfit import Misfit
from barlowctl.exports.formats.options import FormatOptions
from barlowctl.exports.keys import one_line
from barlowctl.exports.weights import save, state_dict
from barlowctl.files import atomic_write, folder_made
from barlowctl.generators import own_generator
from barlowctl.output_paths import check_folder, free, why_not_written

_IMAGES = 2
_CLASSES = 10  # of the example of fine-tuning


def export(
    model: ExportedModel,
    path: Path,
    format: str,
    *,
    with_projector: bool = False,
    overwrite: bool = False,
    **options: Unpack[FormatOptions],
) -> ExportReport:
    """Write a model in a format that others load, and prove that they can.

    The library the format is for loads the written file into a fresh model with the very lines of Python that
    the report shows; its features on a fixed random batch are compared with the source's. Until then the
    files have temporary names: when anything fails nothing is left behind.

    Args:
        model: the trained model and its preprocessing; left as it is.
        path: the file (the format's suffix is added when there is none), or the folder where the
            format is one.
        format: one of `FORMATS`.
        with_projector: write the projector too, beside a file as STEM.projector.safetensors, in a folder as
            projector.safetensors.
        overwrite: replace what is at `path`.
        options: of the format, see `FormatOptions`.

    Raises:
        UserError: the format cannot hold the model, the path is taken or not writable, or features differ or are not
            finite.
    """
    chosen = format_named(format, **options)
    chosen.check(model)
    path = _checked_path(Path(path), chosen, overwrite)
    projector_path = _checked_projector_path(model, path, chosen, overwrite) if with_projector else None
    with written_whole(path, overwrite=overwrite) as temporary:
        report = write_compared(model, chosen, temporary, path)
        if projector_path is not None and chosen.suffix:
            with atomic_write(projector_path, new=not overwrite) as beside:
                write_projector(model, beside)
        elif projector_path is not None:
            write_projector(model, temporary / projector_path.name)
    return report if projector_path is None else replace(report, files=(*report.files, projector_path))


@contextmanager
def written_whole(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """`atomic_write`, in a folder that is made where it is not there.

    Raises:
        UserError: the disk refuses; nothing is left behind.
    """
    try:
        with folder_made(path.parent), atomic_write(path, new=not overwrite) as temporary:
            yield temporary
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"the export could not be written to {path}: {why_not_written(error, path.parent)}",
            next="free space or choose another --out",
        ) from error


def write_compared(model: ExportedModel, format: Format, temporary: Path, path: Path) -> ExportReport:
    """Write the files of a format under a temporary name, load them back and compare; the report says `path`.

    Raises:
        Misfit: the format cannot hold the model after all.
        UserError: the model is at fault.
        OSError, SafetensorError: the disk is.
    """
    written = format.write(model, temporary)
    difference, fine_tuning = _verify(model, temporary, format)
    return ExportReport(
        path,
        format.name,
        difference,
        format.load_lines(model, path),
        fine_tuning,
        tuple(path / file.relative_to(temporary) for file in written),
        (f"images it expects: {model.preprocessing}", *format.notes(model)),
    )


def _checked_path(path: Path, format: Format, overwrite: bool) -> Path:
    if format.suffix:
        if not path.suffix:
            path = path.with_suffix(format.suffix)
        if path.suffix != format.suffix:
            raise UserError(
                f"{path.name!r} ends in {path.suffix!r}, but format '{format.name}' is a {format.suffix} file",
                allowed=f"a name that ends in {format.suffix}",
                next=shell.line("--out", path.with_suffix(format.suffix)),
            )
        if path.is_dir():
            raise UserError(
                f"{path} is a folder; format '{format.name}' is one file",
                next=shell.line("--out", free(path.with_suffix("")).with_suffix(format.suffix)),
            )
    elif path.is_file():
        raise UserError(
            f"{path} is a file; format '{format.name}' is a folder",
            next=shell.line("--out", free(path.with_suffix(""))),
        )
    elif path.is_dir() and any(path.iterdir()) and not (path / "config.json").is_file():
        raise UserError(f"{path} is not empty and not an export", next="choose another folder")
    if path.exists() and not overwrite:
        raise taken(path)
    check_folder(path.parent, named=path)
    return path


def _checked_projector_path(model: ExportedModel, path: Path, format: Format, overwrite: bool) -> Path:
    check_projector(model)
    projector_path = projector_of(path, format.suffix)
    if projector_path.exists() and not overwrite:
        raise taken(projector_path)
    return projector_path


def check_projector(model: ExportedModel) -> None:
    """Refuse to export a projector where there is none.

    Raises:
        UserError: there is none.
    """
    if model.projector is None:
        raise UserError("there is no projector to export with the backbone", next="without --with-projector")


def taken(path: Path) -> UserError:
    """There is something where an export is to be."""
    return UserError(f"{path} exists", next=shell.line("--out", free(path)))


def projector_of(path: Path, suffix: str) -> Path:
    """Where the projector of an export at `path` is, as `reader.read_projector` looks for it; suffix: its format's."""
    return path.with_suffix(".projector.safetensors") if suffix else path / "projector.safetensors"


def _verify(model: ExportedModel, path: Path, format: Format) -> tuple[float, str]:
    """Load the files as a user would: the largest difference of the features, and the line for a new classifier."""
    namespace: dict[str, Any] = {}
    lines = compile(format.load_lines(model, path), f"<export to {format.name}>", "exec")
    try:
        with own_generator(), format.quietly():  # the fresh model draws weights before it has those of the file
            exec(lines, namespace)
    except Exception as error:  # whatever another library raises
        if isinstance(error, UserError | OSError) or memory.ran_out(error) is not None:
            raise
        raise _not_the_same(
            model, format, f"cannot be loaded back by format '{format.name}': {one_line(error)}"
        ) from error
    loaded = namespace["model"]
    source = copy.deepcopy(model.backbone).cpu().float().to(memory_format=torch.contiguous_format).eval()
    preprocessing = model.preprocessing
    size = (_IMAGES, preprocessing.crop, preprocessing.crop, preprocessing.channels)
    pixels = torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = model.input_of(pixels)
    with torch.no_grad():
        expected = source(images)
        if not expected.isfinite().all():
            raise UserError(
                f"the features of this {model.architecture} are infinite or not a number; nothing was written",
                allowed="weights of a training that did not diverge",
                next="export another run or checkpoint",
            )
        features = format.features(model, loaded, pixels)
    difference = _max_abs_diff(expected, features)
    if not difference <= format.tolerance * max(1.0, float(expected.abs().max())):  # also false for NaN
        raise _not_the_same(
            model,
            format,
            f"gives other features than the run's: they differ by up to {difference:g} by format '{format.name}'",
        )
    format.check_loaded(model, loaded)
    return difference, _fine_tuning(model, format, namespace, pixels)


def _not_the_same(model: ExportedModel, format: Format, what: str) -> Misfit:
    """What the format's library makes of the files is not the run's network."""
    own = ""
    if format.name == "hub" and not model_entrypoint(model.architecture).__module__.startswith("timm."):
        own = (
            f". timm leaves the weights of a folder to the function that is registered as {model.architecture}, with "
            "pretrained=True, and yours does not read them, as timm.models.build_model_with_cfg would"
        )
    return Misfit(
        f"{model.architecture} with arguments {dict(model.timm_args)} {what}; nothing was written{own}",
        next="--format timm" if format.name != "timm" else "barlowctl doctor",
    )


def _fine_tuning(model: ExportedModel, format: Format, namespace: dict[str, Any], pixels: Tensor) -> str:
    """The line for a new classifier, if it works on what was loaded; a few of timm's models refuse a new one."""
    line = format.fine_tuning_line(model, _CLASSES)
    if not line:
        return ""
    try:
        with torch.no_grad(), own_generator(), format.quietly():
            exec(compile(line, "<fine-tuning>", "exec"), namespace)
            scores = format.features(model, namespace["model"], pixels)
    except Exception:  # whatever that model raises: the export holds what it promises without the line
        return ""
    return line if scores.shape == (len(pixels), _CLASSES) else ""


def _max_abs_diff(expected: Tensor, features: Tensor) -> float:
    if expected.shape != features.shape:
        return float("inf")
    return float((expected - features).abs().max())


def write_projector(model: ExportedModel, path: Path) -> None:
    """Write the projector's weights, and read them back.

    Raises:
        UserError: they read back as others.
    """
    assert model.projector is not None
    weights = state_dict(model.projector)
    save(weights, path, {**model.metadata(), "part": "projector"})
    back = load_file(path)
    same = back.keys() == weights.keys()
    if not (same and all(torch.equal(back[key].nan_to_num(), weights[key].nan_to_num()) for key in weights)):
        raise UserError(f"the projector in {path} reads back as other weights", next="choose another --out")
