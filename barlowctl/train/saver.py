"""What is on the disk of a run's state: its checkpoints, and what an error that ends the run says of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from barlowctl import shell
from barlowctl.distributed import RankLost, Ranks, another_rank_failed
from barlowctl.errors import RunDiverged, UserError, add_note
from barlowctl.signals import shielded
from barlowctl.train import checkpoint
from barlowctl.train.events import CheckpointSaved, Event
from barlowctl.train.finite import not_finite
from barlowctl.train.metrics import lower_rate
from barlowctl.train.progress import Progress, Trained, Whole
from barlowctl.train.random_state import random_state
from barlowctl.train.settings import Settings

SMALLEST_SCALE = 1e-6
"""Of fp16's gradients: they overflow at any, since the scale began at 65,536 and is halved by each that does."""


@dataclass
class Saver:
    """Writes the checkpoints of one call of `engine.train`, whose arguments these are."""

    trained: Trained
    progress: Progress
    settings: Settings
    checkpoints: Path
    recipe_digest: str
    ranks: Ranks
    saved_at: int | None  # the newest checkpoint's step
    unsaved_at: int | None = None  # the step whose checkpoint could not be written
    unset: frozenset[str] = frozenset()  # buffers that the call began with and that are no numbers yet
    has_folder: bool = False  # whether the run's directory, which the checkpoints' folder is in, has been there

    def __post_init__(self) -> None:
        self.has_folder = self.checkpoints.parent.is_dir()
        self.unset = frozenset(not_finite(dict(self.trained.method.named_buffers())))

    @property
    def is_saved(self) -> bool:
        """Whether the newest checkpoint is of the state now."""
        return self.saved_at == self.progress.step

    @property
    def is_resumable(self) -> bool:
        """Whether the run can go on: from a checkpoint, or from its start where the first could not be written."""
        return self.saved_at is not None or self.unsaved_at is not None

    @property
    def is_needed(self) -> bool:
        """Whether there is a state now that is in no checkpoint, and has not failed to be written."""
        return self.progress.step not in (0, self.saved_at, self.unsaved_at)

    def save(self, say: Callable[[Event], None]) -> bool:
        """Write a checkpoint on rank 0; nobody returns before it is on the disk.

        Returns:
            Whether KeyboardInterrupt came after it was written.

        Raises:
            UserError: it could not be written.
            RunDiverged: weights, buffers or the optimizer's state are not finite, and were not written.
        """
        gathered = self.ranks.objects((random_state(), self.progress.clock.cpu))
        whole = self.trained.whole()
        error: UserError | None = None
        interrupted = False
        try:
            if self.ranks.first:
                with shielded():
                    self._write(gathered, whole, say)
        except UserError as raised:
            error = raised
            self.unsaved_at = self.progress.step
        except KeyboardInterrupt:
            if not self.is_saved:
                raise
            interrupted = True
        codes = self.ranks.all_gather_ints([0 if error is None else error.exit_code])
        failed = [(rank, code) for rank, (code,) in enumerate(codes) if code]
        if error is not None:
            raise error
        if failed:
            raise another_rank_failed(self.ranks, *failed[0])
        self.saved_at = self.progress.step
        return interrupted

    def _write(
        self, gathered: list[tuple[dict[str, Tensor], float]], whole: Whole, say: Callable[[Event], None]
    ) -> None:
        self._refuse_what_is_not_finite(whole)
        self._refuse_a_folder_that_is_gone()
        steps_per_epoch = self.settings.steps_per_epoch
        state = self.trained.state(self.progress, steps_per_epoch, self.recipe_digest, gathered, whole)
        path = checkpoint.save(self.checkpoints, state, keep=self.settings.keep_checkpoints, protected=self._best)
        self.saved_at, self.has_folder = state.step, True
        say(CheckpointSaved(state.step, path))

    def _refuse_what_is_not_finite(self, whole: Whole) -> None:
        """Nobody sees in a loss that a weight which it does not depend on, or a running statistic, is no number."""
        names = not_finite(self.trained.tensors(whole)) - self.unset
        scale = self.trained.scaler.get_scale()
        if names:
            others = f" and {len(names) - 1} others" if len(names) > 1 else ""
            what = f"{min(names)}{others} of the state of step {self.progress.step} "
            what += "are not finite" if others else "is not finite"
        elif scale < SMALLEST_SCALE:
            what = f"at step {self.progress.step} fp16's loss scale is {scale:.2g}: gradients overflow at any scale"
        else:
            return
        advice = lower_rate(self.checkpoints, self.progress.step)
        raise RunDiverged(f"{what}, so the run stopped; {self.outcome('')}", next=advice)

    def _refuse_a_folder_that_is_gone(self) -> None:
        """A run that was moved away gets no second directory, which would have its newest checkpoint and no recipe."""
        folder = self.checkpoints.parent
        if self.has_folder and not folder.is_dir():
            raise UserError(
                f"the checkpoint of step {self.progress.step} could not be written: '{folder}' is not there any more",
                next=f"put it back as {folder}, or go on where it is now",
            )

    def say_what_is_left(self, error: UserError, go_on: str) -> None:
        """Say of another rank that is gone, and could not say so itself, which checkpoint there is and how to go on."""
        if not isinstance(error, RankLost) or error.explained:
            return
        add_note(error, self.newest())
        if self.is_resumable:
            error.next = go_on

    def newest(self) -> str:
        """In words, which checkpoint there is, where the ranks can save none together any more."""
        if self.saved_at is None and (there := checkpoint.list_checkpoints(self.checkpoints)):
            self.saved_at = int(there[-1].name.rpartition("-")[2])  # rank 0 could not say so any more
        return self.outcome("") if self.saved_at is None else f"the newest checkpoint is of step {self.saved_at}"

    def rotate(self) -> None:
        """Remove what was kept as the best state, and is it no more."""
        if self.ranks.first and self.saved_at is not None:
            keep = self.settings.keep_checkpoints
            checkpoint.rotate(self.checkpoints, self.saved_at, keep=keep, protected=self._best)

    @property
    def _best(self) -> int | None:
        return self.progress.selection.best_step

    def outcome(self, why: str) -> str:
        """In words, what is on the disk of the state now. `why` it could not be saved, where that is known."""
        if self.progress.step == 0 and self.saved_at is None:
            return "nothing was trained yet"
        if self.is_saved:
            return f"the state of step {self.saved_at} is saved"
        if self.saved_at is None:
            return f"the state could not be saved{why}, and there is no checkpoint"
        return f"the state could not be saved{why}; the newest checkpoint is of step {self.saved_at}"


