"""What is one call on a network that is named: opened, asked, forgotten."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Unpack

from torch import nn

from barlowctl.api.arguments import checked
from barlowctl.api.initial import named_as_module, written
from barlowctl.api.network import Network
from barlowctl.api.options import Extracting, ImagesLike, Probing, Pushing, Showing
from barlowctl.api.process import as_a_command
from barlowctl.api.recipes import Overrides, override_texts, parted
from barlowctl.api.run import Run
from barlowctl.api.wording import reworded
from barlowctl.assemble.model_files import open_to_export
from barlowctl.errors import UserError
from barlowctl.eval.embeddings import Embeddings
from barlowctl.exports import ExportedFolder, ExportedModel, ExportReport
from barlowctl.exports import export as write_export
from barlowctl.exports import export_all as write_all
from barlowctl.exports.formats.options import FormatOptions
from barlowctl.measure.measurement import Probed
from barlowctl.measure.modules import check_network
from barlowctl.measure.publication import Publication
from barlowctl.runs import rundir
from barlowctl.runs.newest import newest_finished
from barlowctl.runs.subjects import SUFFIXES, is_file_of_weights, refuse_other_paths

Named = str | PathLike[str] | Network | nn.Module


@checked
def load(run: str | PathLike[str] | None = None) -> Run:
    """A run by name, directory or checkpoint; None: the newest finished one.

    Args:
        run: see `Run`.

    Raises:
        UserError: not a run, or none is finished.
    """
    with as_a_command():
        return Run(newest_finished() if run is None else run)


@checked
def open_network(what: str | PathLike[str] | nn.Module, **options: Unpack[Showing]) -> Network:
    """Anything that can be measured: a run, an export, the authors' files, a timm model, a module. See `Network`."""
    return Network(what, **options)


@checked
def features(
    network: Named,
    images: Any,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    size: int | None = None,
    overrides: Overrides | None = None,
    **options: Unpack[Extracting],
) -> Embeddings:
    """Features of images. See `Network.features`.

    Args:
        network: a `Network`, a `Run`, or what `open_network` takes, a module among it.
        mean, std, size: of a module, see `Network`.
        overrides: how images are shown to the network, see `Network`: {"eval.resize": 256}.
    """
    return _opened(network, mean, std, size, overrides).features(images, **options)


@checked
def probe(
    network: Named,
    data: ImagesLike | None = None,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    size: int | None = None,
    **options: Unpack[Probing],
) -> Probed:
    """A network measured on labelled images. See `Network.probe`.

    Args:
        network: a `Network`, a `Run`, or what `open_network` takes, a module among it.
        mean, std, size: of a module, see `Network`.
        overrides (among the options): also how images are shown to the network, see `Network`: {"eval.resize": 256}.
    """
    if isinstance(network, Network) or not options.get("overrides"):
        return _opened(network, mean, std, size).probe(data, **options)
    showing, options["overrides"] = parted(options["overrides"] or {})
    return _opened(network, mean, std, size, showing).probe(data, **options)


@checked
def export(
    run: str | PathLike[str] | Run | nn.Module | None = None,
    format: str = "timm",
    out: str | PathLike[str] | None = None,
    *,
    with_projector: bool = False,
    overrides: Overrides | None = None,
    **options: Unpack[FormatOptions],
) -> ExportReport:
    """A run's backbone written for other libraries; or that of a file or folder of weights.

    See `Run.export`.

    Args:
        run: a `Run`, what `load` takes, or such a file or folder: an export, a checkpoint that the authors published,
            another tool's checkpoint; or a module; None: the newest finished run.
        out: None: in the run; of a file NAME.pth, and of a module of the class NAME, NAME-FORMAT in the working
            directory.
        overrides: of a checkpoint, or of a module that is not timm's, which does not say it: {"model.backbone":
            "resnet18"}, "model.stem", "views.mean", "views.std", "eval.resize", "eval.crop", ...
    """
    if opened_file := _of_file(run, overrides):
        with as_a_command():
            model, name = opened_file
            target = Path(out) if out is not None else Path(f"{name}-{format}")
            return write_export(model, target, format, with_projector=with_projector, **options)
    opened = _opened_run(run, overrides)
    return opened.export(format, out, with_projector=with_projector, **options)


@checked
def export_all(
    run: str | PathLike[str] | Run | nn.Module | None = None,
    out: str | PathLike[str] | None = None,
    *,
    with_projector: bool = False,
    overrides: Overrides | None = None,
    **options: Unpack[FormatOptions],
) -> ExportedFolder:
    """The backbone of a run, or of a file or folder of weights, in every format that holds it, in one folder.

    See `Run.export_all`.

    Args:
        run, overrides: as of `export`.
        out: None: in the run; of a file NAME.pth, NAME-all in the working directory.
    """
    if opened_file := _of_file(run, overrides):
        with as_a_command():
            model, name = opened_file
            folder = Path(out) if out is not None else Path(f"{name}-all")
            return write_all(model, folder, name, with_projector=with_projector, **options)
    opened = _opened_run(run, overrides)
    return opened.export_all(out, with_projector=with_projector, **options)


Exportable = str | PathLike[str] | Run | nn.Module | None


def _of_file(run: Exportable, overrides: Overrides | None) -> tuple[ExportedModel, str] | None:
    """What a file or folder of weights holds that is named in the place of a run, or a module; and its name."""
    if run is None or isinstance(run, Run):
        return None
    texts = override_texts(overrides or {})
    with as_a_command(), tempfile.TemporaryDirectory(prefix="barlowctl-") as folder:
        if isinstance(run, nn.Module):
            check_network(run)
            path = written(run, Path(folder))
            with named_as_module(path, run):
                return open_to_export(path, texts).model, type(run).__name__
        path = Path(run)
        if path.suffix in SUFFIXES:
            refuse_other_paths(fspath(path))
        return (open_to_export(path, texts).model, path.stem) if is_file_of_weights(fspath(path)) else None


def _opened_run(run: Exportable, overrides: Overrides | None) -> Run:
    if overrides:
        with as_a_command():
            raise UserError(
                "overrides are of a file of weights that does not say which network it holds, and a run says it",
                next="without overrides",
            )
    assert not isinstance(run, nn.Module)
    return run if isinstance(run, Run) else load(run)


@checked
def push(
    run: str | PathLike[str] | Run | None,
    repository: str,
    license: str,
    **options: Unpack[Pushing],
) -> Publication:
    """A run as a repository of the Hugging Face Hub: weights, a card, curves, recipe. See `Run.push`.

    Args:
        run: a `Run`, or what `load` takes; None: the newest finished run.
    """
    opened = run if isinstance(run, Run) else load(run)
    return opened.push(repository, license, **options)


def _opened(
    network: Named,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    size: int | None,
    overrides: Overrides | None = None,
) -> Network:
    stated: Showing = {"mean": mean, "std": std, "size": size, "overrides": overrides or None}
    given = [name for name, value in stated.items() if value is not None]
    if isinstance(network, Network):
        if given:
            with reworded():
                raise UserError(
                    f"{', '.join(given)} and a network that is open: it is said already how images are shown to it",
                    allowed="where it is opened: open_network(...)",
                    next="open it again with them",
                )
        return network
    if given or isinstance(network, nn.Module):
        return Network(network, **stated)
    name = fspath(network)
    with as_a_command():
        is_run = any(
            rundir.is_run(path) or rundir.run_of_checkpoint(path) for path in (Path(name), rundir.runs_home() / name)
        )
    return Run(name) if is_run else Network(name)
