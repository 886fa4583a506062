"""Weights that are not those of a network: how they differ from it, and which network they are of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from torch import Tensor, nn

from barlowctl.assemble.matching import COUNTERS, Match, match
from barlowctl.assemble.weights import Network, Weights
from barlowctl.exports.official import OFFICIAL_NAMES
from barlowctl.model import STEMS, build_backbone, without_data


def differences(weights: Weights, matched: Match) -> str:
    """What the weights lack, have otherwise and have beside it, in a sentence, and how much of the network fits."""
    parts = []
    missing = [key for key in matched.fresh if key not in matched.misshapen and not key.endswith(COUNTERS)]
    if missing:
        parts.append(f"lacks {listed(missing, 3)}")
    if matched.misshapen:
        shapes = [reshaped(key, shapes) for key, shapes in matched.misshapen.items()]
        parts.append(f"has other shapes (theirs to the network's): {listed(shapes, 3)}")
    if matched.unknown:
        parts.append(f"has {listed(matched.unknown, 3)}, unknown to the network")
    if not (matched.taken or matched.misshapen):
        parts = [f"has none of its keys, but {listed(list(weights.backbone), 3)}"]
    share = f"{len(matched.taken):,} of the network's {len(matched.taken) + len(matched.fresh):,} tensors fit"
    return f"It {'; it '.join(parts)} ({share})"


def reshaped(key: str, shapes: tuple[Sequence[int], Sequence[int]]) -> str:
    """A tensor and its two shapes."""
    before, after = ("x".join(map(str, shape)) for shape in shapes)
    return f"{key} {before} to {after}"


def listed(texts: Sequence[str], most: int = 2) -> str:
    """The first of several, and how many more there are."""
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


_SIZES = ("small", "base", "large")
KNOWN_NETWORKS: Mapping[tuple[str, ...], Sequence[str]] = {
    ("layer1.0.",): (*OFFICIAL_NAMES, "resnext50_32x4d", "wide_resnet101_2"),
    ("cls_token", "class_token"): (
        *(f"vit_{size}_patch16_224" for size in ("tiny", *_SIZES)), "vit_base_patch32_224",
        *(f"deit_{size}_distilled_patch16_224" for size in ("tiny", "small", "base")),
        *(f"vit_{size}_patch14{registers}_dinov2" for registers in ("", "_reg4") for size in _SIZES),
    ),
    ("stem.0.", "downsample_layers.0.0.", "features.0.0."): ("convnext_tiny", "convnext_small", "convnext_base"),
}  # fmt: skip
"""Whose weights are recognised where a file does not say which network it holds, by what stands in keys of theirs."""


def recognised(weights: Weights) -> Network | None:
    """The usual network that the weights are all of; None: it is another one."""
    on_meta = {key: value.to("meta") for key, value in weights.backbone.items()}
    for parts, names in KNOWN_NETWORKS.items():
        if not any(part in key for part in parts for key in on_meta):
            continue
        for name, stem in ((name, stem) for name in names for stem in _stems(on_meta)):
            matched = match(_without_weights(name, stem), on_meta)
            filters = [(before, after) for before, after in matched.reshaped.values() if len(after) == 4]
            same_sides = all(before[2:] == after[2:] for before, after in filters)  # patches of 14 are not of 16
            if matched.complete and same_sides:
                return Network(name, stem, {})
    return None


@cache
def _without_weights(name: str, stem: str) -> nn.Module:
    """A network that has shapes and no numbers: a program may ask of many files which network they hold."""
    with without_data():
        return build_backbone(name, in_chans=3, stem=stem)


def _stems(weights: Mapping[str, Tensor]) -> list[str]:
    """The stems that weights may have, by the sides of the filters of their first layers."""
    filters = [value.shape for key, value in weights.items() if key.endswith("conv1.weight") and value.ndim == 4]
    sides = {tuple(shape[2:]) for shape in filters}
    return [stem for stem, shape in STEMS.items() if shape is None or (shape.kernel, shape.kernel) in sides]


def described(network: Network) -> str:
    """A network in a few words."""
    stem = [f"stem '{network.stem}'"] if network.stem != "default" else []
    arguments = [f"{key} {value}" for key, value in network.arguments.items()]
    details = ", ".join([*stem, *arguments])
    return network.architecture + (f" ({details})" if details else "")
