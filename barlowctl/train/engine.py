"""The engine: the one training loop. It trains any `Method` on any `Loader` and says what happens.

Who calls it decides everything (`assemble`); who shows or stores what it says is a sink (`events`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor, nn

from barlowctl import shell
from barlowctl.distributed import ALONE, GradientScale, Ranks
from barlowctl.errors import RunDiverged, RunStopped
from barlowctl.train import checkpoint
from barlowctl.train.events import CheckpointSaved, EpochDone, Evaluated, Notice, Sink, StepDone
from barlowctl.train.gradient import Gradient
from barlowctl.train.optim import set_learning_rates
from barlowctl.train.schedule import warmup_cosine


@dataclass(frozen=True)
class Settings:
    """How long and how; steps are optimizer steps, one batch each."""

    epochs: int
    steps_per_epoch: int
    warmup_epochs: float
    final_lr_scale: float
    precision: str
    log_every_steps: int
    checkpoint_every_epochs: int
    keep_checkpoints: int
    evaluate_every_epochs: int
    epoch_schedule: Callable[[int], float] | None = None  # epoch -> factor; None: warm-up and cosine by step
    checkpoint_every_steps: int = 0
    micro_batch: int = 0
    activation_checkpointing: bool = False
    gradient_scale: GradientScale = "exact"

    @property
    def total_steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    def lr_factor(self, step: int) -> float:
        """Share of the peak learning rate at a step, counted from 0."""
        if self.epoch_schedule is not None:
            return self.epoch_schedule(step // self.steps_per_epoch)
        return warmup_cosine(
            step,
            total_steps=self.total_steps,
            warmup_steps=self.warmup_epochs * self.steps_per_epoch,
            final_scale=self.final_lr_scale,
        )


class Batch(Protocol):
    """What the engine needs of a batch: views `(N, S, S, C)` uint8, reusable once `event` is reached; labels `(N,)`."""

    views: Sequence[Tensor]
    labels: Tensor

    def hold(self, event: Any) -> None: ...


class Loader(Protocol):
    """What the engine needs of a loader."""

    def epoch(self, epoch: int, *, start_batch: int = 0) -> Iterator[Any]: ...


@dataclass
class Clock:
    """Time spent, in seconds: wall while training, wall waiting for data, and CPU of the whole process."""

    wall: float = 0.0
    waited: float = 0.0
    images: int = 0
    cpu_before: float = 0.0  # of earlier processes of the same run

    def __post_init__(self) -> None:
        self._cpu_start = time.process_time()

    @property
    def cpu(self) -> float:
        return self.cpu_before + time.process_time() - self._cpu_start


def train(
    method: nn.Module,
    loader: Loader,
    optimizer: torch.optim.Optimizer,
    settings: Settings,
    *,
    to_input: Callable[[Tensor], Tensor],
    device: torch.device,
    emit: Sink,
    checkpoints: Path,
    recipe_digest: str,
    evaluate: Callable[[], Mapping[str, float]] | None = None,
    stop: Callable[[], bool] = lambda: False,
    resume: bool = False,
    ranks: Ranks = ALONE,
) -> dict[str, float | int]:
    """Train to the end of `settings`, or until `stop()`; resume continues exactly where a checkpoint was.

    Over several ranks every one of them makes this call, with its own share of each batch from its loader.
    Rank 0 alone evaluates, reads and writes checkpoints; `stop()` on any rank stops all at the same step.

    Args:
        method: views -> loss and terms; its whole state is saved.
        loader: its order and pixels depend on epoch and batch only, which makes resuming exact.
        to_input: uint8 views `(N, S, S, C)` -> network input `(N, C, S, S)`.
        checkpoints: the directory to save to, and to resume from.
        recipe_digest: saved with the state, for whoever resumes.
        evaluate: online evaluation; must leave the method's state and mode as they were.

    Returns:
        The values of the run's result.

    Raises:
        RunStopped: `stop()` became true; the state is saved.
        RunDiverged: the loss is not finite; the state before it is saved.
        RankLost: another rank is gone; the state is that of the last checkpoint.
    """
    scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16")
    clock = Clock()
    step, sums = 0, _EpochMeans()
    last: dict[str, float] = {}
    if resume:
        step, sums, last = _restore(checkpoints, method, optimizer, scaler, clock, emit, ranks)
    else:
        ranks.copy_from_first(list(method.state_dict().values()))
    gradient = Gradient(
        method,
        to_input=to_input,
        device=device,
        precision=settings.precision,
        scaler=scaler,
        ranks=ranks,
        scale=settings.gradient_scale,
        micro_batch=settings.micro_batch,
        recomputes=settings.activation_checkpointing,
    )

    def save(at: int) -> None:
        told = ranks.objects((checkpoint.random_state(), clock.cpu))
        if ranks.first:
            write(at, told)
        ranks.table([at])  # nobody leaves, or goes on, before it is on the disk

    def write(at: int, told: list[tuple[dict[str, Tensor], float]]) -> None:
        epoch, batch = divmod(at, settings.steps_per_epoch)
        clocks = {"wall_seconds": clock.wall, "wait_seconds": clock.waited, "images": clock.images}
        state = checkpoint.TrainingState(
            step=at,
            epoch=epoch,
            batch=batch,
            recipe_digest=recipe_digest,
            model=method.state_dict(),
            optimizer=optimizer.state_dict(),
            random=_random_of_ranks([random for random, _ in told]),
            extra={
                "scaler": scaler.state_dict(),
                "cpu_seconds": sum(cpu for _, cpu in told),
                **clocks,
                "ranks": ranks.size,
                "epoch_sums": asdict(sums),
                "last": last,
            },
        )
        emit(CheckpointSaved(at, checkpoint.save(checkpoints, state, keep=settings.keep_checkpoints)))

    def stop_here(at: int) -> NoReturn:
        save(at)
        raise RunStopped(
            f"stopped at step {at} of {settings.total_steps}; the state is saved",
            next=shell.line("barlowctl", "pretrain", "--resume", checkpoints.parent),
        )

    method.train()
    while step < settings.total_steps:
        epoch, start_batch = divmod(step, settings.steps_per_epoch)
        if start_batch == 0:
            sums = _EpochMeans()
        batches = loader.epoch(epoch, start_batch=start_batch)
        try:
            mark = time.perf_counter()
            for batch in batches:
                arrived = time.perf_counter()
                told = ranks.table([len(batch.views[0]), stop()])
                if any(stopping for _, stopping in told):
                    stop_here(step)
                shares = [rows for rows, _ in told]
                factor = settings.lr_factor(step)
                set_learning_rates(optimizer, factor)
                method.take_labels(batch.labels)  # type: ignore[operator]
                optimizer.zero_grad(set_to_none=True)
                terms, read_loss = gradient(_to_device(batch, device), shares)
                loss = read_loss()
                if not math.isfinite(loss):
                    gradient.undo()
                    save(step)
                    raise RunDiverged(_explain_divergence(loss, step, factor, optimizer), next=_lower_rate(checkpoints))
                scaler.unscale_(optimizer)
                logged = (step + 1) % settings.log_every_steps == 0 or step == 0
                grad_norm = _grad_norm(optimizer) if logged else None
                scaler.step(optimizer)
                scaler.update()
                method.after_step()  # type: ignore[operator]

                step += 1
                done = time.perf_counter()
                clock.wall += done - mark
                clock.waited += arrived - mark
                clock.images += sum(shares)
                sums.add(loss, done - mark, arrived - mark, sum(shares))
                values = {"loss": loss}
                if logged:
                    values = last = _metrics(terms, loss, grad_norm, optimizer, sums)
                emit(StepDone(step, epoch, logged, values))
                every = settings.checkpoint_every_steps
                if every and step % every == 0 and step % settings.steps_per_epoch:
                    save(step)
                mark = time.perf_counter()
        finally:
            batches.close()  # type: ignore[attr-defined]
        emit(EpochDone(step, epoch, sums.values()))
        final = step == settings.total_steps
        if not final and any(stopping for (stopping,) in ranks.table([stop()])):
            stop_here(step)
        every = settings.evaluate_every_epochs
        if evaluate is not None and every and ((epoch + 1) % every == 0 or final) and ranks.first:
            measured = evaluate()
            last = {**last, **measured}
            emit(Evaluated(step, epoch, measured))
        last = {**last, "loss": sums.values()["loss"]}
        if (epoch + 1) % settings.checkpoint_every_epochs == 0 or final:
            save(step)
    return {
        **last,
        "epochs": settings.epochs,
        "steps": step,
        "images_per_second": clock.images / clock.wall if clock.wall else 0.0,
        "data_wait": clock.waited / clock.wall if clock.wall else 0.0,
        "cpu_seconds": sum(ranks.objects(clock.cpu)),
        "wall_seconds": clock.wall,
    }


@dataclass
class _EpochMeans:
    """Means over the steps of an epoch (of this process, when it was resumed in the middle)."""

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


def _to_device(batch: Batch, device: torch.device) -> list[Tensor]:
    """The batch's views on the device. The loader reuses its buffers only after the copy completed."""
    if device.type != "cuda":
        return list(batch.views)
    views = [view.to(device, non_blocking=True) for view in batch.views]
    copied = torch.cuda.Event()
    copied.record(torch.cuda.current_stream(device))
    batch.hold(copied)
    return views


