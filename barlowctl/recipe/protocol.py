"""How a classifier is trained on a backbone: the paper's protocols, and fine-tuning as it is done now, as values.

Sources: Barlow Twins, sections 3.1 to 3.3 and appendix, and `evaluate.py` of the authors' code; of "modern", see there.
Learning rates are those of the printed batch size and are not scaled with another one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, ValidationError

from barlowctl import shell
from barlowctl.amounts import counted
from barlowctl.errors import UserError
from barlowctl.recipe.overrides import Wrong, left_out, not_allowed, read, refused, typed
from barlowctl.recipe.section import (
    Count,
    CountOrZero,
    Decay,
    Decline,
    Factor,
    NonNegative,
    Positive,
    Probability,
    Section,
)


class Protocol(Section):
    """A linear classifier, on a backbone that is frozen where `lr_backbone` is 0."""

    name: str
    epochs: Count = 100
    batch_size: Count = 256
    lr_head: Positive = 0.3
    lr_backbone: NonNegative = Field(0.0, description="0: the backbone is frozen")
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: Decay = Field(0.9, description="of SGD")
    betas: tuple[Decay, Decay] = Field((0.9, 0.999), description="of AdamW")
    weight_decay: NonNegative = Field(1e-6, description="of all with SGD; with AdamW not of biases and norms")
    layer_decay: Decline = Field(
        1.0, description="each layer below the head learns at this share of the rate of the one above it"
    )
    schedule: Literal["cosine", "drops"] = "cosine"
    schedule_every: Literal["epoch", "step"] = Field("epoch", description="how often a cosine changes the rates")
    warmup_epochs: NonNegative = Field(0.0, description="the rates rise to their peaks, step by step")
    final_lr_scale: Probability = Field(0.0, description="share of the rates that a cosine ends at")
    drops: tuple[CountOrZero, ...] = Field((), description="epochs at which the rates are multiplied by drop_factor")
    drop_factor: Decline = 0.1
    label_smoothing: Decay = Field(0.0, description="share of the target that all classes have in equal parts")
    mixup: Factor = Field(0.0, description="two images added, shares from Beta(mixup, mixup); 0: none")
    cutmix: Factor = Field(0.0, description="a box of another image pasted in, its area from Beta; 0: none")
    mixup_prob: Probability = Field(1.0, description="of a batch being mixed, where mixup or cutmix is above 0")
    mixup_switch_prob: Probability = Field(0.5, description="of cutmix rather than mixup, where both are above 0")
    drop_path: Decay = Field(0.0, description="timm's drop_path_rate: of the last block's branch being left out")
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

    @property
    def percent(self) -> float | None:
        """Of the labels that a semi-supervised one uses; None: all."""
        words = self.name.split("-")
        return float(words[1]) if words[0] == "semi" else None

    @property
    def mixes(self) -> bool:
        """Whether images are mixed with one another."""
        return self.mixup > 0.0 or self.cutmix > 0.0

    def batches(self, images: int) -> tuple[int, int, bool]:
        """Of so many images, 2 or more: images of a batch, batches of an epoch, and whether the last one is dropped."""
        batch_size = min(self.batch_size, images)
        whole, rest = divmod(images, batch_size)
        drop_last = rest == 1 and not self.frozen  # batch norm needs two images
        return batch_size, whole + (1 if rest and not drop_last else 0), drop_last

    def as_dict(self) -> dict[str, Any]:
        """All values as JSON has them. Those that `ADDED_LATER` names are left out where none of them is changed.

        What was measured before they were there keeps its identity, and is read back.
        """
        values = self.model_dump(mode="json")
        later = {key: Protocol.model_fields[key].default for key in ADDED_LATER}
        if any(getattr(self, key) != default for key, default in later.items()):
            return values
        return {key: value for key, value in values.items() if key not in later}

    def describe(self) -> str:
        """One line for people."""
        rates = f"lr {self.lr_head:g}" + ("" if self.frozen else f" (backbone {self.lr_backbone:g})")
        if self.layer_decay < 1.0:
            rates += f", times {self.layer_decay:g} a layer"
        warmup = f"warm-up {counted(self.warmup_epochs, 'epoch')}, " if self.warmup_epochs else ""
        course = "cosine" if self.schedule == "cosine" else f"times {self.drop_factor:g} at epochs {list(self.drops)}"
        what = "linear classifier on frozen features" if self.frozen else "whole network fine-tuned"
        name, memory = ("SGD", f"momentum {self.momentum:g}")
        if self.optimizer == "adamw":
            name, memory = "AdamW", f"betas {self.betas[0]:g} and {self.betas[1]:g}"
        return (
            f"{what}: {name}, {counted(self.epochs, 'epoch')}, batch {self.batch_size}, {rates}, {warmup}{course}, "
            f"{memory}, weight decay {self.weight_decay:g}; {self._regularised()}random resized crops from "
            f"{self.crop_scale[0]:g} and flips {self.flip:g}, {self.interpolation}; centre crop on test"
        )

    def _regularised(self) -> str:
        """The part of `describe` about what keeps a network from fitting a few labels too closely."""
        names = {"label_smoothing": "label smoothing", "mixup": "mixup", "cutmix": "cutmix", "drop_path": "drop path"}
        used = [f"{name} {getattr(self, key):g}" for key, name in names.items() if getattr(self, key) > 0.0]
        return f"{', '.join(used)}; " if used else ""


FEW_BATCHES = 10
"""Where an epoch has fewer, it is noted."""

# Values that measurements were made without: those keep their identity (see `Protocol.as_dict`).
ADDED_LATER = (
    "optimizer", "betas", "layer_decay", "schedule_every", "warmup_epochs", "final_lr_scale", "label_smoothing",
    "mixup", "cutmix", "mixup_prob", "mixup_switch_prob", "drop_path",
)  # fmt: skip

# Table 2: "20 epochs, 0.002 for the backbone and 0.5 for the classifier, times 0.2 after the 12th and 16th epoch".
# (The authors' README has 0.005 for the backbone with 1 % of the labels, and their code a cosine.)
_SEMI = Protocol(
    name="semi", epochs=20, lr_head=0.5, lr_backbone=0.002, weight_decay=0.0, schedule="drops", drops=(12, 16),
    drop_factor=0.2,
)  # fmt: skip
# Fine-tuning as it is done now: the command for ViT-Base in FINETUNE.md of facebookresearch/mae, and the defaults of
# its `main_finetune.py`. Its batch is 1,024 at a rate of 5e-4 for every 256 images; this is its rate at 256, and
# `final_lr_scale` its smallest rate over its peak (1e-6 / 2e-3). Mixup, CutMix, label smoothing, weight decay, drop
# path and warm-up are those of DeiT's `main.py`; a decay by layer is from BEiT (arXiv 2106.08254).
# Deviation: no RandAugment and no random erasing (FINETUNE.md: its effect "is smaller than random variance"), and the
# classifier starts from N(0, 0.01), as in the paper's protocol.
_MODERN = Protocol(
    name="modern", epochs=100, batch_size=256, lr_head=5e-4, lr_backbone=5e-4, optimizer="adamw", weight_decay=0.05,
    layer_decay=0.65, schedule_every="step", warmup_epochs=5, final_lr_scale=5e-4, label_smoothing=0.1, mixup=0.8,
    cutmix=1.0, drop_path=0.1, interpolation="bicubic",
)  # fmt: skip
FINE_TUNED = ("semi-1", "semi-10", "finetune")
"""What trains the whole network, on 1 %, 10 % and all labels: the paper's protocol; NAME-modern is the other one."""
PROTOCOLS = {
    "linear": Protocol(name="linear"),  # Table 1
    # The paper fine-tunes on 1 % and 10 % only; all labels under the same schedule.
    **{name: _SEMI.model_copy(update={"name": name}) for name in FINE_TUNED},
    **{name: _MODERN.model_copy(update={"name": name}) for name in (f"{name}-modern" for name in FINE_TUNED)},
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
    """A protocol like `protocol` except for `key=value` overrides, validated again.

    With fewer or more epochs, drops and a warm-up that were not given move in proportion.

    Raises:
        UserError: unknown keys and values that are not allowed, all of them; or a warm-up longer than the training.
    """
    keys = [name for name in Protocol.model_fields if name != "name"]
    changed, wrong = read(overrides, keys, what="protocol", beside=("eval.resize", "eval.crop"))
    result = protocol
    try:
        result = Protocol.model_validate({**protocol.model_dump(), **changed})
    except ValidationError as error:
        wrong += not_allowed(error, overrides, Protocol.model_json_schema()["properties"])
        assert wrong, "the protocol's own values are allowed"
    if wrong:
        raise refused(wrong)
    moved: dict[str, Any] = {}
    if "drops" not in changed:
        moved["drops"] = tuple(round(drop * result.epochs / protocol.epochs) for drop in protocol.drops)
    if "warmup_epochs" not in changed:
        moved["warmup_epochs"] = protocol.warmup_epochs * result.epochs / protocol.epochs
    result = result.model_copy(update=moved)
    if result.warmup_epochs > result.epochs:
        text = typed("warmup_epochs", overrides)
        assert text is not None, "a protocol's own warm-up ends before it does"
        raise UserError(
            f"--set {text}: the warm-up is longer than the training",
            allowed=f"0 to {counted(result.epochs, 'epoch')}",
            next=shell.line("without", f"--set={text}"),
        )
    return result


def note_on_few_batches(protocol: Protocol, images: int) -> str | None:
    """What to know where an epoch of so many images is but a few batches: the protocol is meant for ImageNet."""
    if images < 2:
        return None
    batch_size, batches, _ = protocol.batches(images)
    smaller = 2 ** int(math.log2(max(2, images // FEW_BATCHES)))
    if batches >= FEW_BATCHES or smaller >= batch_size:
        return None
    epochs = math.ceil(protocol.epochs * FEW_BATCHES / batches)
    return (
        f"{protocol.name}: an epoch of {counted(images, 'training image')} is {counted(batches, 'batch', 'batches')} "
        f"of at most {batch_size:,}, and the whole training {counted(batches * protocol.epochs, 'step')}; for more: "
        f"--set epochs={epochs}, or --set batch_size={smaller} (the rates stay as they are)"
    )


def refuse_idle(protocols: Sequence[Protocol], overrides: Sequence[str]) -> None:
    """Refuse an override that changes nothing in any of the protocols: whoever gave it believes that it does.

    Args:
        protocols: with the overrides.

    Raises:
        UserError: names each, and what it would need.
    """
    idle = []
    for text in overrides:
        key = text.partition("=")[0].strip()
        reasons = [_why_idle(protocol, key) for protocol in protocols]
        if reasons and reasons[0] and all(reasons):
            idle.append(Wrong(f"--set {text} changes nothing: {reasons[0]}", "", left_out(text)))
    if idle:
        raise refused(idle)


def _why_idle(protocol: Protocol, key: str) -> str | None:
    """Why a value has no part in a protocol; None: it has."""
    match key:
        case "momentum" if protocol.optimizer != "sgd":
            return "it is of SGD, and AdamW has betas"
        case "betas" if protocol.optimizer != "adamw":
            return "they are of AdamW, and SGD has a momentum"
        case "layer_decay" | "drop_path" if protocol.frozen:
            return "the backbone is frozen (lr_backbone is 0)"
        case "drops" | "drop_factor" if protocol.schedule != "drops":
            return f"the schedule is '{protocol.schedule}'"
        case "schedule_every" | "final_lr_scale" if protocol.schedule != "cosine":
            return f"the schedule is '{protocol.schedule}'"
        case "mixup_prob" if not protocol.mixes:
            return "mixup and cutmix are 0"
        case "mixup_switch_prob" if not (protocol.mixup and protocol.cutmix):
            return "mixup and cutmix are not both above 0"
    return None
