"""How far a run is: what is counted while it trains, and how that goes into a checkpoint and comes back."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from barlowctl.amounts import counted
from barlowctl.distributed import Ranks
from barlowctl.methods import Trainable
from barlowctl.train import checkpoint
from barlowctl.train.gradient_norms import parameter_names
from barlowctl.train.groups import group_as_saved
from barlowctl.train.online_probe import OnlineProbe
from barlowctl.train.random_state import restore_random_state
from barlowctl.train.selection import Selection
from barlowctl.train.sharding import Sharding

CHANGED_RANKS = (
    "the order of images and every batch stay the same; results agree up to rounding, except for batch norm "
    "that is not over all ranks (train.sync_batch_norm) and for dropout"
)
OF_DEVICE = {"fused": None, "foreach": None, "capturable": False}
"""Settings of an optimizer's groups that are of the device where it runs, and what a checkpoint has for them."""
DECAYED = (
    "weight decay on position embeddings and class tokens until here, as earlier versions had it, and from here on"
)


@dataclass
class Clock:
    """Time spent, in seconds: wall while training, wall waiting for data, and CPU of the whole process.

    `images`: trained on in that time, over all ranks.
    """

    wall: float = 0.0
    waited: float = 0.0
    images: int = 0
    cpu_before: float = 0.0  # of earlier processes of the same run

    def __post_init__(self) -> None:
        self._cpu_start = time.process_time()

    @property
    def cpu(self) -> float:
        return self.cpu_before + time.process_time() - self._cpu_start


@dataclass
class EpochMeans:
    """Means over the steps of an epoch, those before a resume among them: the sums are in checkpoints."""

    steps: int = 0
    loss: float = 0.0
    wall: float = 0.0
    waited: float = 0.0
    images: int = 0

    def add(self, loss: float, wall: float, waited: float, images: int) -> None:
        self.steps += 1
        self.loss += loss
        self.wall += wall
        self.waited += waited
        self.images += images

    def values(self) -> dict[str, float]:
        return {
            "loss": self.loss / max(self.steps, 1),
            "images_per_second": self.images / self.wall if self.wall else 0.0,
            "data_wait": self.waited / self.wall if self.wall else 0.0,
        }


@dataclass
class Progress:
    """Steps done, the sums of the epoch in progress, the newest metrics, the time spent, and the best so far."""

    step: int = 0
    sums: EpochMeans = field(default_factory=EpochMeans)
    last: dict[str, float] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)
    selection: Selection = field(default_factory=Selection)

    def count(self, loss: float, wall: float, waited: float, images: int) -> None:
        """One more step: its loss, its seconds, those of them spent waiting for data, its images over all ranks."""
        self.step += 1
        self.clock.wall += wall
        self.clock.waited += waited
        self.clock.images += images
        self.sums.add(loss, wall, waited, images)


class Whole(NamedTuple):
    """State of networks and optimizer, as their `state_dict` gives it where nothing is divided among ranks."""

    model: dict[str, Tensor]
    optimizer: dict[str, Any]


