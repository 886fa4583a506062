"""The engine: the one training loop. It trains any `Trainable` on any `TrainingLoader` and says what happens.

Who calls it decides everything (`assemble`); who shows or stores what it says is a sink (`events`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from barlowctl.distributed import ALONE, Ranks
from barlowctl.garbage import set_aside
from barlowctl.methods import Method, Trainable
from barlowctl.runs.resumption import resume_line
from barlowctl.train import checkpoint
from barlowctl.train.after_epoch import AfterEpoch
from barlowctl.train.batch import TrainingBatch, TrainingLoader
from barlowctl.train.ending import Ending
from barlowctl.train.events import Notice, Sink
from barlowctl.train.loop import Loop
from barlowctl.train.online_probe import OnlineProbe
from barlowctl.train.progress import Progress, Trained
from barlowctl.train.saver import Saver
from barlowctl.train.selection import Selection
from barlowctl.train.settings import Settings
from barlowctl.train.sharding import Sharding
from barlowctl.train.step import TrainingStep

__all__ = ["Settings", "TrainingBatch", "TrainingLoader", "train"]


def train(
    method: Trainable,
    loader: TrainingLoader,
    optimizer: torch.optim.Optimizer,
    settings: Settings,
    *,
    to_input: Callable[[Tensor], Tensor] | None,
    device: torch.device,
    emit: Sink,
    checkpoints: Path,
    recipe_digest: str,
    evaluate: Callable[[], Mapping[str, float]] | None = None,
    evaluated: Mapping[str, float] | None = None,
    evaluate_together: bool = False,
    evaluated_whole: nn.Module | None = None,
    probe: OnlineProbe | None = None,
    stop: Callable[[], bool] = lambda: False,
    resume: bool = False,
    ranks: Ranks = ALONE,
    go_on: str | None = None,
) -> dict[str, Any]:
    """Train to the end of `settings`, or until `stop()`; resume continues exactly where a checkpoint was.

    Over several ranks every one of them makes this call, with its own share of each batch from its loader.
    Rank 0 alone reads and writes checkpoints, and evaluates unless it is said otherwise; `stop()`, an error of the
    loader or of a sink on any rank stops all at the same step, with the state saved. So does any other error of a
    process that trains alone.

    Args:
        method: a batch -> loss and terms; its whole state is saved.
        loader: its batches depend on epoch and batch only, which makes resuming exact.
        to_input: see `Gradient`; None where no views are trained on.
        checkpoints: the directory to save to, and to resume from.
        recipe_digest: saved with the state, for whoever resumes.
        evaluate: online evaluation; must leave the method's state and mode as they were. One that fails is said,
            and training goes on.
        evaluated: what was measured at the step resumed from; None: that evaluation, where one is due, is made first.
        evaluate_together: every rank calls `evaluate` at the same time, for it needs the others. An error of it ends
            the training of all, and it raises RunStopped, on all ranks, where `stop()` became true.
        evaluated_whole: where `settings.shard`, what `evaluate` measures on rank 0: gets the method's state before, and
            is on the device for that time only.
        probe: learns from this rank's features and labels beside the method, which is trained as it is without.
        go_on: the command that continues a run that was stopped.

    Returns:
        The values of the run's result.

    Raises:
        RunStopped: `stop()` became true, or KeyboardInterrupt came; the state is saved.
        RunDiverged: the loss or the gradient is not finite, and the state before it is saved; or weights, buffers or
            the optimizer's state are not, and were not saved.
        RankLost: another rank is gone, and the state is that of the last checkpoint; or it failed, and says so.
        Exception: what ended the training, with a note (see `errors.add_note`) of what became of the state.
    """
    scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16")
    trained = Trained(method, optimizer, scaler, settings.precision, probe)
    progress, saved = Progress(), None
    if resume:
        loaded = ranks.from_first(checkpoint.load_latest(checkpoints) if ranks.first else None)
        progress, notes = trained.restore(loaded.state, ranks)
        saved = loaded.state.extra.get("selection")
        for note in (*loaded.notes, *notes):
            emit(Notice(note))
    else:
        ranks.copy_from_first(list(method.state_dict().values()))
    progress.selection = Selection.of(settings.keep_best, settings.stop, settings.stop_after, saved)
    if settings.shard:
        backbone = cast(Method, method).backbone
        sharding = Sharding(method, backbone, optimizer, device, ranks, settings.gradient_scale)
        trained = replace(trained, sharding=sharding)
    step = TrainingStep(
        method,
        optimizer,
        to_input=to_input,
        device=device,
        precision=settings.precision,
        scaler=scaler,
        ranks=ranks,
        scale=settings.gradient_scale,
        micro_batch=settings.micro_batch,
        recomputes=settings.activation_checkpointing,
        deferred=settings.deferred,
        captures=settings.cuda_graph,
        clip_grad_norm=settings.clip_grad_norm,
        probe=probe,
        notify=lambda text: emit(Notice(text)),
        sharding=trained.sharding,
    )
    run = Loop(
        trained=trained,
        progress=progress,
        step=step,
        loader=loader,
        settings=settings,
        device=device,
        emit=emit,
        saver=Saver(trained, progress, settings, checkpoints, recipe_digest, ranks, progress.step if resume else None),
        after_epoch=AfterEpoch(
            method, progress, settings, evaluate, evaluated_whole, together=evaluate_together and ranks.size > 1
        ),
        ending=Ending(stop),
        ranks=ranks,
        go_on=go_on or resume_line(checkpoints.parent),
    )
    with set_aside():
        run.to_the_end(evaluated)
    clock = progress.clock
    return {
        **progress.last,
        **progress.selection.result(early=progress.step < settings.total_steps),
        "epochs": progress.step / settings.steps_per_epoch if run.ended else settings.epochs,
        "steps": progress.step,
        "images_per_second": clock.images / clock.wall if clock.wall else 0.0,
        "data_wait": clock.waited / clock.wall if clock.wall else 0.0,
        "cpu_seconds": sum(ranks.objects(clock.cpu)),
        "wall_seconds": clock.wall,
    }
