"""Steps of the compared methods that are taken back, alone and as ranks: what the state was, is, and was between."""

from __future__ import annotations

from typing import Any

import torch

from barlowctl.distributed import Ranks
from barlowctl.methods import Method
from barlowctl.train.computed import Computed
from barlowctl.train.optim import build_optimizer, set_learning_rates
from barlowctl.train.step import EAGER_STEPS, TrainingStep
from tests.dist import methods
from tests.dist.work import Images, share

COUNTED = EAGER_STEPS + 2
"""Steps that count, before those that are taken back."""


def take_back(
    ranks: Ranks,
    name: str,
    updated: int,
    computed: int,
    micro_batch: int = 0,
    captures: bool = False,
    device: str = "cpu",
) -> dict[str, Any]:
    """Take deferred steps of a method, then `updated` more that are not finite and `computed` halves: take them back.

    Images are in a batch several times, and in several batches.

    Returns:
        Copies of the whole state before what is taken back, between, and after; and the elements that a step copies.
    """
    method = methods.MAKERS[name](ranks).to(device)
    optimizer = build_optimizer(method, "sgd", lr=0.1, lr_biases=0.1, weight_decay=0.0)
    step = TrainingStep(
        method.train(),
        optimizer,
        to_input=lambda views: views.permute(0, 3, 1, 2).double() / 255,
        device=torch.device(device),
        precision="fp32",
        ranks=ranks,
        deferred=True,
        micro_batch=micro_batch,
    )
    step._captures = captures
    set_learning_rates(optimizer, 1.0)
    poison = torch.ones((), device=device)  # a tensor: a graph holds no condition of the host
    method.get_submodule("projector").register_forward_hook(lambda module, inputs, output: output * poison)
    batches = list(Images(ranks, COUNTED + updated + computed, methods.ROWS, methods.SMALL.get(name, 0)).epoch(0))
    states, taken = [], list[Computed]()
    for number, batch in enumerate(batches):
        if number == COUNTED:
            poison.fill_(torch.nan)
            states.append(copied(method))
        indices = share((torch.arange(methods.ROWS) * 3 + 7 * number) % 20, ranks)
        rows = [len(share(torch.arange(methods.ROWS), Ranks(rank, ranks.size))) for rank in range(ranks.size)]
        targets = step.targets(batch.labels, indices, rows, number / len(batches))
        taken.append(step.compute(list(batch.to(torch.device(device))), targets))
        if number < COUNTED + updated:
            step.update(taken[-1])
    assert (step._captured is not None) is captures
    states.append(copied(method))
    if computed:
        step.undo()
    if updated:
        step.undo(taken[COUNTED])
    states.append(copied(method))
    return {"states": states, "copied": sum(tensor.numel() for tensor in taken[-1].before.tensors)}


def copied(method: Method) -> dict[str, Any]:
    return {name: value.cpu().numpy().copy() for name, value in method.state_dict().items()}
