"""One step's gradient in two passes, and with recomputed activations, against the plain one."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from barlowctl.distributed import ALONE
from barlowctl.errors import UserError
from barlowctl.methods import BarlowTwins, Targets
from barlowctl.model import build_backbone, recompute_activations
from barlowctl.train.gradient import Gradient

ROWS = 22


def views() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 256, (ROWS, 8, 8, 1), dtype=torch.uint8, generator=generator) for _ in range(2)]


def small(*, norm: bool = False, dropout: float = 0.0, **options: Any) -> BarlowTwins:
    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Conv2d(1, 6, 3),
        nn.BatchNorm2d(6) if norm else nn.GroupNorm(2, 6),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Flatten(),
    )
    projector = nn.Sequential(nn.Linear(216, 16), nn.ReLU(), nn.Linear(16, 12, bias=False))
    return BarlowTwins(backbone, projector, lambd=0.02, **options)


def gradients(method: BarlowTwins, *, precision: str = "fp32", **options: Any) -> tuple[Any, dict[str, Tensor]]:
    seen: list[int] = []

    def to_input(images: Tensor) -> Tensor:
        seen.append(len(images))
        return images.permute(0, 3, 1, 2).float() / 255

    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, enabled=precision == "fp16")
    gradient = Gradient(
        method.train(),
        to_input=to_input,
        device=torch.device("cpu"),
        precision=precision,
        scaler=scaler,
        ranks=ALONE,
        **options,
    )
    torch.manual_seed(5)
    terms = gradient(views(), Targets.unlabelled(ROWS))
    assert max(seen) <= (options.get("micro_batch") or ROWS)
    return terms, {name: p.grad for name, p in method.named_parameters() if p.grad is not None}


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor], limit: float) -> None:
    assert actual.keys() == expected.keys()
    for name in expected:
        error = (actual[name] - expected[name]).abs().max() / expected[name].abs().max().clamp_min(1e-6)
        assert error <= limit, (name, float(error))


@pytest.mark.parametrize("micro_batch", [4, 5, 11, 22, 64])
def test_two_passes_have_the_full_batchs_gradient(micro_batch: int) -> None:
    """Without batch norm, to 1e-5 in float32; nothing of more than a micro-batch goes through the network."""
    expected_terms, expected = gradients(small())
    terms, actual = gradients(small(), micro_batch=micro_batch)
    assert_same(actual, expected, 1e-5)
    for value, other in zip(terms, expected_terms, strict=True):
        assert value.item() == pytest.approx(other.item(), rel=1e-5)


@pytest.mark.parametrize(
    "options", [{"stop_gradient": True}, {"predictor": nn.Linear(12, 12, bias=False)}, {"scale": 0.1}]
)
def test_two_passes_with_the_asymmetries(options: dict[str, Any]) -> None:
    _, expected = gradients(small(**options))
    for p in options.get("predictor", nn.Identity()).parameters():
        p.grad = None
    _, actual = gradients(small(**options), micro_batch=6)
    assert_same(actual, expected, 1e-5)


def test_dropout_drops_the_same_in_both_passes() -> None:
    """The pieces' embeddings of the second pass are those that the loss was computed from."""
    method = small(dropout=0.5)
    embedded: list[list[Tensor]] = [[], []]
    inner = method.embeddings

    def watched(images: Any) -> list[Tensor]:
        result = inner(images)
        embedded[torch.is_grad_enabled()].append(result[0].detach().clone())
        return result

    method.embeddings = watched  # type: ignore[method-assign]
    gradients(method, micro_batch=8)
    assert len(embedded[0]) == len(embedded[1]) == 3
    assert all(torch.equal(first, second) for first, second in zip(*embedded, strict=True))


def test_what_batch_norm_changes() -> None:
    """It normalises each micro-batch by itself, in both passes alike, and counts it once."""
    _, full = gradients(small(norm=True))
    micro = small(norm=True)
    _, actual = gradients(micro, micro_batch=11)
    assert max(float((actual[k] - full[k]).abs().max() / full[k].abs().max()) for k in full) > 1e-3
    assert micro.backbone[1].num_batches_tracked == 4  # two pieces of two views, once
    reference = small(norm=True)
    with torch.no_grad():
        for piece in zip(*(view.tensor_split(2) for view in views()), strict=True):
            reference.embeddings([part.permute(0, 3, 1, 2).float() / 255 for part in piece])
    assert torch.equal(micro.backbone[1].running_mean, reference.backbone[1].running_mean)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_two_passes_under_autocast(precision: str) -> None:
    _, expected = gradients(small(), precision=precision)
    _, actual = gradients(small(), precision=precision, micro_batch=6)
    assert_same(actual, expected, 0.05)


@pytest.mark.parametrize("micro_batch", [0, 8])
def test_recomputed_activations_leave_gradient_and_running_statistics(micro_batch: int) -> None:
    def residual() -> BarlowTwins:
        torch.manual_seed(0)
        backbone = build_backbone("resnet10t", in_chans=1, channels=[8, 8, 8, 8], stem_width=8)
        return BarlowTwins(backbone, nn.Linear(8, 12), lambd=0.02)

    plain, recomputing = residual(), residual()
    recompute_activations(recomputing.backbone)
    _, expected = gradients(plain, micro_batch=micro_batch)
    _, actual = gradients(recomputing, micro_batch=micro_batch, recomputes=True)
    assert_same(actual, expected, 1e-6)
    for (name, buffer), other in zip(plain.named_buffers(), recomputing.buffers(), strict=True):
        assert torch.equal(buffer, other), name


@pytest.mark.slow
def test_peak_memory_of_a_large_batch_is_close_to_that_of_the_micro_batch() -> None:
    """ResNet-50 at 32 pixels, one step each in its own process; what a batch of 2048 adds is its embeddings."""

    def measure(batch: int, micro_batch: int, recompute: int = 0) -> float:
        command = [sys.executable, "-m", "tests.train.peak", *map(str, (batch, micro_batch, recompute, 32))]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        megabytes, seconds = map(float, done.stdout.split())
        print(
            f"batch {batch}, micro-batch {micro_batch}, recompute {recompute}: {megabytes:.0f} MB, {seconds:.1f} CPU-s"
        )
        return megabytes

    small, full, two_passes = measure(64, 0), measure(256, 0), measure(2048, 64)
    embeddings = 2048 * 2048 * 4 / 1e6
    assert two_passes < small + 14 * embeddings  # both views, their gradients, what the loss makes of them
    assert two_passes < full
    assert measure(256, 0, 1) < 0.7 * full


def test_a_family_that_cannot_recompute_is_refused() -> None:
    with pytest.raises(UserError, match="cannot recompute"):
        recompute_activations(nn.Linear(3, 3))
