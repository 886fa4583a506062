"""Detectors on a CUDA device: losses, samples and gradients are those of the CPU; masks come out there too."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from barlowctl.detect import precise_bn
from tests.detect import detectors

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def exact_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


@pytest.mark.parametrize("head", ["c4", "fpn"])
def test_terms_and_gradients_are_those_of_the_cpu(head: str) -> None:
    pytest.importorskip("pycocotools.mask")
    settings = replace(detectors.SMALL, box_features=16)
    values = []
    for device in ("cpu", "cuda"):
        model = detectors.detector(settings=settings, head=head).to(device).train()
        terms = model(detectors.batch().to(torch.device(device)))
        terms.loss.backward()
        gradients = [parameter.grad.cpu() for parameter in model.parameters() if parameter.grad is not None]
        values.append(([value.item() for value in terms], gradients))
    assert values[1][0] == pytest.approx(values[0][0], rel=1e-3)
    for expected, actual in zip(values[0][1], values[1][1], strict=True):
        torch.testing.assert_close(actual, expected, rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("recompute", [False, True])
def test_a_training_in_bf16_and_its_detections(recompute: bool) -> None:
    pytest.importorskip("pycocotools.mask")
    device, batch = torch.device("cuda"), detectors.batch()
    model = detectors.detector(settings=replace(detectors.SMALL, recompute=recompute)).to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            terms = model(batch.to(device))
        terms.loss.backward()
        optimizer.step()
        losses.append(terms.loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert precise_bn.recompute(model, [batch.to(device)]) == 1
    with torch.autocast("cuda", torch.bfloat16):
        detections = model.eval().predict([image.to(device) for image in batch.images], [(64, 96), (96, 64)])
    for of_image, size in zip(detections, ([64, 96], [96, 64]), strict=True):
        assert of_image.boxes.device.type == "cpu"
        assert of_image.boxes.dtype == torch.float32
        assert all(mask is not None and mask["size"] == size for mask in of_image.masks)
