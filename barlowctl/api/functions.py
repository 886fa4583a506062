"""What is one call on a network that is named: opened, asked, forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Unpack

from torch import nn

from barlowctl.api.arguments import checked
from barlowctl.api.network import Network
from barlowctl.api.options import Extracting, Probing, Pushing, Showing
from barlowctl.api.process import as_a_command
from barlowctl.api.run import Run
from barlowctl.api.wording import reworded
from barlowctl.errors import UserError
from barlowctl.eval.embeddings import Embeddings
from barlowctl.exports import ExportedFolder, ExportReport, read_official
from barlowctl.exports import export as write_export
from barlowctl.exports import export_all as write_all
from barlowctl.exports.formats.options import FormatOptions
from barlowctl.measure.measurement import Probed
from barlowctl.measure.publication import Publication
from barlowctl.runs import rundir

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
        return Run(rundir.newest_finished() if run is None else run)


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
    **options: Unpack[Extracting],
) -> Embeddings:
    """Features of images. See `Network.features`.

    Args:
        network: a `Network`, a `Run`, or what `open_network` takes, a module among it.
        mean, std, size: of a module, see `Network`.
    """
    return _opened(network, mean, std, size).features(images, **options)


@checked
def probe(
    network: Named,
    data: str | PathLike[str] | None = None,
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
    """
    return _opened(network, mean, std, size).probe(data, **options)


@checked
def export(
    run: str | PathLike[str] | Run | None = None,
    format: str = "timm",
    out: str | PathLike[str] | None = None,
    *,
    with_projector: bool = False,
    **options: Unpack[FormatOptions],
) -> ExportReport:
    """A run's backbone written for other libraries; or a checkpoint that the authors published (.pth) converted.

    See `Run.export`.

    Args:
        run: a `Run`, what `load` takes, or that file; None: the newest finished run.
        out: None: in the run; of an authors' file NAME.pth, NAME-FORMAT in the working directory.
    """
    if isinstance(run, str | PathLike) and Path(run).suffix == ".pth":
        with as_a_command():
            target = Path(out) if out is not None else Path(f"{Path(run).stem}-{format}")
            return write_export(read_official(Path(run)), target, format, with_projector=with_projector, **options)
    opened = run if isinstance(run, Run) else load(run)
    return opened.export(format, out, with_projector=with_projector, **options)


@checked
def export_all(
    run: str | PathLike[str] | Run | None = None,
    out: str | PathLike[str] | None = None,
    *,
    with_projector: bool = False,
    **options: Unpack[FormatOptions],
) -> ExportedFolder:
    """A run's backbone in every format that holds it, in one folder; or a checkpoint that the authors published (.pth).

    See `Run.export_all`.

    Args:
        run: a `Run`, what `load` takes, or that file; None: the newest finished run.
        out: None: in the run; of an authors' file NAME.pth, NAME-all in the working directory.
    """
    if isinstance(run, str | PathLike) and (file := Path(run)).suffix == ".pth":
        with as_a_command():
            folder = Path(out) if out is not None else Path(f"{file.stem}-all")
            return write_all(read_official(file), folder, file.stem, with_projector=with_projector, **options)
    opened = run if isinstance(run, Run) else load(run)
    return opened.export_all(out, with_projector=with_projector, **options)


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


def _opened(network: Named, mean: Sequence[float] | None, std: Sequence[float] | None, size: int | None) -> Network:
    stated: Showing = {"mean": mean, "std": std, "size": size}
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
