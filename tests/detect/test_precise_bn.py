"""PreciseBN: statistics of all that came into each batch norm, and nothing else changes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from barlowctl.detect import precise_bn
from barlowctl.detect.batch import DetectionBatch
from barlowctl.errors import UserError
from tests.detect import detectors


def batches() -> list[DetectionBatch]:
    return [detectors.batch([(64, 96)]), detectors.batch([(64, 64), (96, 64)]), detectors.batch([(32, 64)])]


def test_statistics_are_those_of_all_batches_together() -> None:
    model = detectors.detector().train()
    first, last = model.features.bn1, model.heads.box_head.norm
    inputs: dict[nn.Module, list[Tensor]] = {first: [], last: []}
    hooks = [
        norm.register_forward_pre_hook(lambda norm, x: inputs[norm].append(x[0].detach().double())) for norm in inputs
    ]
    assert precise_bn.recompute(model, batches()) == 3
    for hook in hooks:
        hook.remove()
    for norm, tensors in inputs.items():
        assert len({len(x) for x in tensors}) > 1  # batches of different weight
        rows = torch.cat([x.transpose(0, 1).flatten(1) for x in tensors], dim=1)
        torch.testing.assert_close(norm.running_mean.double(), rows.mean(dim=1), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(norm.running_var.double(), rows.var(dim=1, correction=0), rtol=1e-5, atol=1e-6)


def test_where_heads_have_no_batch_norm_they_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The statistics are those that whole passes give, to the bit."""
    model = detectors.detector(head="fpn").train()
    before = {key: value.clone() for key, value in model.state_dict().items() if "running" in key}
    with monkeypatch.context() as patched:
        patched.setattr(model.rpn, "forward", lambda *_: pytest.fail("proposals were computed"))
        assert precise_bn.recompute(model, batches()) == 3
    alone = {key: model.state_dict()[key].clone() for key in before}
    assert not any(torch.equal(alone[key], before[key]) for key in before)
    model.heads.batch_norm = nn.BatchNorm1d(2)  # which nothing goes through
    precise_bn.recompute(model, batches())
    assert model.heads.batch_norm.running_mean.tolist() == [0.0, 0.0]
    assert model.heads.batch_norm.running_var.tolist() == [1.0, 1.0]
    assert all(torch.equal(model.state_dict()[key], alone[key]) for key in before)


def test_only_statistics_change() -> None:
    model = detectors.detector().eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    precise_bn.recompute(model, batches()[:1])
    assert not any(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    for key, value in model.state_dict().items():
        changes = key.endswith(("running_mean", "running_var"))
        assert torch.equal(value, before[key]) is not changes, key


def test_what_was_there_before_and_the_number_of_times_do_not_matter() -> None:
    model = detectors.detector().train()
    precise_bn.recompute(model, batches())
    once = {key: value.clone() for key, value in model.state_dict().items()}
    precise_bn.recompute(model, batches())
    assert all(torch.equal(value, once[key]) for key, value in model.state_dict().items())


def test_without_a_batch_it_is_refused() -> None:
    with pytest.raises(UserError, match="no batch"):
        precise_bn.recompute(detectors.detector(), [])


def test_statistics_that_lag_behind_the_weights_are_mended() -> None:
    """Convolutions ahead of batch norms that are four times as large change nothing but what the statistics must be."""
    model, images = detectors.detector(masks=False).eval(), detectors.images([(64, 96)])
    precise_bn.recompute(model, batches())
    (expected,) = model.predict(images, [(64, 96)])
    with torch.no_grad():
        for part in (model.features, model.heads.box_head):
            for module in part.modules():
                if isinstance(module, nn.Conv2d):
                    module.weight.mul_(4.0)
    (lagging,) = model.predict(images, [(64, 96)])
    assert lagging.boxes.shape != expected.boxes.shape or not torch.allclose(lagging.scores, expected.scores, atol=0.01)
    precise_bn.recompute(model, batches())
    (mended,) = model.predict(images, [(64, 96)])
    torch.testing.assert_close(mended.boxes, expected.boxes, atol=0.1, rtol=1e-3)
    torch.testing.assert_close(mended.scores, expected.scores, atol=1e-3, rtol=0)
