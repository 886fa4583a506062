"""The loop itself: steps, epochs, what follows them, and how it ends when it does not come to the end.

Between two steps the state is one that a checkpoint may hold. Whatever ends a run, it is saved there if it can be.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from barlowctl.distributed import RankLost, Ranks, another_rank_failed
from barlowctl.errors import EXIT_BAD_INPUT, EXIT_INTERNAL, RunDiverged, RunStopped, UserError, add_note, one_line
from barlowctl.signals import shielded, urgent
from barlowctl.train import checkpoint
from barlowctl.train.computed import Computed
from barlowctl.train.events import CheckpointSaved, EpochDone, Evaluated, Event, Notice, Sink, StepDone
from barlowctl.train.metrics import explain_divergence, lower_rate, metrics
from barlowctl.train.optim import learning_rates, set_learning_rates
from barlowctl.train.progress import EpochMeans, Progress, Trained
from barlowctl.train.random_state import random_state, restore_random_state
from barlowctl.train.settings import Settings
from barlowctl.train.step import TrainingStep, to_device

ALARM_STEPS = 200
"""Steps before a method is asked whether something is wrong: at the beginning it may look so."""


class TrainingBatch(Protocol):
    """What the engine needs of a batch: views `(N, S, S, C)` uint8, reusable once `event` is reached.

    labels, indices: int64 `(N,)`, on the host (see `Targets`).
    """

    views: Sequence[Tensor]
    labels: Tensor
    indices: Tensor

    def to(self, device: torch.device) -> Sequence[Tensor]: ...

    def hold(self, event: Any) -> None: ...


class TrainingLoader(Protocol):
    """What the engine needs of a loader."""

    def epoch(self, epoch: int, *, start_batch: int = 0) -> Generator[Any, None, None]: ...


@dataclass(frozen=True)
class _Launched:
    """A step whose loss has not been read: what it computed, and what is to be said of it then."""

    computed: Computed
    epoch: int
    factor: float
    logged: bool
    wall: float
    waited: float
    images: int


@dataclass
class Loop:
    """One call of `engine.train`, whose arguments these are.

    `trouble` and `interrupted` keep what happened on this rank until all ranks hear of it, at the same place
    (`_agree`).
    """

    trained: Trained
    progress: Progress
    step: TrainingStep
    loader: TrainingLoader
    settings: Settings
    device: torch.device
    emit: Sink
    checkpoints: Path
    recipe_digest: str
    evaluate: Callable[[], Mapping[str, float]] | None
    stop: Callable[[], bool]
    ranks: Ranks
    go_on: str
    saved_at: int | None  # the newest checkpoint's step
    phase: Literal["between", "computing", "updating"] = "between"
    launched: _Launched | None = None
    trouble: Exception | None = None
    interrupted: bool = False
    unsaved_at: int | None = None  # the step whose checkpoint could not be written
    measured: frozenset[str] = frozenset()  # names of what the newest evaluation found
    alarmed: bool = False  # what the method sees to be wrong was said

    def to_the_end(self, evaluated: Mapping[str, float] | None) -> None:
        try:
            self._train(evaluated)
        except (RunStopped, RankLost):
            raise
        except (Exception, KeyboardInterrupt) as error:
            if error is not self.trouble:  # that was told, and has its note
                self._broke_off(error)
            raise

    def _train(self, evaluated: Mapping[str, float] | None) -> None:
        progress, settings = self.progress, self.settings
        self.trained.method.train()
        ended = settings.epoch_ended_at(progress.step)
        if ended is not None and settings.evaluates_after(ended):  # resumed before or after that
            progress.last = {**progress.last, **(evaluated or {})}
            self.measured = frozenset(evaluated or {})
            if evaluated is None:
                self._evaluate(ended)
            self._agree(finished=progress.step == settings.total_steps)
        while progress.step < settings.total_steps:
            epoch, start_batch = divmod(progress.step, settings.steps_per_epoch)
            if start_batch == 0:
                progress.sums = EpochMeans()
            self._steps(epoch, start_batch)
            self._end(epoch)

    def _steps(self, epoch: int, start_batch: int) -> None:
        batches = self.loader.epoch(epoch, start_batch=start_batch)
        try:
            mark = time.perf_counter()
            while (batch := self._next(batches)) is not None or self._must_tell():
                arrived = time.perf_counter()
                shares = self._agree(0 if batch is None else len(batch.views[0]))
                assert batch is not None
                try:
                    self._step(epoch, batch, shares, mark, arrived)
                except KeyboardInterrupt:
                    if self.phase == "updating":
                        raise
                    self._back_to_the_last_step()
                    self.interrupted = True
                every, number = self.settings.checkpoint_every_steps, self._steps_begun()
                if every and number % every == 0 and number % self.settings.steps_per_epoch and not self._must_tell():
                    self.save()
                mark = time.perf_counter()
        finally:
            batches.close()

    def _next(self, batches: Iterator[Any]) -> TrainingBatch | None:
        """The next batch; None at the end of the epoch or the run, or when something is to be told."""
        if self._must_tell() or self._steps_begun() == self.settings.total_steps:
            return None
        try:
            return next(batches, None)
        except KeyboardInterrupt:
            self.interrupted = True
        except Exception as error:
            if self.stop():  # what stops this process may have reached the loader's processes before
                self.interrupted = True
            elif isinstance(error, OSError):
                self.trouble = UserError(f"the images could not be read: {error}", next="barlowctl doctor")
                self.trouble.__cause__ = error
            else:
                self.trouble = error
        return None

    def _must_tell(self) -> bool:
        return self.interrupted or self.trouble is not None

    def _step(self, epoch: int, batch: TrainingBatch, shares: list[int], mark: float, arrived: float) -> None:
        """One step. `mark`: when the one before it ended; `arrived`: when the batch was there (seconds)."""
        step, settings, steps_begun = self.step, self.settings, self._steps_begun()
        with shielded() if self.ranks.size > 1 else nullcontext():  # the others are in the middle of it too
            factor = settings.lr_factor(steps_begun)
            set_learning_rates(self.trained.optimizer, factor)
            targets = step.targets(batch.labels, batch.indices, shares, steps_begun / settings.total_steps)
            views = to_device(batch, self.device)
            self.phase = "computing"
            computed = step.compute(views, targets)
            logged = (steps_begun + 1) % settings.log_every_steps == 0 or steps_begun == 0
            if not step.deferred:
                self._check(computed, factor)
            with shielded():
                self.phase = "updating"
                step.update(computed, with_norm=logged)
                done = time.perf_counter()
                before, self.launched = (
                    self.launched,
                    _Launched(computed, epoch, factor, logged, done - mark, arrived - mark, sum(shares)),
                )
                self.phase = "between"
                if before is not None:
                    self._count(before)
                if not step.deferred:
                    self._settle()

    def _steps_begun(self) -> int:
        """Steps that were begun: those that count, and one whose loss has not been read."""
        return self.progress.step + (self.launched is not None)

    def _settle(self) -> None:
        """Read the loss of a step that was launched, so that the state is that of `progress`."""
        before, self.launched = self.launched, None
        if before is not None:
            self._count(before)

    def _count(self, launched: _Launched) -> None:
        """Read a step's loss, and count the step and say it is done.

        Raises:
            RunDiverged: the loss is not finite; the state before the step is restored and saved.
        """
        computed, progress = launched.computed, self.progress
        loss = self._check(computed, launched.factor)
        progress.count(loss, launched.wall, launched.waited, launched.images)
        values = {"loss": loss}
        if launched.logged:
            assert computed.terms is not None
            rates = learning_rates(self.trained.optimizer, launched.factor)
            values = progress.last = metrics(computed.terms, loss, computed.norm, rates, progress.sums)
        self._say(StepDone(progress.step, launched.epoch, launched.logged, values))

    def _check(self, computed: Computed, factor: float) -> float:
        """The loss of a step, once it was read; one that is not finite ends the run where the step began."""
        loss = computed.loss()
        if not math.isfinite(loss):
            self.step.undo(computed)
            self.phase, self.launched = "between", None
            self.save()
            rates = learning_rates(self.trained.optimizer, factor)
            explained = explain_divergence(loss, self.progress.step, factor, rates)
            raise RunDiverged(explained, next=lower_rate(self.checkpoints))
        return loss

    def _back_to_the_last_step(self) -> None:
        """Take back what a step that was not finished has done."""
        if self.phase == "computing":
            self.step.undo()
            self.phase = "between"

    def _end(self, epoch: int) -> None:
        """What follows an epoch: its checkpoint, and after that, since it may take long or fail, its evaluation."""
        self._settle()
        progress, settings = self.progress, self.settings
        self._say(EpochDone(progress.step, epoch, progress.sums.values()))
        progress.last = {**progress.last, "loss": progress.sums.values()["loss"]}
        self._raise_alarm()
        final = progress.step == settings.total_steps
        self._agree(finished=final)
        if (epoch + 1) % settings.checkpoint_every_epochs == 0 or final:
            self.save()
        if settings.evaluates_after(epoch):
            self._evaluate(epoch)
        self._agree(finished=final)

    def _raise_alarm(self) -> None:
        """Say, once, what the method sees to be wrong after an epoch."""
        progress = self.progress
        if self.alarmed or progress.step < ALARM_STEPS:
            return
        seen = self.trained.method.alarm(progress.last, progress.step / self.settings.total_steps)
        if seen is not None:
            self.alarmed = True
            self._say(Notice(seen))

    def _evaluate(self, epoch: int) -> None:
        """Measure on rank 0. An error is said, and costs this one record; a signal does not wait."""
        if self.evaluate is None or not self.ranks.first or self._must_tell():
            return
        random = random_state()
        last = self.progress.last
        self.progress.last = {key: last[key] for key in last if key not in self.measured}  # that is of an earlier epoch
        try:
            with urgent():
                measured = dict(self.evaluate())
        except KeyboardInterrupt:
            self.interrupted = True
            self._say(Notice(f"the evaluation after epoch {epoch + 1} was broken off: --resume makes it"))
        except Exception as error:
            self.trained.method.train()
            self._say(Notice(f"no evaluation after epoch {epoch + 1}: {one_line(error)}; training goes on"))
        else:
            self.progress.last = {**self.progress.last, **measured}
            self.measured = frozenset(measured)
            self._say(Evaluated(self.progress.step, epoch, measured))
        finally:
            restore_random_state(random)  # whether it is made now or at a resume: what follows is the same

    def _say(self, event: Event) -> None:
        """Emit an event; what a sink raises is told before the next step."""
        try:
            self.emit(event)
        except Exception as error:
            self.trouble = self.trouble or error

    def _agree(self, rows: int = 0, *, finished: bool = False) -> list[int]:
        """Every rank's `rows` of the next batch. Does not return when one of them has to end the run.

        finished: nothing is left to do, so that a request to stop changes nothing.
        """
        stopping = self.interrupted or (not finished and self.stop())
        code = 0 if self.trouble is None else getattr(self.trouble, "exit_code", EXIT_INTERNAL)
        gathered = self.ranks.all_gather_ints([rows, stopping, code])
        failed = [(rank, code) for rank, (_, _, code) in enumerate(gathered) if code]
        if failed:
            note = self._save_if_possible()
            if self.trouble is not None:
                self._annotate(self.trouble, note)
                raise self.trouble
            raise another_rank_failed(self.ranks, *failed[0])
        if any(stopping for _, stopping, _ in gathered):
            self._settle()
            if self.saved_at != self.progress.step:
                self.save()
            raise self._stopped()
        return [rows for rows, _, _ in gathered]

    def _stopped(self) -> RunStopped:
        total = self.settings.total_steps
        return RunStopped(f"stopped at step {self.progress.step} of {total}; the state is saved", next=self.go_on)

    def save(self) -> None:
        """Write a checkpoint; nobody leaves, or goes on, before it is on the disk.

        Raises:
            UserError: it could not be written.
        """
        self._settle()
        gathered = self.ranks.objects((random_state(), self.progress.clock.cpu))
        error: UserError | None = None
        try:
            if self.ranks.first:
                with shielded():
                    self._write(gathered)
        except UserError as raised:
            error = raised
            self.unsaved_at = self.progress.step
        except KeyboardInterrupt:
            if self.saved_at != self.progress.step:
                raise
            self.interrupted = True
        failed = [rank for rank, (code,) in enumerate(self.ranks.all_gather_ints([error is not None])) if code]
        if error is not None:
            raise error
        if failed:
            raise another_rank_failed(self.ranks, failed[0], EXIT_BAD_INPUT)
        self.saved_at = self.progress.step

    def _write(self, gathered: list[tuple[dict[str, Tensor], float]]) -> None:
        state = self.trained.state(self.progress, self.settings.steps_per_epoch, self.recipe_digest, gathered)
        path = checkpoint.save(self.checkpoints, state, keep=self.settings.keep_checkpoints)
        self.saved_at = state.step
        self._say(CheckpointSaved(state.step, path))

    def _save_if_possible(self) -> str:
        """Save, and say in words what became of the state."""
        if self.phase != "updating":
            self._settle()
        why, step = "", self.progress.step
        if self.phase != "updating" and step not in (0, self.saved_at, self.unsaved_at):
            try:
                self.save()
            except UserError as error:
                why = f" ({error.message})"
        if self.progress.step == 0 and self.saved_at is None:
            return "nothing was trained yet"
        if self.saved_at == self.progress.step:
            return f"the state of step {self.saved_at} is saved"
        if self.saved_at is None:
            return f"the state could not be saved{why}, and there is no checkpoint"
        return f"the state could not be saved{why}; the newest checkpoint is of step {self.saved_at}"

    def _annotate(self, error: BaseException, note: str) -> None:
        """Say of an error what became of the state, and how to go on; advice that is flags goes with that command."""
        resumable = self.saved_at is not None
        if not isinstance(error, UserError):
            how = "the same command goes on" if self.go_on.endswith("...") else self.go_on
            add_note(error, f"{note}: {how}" if resumable else note)
            return
        add_note(error, note)
        advice = (error.next or "").splitlines()
        with_flags = [line for line in advice if line.startswith("--") and not line.startswith("--set")]
        if resumable and not self.go_on.endswith("..."):  # which is what was typed: flags alone are completed with it
            advice = [f"{self.go_on} {line}" if line in with_flags else line for line in advice]
        if resumable:  # a run that is resumed keeps its recipe: what is --set is for another one
            error.next = "\n".join(advice if with_flags or self.go_on in advice else [*advice, self.go_on])

    def _broke_off(self, error: BaseException) -> None:
        """Save what can be saved after an error that no other rank knows of."""
        if self.ranks.size > 1:
            return  # they may be anywhere: the state is that of the last checkpoint
        self._back_to_the_last_step()
        self._annotate(error, self._save_if_possible())
        if isinstance(error, KeyboardInterrupt) and self.saved_at == self.progress.step:
            raise self._stopped() from None