def annotate(error: BaseException, note: str, go_on: str, *, resumable: bool) -> None:
    """Say of an error what became of the state, and how to go on; advice that is flags goes with that command."""
    if not isinstance(error, UserError):
        how = "the same command goes on" if go_on.endswith("...") else go_on
        add_note(error, f"{note}: {how}" if resumable else note)
        if resumable and not go_on.endswith("..."):
            error.going_on = go_on  # type: ignore[attr-defined]
        return
    add_note(error, note)
    advice = [line for line in (error.next or "").splitlines() if line == go_on or line not in go_on]  # half of it
    flags = [line for line in advice if line.startswith("--")]
    with_flags = [line for line in flags if error.when_resumed or not line.startswith("--set")]
    if resumable and not go_on.endswith("..."):  # which is what was typed: flags alone are completed with it
        advice = [_with(go_on, line) if line in with_flags else line for line in advice]
    if resumable:  # a run that is resumed keeps its recipe: what is --set is for another one
        error.next = "\n".join(advice if with_flags or go_on in advice else [*advice, go_on])


def _with(command: str, flags: str) -> str:
    """A command line with further flags: its own values of the same flags are left out."""
    words, further = shell.split(command), shell.split(flags)
    for flag in (word for word in further if word.startswith("--") and word in words):
        at = words.index(flag)
        has_value = at + 1 < len(words) and not words[at + 1].startswith("--")
        del words[at : at + 1 + has_value]
    return shell.line(*words, *further)
