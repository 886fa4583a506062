"""The schema of a run. Frozen once built; unknown keys are refused. Defaults live here and in modules of sections.

Imports the standard library and pydantic only. Names are the paper's and timm's. Sections:

    data       which images            views      how they are distorted (`views`: the paper's table)
    model      backbone and projector  objective  the method (`objectives`): its name and its own keys
    optimizer  LARS, SGD, AdamW, Muon  train      epochs, batch, precision, checkpoints
    eval       what is measured while training, and the geometry of evaluation images (`evaluation`)
    init       the weights that a training starts from (`initial`); absent: random ones
"""

from __future__ import annotations

import itertools
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from barlowctl import criteria
from barlowctl.amounts import counted
from barlowctl.channels import MOST_CHANNELS, stored_as
from barlowctl.recipe.evaluation import Eval
from barlowctl.recipe.images import Data
from barlowctl.recipe.initial import Init
from barlowctl.recipe.network import Model
from barlowctl.recipe.objectives import BarlowTwins, Objective
from barlowctl.recipe.optimizers import Chosen, Optimizer
from barlowctl.recipe.section import (
    MOST,
    Count,
    CountOrZero,
    Decline,
    DoesNotFit,
    Epochs,
    EpochsWithin,
    Section,
    WithinTraining,
    in_list,
)
from barlowctl.recipe.views import View, Views


class Train(Section):
    """How long, how large, in which precision."""

    epochs: Epochs = Field(1000, description="passes over the images; 2.5: the last one ends half-way")
    batch_size: Annotated[int, Field(ge=2, le=MOST)] = Field(2048, description="images per step, over all devices")
    warmup_epochs: EpochsWithin = Field(10.0, description="linear warm-up")
    warmup_start_scale: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.0, description="the warm-up begins at this share of the peak"
    )
    schedule: Literal["cosine", "step", "constant"] = Field(
        "cosine", description="of learning rates after the warm-up; step: times milestone_factor at each of milestones"
    )
    schedule_every: Literal["step", "epoch"] = Field(
        "step", description="the cosine goes down with every step, or once an epoch"
    )
    final_lr_scale: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.001, description="the cosine ends at this share of the peak"
    )
    milestones: Annotated[tuple[Count, ...], WithinTraining()] = Field(
        (), description="of schedule step: after how many epochs the rates drop"
    )
    milestone_factor: Decline = Field(0.1, description="of schedule step: what the rates are multiplied by")
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32",
        description="autocast; fp16 scales gradients; on a CPU bf16 and fp16 become what is faster there",
    )
    freeze: str = Field(
        "none",
        description="what of the backbone stays as it is, with all below it: stem, or a stage or block under timm's "
        "name (layer2, stages.1, blocks.5); backbone: all but the heads; none",
    )
    freeze_backbone_epochs: EpochsWithin = Field(
        0.0, description="at the beginning the whole backbone stays as it is, while the heads learn"
    )
    channels_last: bool = Field(True, description="images and filters lie in memory with their channels last")
    cpu_threads: CountOrZero = Field(
        0,
        description="threads of the mathematics on a CPU, which bit-identical results depend on; 0: OMP_NUM_THREADS, "
        "else the cores",
    )
    compile: bool = Field(
        False,
        description="torch.compile backbone, heads and networks that follow them; on a GPU the distortions too, where "
        "that is faster",
    )
    cuda_graph: bool = Field(
        True,
        description="on one GPU, replay a step as one CUDA graph where that can be (not with micro_batch)",
    )
    sync_batch_norm: bool = Field(False, description="batch norm over all devices")
    sync_batch_norm_ranks: CountOrZero = Field(
        0, description="over groups of so many devices instead, those of a machine for one; 0: over all"
    )
    shard: bool = Field(
        False,
        description="divide the backbone's weights, gradients and the optimizer's state of them among devices (FSDP2)",
    )
    gradient_scale: Literal["exact", "reference"] = Field(
        "exact",
        description="exact: the gradient of the global batch's loss on any number of devices W; "
        "reference: 1/W of it, as in the authors' code",
    )
    micro_batch: CountOrZero = Field(
        0, description="images per pass on each device, in two passes with the full batch's gradient; 0: one pass"
    )
    activation_checkpointing: bool = Field(
        False, description="compute the backbone's activations again in the backward pass instead of keeping them"
    )
    log_every_steps: Count = Field(10, description="steps from one record of metrics.jsonl to the next")
    checkpoint_every_epochs: Count = Field(1, description="epochs from one checkpoint to the next")
    checkpoint_every_steps: CountOrZero = Field(
        0, description="steps from one checkpoint to the next, beside those after epochs; 0: those alone"
    )
    keep_checkpoints: Count = Field(2, description="the newest ones")
    keep_best: criteria.OrOff = Field(
        "off", description="the measure by whose best online evaluation a checkpoint is kept beside the newest ones"
    )
    stop: criteria.OrOff = Field(
        "off", description="the measure that ends the run when it has not improved for stop_after online evaluations"
    )
    stop_after: Count = Field(5, description="online evaluations, see stop")

    def batch_norm_ranks(self, ranks: int) -> int:
        """How many of so many ranks a batch norm sees the rows of."""
        if not self.sync_batch_norm:
            return 1
        return min(self.sync_batch_norm_ranks or ranks, ranks)

    @model_validator(mode="after")
    def _groups_are_synchronised(self) -> Train:
        if self.sync_batch_norm_ranks and not self.sync_batch_norm:
            raise DoesNotFit(
                f"sync_batch_norm_ranks is {self.sync_batch_norm_ranks}, and sync_batch_norm is false: batch norm is "
                "of each device by itself (0), or over groups of devices with sync_batch_norm = true",
                (".sync_batch_norm=true",),
                (".sync_batch_norm_ranks=0",),
            )
        return self

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Train:
        if self.warmup_epochs > self.epochs:
            raise DoesNotFit(
                f"warmup_epochs is {self.warmup_epochs:g} but the run has {counted(self.epochs, 'epoch')}: "
                "the warm-up must end before the run does (0: no warm-up)",
                (f".warmup_epochs={self.epochs / 10:g}",),
            )
        return self

    @model_validator(mode="after")
    def _backbone_moves(self) -> Train:
        if 0.0 < self.epochs <= self.freeze_backbone_epochs:
            raise DoesNotFit(
                f"freeze_backbone_epochs is {self.freeze_backbone_epochs:g} but the run has "
                f"{counted(self.epochs, 'epoch')}: the backbone would never move (freeze = 'backbone' says so)",
                (f".freeze_backbone_epochs={self.epochs / 20:g}",),
            )
        return self

    @model_validator(mode="after")
    def _rates_drop_in_order(self) -> Train:
        if self.schedule == "step" and not self.milestones:
            message = "schedule is 'step' but milestones is empty: the epochs after which rates drop, e.g. [60]"
            at = sorted({max(1, round(0.6 * self.epochs)), max(1, round(0.8 * self.epochs))})
            raise DoesNotFit(message, (f".milestones={in_list(at)}",), (".schedule=cosine",))
        if any(later <= earlier for earlier, later in itertools.pairwise(self.milestones)):
            message = f"milestones is {list(self.milestones)}: each must be later than the one before"
            raise DoesNotFit(message, (f".milestones={in_list(sorted(set(self.milestones)))}",))
        return self

    @model_validator(mode="after")
    def _micro_batch_normalizes(self) -> Train:
        if 0 < self.micro_batch < 4:
            message = f"micro_batch is {self.micro_batch}: 0 (one pass), or 4 and more for batch norm to work"
            raise DoesNotFit(message, (".micro_batch=4",))
        return self


