"""Views that are none, and what is no loss, are refused in the name of the method, somebody's own among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from barlowctl.errors import UserError
from barlowctl.losses import BarlowTwins, SimCLR, VICReg
from barlowctl.methods import Method


class Terms(NamedTuple):
    loss: Tensor


class Agreement(Method):
    """Somebody's own; `result`: what `compare` makes of its loss."""

    views = 2
    terms = {}  # noqa: RUF012 - as in docs/python.md

    def __init__(self, result: Callable[[Tensor], Any] = Terms) -> None:
        super().__init__()
        self.backbone, self.result = nn.Flatten(), result

    def embeddings(self, views: Sequence[Tensor]) -> list[Tensor]:
        return self.embed_each(self.backbone, views)

    def compare(self, embeddings: Sequence[Tensor], targets: Any) -> Any:
        first, second = embeddings
        return self.result(1 - nn.functional.cosine_similarity(first, second).mean())

    def heads(self) -> dict[str, nn.Module]:
        return {}

    def describe(self, batch: int, ranks: int = 1) -> str:
        return "1 - cosine"


PIXELS = torch.arange(24.0).reshape(3, 1, 2, 4)


def test_two_views_have_a_loss() -> None:
    assert Agreement()([PIXELS, PIXELS]).loss.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("views", "words"),
    [
        (PIXELS, r"views are one tensor of shape \(3, 1, 2, 4\)"),
        ([], "views are an empty list"),
        (None, "views are a NoneType"),
        ([PIXELS], "Agreement takes 2 views of each image, got 1"),
        ([PIXELS, np.zeros((3, 1, 2, 4))], r"views\[1\] is an ndarray, no tensor"),
        ([PIXELS.byte(), PIXELS], r"views\[0\] has torch.uint8 values"),
        ([PIXELS, PIXELS[:2]], "views of 2 and 3 images"),
    ],
)
def test_what_are_no_views_is_refused(views: Any, words: str) -> None:
    with pytest.raises(UserError, match=f"^{words}\n") as refused:
        Agreement()(views)
    assert refused.value.__notes__[0].startswith("allowed: a list of ")


def test_a_single_image_in_ones_own_training_leads_to_what_a_loader_of_torchs_takes() -> None:
    """Batch norm's error spoke of channels, and advice of a key of recipes, which such a training has not."""
    method = Agreement()
    method.backbone = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(8))
    advice = "leave out a last batch of one image: DataLoader(..., drop_last=True)"
    with pytest.raises(UserError, match=r"^Agreement got views of 1 image, and batch norm in training") as refused:
        method([PIXELS[:1], PIXELS[:1]])
    assert refused.value.__notes__ == ["allowed: at least 2 images", f"next: {advice}"]
    for loss in (BarlowTwins(), VICReg(), SimCLR()):
        with pytest.raises(UserError) as refused:
            loss(torch.randn(1, 8), torch.randn(1, 8))
        assert refused.value.__notes__[-1] == f"next: {advice}"
        assert loss(torch.randn(2, 8), torch.randn(2, 8)).loss.isfinite()


def test_an_error_of_ones_own_method_stays_as_it_is() -> None:
    with pytest.raises(ValueError, match="too many values to unpack"):
        Agreement()([PIXELS, PIXELS, PIXELS])


@pytest.mark.parametrize(
    ("result", "given"),
    [
        (lambda loss: loss, "a Tensor, and no terms"),
        (lambda loss: {"loss": loss}, "a dict, and no terms"),
        (lambda loss: Terms._make([float(loss)]), "terms whose loss is a float, and no tensor"),
        (lambda loss: Terms(loss.expand(3)), r"terms whose loss has the shape \(3,\), and is not one number"),
    ],
)
def test_a_compare_without_terms_is_refused(result: Callable[[Tensor], Any], given: str) -> None:
    with pytest.raises(UserError, match=rf"^Agreement\.compare returns {given}\n") as refused:
        Agreement(result)([PIXELS, PIXELS])
    assert refused.value.__notes__ == [
        "allowed: a typing.NamedTuple of 0-dimensional tensors whose first field is loss"
    ]
