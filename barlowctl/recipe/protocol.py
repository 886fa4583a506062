"""How a classifier is trained on a backbone: the paper's protocols as values.

Sources: Barlow Twins, sections 3.1 to 3.3 and appendix, and `evaluate.py` of the authors' code. Learning rates are
those of the printed batch size and are not scaled with another one.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from barlowctl import shell
from barlowctl.errors import UserError, did_you_mean
from barlowctl.recipe.section import Count, CountOrZero, NonNegative, Positive, Probability, Section


class Protocol(Section):
    """SGD of a linear classifier, on a backbone that is frozen where `lr_backbone` is 0."""

    name: str
    epochs: Count = 100
    batch_size: Count = 256
    lr_head: Positive = 0.3
    lr_backbone: NonNegative = Field(0.0, description="0: the backbone is frozen")
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    weight_decay: NonNegative = 1e-6
    schedule: Literal["cosine", "drops"] = Field("cosine", description="by epoch")
    drops: tuple[CountOrZero, ...] = Field((), description="epochs at which the rates are multiplied by drop_factor")
    drop_factor: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    crop_scale: tuple[Positive, Positive] = Field((0.08, 1.0), description="RandomResizedCrop of training images")
    flip: Probability = 0.5
    interpolation: Literal["bicubic", "bilinear"] = Field("bilinear", description="of training and test images")
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"

    @property
    def frozen(self) -> bool:
        """Whether only the classifier is trained."""
        return self.lr_backbone == 0.0

    @property
    def key(self) -> str:
        """The name of its measurement in a result, whatever was overridden; `linear` is the fast classifier's."""
        return "linear_paper" if self.name == "linear" else self.name.replace("-", "_")

    def describe(self) -> str:
        """One line for people."""
        rates = f"lr {self.lr_head:g}" + ("" if self.frozen else f" (backbone {self.lr_backbone:g})")
        course = "cosine" if self.schedule == "cosine" else f"times {self.drop_factor:g} at epochs {list(self.drops)}"
        what = "linear classifier on frozen features" if self.frozen else "whole network fine-tuned"
        return (
            f"{what}: SGD, {self.epochs} epochs, batch {self.batch_size}, {rates}, {course}, momentum "
            f"{self.momentum:g}, weight decay {self.weight_decay:g}; random resized crops from {self.crop_scale[0]:g} "
            f"and flips {self.flip:g}, {self.interpolation}; centre crop on test"
        )


# Table 2: "20 epochs, 0.002 for the backbone and 0.5 for the classifier, times 0.2 after the 12th and 16th epoch".
# (The authors' README has 0.005 for the backbone with 1 % of the labels, and their code a cosine.)
_SEMI = Protocol(
    name="semi", epochs=20, lr_head=0.5, lr_backbone=0.002, weight_decay=0.0, schedule="drops", drops=(12, 16),
    drop_factor=0.2,
)  # fmt: skip
PROTOCOLS = {
    "linear": Protocol(name="linear"),  # Table 1
    "semi-1": _SEMI.model_copy(update={"name": "semi-1"}),
    "semi-10": _SEMI.model_copy(update={"name": "semi-10"}),
    # The paper fine-tunes on 1 % and 10 % only; all labels under the same schedule.
    "finetune": _SEMI.model_copy(update={"name": "finetune"}),
    # Table 3: 14 epochs (84), lr 0.01, weight decay 5e-4, two drops by 10 "at equally spaced intervals" (Misra and
    # van der Maaten 2020, whom the paper follows): we read thirds of the training.
    "places205": Protocol(
        name="places205", epochs=14, lr_head=0.01, weight_decay=5e-4, schedule="drops", drops=(5, 9)
    ),
    "inat18": Protocol(
        name="inat18", epochs=84, lr_head=0.01, weight_decay=5e-4, schedule="drops", drops=(28, 56)
    ),
}  # fmt: skip


def override(protocol: Protocol, overrides: Sequence[str]) -> Protocol:
    """A protocol like `protocol` but for `key=value` overrides, validated again.

    With fewer or more epochs and no drops given, the drops move in proportion.

    Raises:
        UserError: an unknown key, or a value that is not allowed.
    """
    changed: dict[str, object] = {}
    keys = [name for name in Protocol.model_fields if name != "name"]
    for text in overrides:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or key not in keys:
            raise UserError(
                f"--set {text}: unknown protocol value '{key}'{did_you_mean(key, keys)}",
                allowed=", ".join(keys) + "; and eval.resize, eval.crop",
                next=_instead(text, keys),
            )
        try:
            changed[key] = tomllib.loads(f"value = {value}")["value"]
        except (ValueError, RecursionError):
            changed[key] = value
    values = {**protocol.model_dump(), **changed}
    if "epochs" in changed and "drops" not in changed and isinstance(changed["epochs"], int):
        values["drops"] = tuple(round(drop * changed["epochs"] / protocol.epochs) for drop in protocol.drops)
    try:
        return Protocol.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"--set {key}={first.get('input')!r}",
            allowed=first["msg"].removeprefix("Input should be "),
            next=shell.line("without", f"--set={key}={first.get('input')}"),
        ) from None


def _instead(text: str, keys: Sequence[str]) -> str:
    """The same command with the nearest value that there is, else without this one."""
    key, _, value = text.partition("=")
    without = shell.line("without", f"--set={text}")
    near = difflib.get_close_matches(key.strip(), keys, n=1, cutoff=0.4)
    return f"{shell.line('--set', f'{near[0]}={value}')} {without}" if near and value else without
