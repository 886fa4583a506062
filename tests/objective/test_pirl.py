"""PIRL's loss in both forms against an oracle written from the formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from barlowctl.errors import UserError
from barlowctl.objective import similarity
from barlowctl.objective.pirl import log_partition, pirl_loss
from tests.oracles import pirl as oracle
from tests.oracles.loss import numerical_gradient

TAU, IMAGES = 0.3, 50


def case(n: int = 7, d: int = 5, k: int = 11) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """image, patches, positives, negatives"""
    random = np.random.default_rng(n + k)
    rows = random.normal(size=(n + k, d))
    bank = np.stack([oracle.unit(row) for row in rows])
    image = 2.0 * bank[:n] + random.normal(size=(n, d))
    return image, 3.0 * random.normal(size=(n, d)), bank[:n], bank[n:]


def tensors(*arrays: np.ndarray, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    return [torch.tensor(array, dtype=dtype) for array in arrays]


@pytest.mark.parametrize("criterion", ["nce", "cross_entropy"])
def test_value_and_gradient_match_the_formula(criterion: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "ENTRIES_AT_ONCE", 25)  # two rows at a time
    image, patches, positives, negatives = case()
    z = [oracle.partition(v, positives, negatives, TAU, IMAGES) for v in (image, patches)]

    def half(v: np.ndarray, number: int) -> float:
        if criterion == "nce":
            return oracle.nce(v, positives, negatives, TAU, IMAGES, z[number])
        return oracle.cross_entropy(v, positives, negatives, TAU)

    given = tensors(image, patches, positives, negatives)
    for tensor in given:
        tensor.requires_grad_()
    log_z = torch.stack([log_partition(v, *given[2:], images=IMAGES, temperature=TAU) for v in given[:2]])
    np.testing.assert_allclose(log_z.numpy(), np.log(z), rtol=1e-12)
    terms = pirl_loss(*given, images=IMAGES, log_z=log_z, criterion=criterion, temperature=TAU)  # type: ignore[arg-type]
    assert terms.image.item() == pytest.approx(half(image, 0), rel=1e-11)
    assert terms.patches.item() == pytest.approx(half(patches, 1), rel=1e-11)
    assert terms.loss.item() == pytest.approx((half(image, 0) + half(patches, 1)) / 2, rel=1e-11)
    terms.loss.backward()
    assert given[2].grad is None
    assert given[3].grad is None
    for number, array in enumerate((image, patches)):
        expected_grad = numerical_gradient(lambda v, number=number: half(v, number) / 2, array)
        grad = given[number].grad
        assert grad is not None
        np.testing.assert_allclose(grad.numpy(), expected_grad, atol=1e-8)


@pytest.mark.parametrize("criterion", ["nce", "cross_entropy"])
def test_length_changes_nothing_and_half_precision_is_computed_in_float32(criterion: str) -> None:
    """Normalised before tau, and not forgotten."""
    given = tensors(*case(), dtype=torch.float32)
    log_z = torch.tensor([3.0, 3.5])
    options = {"images": IMAGES, "log_z": log_z, "criterion": criterion, "temperature": TAU}
    first = pirl_loss(*given, **options)
    longer = pirl_loss(10 * given[0], 10 * given[1], *given[2:], **options)
    assert longer.loss.item() == pytest.approx(first.loss.item(), rel=1e-5)
    half = pirl_loss(given[0].bfloat16(), given[1].bfloat16(), *given[2:], **options)
    assert half.loss.dtype == torch.float32
    assert half.loss.item() == pytest.approx(first.loss.item(), rel=2e-2)


def test_scores_of_a_small_temperature_stay_finite() -> None:
    """exp(1 / 0.005) is beyond float32."""
    given = tensors(*case(), dtype=torch.float32)
    log_z = log_partition(given[0], *given[2:], images=IMAGES, temperature=0.005)
    assert math.isfinite(log_z.item())
    given[0].requires_grad_()
    terms = pirl_loss(*given, images=IMAGES, log_z=torch.stack([log_z, log_z]), temperature=0.005)
    terms.loss.backward()
    assert torch.isfinite(terms.loss)
    assert given[0].grad is not None
    assert torch.isfinite(given[0].grad).all()


def test_bad_input_is_named() -> None:
    image, patches, positives, negatives = tensors(*case())
    with pytest.raises(UserError, match=r"\(7, 5\) and \(6, 5\)"):
        pirl_loss(image, patches, positives[:6], negatives, images=IMAGES, log_z=torch.zeros(2))
    with pytest.raises(UserError, match="temperature is 0"):
        pirl_loss(image, patches, positives, negatives, images=IMAGES, log_z=torch.zeros(2), temperature=0.0)