@dataclass(frozen=True)
class Trained:
    """What a run's checkpoint is made of, beside its progress."""

    method: Trainable
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    precision: str
    probe: OnlineProbe | None = None
    sharding: Sharding | None = None

    def whole(self) -> Whole:
        """The networks' and the optimizer's state; every rank makes this call, and rank 0 has it."""
        if self.sharding is None:
            return Whole(self.method.state_dict(), self.optimizer.state_dict())
        return Whole(self.sharding.model_state(), self.sharding.optimizer_state())

    def tensors(self, whole: Whole) -> dict[str, Tensor]:
        """Networks' and optimizer's tensors, by names for people."""
        names = parameter_names(self.method, self.sharding)
        order = [names[p] for group in self.optimizer.param_groups for p in group["params"]]
        states = {
            f"the optimizer's {key} of {order[number]}": value
            for number, state in whole.optimizer["state"].items()
            for key, value in state.items()
            if isinstance(value, Tensor)
        }
        return {**whole.model, **states}

    def state(
        self,
        progress: Progress,
        steps_per_epoch: int,
        recipe_digest: str,
        gathered: Sequence[tuple[Mapping[str, Tensor], float]],
        whole: Whole,
    ) -> checkpoint.TrainingState:
        """The state to save; `gathered` from every rank: its random states and its CPU seconds. whole: see there."""
        epoch, batch = divmod(progress.step, steps_per_epoch)
        clock = progress.clock
        return checkpoint.TrainingState(
            step=progress.step,
            epoch=epoch,
            batch=batch,
            recipe_digest=recipe_digest,
            model=whole.model,
            optimizer=_of_no_device(whole.optimizer),
            random=_random_of_ranks([random for random, _ in gathered]),
            extra={
                "scaler": self.scaler.state_dict(),
                "precision": self.precision,
                "cpu_seconds": sum(cpu for _, cpu in gathered),
                "wall_seconds": clock.wall,
                "wait_seconds": clock.waited,
                "images": clock.images,
                "ranks": len(gathered),
                "epoch_sums": asdict(progress.sums),
                "last": progress.last,
                "selection": progress.selection.state(),
                **({} if self.probe is None else {"probe": self.probe.state()}),
            },
        )

    def restore(self, state: checkpoint.TrainingState, ranks: Ranks) -> tuple[Progress, list[str]]:
        """Put a state back; returns the progress then, and what somebody should know about it."""
        extra = state.extra
        self.method.load_state_dict(dict(state.model))
        notes = [DECAYED] if group_as_saved(self.optimizer, self.method, state.optimizer["param_groups"]) else []
        own = [{key: group[key] for key in OF_DEVICE if key in group} for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(dict(state.optimizer))
        for group, of_device in zip(self.optimizer.param_groups, own, strict=True):
            group.update(of_device)
        if extra["scaler"]:  # empty where gradients were not scaled until here: no CPU computes in fp16
            self.scaler.load_state_dict(extra["scaler"])
        restore_random_state(_random_of_rank(state.random, ranks.rank))
        if (before := extra.get("ranks", 1)) != ranks.size:
            notes.append(f"trained on {counted(before, 'rank')} until here, on {ranks.size} now: {CHANGED_RANKS}")
        unknown = "fp16" if extra["scaler"] else "fp32 or bf16" if self.precision == "fp16" else self.precision
        if (computed_in := extra.get("precision", unknown)) != self.precision:
            notes.append(f"computed in {computed_in} until here, in {self.precision} on this device from here on")
        if self.probe is not None and "probe" in extra:
            self.probe.restore(extra["probe"], next(self.method.parameters()).device)
        elif self.probe is not None:
            notes.append("the checkpoint has no online linear probe: it begins here")
        clock = Clock(extra["wall_seconds"], extra["wait_seconds"], extra["images"])
        if ranks.first:
            clock.cpu_before = extra["cpu_seconds"]
        sums = EpochMeans(**extra.get("epoch_sums", {}))
        return Progress(state.step, sums, dict(extra.get("last", {})), clock), notes


def _of_no_device(state: dict[str, Any]) -> dict[str, Any]:
    """An optimizer's state without what belongs to the device it ran on (see `deferred.defer`)."""
    groups = [
        {key: OF_DEVICE.get(key, value) for key, value in group.items()} | {"lr": float(group["lr"])}
        for group in state["param_groups"]
    ]
    return {**state, "param_groups": groups}


def _random_of_ranks(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Random states of all ranks in one dictionary: rank 0's under their own names."""
    return {f"{name}@{rank}" if rank else name: state for rank, own in enumerate(states) for name, state in own.items()}


def _random_of_rank(states: Mapping[str, Tensor], rank: int) -> dict[str, Tensor]:
    """The states that `_random_of_ranks` took from a rank; none where there was no such rank."""
    named = [(*name.partition("@"), state) for name, state in states.items()]
    return {name: state for name, _, owner, state in named if int(owner or 0) == rank}
