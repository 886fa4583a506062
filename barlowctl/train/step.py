"""One training step, the same for a run, its dry run and a study's estimate.

A step has two halves. `compute` leaves loss, terms and gradient, and can be taken back (`undo`); `update` changes the
weights. What happens to a loss or a gradient that is not finite depends on whether reading it would make the host wait:

- on a CPU, where reading costs nothing, the caller reads both between the halves and does not begin the second;
- on a CUDA device (`deferred`) nothing is read. The check is a number on the device, by which the optimizer changes
  nothing from that step on, and the caller reads a loss one step later: everything is then still what it was before
  the step that was not finite, except for what `undo` puts back.

A gradient that overflows fp16 is no failure: the scaling leaves that step out, and the next one has a smaller scale.

Over several ranks that is also how a run ends that one of them asks to end: with the gradients' sum comes how many ask
(`Computed.ends`), and a step in which any does is taken back on all of them.

Where shapes stay the same, a deferred step can be captured once and replayed as one CUDA graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_

from barlowctl.distributed import ALONE, Ranks
from barlowctl.methods import Method, Targets, Trainable
from barlowctl.own_code import exits_are_errors
from barlowctl.train.captured import Captured, leave_capture, why_not_captured
from barlowctl.train.computed import Before, Computed, each
from barlowctl.train.deferred import defer, heeds, read_later, step_unless
from barlowctl.train.feature_tap import FeatureTap
from barlowctl.train.gradient import Gradient
from barlowctl.train.gradient_norms import GradientNorms
from barlowctl.train.gradient_sync import GradientScale
from barlowctl.train.online_probe import OnlineProbe
from barlowctl.train.random_state import random_state, restore_random_state
from barlowctl.train.sharding import Sharding

EAGER_STEPS = 3
"""Steps before one is captured: they create the optimizer's state and let the libraries choose their kernels."""


