"""How long a run is and how it is trained: what the engine is told beside the networks and the images."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from barlowctl.train.gradient_sync import GradientScale
from barlowctl.train.schedule import Every, Kind, scheduled


@dataclass(frozen=True)
class Settings:
    """How long and how; steps are optimizer steps, one batch each."""

    epochs: float  # 2.5: the last one ends half-way
    steps_per_epoch: int
    warmup_epochs: float
    final_lr_scale: float
    precision: str
    log_every_steps: int
    checkpoint_every_epochs: int
    keep_checkpoints: int
    evaluate_every_epochs: int
    evaluate_start: bool = False  # before the first step too
    lr_schedule: Callable[[int], float] | None = None  # step -> factor; None: `scheduled`
    checkpoint_every_steps: int = 0
    micro_batch: int = 0
    activation_checkpointing: bool = False
    gradient_scale: GradientScale = "exact"
    schedule: Kind = "cosine"
    schedule_every: Every = "step"
    warmup_start_scale: float = 0.0
    milestones: tuple[int, ...] = ()
    milestone_factor: float = 0.1
    deferred: bool | None = None  # see `TrainingStep`
    cuda_graph: bool = False
    clip_grad_norm: float = 0.0  # 0: gradients are not clipped
    shard: bool = False  # the backbone is divided among ranks: see `Sharding`
    keep_best: str = "off"  # these three: see `Selection`
    stop: str = "off"
    stop_after: int = 1

    def ends_epoch(self, step: int) -> bool:
        """Whether an epoch, or the run, ends with so many steps."""
        return step % self.steps_per_epoch == 0 or step == self.total_steps

    @property
    def total_steps(self) -> int:
        return steps_of(self.epochs, self.steps_per_epoch)

    def evaluates_after(self, epoch: int) -> bool:
        """Whether an online evaluation follows an epoch, counted from 0; of -1: whether one comes before the first."""
        every = self.evaluate_every_epochs
        if epoch < 0:
            return every > 0 and self.evaluate_start
        last = math.ceil(self.total_steps / self.steps_per_epoch) - 1
        return every > 0 and ((epoch + 1) % every == 0 or epoch == last)

    def saves_within_epoch(self, step: int) -> bool:
        """Whether a checkpoint is due after so many steps, which do not end an epoch."""
        every = self.checkpoint_every_steps
        return every > 0 and step % every == 0 and step % self.steps_per_epoch != 0

    def saves_after(self, epoch: int, step: int) -> bool:
        """Whether a checkpoint is due after an epoch, counted from 0, which ended after so many steps."""
        every = self.checkpoint_every_steps
        by_steps = step == self.total_steps or (every > 0 and step % every == 0)
        return by_steps or (epoch + 1) % self.checkpoint_every_epochs == 0

    def epoch_ended_at(self, step: int) -> int | None:
        """The epoch, counted from 0, that has ended after so many steps; -1: before the first one; None: within one."""
        epoch, within = divmod(step, self.steps_per_epoch)
        if within and step == self.total_steps:
            return epoch
        return epoch - 1 if within == 0 else None

    def lr_factor(self, step: int) -> float:
        """Share of the peak learning rate at a step, counted from 0."""
        if self.lr_schedule is not None:
            return self.lr_schedule(step)
        return scheduled(
            step,
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
            warmup_epochs=self.warmup_epochs,
            start_scale=self.warmup_start_scale,
            kind=self.schedule,
            every=self.schedule_every,
            final_scale=self.final_lr_scale,
            milestones=self.milestones,
            milestone_factor=self.milestone_factor,
        )


def steps_of(epochs: float, steps_per_epoch: int) -> int:
    """Steps of so many epochs, at least one; part of an epoch is rounded to whole steps."""
    return max(1, round(epochs * steps_per_epoch))
