"""What the ranks of a gang do with a backbone that is divided among them, where the run says so (`Run.shard`)."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from barlowctl.distributed import Ranks
from barlowctl.methods import BarlowTwins, Method
from barlowctl.train import engine
from barlowctl.train.events import StepDone
from barlowctl.train.gradient_norms import GradientNorms, Norms, parameter_names
from barlowctl.train.step import TrainingStep
from tests.dist import methods, work
from tests.dist.work import DTYPES, Images, Run
from tests.train.recorded_graph import FROM_HOST

METHODS_RUN = replace(methods.TRAINED, optimizer="adamw", lr=0.01, lr_biases=0.01)
WITHOUT_AN_AVERAGE = ("supervised", "simclr", "vicreg", "mixed-barlow-twins", "multi-crop", "pirl")


class Gain(nn.Module):
    """A parameter without dimensions, which has no rows to be divided by."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain


def train(ranks: Ranks, run: Run, folder: str, stop_at: int | None = None, resume: bool = False) -> list[float]:
    """Train the transformer: losses and gradient norms by turns."""
    return _train(ranks, work.transformer(ranks, dtype=run.dtype), run, folder, stop_at, resume)


def train_on_gpus(ranks: Ranks, run: Run, folder: str) -> list[float]:
    """The same, one GPU per rank; the gang has joined with CUDA."""
    torch.cuda.set_device(ranks.rank)
    return train(ranks, replace(run, device=f"cuda:{ranks.rank}"), folder)


def train_each(ranks: Ranks, run: Run, folder: str) -> dict[str, list[float]]:
    """Train methods in which nothing follows the backbone, each with a number by itself in its backbone."""
    values = {}
    for name in WITHOUT_AN_AVERAGE:
        method = methods.MAKERS[name](ranks)
        method.backbone.append(Gain())  # type: ignore[operator]
        values[name] = _train(ranks, method, methods.run_of(name, run), str(Path(folder) / name))
    return values


class Uncalled(nn.Module):
    """Two blocks, of which one is not called: its weights are used."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(36, 36), nn.Linear(36, 36)])

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.blocks
        return nn.functional.linear(first(x.flatten(1)), second.weight)  # type: ignore[arg-type]


def train_uncalled(ranks: Ranks, run: Run, folder: str) -> list[float]:
    """Train a backbone that FSDP2 cannot divide."""
    method = BarlowTwins(Uncalled(), nn.Linear(36, 12), lambd=0.02, ranks=ranks).double()
    return _train(ranks, method, run, folder)


def train_until_killed(ranks: Ranks, run: Run, folder: str, when: str) -> None:
    """The last rank is killed in a later step, as its second block begins to compute `forward`, or `backward`."""
    method = work.transformer(ranks, dtype=run.dtype)
    begun = 0

    def kill(*arguments: object) -> None:
        nonlocal begun
        begun += 1
        if begun == 5:
            os.kill(os.getpid(), 9)

    if ranks.rank == ranks.size - 1:
        block: nn.Module = method.backbone.blocks[1]  # type: ignore[index, assignment]
        register: Callable[..., Any] = {
            "forward": block.register_forward_pre_hook,
            "backward": block.register_full_backward_pre_hook,
        }[when]
        register(kill)
    _train(ranks, method, run, folder)


def _train(
    ranks: Ranks, method: Method, run: Run, folder: str, stop_at: int | None = None, resume: bool = False
) -> list[float]:
    method = method.to(run.device)
    values: list[float] = []

    def sink(event: Any) -> None:
        if isinstance(event, StepDone):
            values.extend((event.values["loss"], event.values["grad_norm"]))

    optimizer = work.optimizer_of(run, method)
    engine.train(
        method,
        Images(ranks, run.batches, run.rows, run.small),
        optimizer,
        work.settings(run),
        to_input=lambda views: views.permute(0, 3, 1, 2).to(DTYPES[run.dtype]) / 255,
        device=torch.device(run.device),
        emit=sink,
        checkpoints=Path(folder),
        recipe_digest="d",
        stop=lambda: stop_at is not None and len(values) >= 2 * stop_at,
        resume=resume,
        ranks=ranks,
    )
    return values


def train_poisoned(ranks: Ranks, run: Run, folder: str, name: str, step: int) -> None:
    """In that step, counted from 0, the last rank's gradient of a parameter is NaN: of its rows, or before the sum."""
    method = work.transformer(ranks, dtype=run.dtype)
    steps = 0

    def is_due() -> bool:
        nonlocal steps
        steps += 1
        return steps == step + 1 and ranks.rank == ranks.size - 1

    if not run.shard:
        method.get_parameter(name).register_hook(lambda gradient: gradient * torch.nan if is_due() else gradient)
    measure = GradientNorms.__call__

    def poison(self: GradientNorms) -> Norms:
        if run.shard and is_due():
            rows = next(rows for rows, of in parameter_names(method, self.sharding).items() if of == name)
            assert rows.grad is not None
            rows.grad[-1] = torch.nan
        return measure(self)

    GradientNorms.__call__ = poison  # type: ignore[method-assign]
    _train(ranks, method, run, folder)


class _CopiesFromHost(TorchDispatchMode):
    """Counts tensors that are made of Python's numbers: on a device each is a copy that the host waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func._schema.name == FROM_HOST
        return func(*args, **(kwargs or {}))


def copies_from_host(ranks: Ranks, run: Run, folder: str) -> list[int]:
    """How many tensors each step of a training makes of Python's numbers, from its passes to the optimizer's step."""
    counts: list[int] = []
    compute, update = TrainingStep.compute, TrainingStep.update

    def counted(half: Callable[..., Any]) -> Callable[..., Any]:
        def count(*arguments: Any, **options: Any) -> Any:
            with _CopiesFromHost() as copies:
                result = half(*arguments, **options)
            counts.append(copies.count)
            return result

        return count

    TrainingStep.compute = counted(compute)  # type: ignore[method-assign]
    TrainingStep.update = counted(update)  # type: ignore[method-assign]
    train(ranks, run, folder)
    return [sum(halves) for halves in zip(counts[::2], counts[1::2], strict=True)]
