"""What of a backbone can stay as it is while the rest is trained: its parts from the images up, as timm groups them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from types import SimpleNamespace
from typing import Any, cast

from timm.models import group_parameters
from torch import nn

from barlowctl.errors import UserError, did_you_mean

WHOLE, NOTHING = "backbone", "none"
PATCH_EMBED = "patch_embed"


def freezable(backbone: nn.Module) -> dict[str, frozenset[str]]:
    """The parts that can stay as they are: name -> all parameters and buffers from the images up to its end.

    In order: `patch_embed` alone where a transformer has one, `stem`, the stages or blocks under timm's names
    (`layer2`, `stages.1`, `blocks.5`), and `backbone`. Each contains those before it, so that nothing below its end
    needs a gradient. The grouping is timm's, by `group_matcher(coarse=True)`; of a model without one the parts are the
    modules of its `feature_info`, with all that is defined before.
    """
    names = [
        f"{prefix}.{name}" if prefix else name
        for prefix, module in backbone.named_modules()
        for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    ]
    parts: dict[str, frozenset[str]] = {}
    if hasattr(backbone, PATCH_EMBED):
        parts[PATCH_EMBED] = frozenset(name for name in names if name.startswith(f"{PATCH_EMBED}."))
    if isinstance(matcher := _coarse(backbone), dict):
        below: set[str] = set()
        for group in _grouped(names, matcher):
            below.update(group)
            if label := next((label for name in group if (label := _label(name, matcher))), None):
                parts[label] = frozenset(below)
    else:
        for module in [info["module"] for info in getattr(backbone, "feature_info", [])]:
            ends = [number for number, name in enumerate(names) if name.startswith(f"{module}.")]
            if ends:
                parts[module] = frozenset(names[: ends[-1] + 1])
    return {**parts, WHOLE: frozenset(names)}


def frozen_modules(backbone: nn.Module, part: str) -> tuple[nn.Module, ...]:
    """The largest modules of a backbone that lie wholly within a part, or below it; of `none` there are none.

    Raises:
        UserError: the backbone has no such part, see `freezable`.
    """
    return tuple(_within(backbone, "", _names_of(backbone, part)))


def frozen_parameters(backbone: nn.Module, part: str) -> tuple[nn.Parameter, ...]:
    """The parameters of a part, and of what lies below it; see `frozen_modules`."""
    names = _names_of(backbone, part)
    return tuple(parameter for name, parameter in backbone.named_parameters() if name in names)


def _coarse(backbone: nn.Module) -> Any:
    """timm's patterns of parameters' names, by stages; None: the model has none."""
    try:
        return cast(Any, backbone).group_matcher(coarse=True)
    except (AttributeError, AssertionError, NotImplementedError):  # a few models know single blocks only
        return None


def _names_of(backbone: nn.Module, part: str) -> Collection[str]:
    if part == NOTHING:
        return ()
    parts = freezable(backbone)
    if part not in parts:
        raise UserError(
            f"train.freeze is '{part}', and the backbone ({type(backbone).__name__}) has no such part"
            f"{did_you_mean(part, parts)}",
            allowed=", ".join((NOTHING, *parts)),
            next=f"--set train.freeze={next(iter(parts))}",
        )
    return parts[part]


def _within(module: nn.Module, prefix: str, names: Collection[str]) -> Iterator[nn.Module]:
    own = [f"{prefix}{name}" for name, _ in (*module.named_parameters(), *module.named_buffers())]
    if own and all(name in names for name in own):
        yield module
    elif any(name in names for name in own):
        for name, child in module.named_children():
            yield from _within(child, f"{prefix}{name}.", names)


def _grouped(names: Collection[str], matcher: dict[str, Any]) -> list[list[str]]:
    """timm's groups of parameters, here of any names, from the images up."""
    stand_in = SimpleNamespace(named_parameters=lambda: iter([(name, None) for name in names]))
    by_name = cast(dict[str, int], group_parameters(cast(Any, stand_in), matcher, reverse=True))
    groups: dict[int, list[str]] = defaultdict(list)
    for name in names:
        groups[by_name[name]].append(name)
    return [groups[number] for number in sorted(groups)]


def _label(name: str, matcher: dict[str, Any]) -> str | None:
    """What timm calls the part that a parameter is of: of `layer1.0.conv1.weight` it is `layer1`; None: nothing."""
    for group, patterns in matcher.items():
        for pattern in [patterns] if isinstance(patterns, str) else [pattern for pattern, _ in patterns or ()]:
            if match := re.match(pattern, name):
                return match.group(0) if match.groups() else str(group)
    return None
