"""The options that functions share, spelled once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from typing import Any, Literal, Protocol, TypedDict, runtime_checkable

from torch import nn

from barlowctl.api.recipes import Overrides
from barlowctl.data.images.unreadable import OnMeasuring
from barlowctl.exports.formats.options import FormatOptions
from barlowctl.train.events import Event


@runtime_checkable
class HasItems(Protocol):
    """What has items by their number, as torch's data sets do."""

    def __getitem__(self, index: Any, /) -> Any: ...


ImagesLike = str | PathLike[str] | HasItems | Iterable[Any]
"""A name, a path, or images that a program has in hand."""


class Machine(TypedDict, total=False):
    """Of the machine.

    Attributes:
        device: "auto", "cpu", "cuda" or "cuda:N".
        threads: of torch on a CPU; None: the recipe's, else OMP_NUM_THREADS, else the cores.
        workers: threads or processes that read images.
        loader: "auto", "fast" or "plain".
    """

    device: str
    threads: int | None
    workers: int | None
    loader: Literal["auto", "fast", "plain"]


class Showing(TypedDict, total=False):
    """How images are shown to a network: see `Network`."""

    mean: Sequence[float] | None
    std: Sequence[float] | None
    size: int | None
    overrides: Overrides | None


class Extracting(Machine, total=False):
    """Of `Network.features`."""

    split: str
    on_unreadable: OnMeasuring


class Probing(Machine, total=False):
    """Of `Network.probe`."""

    measures: Sequence[str]
    trained: Sequence[str]
    baselines: Sequence[str]
    seeds: int
    semi_list: str | PathLike[str] | None
    overrides: Overrides | None
    out: str | PathLike[str] | None
    on_unreadable: OnMeasuring | None
    on_event: Callable[[Event], object] | None
    handle_signals: bool


class Pushing(FormatOptions, total=False):
    """Of `Run.push`."""

    license_file: str | PathLike[str] | None
    public: bool
    overwrite: bool
    all_formats: bool
    with_projector: bool
    dry_run: bool
    out: str | PathLike[str] | None
    progress: bool


class Training(Machine, total=False):
    """Of a training.

    Attributes:
        data: images in place of the recipe's: a folder, a .beton file or a data set's name; a list of image files,
            which a folder of links in the data home stands for; or a torch or torchvision data set, images, arrays,
            or a dictionary of them by split, which are packed into the data home first (see `pack`). None: the
            recipe's, or those of the run that goes on.
        overrides: values in place of the recipe's: {"train.epochs": 5}, or nested.
        init: weights to start from: a `Run`, or the name of a run, an export, a file or folder of weights, a timm name;
            or a module, a network of timm's or of the recipe's architecture, whose weights are written into the data
            home first.
        resume: the run that goes on, exactly where it was: a `Run`, its name or directory; recipe, overrides and init
            are then its own.
        out: the run directory, new; None: runs/NAME-DATE.
        tensorboard, wandb: what else records the run.
    """

    data: ImagesLike | None
    overrides: Overrides | None
    init: str | PathLike[str] | nn.Module | None
    resume: str | PathLike[str] | None
    out: str | PathLike[str] | None
    tensorboard: bool
    wandb: bool
