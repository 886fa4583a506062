"""State dicts compared by key and shape, and what others' messages come down to."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

_CLASSIFIERS = ("fc.", "classifier.", "head.", "head_dist.", "heads.", "last_linear.")
_KEYS_LISTED = 3
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b.|[\x00-\x08\x0b-\x1f\x7f]")


def without_classifier(expected: Mapping[str, Tensor], weights: Mapping[str, Any]) -> dict[str, Any]:
    """`weights` without the keys of a classifier, unless the network, whose state is `expected`, has them too."""
    return {key: value for key, value in weights.items() if key in expected or not key.startswith(_CLASSIFIERS)}


def describe_difference(expected: Mapping[str, Tensor], weights: Mapping[str, Any]) -> str:
    """How `weights` differ from a network's state: keys missing, not known to it, or of another shape; "" if not."""
    parts = []
    if missing := [key for key in expected if key not in weights]:
        parts.append(f"lacks {_few(missing)}")
    if unexpected := [key for key in weights if key not in expected]:
        parts.append(f"has {_few(unexpected)}, unknown to the network")
    shapes = [
        f"{key} of {_shape(weights[key])} instead of {_shape(value)}"
        for key, value in expected.items()
        if key in weights and _shape(weights[key]) != _shape(value)
    ]
    if shapes:
        parts.append(f"has {_few(shapes)}")
    return "; ".join(parts)


def is_bound(name: str, tensor: Tensor) -> bool:
    """Whether a tensor is a number by which a layer clips its input or output: it may be infinite (Gemma's layers)."""
    return tensor.ndim == 0 and name.endswith(("_min", "_max"))


def one_line(error: BaseException) -> str:
    """The first line of another library's message, without colours; its kind where there is no message.

    With the second line where the first ends with a colon.
    """
    lines = [_ESCAPE.sub("", line).strip() for line in str(error).splitlines()]
    first, second, *_ = *(line for line in lines if line), "", ""
    return (f"{first} {second}".strip() if first.endswith(":") else first) or type(error).__name__


def _few(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _KEYS_LISTED} more" if len(texts) > _KEYS_LISTED else ""
    return ", ".join(texts[:_KEYS_LISTED]) + more


def _shape(value: Any) -> str:
    return (
        " x ".join(str(side) for side in value.shape) or "a number"
        if isinstance(value, Tensor)
        else type(value).__name__
    )
