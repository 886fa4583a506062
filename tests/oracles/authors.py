"""The authors' training step on W devices, one after the other in one process, in float64.

As their code has it: batch norm synchronised over devices, inside the networks and on the embeddings; each
device multiplies its own rows, and the sum of C over devices is taken outside of autograd, so that a device's
loss knows C but differentiates its own part of it; the data-parallel wrapper averages the gradients; LARS
takes weight decay before it adapts, and leaves biases and norm parameters out of both.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from barlowctl.distributed import ALONE
from tests.oracles import lars, schedule


class Trajectory(NamedTuple):
    losses: np.ndarray  # (steps,)
    path: np.ndarray  # (steps, number of weights): after each step


def device_losses(z1: torch.Tensor, z2: torch.Tensor, devices: int, lambd: float) -> list[torch.Tensor]:
    """The loss as each device computes it from its rows of the embeddings of the global batch."""
    n, d = z1.shape
    norm = torch.nn.BatchNorm1d(d, affine=False).double()
    a, b = norm(z1), norm(z2)
    parts = [x.T @ y / n for x, y in zip(a.tensor_split(devices), b.tensor_split(devices), strict=True)]
    losses = []
    for own, part in enumerate(parts):
        c = part + sum(other.detach() for number, other in enumerate(parts) if number != own)
        on_diagonal = (torch.diagonal(c) - 1).pow(2).sum()
        off_diagonal = c.pow(2).sum() - torch.diagonal(c).pow(2).sum()
        losses.append(on_diagonal + lambd * off_diagonal)
    return losses


def trajectory(run: Any, devices: int) -> Trajectory:
    """Train the network of `tests.dist.work` on its images with the numbers of `run` on `devices` devices."""
    from tests.dist import work

    method = work.network(ALONE, dtype="float64", norm=run.norm)
    parameters = dict(method.named_parameters())
    start = {name: p.detach().numpy().copy() for name, p in parameters.items()}
    gradients: dict[str, list[np.ndarray]] = {name: [] for name in parameters}
    factors: list[float] = []
    losses, path = [], []
    total = run.epochs * run.batches
    for epoch in range(run.epochs):
        for batch in work.Images(ALONE, run.batches, run.rows).epoch(epoch):
            images = [view.permute(0, 3, 1, 2).double() / 255 for view in batch.views]
            z1, z2 = (method.projector(method.backbone(view)) for view in images)
            each = device_losses(z1, z2, devices, lambd=0.02)
            method.zero_grad()
            sum(each).backward()  # type: ignore[union-attr]
            length = {"total_steps": total, "warmup_steps": round(0.2 * run.batches)}
            factors.append(schedule.learning_rate(len(factors), peak=1.0, end=0.001, **length))
            for name, p in parameters.items():
                assert p.grad is not None
                gradients[name].append(p.grad.numpy() / devices)
                rate = run.lr_biases if p.ndim <= 1 else run.lr
                steps = lars.trajectory(
                    start[name],
                    gradients[name],
                    lr=[rate * factor for factor in factors],
                    weight_decay=run.weight_decay,
                    momentum=0.9,
                    eta=0.02,
                )
                p.data.copy_(torch.from_numpy(np.asarray(steps[-1])))
            losses.append(each[0].item())
            path.append(np.concatenate([p.detach().numpy().ravel() for p in parameters.values()]))
    return Trajectory(np.array(losses), np.stack(path))
