"""What the engine trains: a batch in, a loss and its terms out.

`Trainable` is the engine's interface, whatever a batch is. A `Method` is a trainable whose batch is views of images. It
owns every module and every extra state it needs (momentum encoders, queues, prototypes, memory banks) and describes
itself, so nothing else knows any of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, cast

import torch
from torch import Tensor, nn

from barlowctl.errors import explained
from barlowctl.methods.doubts import Doubts
from barlowctl.methods.given import check_embeddings, check_terms, check_views, too_few_explained
from barlowctl.methods.momentum import MovingAverage
from barlowctl.methods.moved_rows import MovedRows
from barlowctl.methods.networks import with_networks


class Terms(Protocol):
    """What a step computes: a named tuple of scalars whose first field is the loss; the others carry no gradient."""

    @property
    def loss(self) -> Tensor:
        """What is minimised."""

    def _asdict(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Targets:
    """What belongs to every batch, whatever is in it, on the device that computes.

    Attributes:
        labels: int64 `(n,)`, of this rank's rows; -1: without one label. Self-supervised methods leave them alone.
        indices: int64 `(n,)`, the images' positions in the source.
        shares: how many rows each rank has, in the order of ranks; None: not agreed, so that who needs it asks.
        progress: 0-dimensional, the share of the training's steps that are done, in [0, 1).
    """

    labels: Tensor
    indices: Tensor
    shares: tuple[int, ...] | None
    progress: Tensor

    def parts(self, count: int) -> list[Targets]:
        """Those of the batch cut into so many parts, every rank's rows as `Tensor.tensor_split` cuts them."""
        shares = self.shares or (len(self.indices),)
        rows = zip(self.labels.tensor_split(count), self.indices.tensor_split(count), strict=True)
        return [
            Targets(*of_part, tuple(share // count + (number < share % count) for share in shares), self.progress)
            for number, of_part in enumerate(rows)
        ]

    @classmethod
    def unlabelled(cls, rows: int, device: torch.device | str = "cpu", *, label: int = -1) -> Targets:
        """Of a batch that stands alone, at the beginning of a training; `label`: of every image."""
        labels = torch.full((rows,), label, dtype=torch.int64, device=device)
        return cls(labels, torch.arange(rows, device=device), None, torch.zeros((), device=device))


class Trainable(nn.Module, ABC):
    """What the engine asks of what it trains.

    Attributes:
        terms: the terms beside the loss, in their order: name -> what it says, for people.
    """

    terms: ClassVar[Mapping[str, str]]

    @abstractmethod
    def forward(self, batch: Any, targets: Targets) -> Terms:
        """A batch of this rank, on the device -> the loss and its terms, which are the same number on every rank.

        They are those of the batch of all ranks, with the gradient that `distributed` states: of a rank's own rows.
        """

    def parts(self, batch: Any, count: int) -> Sequence[Any] | None:
        """A batch cut into so many parts (as `Targets.parts`), where the loss is a mean over rows, so that it adds up.

        None: it is not, for it compares rows with one another.
        """
        return None

    def freeze_for_now(self, progress: float) -> bool:
        """Freeze what the step that begins at `progress` leaves as it is and computes no gradient of, or let it go.

        Called on the host before every step. Returns whether something is frozen: such a step is never captured.
        """
        return False

    def before_step(self, progress: Tensor) -> None:
        """Called before every step (see `Targets.progress`), for what is frozen for a while."""

    def withheld(self, progress: float) -> Sequence[Tensor]:
        """What the step that begins at `progress` leaves as it is: gradients are dropped before the optimizer's step.

        A parameter without a gradient is moved by nothing, weight decay and momentum among it. Asked on the host, so
        that a step that withholds something is never captured.
        """
        return ()

    def after_step(self, progress: Tensor) -> None:
        """Called after every optimizer step (see `Targets.progress`), for moving averages and queues.

        Both hooks may be captured with a step and replayed on a GPU: what they change is tensors, in place, and what
        they decide by is `progress`.
        """

    def begin_copies(self) -> None:
        """Called when networks have other weights than they were drawn with: copies of them begin as they are now."""

    def moving(self) -> Sequence[Tensor]:
        """What `after_step` changes beside buffers: put back with them when a step is taken back."""
        return ()

    def moved_by_row(self) -> Sequence[Tensor]:
        """Buffers that `after_step` alone changes, and few rows of them: those are kept of each step, see `moved_rows`.

        No other buffer of that size is copied in a step, or put back around a pass (micro-batches).
        """
        return ()

    def moved_rows(self) -> Sequence[MovedRows]:
        """Of `moved_by_row`, all rows that the newest `after_step` has moved, and what they were."""
        return ()

    def copied_buffers(self) -> list[Tensor]:
        """Buffers that are copied as a whole wherever they may have to be put back."""
        by_row = {id(buffer) for buffer in self.moved_by_row()}
        return [buffer for buffer in self.buffers() if id(buffer) not in by_row]

    def taken_back(self) -> list[Tensor]:
        """What is copied before each step to be put back when it is taken back, beside what the optimizer changes."""
        return [*self.copied_buffers(), *self.moving()]

    def alarm(self, values: Mapping[str, float], progress: float) -> str | None:
        """What is wrong after an epoch, for people; None: nothing is seen to be.

        Args:
            values: metrics: `loss`, the epoch's mean, and the terms of the step that was logged last.
            progress: the share of the training's steps that are done.
        """
        return None


class Method(Trainable):
    """What every method offers: a trainable whose batch is views, each of the same images.

    Attributes:
        backbone: images `(N, C, H, W)` -> features `(N, F)`; what is evaluated and exported.
        views: how many views of each image it takes, at least.
        fixed_rates: names of heads whose learning rate stays at its peak instead of following the schedule.
        frozen_modules: modules that stay in evaluation mode, whatever `train()` says: see `freeze`.
        heads_alone: the share of the training's steps, at its beginning, in which the heads alone are trained.
        one_pass: embeds views one after another, or together where that is the same and faster; None: the former.
        doubts: looks at the first steps of a method that somebody has registered; None: tests have looked.
    """

    backbone: nn.Module
    views: int
    fixed_rates: tuple[str, ...] = ()
    frozen_modules: tuple[nn.Module, ...] = ()
    heads_alone: float = 0.0
    one_pass: Callable[[Callable[[Tensor], Tensor], Sequence[Tensor]], list[Tensor]] | None = None
    doubts: Doubts | None = None
    _resting: tuple[nn.Parameter, ...] | None = None  # what takes no gradient while the heads alone are trained

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        if "__init__" in vars(cls):
            cls.__init__ = with_networks(cls.__init__)  # type: ignore[method-assign]

    @explained
    def forward(self, views: Sequence[Tensor], targets: Targets | None = None) -> Terms:
        """Views of the same images, each `(N, C, H, W)` -> the loss and its terms.

        Raises:
            UserError: views that are none (`check_views`), or a `compare` that gives back no terms.
        """
        check_views(views)
        if targets is None:
            targets = Targets.unlabelled(len(views[0]), views[0].device)
        name = type(self).__name__
        with too_few_explained(name, views, self.views), self._advising():
            return self.compared(self.embeddings(self.arrange(views, self._readable(targets))), targets)

    def compared(self, embeddings: Sequence[Tensor], targets: Targets) -> Terms:
        """What `compare` gives back of the whole batch's embeddings, looked at.

        Raises:
            UserError: it gives back no terms, or others than `terms` names; or see `Doubts`.
        """
        with self._advising():
            check_embeddings(type(self).__name__, embeddings)
            terms = self.compare(embeddings, self._readable(targets))
            check_terms(type(self).__name__, terms, getattr(self, "terms", None))
            if self.doubts is not None and self.training:
                self.doubts.look(self, embeddings, terms)
        return terms

    def _advising(self) -> AbstractContextManager[None]:
        return nullcontext() if self.doubts is None else self.doubts.advising()

    def _readable(self, targets: Targets) -> Targets:
        return targets if self.doubts is None else cast(Targets, self.doubts.of(targets))

    if TYPE_CHECKING:

        def __call__(self, views: Sequence[Tensor], targets: Targets | None = None) -> Terms: ...

    def arrange(self, views: Sequence[Tensor], targets: Targets) -> Sequence[Tensor]:
        """Views of the whole batch of this rank -> what `embeddings` takes: rows moved where a method mixes images.

        Rows alone: with micro-batches views are uint8 `(N, H, W, C)` here, without them `(N, C, H, W)`, normalised.
        """
        return views

    @abstractmethod
    def embeddings(self, views: Sequence[Tensor]) -> list[Tensor]:
        """Arranged views of some images of a batch -> what `compare` takes, row by row (micro-batches: in parts)."""

    @abstractmethod
    def compare(self, embeddings: Sequence[Tensor], targets: Targets) -> Terms:
        """Embeddings of the whole batch, each `(N, D)` -> the loss and its terms. It has no parameters."""

    @abstractmethod
    def heads(self) -> Mapping[str, nn.Module]:
        """What is trained beside the backbone and left behind when that is used, by name."""

    @abstractmethod
    def describe(self, batch: int, ranks: int = 1) -> str:
        """The objective at a batch of so many images over all ranks, for people."""

    def project(self, images: Tensor) -> Tensor | None:
        """Images `(N, C, H, W)` -> the embeddings `(N, D)` that views are compared by; None: it compares no pair."""
        return None

    def backbones(self) -> list[nn.Module]:
        """The backbone, then its moving averages: where it stays as it is, they do."""
        averages = (part for part in self.modules() if isinstance(part, MovingAverage))
        return [self.backbone, *(average.networks[0] for average in averages)]

    def freeze(self, modules: Sequence[nn.Module], parameters: Iterable[nn.Parameter]) -> None:
        """Let parts of the networks stay as they are for the whole training.

        Args:
            modules: in evaluation mode from here on: batch norm normalises by its running statistics, which stay as
                they are, and nothing in them is dropped.
            parameters: take no gradient.
        """
        self.frozen_modules = (*self.frozen_modules, *modules)
        for parameter in parameters:
            parameter.requires_grad_(False)
        self.train(self.training)

    def freeze_for_now(self, progress: float) -> bool:
        """The backbone and its averages, as `freeze` would, while the heads alone are trained (`heads_alone`)."""
        alone = progress < self.heads_alone
        if alone and self._resting is None:
            self._resting = tuple(p for p in self.backbone.parameters() if p.requires_grad)
            for parameter in self._resting:
                parameter.requires_grad_(False)
            self.train(self.training)
        elif not alone and self._resting is not None:
            for parameter in self._resting:
                parameter.requires_grad_(True)
            self._resting = None
            self.train(self.training)
        return alone

    def train(self, mode: bool = True) -> Self:
        """Training mode, or evaluation mode; what is frozen evaluates in both."""
        super().train(mode)
        for part in (*self.frozen_modules, *(self.backbones() if self._resting is not None else ())):
            part.eval()
        return self

    def embed_each(self, embed: Callable[[Tensor], Tensor], views: Sequence[Tensor]) -> list[Tensor]:
        """Views `(N, C, H, W)` -> what `embed` makes of each by itself: see `one_pass`."""
        return [embed(view) for view in views] if self.one_pass is None else self.one_pass(embed, views)

    def embed(self, images: Tensor) -> Tensor:
        """Images `(N, C, H, W)` -> features `(N, F)` of the backbone."""
        features: Tensor = self.backbone(images)
        return features
