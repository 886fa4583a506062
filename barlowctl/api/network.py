"""A network as Python has it: what it is, features of images, measurements."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal

from torch import nn

from barlowctl.api.arguments import checked, no_name
from barlowctl.api.options import ImagesLike
from barlowctl.api.pictures import named_or_in_memory, open_pictures, three_axes_explained
from barlowctl.api.process import as_a_command, memory_returned
from barlowctl.api.recipes import Overrides, override_texts, parted
from barlowctl.assemble.data import choices_of
from barlowctl.assemble.machine import Runtime
from barlowctl.data.images.unreadable import OnMeasuring, advise_skipping
from barlowctl.data.sources.in_memory import InMemory
from barlowctl.errors import RunStopped, UserError
from barlowctl.eval.embeddings import Embeddings
from barlowctl.measure.baselines import check_baselines
from barlowctl.measure.embedding import embed, embed_input, is_input
from barlowctl.measure.measurement import Probed, begin_measurement
from barlowctl.measure.modules import of_module
from barlowctl.measure.subjects import Subject, open_subject
from barlowctl.measure.tasks import BASELINES, Tasks, check_names
from barlowctl.model import Preprocessing
from barlowctl.train.events import Event, Sink

OnEvent = Callable[[Event], object]


class Network:
    """A frozen network and how images are shown to it.

    Args:
        what: a run's name or directory, one of its checkpoints, a file or folder that `export` wrote, the authors'
            .pth files, or a timm model name, as `barlowctl probe` takes it. Or a module, images (N, C, H, W) float32,
            normalised -> features (N, F): it is copied as it is now, and left as it is. A classifier of timm's or
            torchvision's networks is left out of the copy.
        mean, std: of a module: per channel, of pixels in [0, 1]; None: as timm's configuration of it says.
        size: of the input, in pixels: the shorter side is resized to it, and the central square cut out; None: as the
            network says it.
        overrides: of how images are shown to it: {"eval.resize": 256, "eval.crop": 224}, "data.range", "data.bands",
            "data.background", and "model.pooling"; of a module also "views.interpolation": "bilinear" or "bicubic".

    Raises:
        UserError: nothing of that name, or it cannot be read; a module that gives no vector for each image, or without
            a configuration of timm's and without mean, std and size.
    """

    _of_module = False

    @checked
    def __init__(
        self,
        what: str | PathLike[str] | nn.Module,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        size: int | None = None,
        overrides: Overrides | None = None,
    ) -> None:
        stated = {"views.mean": mean, "views.std": std, "eval.resize": size, "eval.crop": size}
        texts = [
            *override_texts({key: value for key, value in stated.items() if value is not None}),
            *override_texts(overrides or {}),
        ]
        self._of_module = isinstance(what, nn.Module)
        with as_a_command():
            if isinstance(what, nn.Module):
                self._subject = of_module(what, texts)
                self.name = self._subject.name
            else:
                self.name = fspath(what)
                self._subject = open_subject(self.name, overrides=texts)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._written})"

    def __fspath__(self) -> str:
        """Its name, wherever one is taken: `pretrain(init=network)`.

        Raises:
            UserError: it is a module, and no name leads to that.
        """
        if self._of_module:
            raise no_name(f"a network that was opened of a module, {self.name}")
        return self.name

    @property
    def _written(self) -> str:
        """What it was made of, as Python writes it: a module, which may be pages, by a name."""
        return "model" if self._of_module else repr(self.name)

    @property
    def subject(self) -> Subject:
        """The network as the commands have it; its modules are no copies, so leave them as they are."""
        return self._subject

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes the network's input, by sizes in pixels, mean and std of pixels in [0, 1]."""
        return self.subject.preprocessing

    @property
    def notes(self) -> tuple[str, ...]:
        """What should be known of it, e.g. a run that is not finished, or weights that are random."""
        return self.subject.notes

    def backbone(self) -> nn.Module:
        """A copy of the network: images (N, C, H, W) float32, normalised -> features (N, F).

        On the CPU, in evaluation mode, every parameter trainable; what is done to it leaves this one alone.
        """
        own = copy.deepcopy(self.subject.backbone).cpu().eval()
        return own.requires_grad_(True)

    @checked
    def features(
        self,
        images: Any,
        *,
        split: str = "train",
        on_unreadable: OnMeasuring = "raise",
        device: str = "auto",
        threads: int | None = None,
        workers: int | None = None,
        loader: Literal["auto", "fast", "plain"] = "auto",
    ) -> Embeddings:
        """Features of images: the numbers that `barlowctl embed` writes.

        Args:
            images: a folder, a packed file, or a data set by name; paths of image files; a torch or torchvision data
                set; Pillow's images; arrays of pixels, (H, W), (H, W, C) or (N, H, W, C); a uint8 tensor (N, C, H, W)
                of pixels. They are resized and cropped as `preprocessing` says. A floating point tensor (N, C, H, W)
                is the network's input already.
            split: of a data set. on_unreadable: "skip": an image that cannot be read has no row.
            device: "auto", "cpu", "cuda" or "cuda:N". threads: of torch on a CPU; None: OMP_NUM_THREADS, or the cores.
            workers: threads or processes that read images. loader: "auto", "fast" or "plain".

        Returns:
            features (N, F) float32, on the CPU, with names and labels, in the order of the images. numpy.asarray of it
            is the features.

        Raises:
            UserError: no such images, or one that cannot be read.
        """
        with as_a_command(network=self._written):
            runtime = Runtime(device, threads, workers, loader)
            if is_input(images):
                return embed_input(self.subject, images, runtime)
            with three_axes_explained(images), advise_skipping(on_unreadable):
                source = open_pictures(images, split, choices_of(self.preprocessing))
                return embed(self.subject, source, split, runtime, on_unreadable=on_unreadable)

    @checked
    def probe(
        self,
        data: ImagesLike | None = None,
        *,
        measures: Sequence[str] = ("knn", "linear", "lidar"),
        trained: Sequence[str] = (),
        baselines: Sequence[str] = (),
        seeds: int = 1,
        semi_list: str | PathLike[str] | None = None,
        overrides: Overrides | None = None,
        out: str | PathLike[str] | None = None,
        on_unreadable: OnMeasuring | None = None,
        on_event: OnEvent | None = None,
        handle_signals: bool = False,
        device: str = "auto",
        threads: int | None = None,
        workers: int | None = None,
        loader: Literal["auto", "fast", "plain"] = "auto",
    ) -> Probed:
        """Measure the network on labelled images, as `barlowctl probe` does, with the same numbers and files.

        Args:
            data: a data set with a training and a test split, or both in a dictionary, {"train": images, "test":
                images}, each as of `features` with labels; None: the run's own images.
            measures: on frozen features: "knn", "linear" (fast protocol), "lidar" (of a run; alone it needs no
                labels and no test split), "layers".
            trained: what is trained, in the paper's or a modern protocol: "linear", "semi-1", "semi-10", "finetune",
                "semi-1-modern", "semi-10-modern", "finetune-modern". Broken off, the same call goes on.
            baselines: measured beside it: "pixels", "random-init".
            seeds: how often what depends on chance is repeated: mean and spread.
            semi_list: SimCLR's list of labelled files, of one of "semi-..."; None: a balanced draw by the seed.
            overrides: of the protocols of `trained`: {"epochs": 10}.
            out: the folder of the result; None: the run, else runs/probes/NAME.
            on_unreadable: "raise" or "skip"; None: as the run did while it was trained.
            on_event: called with what happens in trainings (`barlowctl.events`).
            handle_signals: let signals stop a training after a step, as in a command.
            device, threads, workers, loader: as of `features`.

        Raises:
            UserError: before anything is measured: what cannot be measured on these images.
            KeyboardInterrupt: while something is trained; the state is saved, and the same call goes on.
        """
        with memory_returned(), as_a_command(handle_signals=handle_signals, network=self._written):
            subset, changes = None if semi_list is None else Path(semi_list), self._of_protocols(overrides or {})
            tasks = Tasks.named(measures, trained, seeds=seeds, subset=subset, overrides=changes)
            check_names("baselines", baselines, BASELINES)
            check_baselines(self.subject, baselines)
            policy = on_unreadable or self.subject.on_unreadable
            images, runtime = self._named(data), Runtime(device, threads, workers, loader)
            measurement = begin_measurement(self.name, self.subject, images, tasks, None if out is None else Path(out))
            emit = _sink(on_event)
            try:
                with advise_skipping(policy):
                    return measurement.measure(
                        runtime, baselines=baselines, emit=lambda task: emit, on_unreadable=policy
                    )
            except RunStopped as stopped:
                if handle_signals:
                    raise
                raise KeyboardInterrupt(f"{stopped}; the same call goes on") from None

    def _of_protocols(self, overrides: Overrides) -> tuple[str, ...]:
        showing, of_protocols = parted(overrides)
        if showing:
            raise UserError(
                f"{', '.join(map(repr, showing))} in overrides: how images are shown is said where a network is opened",
                next=f"barlowctl.open_network({self._written}, overrides={dict(showing)!r}).probe(...)",
            )
        return tuple(override_texts(of_protocols))

    def _named(self, data: ImagesLike | None) -> str | InMemory | None:
        return named_or_in_memory(data, choices_of(self.preprocessing))


def _sink(on_event: OnEvent | None) -> Sink:
    def sink(event: Event) -> None:
        if on_event is not None:
            on_event(event)

    return sink
