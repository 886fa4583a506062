"""What tests hold of barlowctl's own methods, looked at in the first steps of one that somebody has registered."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from barlowctl.distributed import Ranks
from barlowctl.errors import UserError
from barlowctl.methods.host_state import changed, host_state

SAME = 1e-4
"""How far losses of two ranks may be apart, as a share of the loss: on a GPU sums come in any order."""
_STEPS = 3
"""Batches that are looked at: in the third one, what steps before it have left is there."""


class Doubts:
    """Looks at the first batches of a training.

    Args:
        ranks: those that share each batch.
        labels: whether the method says that it learns from labels.
        mend: what helps, in words: where the method stands.

    Attributes:
        moves_on_host: what of the method changes from step to step and is no tensor, once it was looked at: a captured
            step would keep it as it was. None: nothing is known to.
    """

    def __init__(self, ranks: Ranks, *, labels: bool = True, mend: str | None = None) -> None:
        self.ranks, self.labels, self.mend, self.batches = ranks, labels, mend, 0
        self.moves_on_host: str | None = None
        self._before: dict[str, Any] = {}

    @contextmanager
    def advising(self) -> Iterator[None]:
        """Errors inside, of what the method gives back or takes, say where it is mended."""
        try:
            yield
        except UserError as error:
            error.next = error.next or self.mend
            raise

    def of(self, targets: Any) -> Any:
        """The targets as the method may read them: without labels where it does not say that it learns from them."""
        return targets if self.labels else _WithoutLabels(targets)

    def look(self, method: nn.Module, embeddings: Sequence[Tensor], terms: Any) -> None:
        """Refuse what would go wrong without a word, now or when the run is resumed.

        Raises:
            UserError: a loss without a gradient, or another one on each rank; tensors that no checkpoint would have; or
                buffers that are others on each rank.
        """
        if self.batches == _STEPS:
            return
        self.batches += 1
        name = type(method).__name__
        if torch.is_grad_enabled() and any(z.requires_grad for z in embeddings) and not terms.loss.requires_grad:
            raise UserError(
                f"{name}.compare returns a loss without a gradient: nothing would be trained",
                allowed="a loss that is computed of the embeddings, without .detach(), .item() and torch.no_grad()",
            )
        if self.batches >= _STEPS - 1:  # one step apart
            before, self._before = self._before, host_state(method, on_host=terms.loss.device.type == "cpu")
            self.moves_on_host = changed(before, self._before) if before else None
        if self.batches == 1 and self.ranks.size > 1:
            _check_same(name, float(terms.loss.detach()), self.ranks)
        if self.batches == _STEPS:
            check_state(method)
            if self.ranks.size > 1:
                _check_same_buffers(method, self.ranks)


class _WithoutLabels:
    """Targets (`methods.base.Targets`) whose labels are refused; all else is as it is."""

    def __init__(self, targets: Any) -> None:
        self._targets = targets

    def __getattr__(self, name: str) -> Any:
        if name == "labels":
            raise UserError(
                "the method reads targets.labels, and its class does not say that it learns from labels: the run would "
                "be noted as one without, and images without a label (-1) would be a class of their own",
                allowed="labels = True in the class, which has every image labelled",
            )
        return getattr(self._targets, name)


def check_state(method: nn.Module, apart: Sequence[nn.Module] = ()) -> None:
    """Refuse tensors that are neither parameters nor buffers: no checkpoint has them, and no device is theirs.

    Args:
        apart: networks that are not looked at.

    Raises:
        UserError: names the first one.
    """
    others = {part for network in apart for part in network.modules()}
    for path, module in method.named_modules():
        for key, _ in _tensors(vars(module)) if module not in others else ():
            whole = ".".join(filter(None, (path, key)))
            raise UserError(
                f"{type(method).__name__}.{whole} is a tensor, and neither a parameter nor a buffer: a resumed run "
                "would begin without it, and it would not follow the network to a GPU",
                allowed=f"self.register_buffer('{key}', ...), changed in place (copy_, add_), or a number that "
                "follows from `progress`",
            )


def _tensors(values: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Tensors among the attributes of a module, and in lists of theirs; parameters and buffers are no attributes."""
    for key, value in values.items():
        if key.startswith("_") and key in vars(nn.Module()):
            continue
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, Tensor):
                yield key, item


def _check_same(name: str, loss: float, ranks: Ranks) -> None:
    losses = ranks.objects(loss)
    other = next((rank for rank, of_rank in enumerate(losses) if not math.isclose(of_rank, losses[0], rel_tol=SAME)), 0)
    if other and all(map(math.isfinite, losses)):
        raise UserError(
            f"{name}'s loss is {losses[0]:.6g} on rank 0 and {losses[other]:.6g} on rank {other}: each computes it of "
            "its own rows, and it has to be that of the whole batch",
            allowed="rows of all ranks by barlowctl.methods.gathered(z, ranks, targets.shares), means over them by "
            "barlowctl.methods.batch_mean(rows, ranks, targets.shares), with `ranks` as a parameter",
        )


def _check_same_buffers(method: nn.Module, ranks: Ranks) -> None:
    """Refuse buffers of the method's own that differ between ranks: a checkpoint has those of the first one."""
    own = {key: buffer.detach() for key, buffer in method.named_buffers(recurse=False) if not buffer.is_complex()}
    sizes = ranks.objects({key: float(buffer.double().abs().sum()) for key, buffer in own.items()})
    for rank, of_rank in enumerate(sizes):
        for key, size in of_rank.items():
            first = sizes[0][key]
            if all(map(math.isfinite, (size, first))) and not math.isclose(size, first, rel_tol=SAME):
                raise UserError(
                    f"{type(method).__name__}.{key} has other numbers on rank {rank} than on rank 0: each moves it by "
                    "its own rows, and a checkpoint has those of rank 0",
                    allowed="a buffer that is moved by the whole batch, the same on every rank: by rows of "
                    "barlowctl.methods.gathered(z, ranks, targets.shares) or means of barlowctl.methods.batch_mean",
                )
