"""What a network is measured beside: the pixels themselves, its untrained twin, the same network from other weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from barlowctl.assemble.matching import match
from barlowctl.assemble.misfit import described, differences, recognised
from barlowctl.assemble.weights import Weights
from barlowctl.errors import UserError
from barlowctl.generators import own_generator
from barlowctl.measure.subjects import Subject
from barlowctl.recipe.initial import for_channels


class Pixels(nn.Module):
    """The pixels themselves as features, in [0, 1] and not normalised: the baseline that needs no network."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1).float() / 255


def check_baselines(subject: Subject, names: Collection[str]) -> None:
    """Refuse a baseline that there is none of.

    Raises:
        UserError: the untrained twin of a module, which nothing says how to build.
    """
    if "random-init" in names and subject.untrained is None:
        raise UserError(
            f"baselines has 'random-init', and nothing says how to build {subject.name}, a module, with fresh weights",
            allowed="pixels; a second module with fresh weights, measured by itself",
            next="leave it out of baselines",
        )


def baseline(subject: Subject, name: str) -> Subject:
    """The baseline `name` ("pixels", "random-init") of a subject: shown the same images, with nothing learned."""
    match name:
        case "pixels":
            same = replace(subject, name="raw pixels", kind="pixels", backbone=Pixels(), untrained=None)
        case "random-init" if subject.untrained is not None:
            with own_generator(subject.seed):
                fresh = subject.untrained()
            same = replace(subject, name="random backbone", kind="random", backbone=fresh.eval())
        case _:
            raise AssertionError(name)
    return replace(same, run=None, metadata={}, notes=())


def from_weights(subject: Subject, weights: Weights) -> Subject:
    """The network of a subject with all of the weights in place of its own; images are normalised as theirs were.

    Raises:
        UserError: they are of another network, or the subject has none.
    """
    assert subject.untrained is not None, "pixels have no weights"
    with own_generator(subject.seed):
        network = subject.untrained()
    theirs = weights.preprocessing
    matched = match(network, weights.backbone, channels=theirs.channels if theirs else None)
    if not matched.complete:
        of = weights.network or recognised(weights)
        raise UserError(
            f"--init {weights.name} does not fit the network of {subject.name}"
            + (f": it is {described(of)}" if of is not None else "")
            + f". {differences(weights, matched)}",
            allowed="weights of the same network; another network is measured by itself",
            next="name another one with --init",
        )
    network.load_state_dict(dict(matched.taken), strict=False)
    preprocessing, notes = subject.preprocessing, list(weights.notes)
    if theirs is None:
        notes.append("images are normalised as the measured network's: these weights do not say theirs")
    else:
        mean, std = (for_channels(values, preprocessing.channels) for values in (theirs.mean, theirs.std))
        preprocessing = replace(preprocessing, mean=mean, std=std)
    about: Mapping[str, Any] = {"kind": weights.kind, "sha256": weights.sha256, "source": dict(weights.source)}
    return replace(
        subject,
        name=weights.name,
        kind=weights.kind,
        backbone=network.eval(),
        preprocessing=preprocessing,
        run=None,
        metadata={"init": about},
        notes=tuple(notes),
    )