class Recipe(Section):
    """A complete run."""

    name: Annotated[
        str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=100, description="what its runs are called")
    ]
    description: str = Field("", description="a line for `barlowctl recipes list`")
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(0, description="of every random number of the run")
    data: Data
    views: Views = Views()
    model: Model = Model()
    objective: Objective = BarlowTwins()
    optimizer: Chosen = Optimizer()
    train: Train = Train()
    eval: Eval = Eval()
    init: Init = Init()

    def drawn(self) -> list[tuple[int, View]]:
        """The views that the method takes of an image, in the order of their numbers: side in pixels, distortions."""
        return self.views.listed(self.objective.full_views, patches=self.objective.patches)

    @property
    def sizes(self) -> list[int]:
        """The side of every view that is drawn, in pixels."""
        return [size for size, _ in self.drawn()]

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        channels, bands = self.data.channels, len(self.data.bands)
        if bands and stored_as(bands) != stored_as(channels):
            message = f"data.bands has {counted(bands, 'number')} but data.channels is {channels}"
            raise DoesNotFit(message, (f"data.channels={bands}", *self.views.changes_for(bands)))
        for key in ("mean", "std"):
            count = len(getattr(self.views, key))
            if count != channels:
                choices = [(f"data.channels={count}", *self.views.changes_for(count)), self.views.changes_for(channels)]
                message = f"views.{key} has {count} numbers but data.channels is {channels}: one per channel"
                raise DoesNotFit(message, *(choices if 1 <= count <= MOST_CHANNELS else ()))
        return self

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a start that nobody set: text and digest are those from before there was one."""
        values: dict[str, Any] = write(self)
        if self.init == Init():
            values.pop("init", None)
        return values

    @model_validator(mode="after")
    def _linear_has_queries(self) -> Recipe:
        if self.eval.linear and not self.eval.measures("linear"):
            message = (
                "eval.linear is true, but nothing asks the classifier: it takes eval.queries 'holdout' or 'val', and "
            )
            changes = self.eval.changes_to_measure("linear", self.data)
            raise DoesNotFit(f"{message}eval.every_epochs above 0", changes, ("eval.linear=false",))
        return self

    @model_validator(mode="after")
    def _selects_by_what_is_measured(self) -> Recipe:
        for key in ("keep_best", "stop"):
            measure = getattr(self.train, key)
            if measure != "off" and not self.eval.measures(measure):
                raise DoesNotFit(
                    f"train.{key} is '{measure}', which the run does not measure: it takes "
                    f"eval.every_epochs above 0 and {criteria.CRITERIA[measure].measured_by}",
                    self.eval.changes_to_measure(measure, self.data),
                )
        return self
