"""Fine-tuning with mixed images and smoothed labels, against the formulas in float64 and against timm's `Mixup`."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
import torch
from scipy.stats import beta
from timm.data.mixup import Mixup
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor, nn

from barlowctl.methods import Targets, keyed
from barlowctl.methods.fine_tuning import FineTuning
from barlowctl.methods.image_mixing import DRAWS, QUANTILES, STREAM, ImageMixing
from barlowctl.objective.classification import classification_loss, mixed_classification_loss
from tests.oracles import fine_tuning as oracle

SEED, ROWS, CLASSES, HEIGHT, WIDTH = 3, 6, 4, 9, 14


def make(**options: float) -> FineTuning:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten())
    width = 4 * (HEIGHT - 2) * (WIDTH - 2)
    return FineTuning(backbone, width=width, num_classes=CLASSES, frozen=False, seed=SEED, **options).double()


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(ROWS, 1, HEIGHT, WIDTH, dtype=torch.float64, generator=generator)
    return images, torch.randint(0, CLASSES, (ROWS,), generator=generator)


def numbers(step: int) -> list[int]:
    """What a step draws, each a whole number of 32 bits."""
    draws: list[int] = keyed.bits(SEED, torch.tensor(step), STREAM, torch.arange(DRAWS)).tolist()
    return draws


def drawn(step: int, mixing: ImageMixing) -> tuple[bool, float, int, int]:
    """Whether the step pastes a box, the share that is drawn, and the middle of the box."""
    _, which, place, row, column = (number / 2**32 for number in numbers(step))
    cuts = which < mixing.cutmix_share
    shares = mixing.cutmix_shares if cuts else mixing.mixup_shares
    return cuts, float(shares[int(place * QUANTILES)]), int(row * HEIGHT), int(column * WIDTH)


def targets_of(labels: Tensor) -> Targets:
    return Targets(labels, torch.arange(ROWS), None, torch.zeros(()))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_images_and_loss_are_those_of_the_formulas(smoothing: float) -> None:
    images, labels = batch()
    method = make(label_smoothing=smoothing, mixup=0.8, cutmix=1.0)
    ways = set()
    for step in range(12):
        assert method.mixing is not None
        cuts, share, row, column = drawn(step, method.mixing)
        others = images.flip(0).numpy()
        if cuts:
            mixed, share = oracle.cutmix(images.numpy(), others, share, row, column)
        else:
            mixed = oracle.mixup(images.numpy(), others, share)
        with torch.no_grad():
            logits = method.logits(torch.from_numpy(mixed)).numpy()
        expected = oracle.loss(logits, labels.numpy(), labels.flip(0).numpy(), share, smoothing)
        terms = method([images], targets_of(labels))
        assert terms.loss.item() == pytest.approx(expected, rel=1e-6)  # shares are float32
        leading = labels if share >= 0.5 else labels.flip(0)
        assert terms.accuracy.item() == pytest.approx((logits.argmax(1) == leading.numpy()).mean())
        method.after_step(torch.zeros(()))
        ways.add(cuts)
    assert ways == {True, False}
    assert int(method.step) == 12


def test_timms_mixup_does_the_same_to_images_and_targets() -> None:
    images, labels = batch()
    method, theirs = make(label_smoothing=0.1, mixup=0.8, cutmix=1.0), Mixup(0.8, 1.0, num_classes=CLASSES)
    for step in range(8):
        assert method.mixing is not None
        cuts, share, row, column = drawn(step, method.mixing)
        with (
            patch.object(theirs, "_params_per_batch", return_value=(share, cuts)),
            patch("numpy.random.randint", side_effect=[row, column]),
        ):
            mixed, target = theirs(images.clone(), labels)
        weights = method.mixing.weights(SEED, method.step, HEIGHT, WIDTH).double()
        torch.testing.assert_close(weights * images + (1 - weights) * images.flip(0), mixed, rtol=1e-6, atol=1e-6)
        expected = SoftTargetCrossEntropy()(method.logits(mixed), target)
        assert method([images], targets_of(labels)).loss.item() == pytest.approx(expected.item(), rel=1e-6)
        method.after_step(torch.zeros(()))


@pytest.mark.parametrize("alpha", [5e-324, 1e-20, 1e-9])
def test_of_the_smallest_parameters_shares_are_all_or_nothing(alpha: float) -> None:
    """What Beta(alpha, alpha) becomes: one image or the other, equally likely. They were nan."""
    shares = ImageMixing(alpha, 0.0).mixup_shares
    assert torch.equal(shares, (torch.arange(QUANTILES) >= QUANTILES // 2).to(torch.float32))


@pytest.mark.parametrize("alpha", [1e-5, 0.2, 0.8, 1.0, 1.5, 30.0])
def test_shares_have_the_distribution_they_are_named_for(alpha: float) -> None:
    """SciPy's inverse of the incomplete beta function is the oracle."""
    expected = beta.ppf((np.arange(QUANTILES) + 0.5) / QUANTILES, alpha, alpha)
    for mixing in (ImageMixing(alpha, 0.0).mixup_shares, ImageMixing(0.0, alpha).cutmix_shares):
        np.testing.assert_allclose(mixing.numpy(), expected, atol=5e-7)
    with pytest.raises(ValueError, match="one of them is above 0"):
        ImageMixing(0.0, 0.0)


