"""What tells measures apart that are called alike: a protocol, a number of seeds, other images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from barlowctl.study.seed_groups import Measure

DEFAULT = "as by default"


def differences(measures: Sequence[Measure]) -> list[str]:
    """For each of several measures of one name, the values in which it differs from the others, in words.

    Of images, which have no name of their own here, the beginning of a digest.
    """
    flat = [dict(_values(measure)) for measure in measures]
    keys = list(dict.fromkeys(key for values in flat for key in values))
    differing = [key for key in keys if len({values.get(key, DEFAULT) for values in flat}) > 1]
    return [", ".join(f"{key} {values.get(key, DEFAULT)}" for key in differing) for values in flat]


def _values(measure: Measure) -> Iterator[tuple[str, str]]:
    """What must be the same for values to be of one scale, as key and value."""
    images, protocol = json.loads(measure.setting) if measure.setting else (None, None)
    if images:
        yield "images", hashlib.sha256(json.dumps(images, sort_keys=True).encode()).hexdigest()[:8]
    yield from _flattened(protocol or {})


def _flattened(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flattened(value)
        elif value not in ([], None):
            yield "protocol" if key == "name" else key, _written(value)


def _written(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) if len(value) <= 4 else f"{len(value)} values"
    return str(value).lower() if isinstance(value, bool) else str(value)