def _grad_norm(optimizer: torch.optim.Optimizer) -> Tensor:
    grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return torch.stack(torch._foreach_norm(grads)).norm()


def _metrics(
    terms: Any, loss: float, grad_norm: Tensor | None, optimizer: torch.optim.Optimizer, sums: _EpochMeans
) -> dict[str, float]:
    rates = {f"lr_{group['name']}": group["lr"] for group in optimizer.param_groups}
    means = sums.values()
    return {
        "loss": loss,
        **{name: value.item() for name, value in terms._asdict().items() if name != "loss"},
        **rates,
        "grad_norm": math.nan if grad_norm is None else grad_norm.item(),
        "images_per_second": means["images_per_second"],
        "data_wait": means["data_wait"],
    }


def _restore(
    checkpoints: Path,
    method: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    clock: Clock,
    emit: Sink,
    ranks: Ranks,
) -> tuple[int, _EpochMeans, dict[str, float]]:
    """Put the newest sound checkpoint back, which rank 0 reads for all; returns its step and running values."""
    loaded = ranks.from_first(checkpoint.load_latest(checkpoints) if ranks.first else None)
    for note in loaded.notes:
        emit(Notice(note))
    state = loaded.state
    method.load_state_dict(dict(state.model))
    optimizer.load_state_dict(dict(state.optimizer))
    scaler.load_state_dict(state.extra["scaler"])
    before = state.extra.get("ranks", 1)
    if before != ranks.size:
        emit(Notice(f"trained on {before} ranks until here, on {ranks.size} now: {CHANGED_RANKS}"))
    checkpoint.restore_random_state(_random_of_rank(state.random, ranks.rank))
    if ranks.first:
        clock.cpu_before = state.extra["cpu_seconds"]
    clock.wall, clock.waited = state.extra["wall_seconds"], state.extra["wait_seconds"]
    clock.images = state.extra["images"]
    return state.step, _EpochMeans(**state.extra.get("epoch_sums", {})), dict(state.extra.get("last", {}))


