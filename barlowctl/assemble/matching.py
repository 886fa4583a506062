"""Weights matched with a network: key by key, reshaped where timm knows how, and what became of each."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from barlowctl.assemble.reshaping import in_shape_of, timm_unheard
from barlowctl.exports.keys import without_classifier
from barlowctl.exports.torchvision_keys import from_torchvision, with_sides_of_one

Shape = tuple[int, ...]
COUNTERS = "num_batches_tracked"
"""Of batch norm: files from before PyTorch 0.4.1 lack it, and nothing is computed with it."""


@dataclass(frozen=True)
class Match:
    """What a network gets of some weights.

    Attributes:
        taken: key of the network -> tensor of its shape.
        reshaped: those of `taken` that had another shape: key -> shape in the file and in the network.
        renamed: the last norm, where it stands on the other side of the pooling: its name in the network -> theirs.
        fresh: keys of the network that stay as they were drawn. misshapen: those that the weights have in another
            shape: key -> both shapes.
        unknown: keys of the weights within parts that the network has too, without a place in it.
        beside: keys of the weights that are of other parts: a classifier, a projector, an optimizer's average.
        within: where in the file the network was, as a prefix of its keys.
    """

    taken: Mapping[str, Tensor]
    reshaped: Mapping[str, tuple[Shape, Shape]] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    fresh: tuple[str, ...] = ()
    misshapen: Mapping[str, tuple[Shape, Shape]] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    within: str = ""

    @property
    def complete(self) -> bool:
        """Whether the network is all of the weights' network, and they all of its."""
        return not self.unknown and all(key.endswith(COUNTERS) for key in self.fresh)


def match(network: nn.Module, weights: Mapping[str, Tensor], *, channels: int | None = None) -> Match:
    """Match weights with a network; neither is changed.

    The network may be a part of what the file holds (`module.backbone.`, `teacher.`), a file may have the keys of
    another library that timm converts (the authors' of ViT, DINO or ConvNeXt), the first layer may take another number
    of channels and position embeddings may be of another image size (`reshaping`).

    Args:
        channels: of the images that the weights were trained on; None: as the first layer has.
    """
    expected = network.state_dict()
    prefix, own = _within(expected, weights)
    outside = [key for key in weights if not key.startswith(prefix)]
    own = with_sides_of_one(own, expected)
    theirs = from_torchvision(own, expected)
    if theirs and _fitting(expected, theirs) > _fitting(expected, own):
        own = theirs
    shapes = {key: value.shape for key, value in own.items()}
    if converted := _converted(network, expected, own, weights):
        own = converted
    own, renamed = _with_last_norm(own, expected)
    selected = without_classifier(expected, own)
    outside += [prefix + key for key in own if key not in selected]
    taken: dict[str, Tensor] = {}
    reshaped: dict[str, tuple[Shape, Shape]] = {}
    misshapen: dict[str, tuple[Shape, Shape]] = {}
    for key, target in expected.items():
        if key not in selected:
            continue
        value = selected[key]
        before = shapes.get(key, value.shape)
        if value.shape != target.shape:
            value = in_shape_of(network, key, value, target, channels=channels)
        if value.shape == target.shape:
            taken[key] = value
            if before != target.shape:
                reshaped[key] = (tuple(before), tuple(target.shape))
        else:
            misshapen[key] = (tuple(value.shape), tuple(target.shape))
    parts = {key.partition(".")[0] for key in expected}
    strangers = [key for key in selected if key not in expected]
    outside += [prefix + key for key in strangers if key.partition(".")[0] not in parts]
    return Match(
        taken,
        reshaped,
        renamed,
        tuple(key for key in expected if key not in taken),
        misshapen,
        tuple(prefix + key for key in strangers if key.partition(".")[0] in parts),
        tuple(outside),
        prefix,
    )


def _fitting(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> tuple[int, int]:
    """How many keys have their place, first in their shape, then in any."""
    named = [key for key in expected if key in weights]
    return sum(weights[key].shape == expected[key].shape for key in named), len(named)


def _within(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """The prefix under which the weights have most of the network's keys, and what is under it."""
    prefixes = [""]
    for key in expected:
        prefixes += [other.removesuffix(key) for other in weights if other.endswith(f".{key}")]
        if len(prefixes) > 1 or key in weights:
            break  # the first key that occurs at all occurs at every place where the network may be
    candidates = {
        prefix: {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        for prefix in prefixes
    }
    best = max(candidates, key=lambda prefix: _fitting(expected, candidates[prefix]))  # of equal ones the first
    return best, candidates[best]


def _converted(
    network: nn.Module, expected: Mapping[str, Tensor], own: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> dict[str, Tensor] | None:
    """The weights under timm's names and for the network's image size; None: no better.

    By timm's own reader of a family, which it keeps as `checkpoint_filter_fn` beside the network's class. That is
    written for files of a few known kinds, and may raise anything on others.
    """
    before = _fitting(expected, own)
    if before == (len(expected), len(expected)):
        return None
    convert = getattr(sys.modules.get(type(network).__module__), "checkpoint_filter_fn", None)
    if convert is None:
        return None
    best = None
    for candidate in (own, weights):
        try:
            with timm_unheard():
                made = {str(key): value for key, value in convert(dict(candidate), network).items()}
        except Exception:
            continue
        made = {key: value for key, value in made.items() if isinstance(value, Tensor)}
        if (fitting := _fitting(expected, made)) > before:
            best, before = made, fitting
    return best


def _with_last_norm(own: dict[str, Tensor], expected: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A transformer's last norm under its name with the network's pooling, and both names where they differ.

    With its class token a timm transformer norms every token (`norm`); with the mean of the patches it norms that
    (`fc_norm`), by as many numbers. Another pooling is a recipe's choice, and the norm is what there is for it.
    """
    for ours, theirs in (("fc_norm", "norm"), ("norm", "fc_norm")):
        needed = {key for key in expected if key.startswith(f"{ours}.")}
        has_other = any(key.startswith(f"{theirs}.") for key in expected)
        moved = {key: f"{ours}.{key.removeprefix(f'{theirs}.')}" for key in own if key.startswith(f"{theirs}.")}
        if needed and not has_other and needed <= set(moved.values()) - own.keys():
            return {moved.get(key, key): value for key, value in own.items()}, {ours: theirs}
    return own, {}
