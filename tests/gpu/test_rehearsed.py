"""What is tested on a CUDA device, rehearsed without one: mixed devices, waiting, and what a graph would keep."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from barlowctl.bench.step_others import LoopLARS
from barlowctl.methods import Method
from barlowctl.methods.fine_tuning import FineTuning
from barlowctl.train.groups import parameter_groups
from barlowctl.train.optim import OPTIMIZERS, build_optimizer, set_learning_rates
from barlowctl.train.step import TrainingStep
from tests.detect import detectors
from tests.gpu import test_decorrelation_cuda, test_methods_cuda, test_siamese_cuda, test_step_cuda
from tests.gpu.pretended_card import CARD, pretended_card
from tests.train import captured_steps

ROWS = 24


def backbone() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())


def steps(method: Method, optimizer: torch.optim.Optimizer, **settings: Any) -> tuple[TrainingStep, list[float]]:
    """Seven steps on the card, and their losses; from the third one on no step may wait for the device."""
    notes = list[str]()
    step = TrainingStep(
        method.train(),
        optimizer,
        to_input=test_step_cuda.to_input,
        device=CARD,
        precision="fp32",
        notify=notes.append,
        **settings,
    )
    losses = []
    for number in range(7):
        drawn = torch.Generator().manual_seed(number)
        images = torch.randint(0, 256, (method.views, ROWS, 16, 16, 3), dtype=torch.uint8, generator=drawn)
        views = [view.to("cuda") for view in images]
        torch.cuda.set_sync_debug_mode("error" if number > 1 else "default")
        set_learning_rates(optimizer, 1.0 - number / 10)
        targets = step.targets(torch.arange(ROWS) % 5, torch.arange(ROWS), [ROWS], number / 7)
        computed = step.compute(views, targets)
        step.update(computed, with_norm=number % 2 == 0)
        torch.cuda.set_sync_debug_mode("default")
        losses.append(computed.loss())
    assert not notes
    return step, losses


@pytest.mark.parametrize("settings", [{}, {"clip_grad_norm": 0.1}, {"micro_batch": 5}], ids=str)
@pytest.mark.parametrize("name", captured_steps.NAMES)
def test_no_step_of_a_method_waits_for_the_device(name: str, settings: dict[str, Any]) -> None:
    with pretended_card():
        step = captured_steps.step_of(captured_steps.method_of(name, "cuda"), "sgd", CARD, **settings)
        for number in range(3):
            views, indices = captured_steps.images(name, number)
            on_card = [view.to("cuda") for view in views]
            torch.cuda.set_sync_debug_mode("error" if number else "default")
            targets = step.targets(torch.full_like(indices, -1), indices, [len(indices)], 0.5 + number / 10)
            step.update(step.compute(on_card, targets), with_norm=True)
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("mixing", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}], ids=str)
def test_mixing_images_waits_for_nothing_and_is_captured(mixing: dict[str, float]) -> None:
    """It read the number of a quantile on the host, twice in each step, so that no graph could hold it."""
    losses = []
    for captures in (False, True):
        with pretended_card():
            method = FineTuning(backbone(), seed=1, width=32, num_classes=5, frozen=False, **mixing).to("cuda")
            optimizer = build_optimizer(method, "sgd", lr=0.1, lr_biases=0.1, weight_decay=0.0)
            step, of_step = steps(method, optimizer, captures=captures)
            assert (step._captured is not None) is captures
            losses.append(of_step)
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_the_loop_of_the_ladder_leaves_out_a_step_whose_gradient_overflows() -> None:
    """It was told so on the device, which it does not heed, and its weights were infinite."""
    with pretended_card():
        method, _ = test_step_cuda.make("sgd", "cuda")
        groups = parameter_groups(method, lr=0.1, lr_biases=0.1, weight_decay=0.0)
        scaler = torch.amp.GradScaler("cuda", init_scale=2.0**40)
        step = TrainingStep(
            method.train(),
            LoopLARS(groups, lr=0.1, weight_decay=0.0),
            to_input=test_step_cuda.to_input,
            device=CARD,
            precision="fp16",
            scaler=scaler,
        )
        (batch, *_) = test_step_cuda.Loader().epoch(0)
        targets = step.targets(batch.labels, batch.indices, [len(batch.indices)], 0.5)
        step.update(step.compute([view.to("cuda") for view in batch.views], targets))
        assert scaler.get_scale() == 2.0**39
        assert all(bool(p.isfinite().all()) for p in method.parameters())


def test_a_batch_of_a_detector_is_sent_without_waiting() -> None:
    """Each image, and each target's boxes and labels, had the host wait for all that the device was given before."""
    with pretended_card() as card:
        sent = detectors.batch().to(CARD)
        assert {image.device for image in sent.images} == {target.boxes.device for target in sent.targets} == {CARD}
        assert not card.waits


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_in_a_graph(tmp_path: Path, name: str) -> None:
    with pretended_card():
        test_step_cuda.test_a_captured_step_is_the_one_that_was_captured(tmp_path, name, "bf16")


