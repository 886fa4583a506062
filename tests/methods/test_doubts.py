"""What is refused of a method that somebody has registered, in its first steps."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import barlowctl
from barlowctl.distributed import ALONE
from barlowctl.methods import Method
from barlowctl.methods.base import Targets
from barlowctl.methods.doubts import Doubts


class Terms(NamedTuple):
    loss: Tensor
    agreement: Tensor


class Pulled(Method):
    """Views of an image towards a centre, which is moved; reads labels, if asked."""

    views = 2
    terms: ClassVar[dict[str, str]] = {"agreement": "of both views"}

    def __init__(self, *, reads: bool = False, centre: float = 0.0) -> None:
        super().__init__()
        self.backbone, self.reads = nn.Linear(4, 3), reads
        self.register_buffer("centre", torch.full((3,), centre))

    def embeddings(self, views: Any) -> list[Tensor]:
        return [self.backbone(view) for view in views]

    def compare(self, embeddings: Any, targets: Targets) -> Terms:
        weights = targets.labels if self.reads else targets.indices
        loss = ((embeddings[0] - embeddings[1]).square().mean(1) * (1 + weights)).mean()
        return Terms(loss, loss.detach())

    def heads(self) -> dict[str, nn.Module]:
        return {}

    def describe(self, batch: int, ranks: int = 1) -> str:
        return "distances"


class Two:
    """Ranks of which the other one says what it is given to say."""

    rank, size = 0, 2

    def __init__(self, other: Any) -> None:
        self.other = other

    def objects(self, own: Any) -> list[Any]:
        return [own, self.other if isinstance(own, dict) else own]


VIEWS = [torch.randn(5, 4), torch.randn(5, 4)]


def test_labels_are_of_methods_that_say_so() -> None:
    method, targets = Pulled(reads=True), Targets.unlabelled(5, label=2)
    method.doubts = Doubts(ALONE, labels=False, mend="mend it, mine.py, line 3")
    with pytest.raises(barlowctl.UserError, match=r"the method reads targets\.labels") as refused:
        method(VIEWS, targets)
    assert refused.value.next == "mend it, mine.py, line 3"
    method.reads = False
    assert method(VIEWS, targets).loss.isfinite()
    method.doubts, method.reads = Doubts(ALONE, labels=True), True
    assert method(VIEWS, targets).loss.isfinite()


def test_buffers_are_the_same_on_every_rank() -> None:
    """Looked at in the third batch: what the steps before have moved is there then."""
    method = Pulled(centre=0.5)
    for other, refused in ((1.5, False), (1.5 + 1e-6, False), (1.6, True), (float("nan"), False)):
        method.doubts = Doubts(Two({"centre": other}), mend="mend it")  # type: ignore[arg-type]
        for _ in range(2):
            method(VIEWS)
        if not refused:
            method(VIEWS)
            continue
        with pytest.raises(barlowctl.UserError, match=r"Pulled\.centre has other numbers on rank 1") as error:
            method(VIEWS)
        assert error.value.next == "mend it"


def test_what_is_given_back_wrong_is_mended_where_the_method_stands() -> None:
    class Bare(Pulled):
        def compare(self, embeddings: Any, targets: Targets) -> Any:
            return embeddings[0].mean()

    method = Bare()
    method.doubts = Doubts(ALONE, mend="mend it, mine.py, line 3")
    with pytest.raises(barlowctl.UserError, match="and no terms") as refused:
        method(VIEWS)
    assert refused.value.next == "mend it, mine.py, line 3"
