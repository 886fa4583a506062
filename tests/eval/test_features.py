"""Extraction leaves the backbone as it was, in bytes and in mode; the digest notices any change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from barlowctl.errors import UserError
from barlowctl.eval.features import backbone_digest, extract


@dataclass
class Batch:
    views: tuple[Tensor, ...]
    labels: Tensor


def backbone() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Dropout(0.5), nn.Flatten(), nn.Linear(80, 4))


def images() -> Tensor:
    return torch.randint(0, 256, (7, 6, 6, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def ring(stored: Tensor) -> Iterator[Batch]:
    """Batches of 3, 3 and 1 images that alias one buffer, as the loader's do."""
    buffer, labels = torch.empty_like(stored[:3]), torch.empty(3, dtype=torch.int64)
    for start in range(0, len(stored), 3):
        count = min(3, len(stored) - start)
        buffer[:count] = stored[start : start + count]
        labels[:count] = torch.arange(start, start + count)
        yield Batch(views=(buffer[:count], buffer[:count] * 0), labels=labels[:count])


def to_input(batch: Tensor) -> Tensor:
    return batch.permute(0, 3, 1, 2).float() / 255


def test_features_are_those_of_the_backbone_in_eval_mode() -> None:
    module = backbone()
    features, labels = extract(module, ring(images()), to_input)
    with torch.no_grad():
        expected = module.eval()(to_input(images()))
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-6)
    assert features.dtype == torch.float32
    assert labels.tolist() == list(range(7))
    assert not features.is_inference()
    (features * nn.Parameter(torch.ones(4))).sum().backward()  # can be trained on


def test_outputs_that_alias_the_ring_are_copied() -> None:
    """Identity on float images of a ring buffer: without a copy every batch would be the last one."""

    def float_ring() -> Iterator[Batch]:
        buffer = torch.empty(2, 3)
        for value in (1.0, 2.0, 3.0):
            buffer.fill_(value)
            yield Batch(views=(buffer,), labels=torch.zeros(2))

    features, labels = extract(nn.Identity(), float_ring(), lambda batch: batch)
    assert features[:, 0].tolist() == [1, 1, 2, 2, 3, 3]
    assert labels.dtype == torch.int64


def test_the_backbone_does_not_change_in_bytes_or_mode() -> None:
    module = backbone().train()
    module[1].eval()
    before = backbone_digest(module)
    extract(module, ring(images()), to_input)
    assert backbone_digest(module) == before
    assert [m.training for m in module] == [True, False, True, True, True]
    assert module.training

    def failing() -> Iterator[Batch]:
        yield from ring(images())
        raise RuntimeError("the loader broke")

    with pytest.raises(RuntimeError, match="the loader broke"):
        extract(module, failing(), to_input)
    assert [m.training for m in module] == [True, False, True, True, True]


def test_half_precision_features_come_out_in_float32() -> None:
    module = backbone().to(torch.bfloat16)
    features, _ = extract(module, ring(images()), lambda batch: to_input(batch).bfloat16())
    assert features.dtype == torch.float32


def test_the_digest_sees_every_parameter_and_buffer() -> None:
    module = backbone()
    seen = {backbone_digest(module)}
    assert seen == {backbone_digest(backbone())}
    for tensor in [*module.parameters(), *module.buffers()]:
        with torch.no_grad():
            tensor.view(-1)[-1:] += 1
        seen.add(backbone_digest(module))
    assert len(seen) == 1 + len(list(module.parameters())) + len(list(module.buffers()))


def test_the_digest_is_of_values_not_of_layout() -> None:
    module = backbone()
    before = backbone_digest(module)
    assert backbone_digest(module.to(memory_format=torch.channels_last)) == before
    assert backbone_digest(module.to(torch.bfloat16)) != before
    assert backbone_digest(nn.ReLU()) == backbone_digest(nn.Tanh())  # nothing to see


def test_a_train_mode_pass_changes_the_digest() -> None:
    module = backbone().train()
    before = backbone_digest(module)
    module(to_input(images()))
    assert backbone_digest(module) != before


def test_bad_input_is_named() -> None:
    with pytest.raises(UserError, match="no images"):
        extract(backbone(), [], to_input)
    with pytest.raises(UserError, match=r"returned \(3, 3, 6, 6\) for 3 images"):
        extract(nn.Identity(), ring(images()), to_input)