class TrainingStep:
    """Steps of a method on batches.

    Args:
        method: on its device. optimizer: None: no step is updated, and its gradient is all that is wanted.
        precision: fp32, bf16 or fp16. scaler: of fp16's gradients; None: a new one.
        to_input, scale, micro_batch, recomputes: see `Gradient`.
        deferred: nothing is read inside a step; None: on a CUDA device, with an optimizer that `heeds` such a step.
        clip_grad_norm: a gradient of a larger norm is scaled down to this, after its norm was noted; 0: never.
        probe: learns from the features of every step that counts, of views.
        captures: replay a deferred step on views as one CUDA graph where that can be; `notify` is told why where it
            cannot.
        sharding: how the method's backbone is divided among ranks; None: it is not.
    """

    def __init__(
        self,
        method: Trainable,
        optimizer: torch.optim.Optimizer | None,
        *,
        to_input: Callable[[Tensor], Tensor] | None,
        device: torch.device,
        precision: str,
        scaler: torch.amp.GradScaler | None = None,
        ranks: Ranks = ALONE,
        scale: GradientScale = "exact",
        micro_batch: int = 0,
        recomputes: bool = False,
        deferred: bool | None = None,
        clip_grad_norm: float = 0.0,
        captures: bool = False,
        probe: OnlineProbe | None = None,
        notify: Callable[[str], None] = lambda text: None,
        sharding: Sharding | None = None,
    ) -> None:
        self.method, self.optimizer, self.device = method, optimizer, device
        self.scaler = scaler or torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.probe = probe  # of a `Method`, whose backbone has features
        self._tap = None if probe is None else FeatureTap(cast(Method, method).backbone)
        self.gradient = Gradient(
            method,
            to_input=to_input,
            device=device,
            precision=precision,
            scaler=self.scaler,
            ranks=ranks,
            scale=scale,
            micro_batch=micro_batch,
            recomputes=recomputes,
            tap=self._tap,
            summed=None if sharding is None else sharding.whole(),
        )
        self.deferred = device.type == "cuda" and heeds(optimizer) if deferred is None else deferred
        self.clip_grad_norm, self.notify, self.sharding = clip_grad_norm, notify, sharding
        self._norms = GradientNorms(method, optimizer, sharding)
        self._failed = torch.zeros((), device=device)  # 1 from a step that was not finite, or a rank that ends, on
        self._progress = torch.zeros((), device=device)
        self._parameters = list(method.parameters())
        self._taken_back = method.taken_back()
        self._copies: list[list[Tensor]] = []  # of those, of this step and of the one before
        self._captures = captures and self.deferred and device.type == "cuda" and ranks.size == 1 and not micro_batch
        self._captured: Captured | None = None
        self._at = 0.0  # share of the training's steps that are done
        self._steps = self._alike = 0  # alike: those since one that withheld gradients, or trained the heads alone
        self.current: Computed | None = None
        if self.deferred and optimizer is not None:
            defer(optimizer, device)

    def targets(self, labels: Tensor, indices: Tensor, shares: Sequence[int], progress: float) -> Targets:
        """What belongs to a batch, on the step's device."""
        self._at = progress
        self._progress.fill_(progress)
        labels, indices = (values.to(self.device, torch.int64, non_blocking=True) for values in (labels, indices))
        return Targets(labels, indices, tuple(shares), self._progress)

    @exits_are_errors()
    def compute(self, inputs: Any, targets: Targets, *, ends: bool = False) -> Computed:
        """The first half: loss, terms and gradient; of a step that is replayed, nothing yet.

        Args:
            inputs: this rank's rows, on the device: see `Gradient`. targets: see `targets`.
            ends: this rank, one of several, asks to end the run instead (see `Computed.ends`).
        """
        self.current = None
        self.gradient.sync.ends = ends
        computed = self.current = Computed(inputs, targets, self._remember())
        if not self._is_replayed(inputs, targets):
            self._compute(computed)
        return computed

    @exits_are_errors()
    def update(self, computed: Computed, *, with_norm: bool = False) -> None:
        """The second half: the optimizer's step, and what follows it. `with_norm`: the gradient's norm is wanted."""
        assert self.optimizer is not None
        if computed.terms is None:
            assert self._captured is not None
            captured = self._captured
            computed.terms = captured.replay(computed.inputs, computed.targets, with_terms=with_norm)
            computed.features = captured.features
            computed.moved = [rows.copied() for rows in captured.moved]
            if captured.norms is not None:
                computed.norms = captured.norms.clone()
            elif with_norm:
                computed.norms = self._norms()
        else:
            self._update(computed, with_norm)
        if self.probe is not None and computed.features is not None:
            self.probe.learn(computed.features, computed.targets.labels, unless=self._failed if self.deferred else None)
        if self.deferred:
            computed.read = read_later(*self._decisive(computed))
            computed.read_ending = None if computed.ending is None else read_later(computed.ending)
        self._steps += 1
        self._alike += 1

    def undo(self, computed: Computed | None = None) -> None:
        """Put back what a step has changed whose update did not begin, or changed nothing (see `deferred`).

        None: the newest one, wherever it broke off. Taking back a step takes back those after it.
        """
        newest, computed = self.current, computed or self.current
        if computed is None:
            return  # it broke off before it changed anything
        for step in [computed] if newest is None or newest is computed else [newest, computed]:
            for rows in step.moved:
                rows.put_back()
        changed = (self._taken_back + self._scaling())[: len(computed.before.tensors)]
        _copy(changed, computed.before.tensors)
        self._failed.zero_()
        self._begin_scaling_anew()
        restore_random_state(computed.before.random)

    def _remember(self) -> Before:
        """Copies, in buffers that two steps use in turns."""
        originals = self._taken_back + self._scaling()
        turn = self._steps % 2
        if turn >= len(self._copies) or len(self._copies[turn]) != len(originals):
            self._copies[turn:] = [[tensor.clone() for tensor in originals]]
        else:
            _copy(self._copies[turn], originals)
        return Before(self._copies[turn], random_state(self.device))

    def _scaling(self) -> list[Tensor]:
        """The state of fp16's scaling, which a step changes on its device; empty until the first one."""
        state = (getattr(self.scaler, "_scale", None), getattr(self.scaler, "_growth_tracker", None))
        return [tensor for tensor in state if tensor is not None]

    def _begin_scaling_anew(self) -> None:
        """Let the scaler forget a step that broke off after its gradient was unscaled."""
        if self.scaler.is_enabled():
            self.scaler._per_optimizer_states.clear()

    def _compute(self, computed: Computed) -> None:
        for parameter in self._parameters:  # `zero_grad` looks for them in every module
            parameter.grad = None
        if self.method.freeze_for_now(self._at):
            self._alike = -1  # this step does not count
        self.method.before_step(computed.targets.progress)
        with nullcontext() if self.sharding is None else self.sharding.taking_gradients():
            terms = self.gradient(computed.inputs, computed.targets)
        computed.features = None if self._tap is None else self._tap.take()
        for withheld in self.method.withheld(self._at):
            withheld.grad = None
            self._alike = -1  # nor does this one
        # Without the graph, whose nodes would keep a later step on the stream of this one.
        computed.terms = each(terms, Tensor.detach)
        if self.optimizer is not None and not self.scaler.is_enabled():
            computed.norms = self._norms()
        computed.read = partial(_read_now, self._decisive(computed))
        computed.ending = self.gradient.sync.ending
        computed.read_ending = None if computed.ending is None else partial(_read_now, [computed.ending])

    def _update(self, computed: Computed, with_norm: bool) -> None:
        assert self.optimizer is not None
        assert computed.terms is not None
        self.scaler.unscale_(self.optimizer)
        if computed.norms is None and (self.clip_grad_norm or with_norm):
            computed.norms = self._norms()
        if self.clip_grad_norm:  # nothing is read
            assert computed.norms is not None
            clip_grads_with_norm_(computed.norms.parameters, self.clip_grad_norm, computed.norms.whole)
        if self.deferred:
            not_finite = ~torch.isfinite(torch.stack(self._decisive(computed)).sum())
            self._failed.copy_(torch.maximum(self._failed, not_finite.to(torch.float32)))
            if computed.ending is not None:
                self._failed.copy_(torch.maximum(self._failed, (computed.ending > 0).to(torch.float32)))
            step_unless(self.optimizer, self._overflow())
        else:
            self.scaler.step(self.optimizer)
        self.scaler.update()
        self.method.after_step(computed.targets.progress)
        computed.moved = self.method.moved_rows()

    def _decisive(self, computed: Computed) -> list[Tensor]:
        """What must be finite for a step to count: its loss, and its gradient unless fp16's scaling sees to it."""
        assert computed.terms is not None
        checked = computed.norms is not None and not self.scaler.is_enabled()
        return [computed.terms.loss, *([computed.norms.whole] if checked and computed.norms is not None else [])]

    def not_finite(self, computed: Computed) -> str | None:
        """In words, what keeps a step from counting, once it was read; None: nothing does."""
        loss = computed.loss()
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not math.isfinite(computed.norm()):
            assert computed.norms is not None
            return f"{self._norms.not_finite(computed.norms)}, while the loss is {loss:.4g},"
        return None

    def _take(self, computed: Computed) -> None:
        """Both halves, as they are captured."""
        self._compute(computed)
        self._update(computed, with_norm=False)

    def _overflow(self) -> Tensor:
        """1 where the step must not count: `_failed`, or fp16's gradient overflowed."""
        assert self.optimizer is not None
        if not self.scaler.is_enabled():
            return self._failed
        overflows = self.scaler._found_inf_per_device(self.optimizer)
        return torch.maximum(self._failed, sum(overflows.values()).clamp(max=1.0))

    def _is_replayed(self, views: Sequence[Tensor], targets: Targets) -> bool:
        """Whether the step is one replay; captures it the first time. A batch of other shapes is computed as ever."""
        if not self._captures or self._alike < EAGER_STEPS or self.method.withheld(self._at):
            return False  # steps that train the heads alone come first, and are not alike
        if self._captured is None:
            try:
                self._captured = Captured(self.method, self._take, views, targets)
            except Exception as error:  # whatever a network does that no graph can hold: the run does without
                self._captures = False
                self._begin_scaling_anew()
                torch.cuda.synchronize(self.device)
                leave_capture(self.device)
                self.notify(f"steps are not captured as a CUDA graph: {why_not_captured(error)}")
                return False
        return self._captured.fits(views)


def _read_now(scalars: Sequence[Tensor]) -> list[float]:
    return [scalar.item() for scalar in scalars]


def _copy(to: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Copy tensors into others, of each dtype in one go: a list of several takes a slow way."""
    by_dtype: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for target, value in zip(to, values, strict=True):
        targets, sources = by_dtype.setdefault(target.dtype, ([], []))
        targets.append(target)
        sources.append(value)
    with torch.no_grad():
        for targets, sources in by_dtype.values():
            torch._foreach_copy_(targets, sources)
