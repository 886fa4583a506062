"""What a detector is made of, and how it is trained and tested: the paper's protocol, with other values where asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from barlowctl.detect.settings import ModelSettings
from barlowctl.errors import UserError
from barlowctl.recipe.detection import DETECTION_PROTOCOLS, DetectionProtocol, changed
from barlowctl.recipe.overrides import Wrong, allowed_instead, left_out, not_allowed, read, refused, typed

MODEL_KEYS = tuple(field.name for field in fields(ModelSettings) if field.name != "recompute")
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
        UserError: unknown keys and values that are not allowed, all of them.
    """
    named = {"iterations": iterations, "batch_size": batch_size}
    values = {key: value for key, value in named.items() if value is not None}
    overridden, wrong = read(overrides, [*PROTOCOL_KEYS, *MODEL_KEYS], what="detection")
    values |= overridden
    of_model = {key: value for key, value in values.items() if key in MODEL_KEYS}
    of_protocol = {key: value for key, value in values.items() if key not in MODEL_KEYS}
    protocol, model = DETECTION_PROTOCOLS[task], ModelSettings()
    try:
        protocol = changed(protocol, of_protocol)
    except ValidationError as error:
        wrong += _wrong(error, values, overrides)
    try:
        model = TypeAdapter(ModelSettings).validate_python({"recompute": recompute, **of_model})
    except ValidationError as error:
        wrong += _wrong(error, values, overrides)
    if wrong:
        raise refused(wrong)
    return DetectionSettings(protocol, model, head, micro_batch)


def _wrong(error: ValidationError, values: Mapping[str, Any], overrides: Sequence[str]) -> list[Wrong]:
    """Values that are not allowed, under the names that they were given by."""
    wrong = not_allowed(error, overrides, _schema())
    for problem in error.errors():
        key = str(problem["loc"][0]) if problem["loc"] else "warmup_iterations"
        allowed = allowed_instead(problem, _schema())
        if (text := typed(key, overrides)) is None:
            flag = {"iterations": "--iterations", "batch_size": "--batch"}[key]
            wrong.append(Wrong(f"{flag} is {values[key]}", allowed, (flag,)))
        elif not problem["loc"]:  # how values fit together
            wrong.append(Wrong(f"--set {text}", allowed, left_out(text)))
    return wrong


def _schema() -> Mapping[str, Any]:
    """What a JSON schema has of each key; of a number for training and one for testing what it says of both."""
    model = TypeAdapter(ModelSettings).json_schema()
    of_both = model["$defs"]["TrainTest"]
    values = model["properties"] | DetectionProtocol.model_json_schema()["properties"]
    return {key: of_both if "anyOf" in value else value for key, value in values.items()}
