"""The loop itself: steps, epochs, what follows them, and how it ends when it does not come to the end.

Between two steps the state is one that a checkpoint may hold. Whatever ends a run, it is saved there if it can be.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch

from barlowctl.distributed import RankLost, Ranks, another_rank_failed
from barlowctl.errors import EXIT_INTERNAL, RunDiverged, RunStopped, UserError
from barlowctl.signals import shielded
from barlowctl.train.after_epoch import AfterEpoch
from barlowctl.train.batch import TrainingBatch, TrainingLoader, to_device
from barlowctl.train.computed import Computed, Launched
from barlowctl.train.events import EpochDone, Event, Sink, StepDone
from barlowctl.train.metrics import explain_divergence, lower_rate, metrics
from barlowctl.train.optim import learning_rates, set_learning_rates
from barlowctl.train.progress import EpochMeans, Progress, Trained
from barlowctl.train.saver import Saver, annotate
from barlowctl.train.selection import END
from barlowctl.train.settings import Settings
from barlowctl.train.step import TrainingStep


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
    saver: Saver
    after_epoch: AfterEpoch
    stop: Callable[[], bool]
    ranks: Ranks
    go_on: str
    phase: Literal["between", "computing", "updating"] = "between"
    launched: Launched | None = None
    trouble: Exception | None = None
    interrupted: bool = False
    ended: bool = False  # before the last step: a measure improves no more

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
        if ended is not None and settings.evaluates_after(ended):  # resumed before or after that, or at the start
            self.after_epoch.note(ended, evaluated or {}, self._say)
            if evaluated is None:
                self._evaluate(ended)
            self._agree(finished=progress.step == settings.total_steps)
        while progress.step < settings.total_steps and not self.ended:
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
                shares = self._agree(0 if batch is None else len(batch.indices))
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
            inputs = to_device(batch, self.device)
            self.phase = "computing"
            computed = step.compute(inputs, targets)
            logged = (steps_begun + 1) % settings.log_every_steps == 0 or steps_begun == 0
            if not step.deferred:
                self._check(computed, factor)
            with shielded():
                self.phase = "updating"
                step.update(computed, with_norm=logged)
                done = time.perf_counter()
                before, self.launched = (
                    self.launched,
                    Launched(computed, epoch, factor, logged, done - mark, arrived - mark, sum(shares)),
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

    def _count(self, launched: Launched) -> None:
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
            raise RunDiverged(explained, next=lower_rate(self.saver.checkpoints))
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
        self.after_epoch.raise_alarm(self._say)
        final = progress.step == settings.total_steps
        self._agree(finished=final)
        if (epoch + 1) % settings.checkpoint_every_epochs == 0 or final:
            self.save()
        if settings.evaluates_after(epoch):
            self._evaluate(epoch)
        self._agree(finished=final)

    def _evaluate(self, epoch: int) -> None:
        """Measure on rank 0, or on all ranks: then none begins what another does not."""
        if self.after_epoch.together:
            self._agree(finished=self.progress.step == self.settings.total_steps)
        if (self.ranks.first or self.after_epoch.together) and not self._must_tell():
            self.interrupted = self.after_epoch.evaluate(epoch, self._say) or self.interrupted

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
        gathered = self.ranks.all_gather_ints([rows, stopping, code, self.after_epoch.decision])
        failed = [(rank, code) for rank, (_, _, code, _) in enumerate(gathered) if code]
        if failed:
            note = self._save_if_possible()
            if self.trouble is not None:
                annotate(self.trouble, note, self.go_on, resumable=self.saver.saved_at is not None)
                raise self.trouble
            raise another_rank_failed(self.ranks, *failed[0])
        if any(stopping for _, stopping, _, _ in gathered):
            self._settle()
            self._save_unless_saved()
            raise self._stopped()
        self._follow(gathered[0][3])
        return [rows for rows, _, _, _ in gathered]

    def _follow(self, decision: int) -> None:
        """Do what rank 0's newest evaluation asks for, on all ranks at the same step: keep this state, end here."""
        self.after_epoch.decision = 0
        self.ended = self.ended or bool(decision & END)
        if decision:
            self._save_unless_saved()
            self.saver.rotate()

    def _save_unless_saved(self) -> None:
        if not self.saver.is_saved:
            self.save()

    def _stopped(self) -> RunStopped:
        total = self.settings.total_steps
        return RunStopped(f"stopped at step {self.progress.step} of {total}; the state is saved", next=self.go_on)

    def save(self) -> None:
        """Write a checkpoint; nobody leaves, or goes on, before it is on the disk.

        Raises:
            UserError: it could not be written.
        """
        self._settle()
        self.interrupted = self.saver.save(self._say) or self.interrupted

    def _save_if_possible(self) -> str:
        """Save, and say in words what became of the state."""
        why = ""
        if self.phase != "updating":
            self._settle()
            if self.saver.is_needed:
                try:
                    self.save()
                except UserError as error:
                    why = f" ({error.message})"
        return self.saver.outcome(why)

    def _broke_off(self, error: BaseException) -> None:
        """Save what can be saved after an error that no other rank knows of."""
        if self.ranks.size > 1:
            return  # they may be anywhere: the state is that of the last checkpoint
        self._back_to_the_last_step()
        note = self._save_if_possible()
        annotate(error, note, self.go_on, resumable=self.saver.saved_at is not None)
        if isinstance(error, KeyboardInterrupt) and self.saver.is_saved:
            raise self._stopped() from None