def test_how_often_a_batch_is_mixed_and_by_which_of_the_two() -> None:
    steps = range(400)
    mixing = ImageMixing(0.8, 1.0, probability=0.7, cutmix_share=0.25)
    weights = [mixing.weights(SEED, torch.tensor(step), 8, 8) for step in steps]
    plain = [bool((weight == 1.0).all()) for weight in weights]
    left_alone = [numbers(step)[0] >= 0.7 * 2**32 for step in steps]
    assert all(plain[step] for step in steps if left_alone[step])
    assert np.mean(left_alone) == pytest.approx(0.3, abs=0.07)
    pasted = [len(weight.unique()) == 2 for weight in weights]
    assert np.mean(pasted) == pytest.approx(0.7 * 0.25, abs=0.05)
    shares = [
        float(weight.mean()) for weight, box, alone in zip(weights, pasted, plain, strict=True) if not box and not alone
    ]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.07)
    assert np.std(shares) == pytest.approx(beta.std(0.8, 0.8), rel=0.1)
    for only in (ImageMixing(0.0, 1.0), ImageMixing(1.0, 0.0)):
        kinds = [set(only.weights(SEED, torch.tensor(step), 8, 8).unique().tolist()) for step in range(50)]
        boxes = [kind <= {0.0, 1.0} for kind in kinds]
        assert all(boxes) if only.cutmix_share == 1.0 else not any(boxes)


def test_labels_may_be_smoothed_without_mixing() -> None:
    images, labels = batch()
    method = make(label_smoothing=0.2)
    with torch.no_grad():
        logits = method.logits(images)
    expected = oracle.loss(logits.numpy(), labels.numpy(), labels.numpy(), 1.0, 0.2)
    assert method([images], targets_of(labels)).loss.item() == pytest.approx(expected, rel=1e-12)


def test_no_mixture_and_no_smoothing_is_the_plain_loss() -> None:
    logits = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 1, 0])
    plain = classification_loss(logits, labels)
    mixed = mixed_classification_loss(logits, labels, labels.flip(0), torch.ones(5))
    assert mixed.loss.item() == pytest.approx(plain.loss.item(), rel=1e-15)
    assert mixed.accuracy == plain.accuracy


def test_a_batch_in_two_passes_has_the_gradient_of_one() -> None:
    from barlowctl.distributed import ALONE
    from barlowctl.train.gradient import Gradient

    images, labels = batch()
    gradients = []
    for micro_batch in (0, 4):
        method = make(label_smoothing=0.1, mixup=0.8, cutmix=1.0)
        gradient = Gradient(
            method, to_input=lambda view: view, device=torch.device("cpu"), precision="fp32",
            scaler=torch.amp.GradScaler("cpu", enabled=False), ranks=ALONE, micro_batch=micro_batch,
        )  # fmt: skip
        gradient([images], targets_of(labels))
        gradients.append([parameter.grad for parameter in method.parameters()])
    for one_pass, two_passes in zip(*gradients, strict=True):
        torch.testing.assert_close(one_pass, two_passes, rtol=1e-12, atol=1e-14)


def test_evaluation_mixes_nothing() -> None:
    images, _ = batch()
    method = make(mixup=0.8, cutmix=1.0).eval()
    expected = method.head(method.backbone(images))
    assert torch.equal(method.logits(images), expected)
