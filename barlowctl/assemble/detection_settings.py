"""What a detector is made of, and how it is trained and tested: the paper's protocol, with other values where asked."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from barlowctl import shell
from barlowctl.detect.settings import ModelSettings
from barlowctl.errors import UserError, did_you_mean
from barlowctl.recipe.detection import DETECTION_PROTOCOLS, DetectionProtocol, changed
from barlowctl.recipe.protocol import nearest_override

MODEL_KEYS = tuple(field.name for field in fields(ModelSettings) if field.name != "recompute")
EXAMPLES = {"tuple_type": "a list, e.g. [480, 512]", "too_short": "a list with at least one number"} | dict.fromkeys(
    ("dataclass_type", "missing", "unexpected_keyword_argument"), "two numbers, e.g. {train = 2000, test = 1000}"
)
"""What is allowed where pydantic's words, by type of its problem, are about its own."""
PROTOCOL_KEYS = tuple(name for name in DetectionProtocol.model_fields if name != "name")


@dataclass(frozen=True)
class DetectionSettings:
    """All that a result depends on beside network, images, seed and devices.

    Attributes:
        head: "c4", the paper's, or "fpn".
        micro_batch: images at a time on each device, over which its batch norm then works; 0: all of them.
    """

    protocol: DetectionProtocol
    model: ModelSettings
    head: str = "c4"
    micro_batch: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a result and its identity; recomputing activations changes none of its numbers."""
        model = {key: value for key, value in asdict(self.model).items() if key != "recompute"}
        values = {"protocol": self.protocol.model_dump(mode="json"), "model": model, "head": self.head}
        return values | ({"micro_batch": self.micro_batch} if self.micro_batch else {})

    def images_per_device(self, devices: int) -> int:
        """Of a batch.

        Raises:
            UserError: it cannot be shared equally.
        """
        images = self.protocol.batch_size
        if images % devices:
            raise UserError(
                f"a batch of {images} images cannot be shared equally by {devices} devices",
                allowed=f"a multiple of {devices}",
                next=f"--batch {max(1, round(images / devices)) * devices}",
            )
        return images // devices


def detection_settings(
    task: str,
    *,
    head: str = "c4",
    iterations: int | None = None,
    batch_size: int | None = None,
    micro_batch: int = 0,
    recompute: bool = False,
    overrides: Sequence[str] = (),
) -> DetectionSettings:
    """The paper's settings of a task, with other values where they were asked for.

    Args:
        iterations, batch_size: see `recipe.detection.changed`. overrides: `key=value` on the protocol or the model.

    Raises:
        UserError: an unknown key, or a value that is not allowed.
    """
    named = {"iterations": iterations, "batch_size": batch_size}
    values = {key: value for key, value in named.items() if value is not None} | _read(overrides)
    of_model = {key: value for key, value in values.items() if key in MODEL_KEYS}
    of_protocol = {key: value for key, value in values.items() if key not in MODEL_KEYS}
    try:
        protocol = changed(DETECTION_PROTOCOLS[task], of_protocol)
        model = TypeAdapter(ModelSettings).validate_python({"recompute": recompute, **of_model})
    except ValidationError as error:
        raise _refused(error, values, overrides) from None
    return DetectionSettings(protocol, model, head, micro_batch)


def _read(overrides: Sequence[str]) -> dict[str, Any]:
    """Values by key, as TOML has them; a word as it is."""
    values: dict[str, Any] = {}
    keys = [*PROTOCOL_KEYS, *MODEL_KEYS]
    for text in overrides:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or key not in keys:
            raise UserError(
                f"--set {text}: unknown value of detection '{key}'{did_you_mean(key, keys)}",
                allowed=", ".join(keys),
                next=nearest_override(text, keys),
            )
        try:
            values[key] = tomllib.loads(f"value = {value}")["value"]
        except (ValueError, RecursionError):
            values[key] = value
    return values


def _refused(error: ValidationError, values: Mapping[str, Any], overrides: Sequence[str]) -> UserError:
    """A value that is not allowed, under the name that it was given by."""
    first = error.errors()[0]
    key = str(first["loc"][0]) if first["loc"] else "warmup_iterations"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    allowed = EXAMPLES.get(first["type"], message)
    typed = [text for text in overrides if text.partition("=")[0].strip() == key]
    if not typed:
        flag = {"iterations": "--iterations", "batch_size": "--batch"}[key]
        return UserError(f"{flag} is {values[key]}", allowed=allowed, next=f"without {flag}")
    text = typed[-1]  # it counts
    return UserError(f"--set {text}", allowed=allowed, next=shell.line("without", f"--set={text}"))
