"""The loop itself: steps, epochs, what follows them, and how it ends when it does not come to the end.

Between two steps the state is one that a checkpoint may hold. Whatever ends a run, it is saved there if it can be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from barlowctl.distributed import RankLost, Ranks, another_rank_failed
from barlowctl.errors import RunDiverged, RunStopped, one_line
from barlowctl.signals import shielded
from barlowctl.train.after_epoch import AfterEpoch
from barlowctl.train.batch import TrainingBatch, TrainingLoader, to_device
from barlowctl.train.computed import Computed, Launched
from barlowctl.train.ending import Ending
from barlowctl.train.events import EpochDone, Event, Sink, StepDone
from barlowctl.train.metrics import explain_divergence, lower_rate, metrics
from barlowctl.train.optim import learning_rates, set_learning_rates
from barlowctl.train.progress import EpochMeans, Progress, Trained
from barlowctl.train.saver import Saver, annotate
from barlowctl.train.selection import END
from barlowctl.train.settings import Settings
from barlowctl.train.stand_in import shared
from barlowctl.train.step import TrainingStep
from barlowctl.train.step_clock import StepClock


@dataclass
class Loop:
    """One call of `engine.train`, whose arguments these are.

    All ranks hear of what is in `ending` at the same place (`_agree`): around an epoch, and within one where a step's
    sums say that a rank asks to end (`Computed.ends`).
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
    ending: Ending
    ranks: Ranks
    go_on: str
    phase: Literal["between", "computing", "updating"] = "between"
    launched: Launched | None = None
    clock: StepClock = field(default_factory=StepClock)
    ended: bool = False  # before the last step: a measure improves no more

    def to_the_end(self, evaluated: Mapping[str, float] | None) -> None:
        try:
            self._train(evaluated)
        except (RunStopped, RankLost) as error:
            self.saver.say_what_is_left(error, self.go_on)
            raise
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            if error is not self.ending.trouble:  # that was told, and has its note
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
            progress.sums = progress.sums if start_batch else EpochMeans()
            self._steps(epoch, start_batch)
            self._end(epoch)

    def _steps(self, epoch: int, start_batch: int) -> None:
        batches = self.loader.epoch(epoch, start_batch=start_batch)
        try:
            self.clock.begin()
            number, alone = start_batch, self.ranks.size == 1
            while (batch := self._next(batches)) is not None or self.ending.due:
                if self._is_over(number):
                    break
                self.clock.arrive()
                if alone or number == start_batch:
                    self._agree()
                given, shares = shared(batch, number, self.loader, self.step.current, self.ranks)
                try:
                    self._step(epoch, given, shares)
                except KeyboardInterrupt:
                    if self.phase == "updating":
                        raise
                    self._back_to_the_last_step()
                    self.ending.interrupted = True
                if self.settings.saves_within_epoch(self._steps_begun()) and not (alone and self.ending.due):
                    with self.clock.left_out():
                        self.save()  # over several ranks all of them, or none
                number += 1
        finally:
            batches.close()

    def _next(self, batches: Iterator[Any]) -> TrainingBatch | None:
        """The next batch; None at the end of the epoch or the run, or when something is to be told."""
        if self.ending.due or self._steps_begun() == self.settings.total_steps:
            return None
        self.clock.ask()
        try:
            return next(batches, None)
        except KeyboardInterrupt:
            self.ending.interrupted = True
        except Exception as error:
            self.ending.meet(error)
        return None

    def _is_over(self, number: int) -> bool:
        """Over several ranks: whether no batch of an epoch is left, so that all of them go on to what follows it."""
        ended = number == self.settings.steps_per_epoch or self._steps_begun() == self.settings.total_steps
        return ended and self.ranks.size > 1

    def _step(self, epoch: int, batch: TrainingBatch, shares: Sequence[int]) -> None:
        step, settings, steps_begun = self.step, self.settings, self._steps_begun()
        with shielded() if self.ranks.size > 1 else nullcontext():  # the others are in the middle of it too
            factor = settings.lr_factor(steps_begun)
            set_learning_rates(self.trained.optimizer, factor)
            targets = step.targets(batch.labels, batch.indices, shares, steps_begun / settings.total_steps)
            inputs = to_device(batch, self.device)
            step.current, self.phase = None, "computing"  # the step before is not to be taken back
            computed = step.compute(inputs, targets, ends=self.ranks.size > 1 and self.ending.is_due_now())
            logged = (steps_begun + 1) % settings.log_every_steps == 0 or steps_begun == 0
            complete = logged or settings.ends_epoch(steps_begun + 1)
            if not step.deferred:
                self._check(computed, factor)
            with shielded():
                self.phase = "updating"
                step.update(computed, with_norm=complete)
                launched = Launched(computed, epoch, factor, logged, complete, *self.clock.end(), sum(shares))
                before, self.launched, self.phase = self.launched, launched, "between"
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
            self._count(before.settled(self.clock))

    def _count(self, launched: Launched) -> None:
        """Read a step's loss, and count the step and say it is done.

        Raises:
            RunDiverged: the loss or the gradient is not finite; the state before the step is restored and saved.
        """
        computed, progress = launched.computed, self.progress
        loss = self._check(computed, launched.factor)
        progress.count(loss, launched.wall, launched.waited, launched.images)
        values = {"loss": loss}
        if launched.complete:
            assert computed.terms is not None
            rates = learning_rates(self.trained.optimizer, launched.factor)
            values = metrics(computed.terms, loss, computed.norms, rates, progress.sums)
        if launched.logged:
            progress.last = values
        self._say(StepDone(progress.step, launched.epoch, launched.logged, values))

    def _check(self, computed: Computed, factor: float) -> float:
        """The loss of a step, once it was read; what is not finite of it ends the run where the step began.

        So does a rank that asked to end instead of taking it.
        """
        if computed.ends():
            self.step.undo(computed)
            self.phase, self.launched = "between", None
            self._agree()
        if (what := self.step.not_finite(computed)) is not None:
            self.step.undo(computed)
            self.phase, self.launched = "between", None
            self._save_unless_saved()
            at, rates = self.progress.step, learning_rates(self.trained.optimizer, factor)
            raise RunDiverged(explain_divergence(what, at, factor, rates), next=lower_rate(self.saver.checkpoints, at))
        return computed.loss()

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
        if settings.saves_after(epoch, progress.step):
            self.save()
        if settings.evaluates_after(epoch):
            self._evaluate(epoch)
        self._agree(finished=final)

    def _evaluate(self, epoch: int) -> None:
        """Measure on rank 0, or on all ranks: then none begins what another does not."""
        after_epoch, ending = self.after_epoch, self.ending
        after_epoch.refresh(self.trained.sharding)
        if after_epoch.together:
            self._agree(finished=self.progress.step == self.settings.total_steps)
        if (self.ranks.first or after_epoch.together) and not ending.due:
            ending.interrupted = after_epoch.evaluate(epoch, self._say) or ending.interrupted

    def _say(self, event: Event) -> None:
        """Emit an event; what a sink raises is told before the next step."""
        try:
            self.emit(event)
        except Exception as error:
            self.ending.trouble = self.ending.trouble or error

    def _agree(self, *, finished: bool = False) -> None:
        """Hear of all ranks, at the same place. Does not return when one of them has to end the run.

        finished: nothing is left to do, so that a request to stop changes nothing.
        """
        ending = self.ending
        stopping = ending.interrupted or (not finished and ending.stop())
        gathered = self.ranks.all_gather_ints([stopping, ending.code, self.after_epoch.decision])
        if failed := [(rank, code) for rank, (_, code, _) in enumerate(gathered) if code]:
            note = self._save_if_possible()
            if ending.trouble is not None:
                annotate(ending.trouble, note, self.go_on, resumable=self.saver.is_resumable)
                raise ending.trouble
            raise another_rank_failed(self.ranks, *failed[0])
        if any(stopping for stopping, _, _ in gathered):
            self._settle()
            self._save_unless_saved()
            raise self._stopped()
        self._follow(gathered[0][2])

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
        reached = f"step {self.progress.step} of {self.settings.total_steps}"
        return RunStopped(f"stopped at {reached}; the state is saved", next=self.go_on)

    def save(self) -> None:
        """Write a checkpoint; nobody leaves, or goes on, before it is on the disk.

        Raises:
            UserError: it could not be written.
        """
        self._settle()
        self.ending.interrupted = self.saver.save(self._say) or self.ending.interrupted

    def _save_if_possible(self) -> str:
        """Save, and say in words what became of the state."""
        try:
            self._back_to_the_last_step()
            if self.phase != "updating":
                self._settle()
                if self.saver.is_needed:
                    self.save()
        except RunStopped:
            raise
        except Exception as error:  # the disk's, or of a device that has failed and answers nothing more
            return self.saver.outcome(f" ({one_line(error)})")
        return self.saver.outcome("")

    def _broke_off(self, error: BaseException) -> None:
        """Save what can be saved after an error that no other rank knows of."""
        if self.ranks.size > 1:  # they may be anywhere: the state is that of the last checkpoint
            return annotate(error, self.saver.newest(), self.go_on, resumable=self.saver.is_resumable)
        note = self._save_if_possible()
        annotate(error, note, self.go_on, resumable=self.saver.is_resumable)
        if isinstance(error, KeyboardInterrupt) and self.saver.is_saved:
            raise self._stopped() from None
