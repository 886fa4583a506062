"""The compared methods on a CUDA device: captured as one graph, a step is what it is kernel by kernel."""

from __future__ import annotations

import pytest
import torch

from barlowctl.distributed import ALONE
from barlowctl.train.optim import build_optimizer, set_learning_rates
from barlowctl.train.step import TrainingStep
from tests.dist import methods, moved
from tests.methods import test_moved_rows

pytestmark = pytest.mark.gpu
STEPS = 9


def trained(name: str, *, captures: bool) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses of some steps, and the state after them. A captured one draws the same orders of keys."""
    device, notes = torch.device("cuda"), list[str]()
    method = methods.MAKERS[name](ALONE).float().to(device).train()
    optimizer = build_optimizer(method, "sgd", lr=0.1, lr_biases=0.1, weight_decay=0.0)
    torch.manual_seed(11)
    step = TrainingStep(
        method,
        optimizer,
        to_input=lambda images: images.permute(0, 3, 1, 2).float() / 255,
        device=device,
        precision="fp32",
        captures=captures,
        notify=notes.append,
    )
    losses = []
    for number in range(STEPS):
        set_learning_rates(optimizer, 1.0)
        drawn = torch.Generator().manual_seed(number)
        shape, rows = (methods.ROWS, 6, 6, 1), torch.arange(methods.ROWS)
        views = [torch.randint(0, 256, shape, dtype=torch.uint8, generator=drawn).to(device) for _ in range(2)]
        computed = step.compute(views, step.targets(rows, rows, [methods.ROWS], number / STEPS))
        step.update(computed, with_norm=True)
        losses.append(computed.loss())
    assert notes == []
    assert (step._captured is not None) is captures
    return losses, {key: value.cpu() for key, value in method.state_dict().items()}


@pytest.mark.parametrize("name", methods.MAKERS)
def test_a_captured_step_of_every_method_is_the_one_that_was_captured(name: str) -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    expected, state = trained(name, captures=False)
    actual, same = trained(name, captures=True)
    assert actual == pytest.approx(expected, rel=1e-3)
    for key, value in state.items():
        torch.testing.assert_close(same[key], value, rtol=1e-2, atol=1e-2, msg=key)


@pytest.mark.parametrize("captures", [False, True])
@pytest.mark.parametrize("name", test_moved_rows.LARGE)
def test_a_step_taken_back_leaves_its_bank_or_queue(name: str, captures: bool) -> None:
    """Also where a graph's replay wrote over what the rows of the step before were."""
    test_moved_rows.check(moved.take_back(ALONE, name, 2, 0, 0, captures, "cuda"), name, updated=2)