CHANGED_RANKS = (
    "the order of images and every batch stay the same; results agree up to rounding, but for batch norm "
    "that is not synchronised (train.sync_batch_norm) and for dropout"
)


def _random_of_ranks(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Random states of all ranks in one dictionary: rank 0's under their own names."""
    return {f"{name}@{rank}" if rank else name: state for rank, own in enumerate(states) for name, state in own.items()}


def _random_of_rank(states: Mapping[str, Tensor], rank: int) -> dict[str, Tensor]:
    """The states that `_random_of_ranks` took from a rank; none where there was no such rank."""
    named = [(*name.partition("@"), state) for name, state in states.items()]
    return {name: state for name, _, owner, state in named if int(owner or 0) == rank}


def _explain_divergence(loss: float, step: int, factor: float, optimizer: torch.optim.Optimizer) -> str:
    rates = ", ".join(f"{group['name']} {group['lr']:.4g}" for group in optimizer.param_groups)
    return (
        f"the loss is {loss} at step {step} (learning rates: {rates}; {factor:.0%} of the peak), so the run "
        "stopped before the optimizer used it; the state is saved"
    )


def _lower_rate(checkpoints: Path) -> str:
    return (
        "lower optimizer.lr or raise train.warmup_epochs and start anew; with train.precision fp16 try bf16 or fp32; "
        f"`barlowctl data preview` shows whether the images are sound; before it: {checkpoints.parent}/metrics.jsonl"
    )
