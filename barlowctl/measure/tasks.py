"""What a measurement is asked for: which classifiers, with how many seeds, on which labels."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from barlowctl.amounts import counted
from barlowctl.assemble.labelled import Labelled, image_names
from barlowctl.errors import UserError, did_you_mean
from barlowctl.eval import subsets
from barlowctl.recipe.overrides import changing
from barlowctl.recipe.protocol import FINE_TUNED, PROTOCOLS, Protocol, note_on_few_batches, override, refuse_idle

MEASURES = ("knn", "linear", "lidar", "layers")
"""What is measured of frozen features, as `Tasks` has it."""
TRAINABLE = ("linear", *(f"{name}{kind}" for name in FINE_TUNED for kind in ("", "-modern")))
"""What is trained, as `PROTOCOLS` has it."""
BASELINES = ("pixels", "random-init")
"""What is measured beside a network, as `subjects.baseline` has it."""


def check_names(what: str, names: Collection[str], allowed: Collection[str]) -> None:
    """Refuse names that nothing has.

    Raises:
        UserError: the first of them.
    """
    for name in names:
        if name not in allowed:
            raise UserError(
                f"{what} has '{name}'{did_you_mean(name, allowed)}",
                allowed=", ".join(allowed),
                next="name one of them",
            )


@dataclass(frozen=True)
class Tasks:
    """What to measure.

    Attributes:
        knn, linear: on features that are extracted once. lidar: of a run, which has distortions; it needs no labels.
        layers: kNN and linear on every layer of backbone and projector.
        trained: names of `PROTOCOLS`, trained on the engine: "linear", "semi-1", "finetune-modern", ...
        seeds: how often what depends on chance is repeated: seeds 0, 1, ...
        subset: SimCLR's file list for the semi-supervised tasks; None: a class-balanced draw by the seed.
        overrides: `key=value` on the protocols of `trained`.
    """

    knn: bool = True
    linear: bool = True
    lidar: bool = True
    layers: bool = False
    trained: tuple[str, ...] = ()
    seeds: int = 1
    subset: Path | None = None
    overrides: tuple[str, ...] = ()

    @classmethod
    def named(cls, measures: Collection[str], trained: Sequence[str] = (), **others: Any) -> Tasks:
        """Tasks by their names. others: `seeds`, `subset`, `overrides`.

        Raises:
            UserError: a name that is none, no seed, or see `protocols`.
        """
        check_names("measures", measures, MEASURES)
        check_names("trained", trained, TRAINABLE)
        tasks = cls(
            knn="knn" in measures,
            linear="linear" in measures,
            lidar="lidar" in measures,
            layers="layers" in measures,
            trained=tuple(dict.fromkeys(trained)),
            **others,
        )
        subsets = [name for name in tasks.trained if name.startswith("semi-")]
        if tasks.subset is not None and not subsets:
            raise UserError("--semi-list is the list of one subset", next="--semi 1")
        if tasks.subset is not None and len(subsets) > 1:
            raise UserError(
                f"--semi-list is the list of one subset: which of them is '{tasks.subset.name}'?",
                allowed="a command for each, with its own list",
                next="--semi 1\n--semi 10",
            )
        if tasks.seeds < 1:
            raise UserError(f"--seeds is {tasks.seeds}", allowed="1 or more")
        tasks.protocols()  # refused before a network is opened
        return tasks

    @property
    def need_labels(self) -> bool:
        """Whether labelled images are needed: LiDAR, RankMe and the spectrum of the features need none."""
        return self.knn or self.linear or self.layers or bool(self.trained)

    def protocols(self) -> dict[str, Protocol]:
        """The protocols of `trained`, with the overrides.

        Raises:
            UserError: an override that no protocol has, that is of one that is not asked for, or that changes nothing.
        """
        if self.overrides and not self.trained:
            override(PROTOCOLS["linear"], self.overrides)  # what no protocol takes is said first
            raise UserError(
                f"{changing(self.overrides)} a protocol that is not asked for",
                next="--linear --protocol paper",
            )
        protocols = {name: override(PROTOCOLS[name], self.overrides) for name in self.trained}
        refuse_idle(list(protocols.values()), self.overrides)
        return protocols

    def check(self, data: Labelled) -> list[str]:
        """Refuse what cannot be measured on this data, before anything is computed; what to know of the rest.

        Raises:
            UserError: see `protocols`; or a list of images that cannot be read, of other images, or of one class.
        """
        percents = dict.fromkeys(protocol.percent for protocol in self.protocols().values())
        labels = torch.from_numpy(data.train.labels)
        if self.subset is None:
            notes = [subsets.note_on_draw(labels, percent) for percent in percents if percent is not None]
            return [note for note in notes if note is not None] + self._few_batches(data)
        members = subsets.read_list(self.subset, image_names(data.train, "train"))
        missing = sorted(set(range(data.num_classes)) - set(labels[members].tolist()))
        if len(missing) == data.num_classes - 1:
            raise UserError(
                f"the list '{self.subset}' has images of one class, {counted(len(members), 'image')}",
                allowed="images of at least 2 classes",
                next="without --semi-list",
            )
        if not missing:
            return self._few_batches(data)
        names = ", ".join(f"'{data.class_names[label]}'" for label in missing[:5])
        return [
            f"the list '{self.subset}' has no image of {len(missing):,} of {data.num_classes:,} classes, so that no "
            f"test image of them can be right: {names}{', ...' if len(missing) > 5 else ''}",
            *self._few_batches(data),
        ]

    def _few_batches(self, data: Labelled) -> list[str]:
        """Notes on what trains on few images, of a batch size and a length that nobody set."""
        if any(text.partition("=")[0].strip() in ("batch_size", "epochs") for text in self.overrides):
            return []
        notes = []
        for protocol in self.protocols().values():
            members = self.labelled_images(protocol, data, seed=0)
            notes.append(note_on_few_batches(protocol, len(data.train.labels if members is None else members)))
        return [note for note in notes if note is not None]

    def labelled_images(self, protocol: Protocol, data: Labelled, seed: int) -> Tensor | None:
        """Ascending positions of the training images whose labels a protocol uses; None: all."""
        if protocol.percent is None:
            return None
        if self.subset is not None:
            return subsets.read_list(self.subset, image_names(data.train, "train"))
        return subsets.balanced_draw(torch.from_numpy(data.train.labels), protocol.percent, seed=seed)

    def departures(self) -> dict[str, Any]:
        """What a result depends on that is not so in the protocols as they are: part of its identity."""
        keys = {text.partition("=")[0].strip() for text in self.overrides}
        changed: dict[str, Any] = {}  # of all protocols alike: what was asked for with the same values is kept together
        for name, protocol in self.protocols().items():
            usual, used = PROTOCOLS[name].model_dump(mode="json"), protocol.model_dump(mode="json")
            changed |= {key: used[key] for key in keys if used[key] != usual[key]}
        departures: dict[str, Any] = {"protocol": changed} if changed else {}
        if self.seeds > 1:
            departures["seeds"] = self.seeds
        if self.subset is not None and self.subset.is_file():
            departures["subset"] = hashlib.sha256(self.subset.read_bytes()).hexdigest()[:16]
        return departures

    def seeds_of(self, own: int) -> list[int]:
        """The subject's `own` seed, or 0, 1, ... where there are several."""
        return [own] if self.seeds == 1 else list(range(self.seeds))