def test_what_is_allowed_between_steps_is_not_within_one() -> None:
    with pretended_card():
        test_step_cuda.test_nothing_waits_for_the_device_inside_a_step()


WHOLE: list[tuple[Callable[..., None], tuple[Any, ...]]] = [
    *((test_step_cuda.test_twenty_steps_are_those_of_the_cpu, case) for case in itertools.product(OPTIMIZERS, (0, 1))),
    *((test_step_cuda.test_a_captured_step_is_the_one_that_was_captured, (name, "fp16")) for name in OPTIMIZERS),
    *((test_step_cuda.test_a_resumed_run_goes_on_as_if_it_had_not_stopped, (name, True)) for name in OPTIMIZERS),
    *((test_step_cuda.test_a_loss_that_is_not_finite_ends_the_run_with_the_weights_before_it, (g,)) for g in (0, 1)),
    (test_step_cuda.test_a_step_that_no_graph_can_hold_is_said_and_the_run_goes_on, ()),
    *((test_siamese_cuda.test_ten_steps_are_those_of_the_cpu, (name, True)) for name in test_siamese_cuda.MAKE),
    *((test_decorrelation_cuda.test_ten_steps_are_those_of_the_cpu, (n, True)) for n in test_decorrelation_cuda.NAMES),
]


@pytest.mark.slow
@pytest.mark.parametrize(("test", "case"), WHOLE, ids=lambda value: getattr(value, "__name__", str(value)))
def test_runs_of_the_cuda_tests(tmp_path: Path, test: Callable[..., None], case: tuple[Any, ...]) -> None:
    with pretended_card():
        test(tmp_path, *case)


@pytest.mark.slow
@pytest.mark.parametrize("name", captured_steps.NAMES)
def test_a_graph_of_every_method(name: str) -> None:
    with pretended_card():
        test_methods_cuda.test_a_captured_step_of_every_method_is_the_one_that_was_captured(name)


@pytest.mark.slow
@pytest.mark.parametrize("captures", [False, True])
@pytest.mark.parametrize("name", test_methods_cuda.test_moved_rows.LARGE)
def test_a_bank_or_queue_taken_back(name: str, captures: bool) -> None:
    with pretended_card():
        test_methods_cuda.test_a_step_taken_back_leaves_its_bank_or_queue(name, captures)


# ---- what the card that is pretended sees ------------------------------------------------------------------


def on_card() -> Tensor:
    return torch.ones(3, device="cuda")


@pytest.mark.parametrize(
    ("does", "complaint"),
    [
        (lambda x: x + torch.ones(3), "at least two devices"),
        (lambda x: x @ torch.ones(3, 3), "at least two devices"),
        (lambda x: torch.stack([x[0], torch.ones(())]), "at least two devices"),
        (lambda x: x.sum().item(), "_local_scalar_dense"),
        (lambda x: bool(x.any()), "synchronizing"),
        (lambda x: x[torch.zeros((), dtype=torch.int64, device="cuda")], "_local_scalar_dense"),
        (lambda x: x[x > 0], "by a mask"),
        (lambda x: x[torch.tensor([0])], "places on the host"),
        (lambda x: x.cpu(), "a copy"),
        (lambda x: torch.ones(3).to("cuda"), "a copy"),
        (lambda x: torch.tensor(1.0, device="cuda"), "a value of the host"),
        (lambda x: x.copy_(torch.ones(3)), "copy_"),
    ],
)
def test_what_mixes_devices_or_waits_is_refused(does: Callable[[Tensor], Any], complaint: str) -> None:
    with pretended_card():
        x = on_card()
        torch.cuda.set_sync_debug_mode("error")
        with pytest.raises(RuntimeError, match=complaint):
            does(x)


def test_what_does_neither_goes_through() -> None:
    with pretended_card() as card:
        x = on_card()
        assert (x.device, x.is_cuda, x[:2].device, torch.ones(3).device.type) == (CARD, True, CARD, "cpu")
        made = x * 2.0 + torch.full((), 3.0) + torch.zeros_like(x) + torch.ones(3).to("cuda", non_blocking=True)
        assert made.device == CARD
        assert not card.waits
        with pytest.raises(TypeError, match="can't convert cuda:0"):
            made.numpy()
        np.testing.assert_array_equal(made.cpu().numpy(), [6.0, 6.0, 6.0])
        assert card.waits == ["a copy from one device to another"]


def test_a_graph_computes_nothing_when_captured_and_keeps_what_python_had() -> None:
    with pretended_card():
        x, total, factor = on_card(), torch.zeros(3, device="cuda"), 2.0
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            total.add_(x * factor)
        assert total.tolist() == [0.0, 0.0, 0.0]
        factor = 5.0
        for _ in range(2):
            x.fill_(3.0)
            graph.replay()
        assert total.tolist() == [12.0, 12.0, 12.0]
        with pytest.raises(RuntimeError, match="not permitted when stream is capturing"), torch.cuda.graph(graph):
            x.sum().item()
