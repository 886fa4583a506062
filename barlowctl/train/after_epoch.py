"""What is asked of a method after an epoch: whether it sees something wrong, and the run's online evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

from torch import nn

from barlowctl.criteria import when
from barlowctl.errors import RunStopped, one_line
from barlowctl.methods import Trainable
from barlowctl.own_code import exits_are_errors
from barlowctl.signals import urgent
from barlowctl.train.events import Evaluated, Event, Notice
from barlowctl.train.progress import Progress
from barlowctl.train.random_state import random_state, restore_random_state
from barlowctl.train.settings import Settings
from barlowctl.train.sharding import Sharding

ALARM_STEPS = 200
"""Steps before a method is asked whether something is wrong: at the beginning it may look so."""


@dataclass
class AfterEpoch:
    """Of one call of `engine.train`, whose arguments these are. Its methods `say` what they find as events."""

    method: Trainable
    progress: Progress
    settings: Settings
    online: Callable[[], Mapping[str, float]] | None
    whole: nn.Module | None = None  # what `online` measures on rank 0 if the method's backbone is divided; on the host
    together: bool = False  # every rank evaluates at the same time: nothing may end it on one of them alone
    measured: frozenset[str] = frozenset()  # names of what the newest evaluation found
    alarmed: bool = False  # what the method sees to be wrong was said
    decision: int = 0  # what the newest evaluation asks for (see `Selection.decide`), until it was done

    def note(self, epoch: int, values: Mapping[str, float], say: Callable[[Event], None]) -> None:
        """Values of an evaluation are the newest of the run, and something may follow from them."""
        self.progress.last = {**self.progress.last, **values}
        self.measured = frozenset(values)
        if values:
            self.decision = self.progress.selection.decide(self.progress.step, epoch, values, say)

    def refresh(self, sharding: Sharding | None) -> None:
        """Give what is measured the weights of now, where they are divided among ranks. Every rank makes this call."""
        if sharding is None:
            return
        state = sharding.model_state()
        if self.whole is not None:
            self.whole.load_state_dict(state)
            self.whole.to(sharding.device)

    def raise_alarm(self, say: Callable[[Event], None]) -> None:
        """Say, once, what the method sees to be wrong after an epoch."""
        progress = self.progress
        if self.alarmed or progress.step < ALARM_STEPS:
            return
        seen = self.method.alarm(progress.last, progress.step / self.settings.total_steps)
        if seen is not None:
            self.alarmed = True
            say(Notice(seen))

    def evaluate(self, epoch: int, say: Callable[[Event], None]) -> bool:
        """Measure. An error is said, and costs this one record; a signal does not wait.

        Returns:
            Whether KeyboardInterrupt came.

        Raises:
            RunStopped: by the evaluation itself.
            BaseException: whatever ended it, where ranks measure together: the others cannot go on without this one.
        """
        if self.online is None:
            return False
        random = random_state()
        last = self.progress.last
        self.progress.last = {key: last[key] for key in last if key not in self.measured}  # that is of an earlier epoch
        interrupted = False
        try:
            with exits_are_errors(), nullcontext() if self.together else urgent():
                values = dict(self.online())
        except KeyboardInterrupt:
            if self.together:
                raise
            interrupted = True
            say(Notice(f"the evaluation {when(epoch)} was broken off: it is made when training goes on"))
        except RunStopped:
            raise
        except Exception as error:
            if self.together:
                raise
            self.method.train()
            say(Notice(f"no evaluation {when(epoch)}: {one_line(error)}; training goes on"))
        else:
            say(Evaluated(self.progress.step, epoch, values))
            self.note(epoch, values, say)
        finally:
            if self.whole is not None:
                self.whole.cpu()  # while training its memory is for what is trained
            restore_random_state(random)  # whether it is made now or at a resume: what follows is the same
        return interrupted
