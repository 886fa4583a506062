"""BYOL, SimSiam and SwAV on small networks in float64, and short trainings of them. For one process and for ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from barlowctl.distributed import ALONE, Ranks
from barlowctl.methods import Method, Targets
from barlowctl.methods.byol import BYOL
from barlowctl.methods.simsiam import SimSiam
from barlowctl.methods.swav import SwAV
from barlowctl.model import synchronize_batch_norm
from barlowctl.model.mlp import build_mlp
from barlowctl.train import engine
from barlowctl.train.events import StepDone
from barlowctl.train.gradient import Gradient
from barlowctl.train.gradient_sync import GradientSync
from barlowctl.train.optim import build_optimizer

FEATURES, EMBEDDING, PROTOTYPES = 12, 6, 5
BATCHES, EPOCHS, ROWS = 5, 2, 10  # 10 rows: shares of four ranks differ
LARGE, SMALL = 8, 6


def backbone(*, norm: bool = True) -> nn.Module:
    """Convolution, batch norm, pooling: it takes images of any size."""
    layers = [nn.Conv2d(1, 4, 3, bias=not norm), nn.BatchNorm2d(4) if norm else nn.Identity(), nn.Tanh()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, FEATURES))


def byol(ranks: Ranks = ALONE, *, norm: bool = True, **options: Any) -> BYOL:
    projector = build_mlp(FEATURES, (8, EMBEDDING), batch_norm=norm, hidden_bias=not norm, last_bias=False)
    predictor = build_mlp(EMBEDDING, (8, EMBEDDING), batch_norm=norm, hidden_bias=not norm, last_bias=False)
    return BYOL(backbone(norm=norm), projector, predictor, ranks=ranks, **{"momentum": 0.9, **options})


def simsiam(ranks: Ranks = ALONE, *, norm: bool = True, **options: Any) -> SimSiam:
    last_norm: Any = "plain" if norm else "none"
    projector = build_mlp(
        FEATURES, (8, EMBEDDING), batch_norm=norm, hidden_bias=False, last_bias=False, last_norm=last_norm
    )
    predictor = build_mlp(EMBEDDING, (4, EMBEDDING), batch_norm=norm, hidden_bias=False, last_bias=True)
    return SimSiam(backbone(norm=norm), projector, predictor, ranks=ranks, **options)


def swav(ranks: Ranks = ALONE, *, norm: bool = True, **options: Any) -> SwAV:
    projector = build_mlp(FEATURES, (8, EMBEDDING), batch_norm=norm, hidden_bias=not norm, last_bias=True)
    settings = {"frozen_share": 0.3, "queue": 2 * ROWS + 3, "queue_from": 0.2, **options}
    return SwAV(backbone(norm=norm), projector, width=EMBEDDING, prototypes=PROTOTYPES, ranks=ranks, **settings)


MAKE: dict[str, Callable[..., Method]] = {"byol": byol, "simsiam": simsiam, "swav": swav}
SIZES = {"byol": (LARGE, LARGE), "simsiam": (LARGE, LARGE), "swav": (LARGE, LARGE, SMALL, SMALL)}


def make(name: str, ranks: Ranks = ALONE, **options: Any) -> Method:
    """A method in float64, the same on every rank, its batch norm over all of them."""
    torch.manual_seed(3)
    method = MAKE[name](ranks, **options).double()
    return method if ranks.size == 1 else synchronize(method, ranks)


def synchronize(method: Method, ranks: Ranks) -> Method:
    synchronize_batch_norm(method, ranks, torch.device("cpu"))
    return method


def to_input(view: Tensor) -> Tensor:
    return view.permute(0, 3, 1, 2).double() / 255


@dataclass
class Batch:
    views: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        self.labels = torch.full((len(self.views[0]),), -1)
        self.indices = torch.arange(len(self.views[0]))

    def to(self, device: torch.device) -> tuple[Tensor, ...]:
        return tuple(view.to(device) for view in self.views)

    def hold(self, event: Any) -> None:
        event.synchronize()


@dataclass
class Views:
    """A loader of related views; each rank has its rows of every batch, and the last batch of an epoch is smaller."""

    sizes: tuple[int, ...]
    ranks: Ranks = ALONE
    rows: int = ROWS

    def epoch(self, epoch: int, *, start_batch: int = 0) -> Iterator[Batch]:
        for number in range(start_batch, BATCHES):
            rows = self.rows - (number == BATCHES - 1)
            generator = torch.Generator().manual_seed(100 * epoch + number)
            image = torch.randint(0, 180, (rows, LARGE, LARGE, 1), generator=generator)
            noise = [torch.randint(0, 75, (rows, size, size, 1), generator=generator) for size in self.sizes]
            views = [(image[:, :size, :size] + extra).byte() for size, extra in zip(self.sizes, noise, strict=True)]
            begin, end = (rows * r // self.ranks.size for r in (self.ranks.rank, self.ranks.rank + 1))
            yield Batch(tuple(view[begin:end] for view in views))

    def shares(self, batch: int) -> list[int]:
        rows = self.rows - (batch == BATCHES - 1)
        return [
            rows * (rank + 1) // self.ranks.size - rows * rank // self.ranks.size for rank in range(self.ranks.size)
        ]


def optimizer_of(method: Method, *, name: str = "sgd", decay: float = 1e-2) -> torch.optim.Optimizer:
    fixed = [method.heads()[head] for head in method.fixed_rates]
    return build_optimizer(method, name, lr=0.2, lr_biases=0.1, weight_decay=decay, eta=0.02, fixed=fixed)


def settings() -> engine.Settings:
    return engine.Settings(
        epochs=EPOCHS, steps_per_epoch=BATCHES, warmup_epochs=0.2, final_lr_scale=0.001, precision="fp32",
        log_every_steps=1, checkpoint_every_epochs=1, keep_checkpoints=2, evaluate_every_epochs=0,
    )  # fmt: skip


def train(
    ranks: Ranks,
    name: str,
    folder: str,
    stop_at: int | None = None,
    resume: bool = False,
    *,
    device: str = "cpu",
    cuda_graph: bool = False,
    watch: Callable[[Any], None] = lambda event: None,
) -> dict[str, np.ndarray]:
    """Ten steps with the engine: the terms of every step, and the whole state at the end. `watch`: told every event."""
    method = make(name, ranks).to(device)
    seen: list[list[float]] = []

    def emit(event: Any) -> None:
        watch(event)
        if isinstance(event, StepDone):
            seen.append([event.values[key] for key in ("loss", *method.terms)])

    engine.train(
        method, Views(SIZES[name], ranks), optimizer_of(method), replace(settings(), cuda_graph=cuda_graph),
        to_input=to_input, device=torch.device(device), emit=emit, checkpoints=Path(folder), recipe_digest="d",
        stop=lambda: stop_at is not None and len(seen) >= stop_at, resume=resume, ranks=ranks,
    )  # fmt: skip
    return {"terms": np.array(seen), **{key: value.cpu().numpy() for key, value in method.state_dict().items()}}


def gradients(ranks: Ranks, name: str) -> dict[str, np.ndarray]:
    """Terms and every parameter's gradient of the first batch, as the optimizer gets them."""
    method = make(name, ranks).train()
    method.before_step(torch.tensor(0.0))
    batch = next(Views(SIZES[name], ranks).epoch(0))
    sync = GradientSync(ranks, [p for p in method.parameters() if p.requires_grad])
    sync.start()
    terms = method([to_input(view) for view in batch.views])
    terms.loss.backward()
    sync.finish()
    arrays = {f"term {key}": value.detach().numpy() for key, value in terms._asdict().items()}
    return arrays | {key: p.grad.numpy() for key, p in method.named_parameters() if p.grad is not None}


def everything(ranks: Ranks, folder: str) -> dict[str, dict[str, np.ndarray]]:
    """Of every method: gradients of one batch, and ten steps. One gang of ranks does it all."""
    results = {f"{name}: a step": gradients(ranks, name) for name in MAKE}
    return results | {f"{name}: ten steps": train(ranks, name, f"{folder}/{name}") for name in MAKE}


def one_gradient(method: Method, sizes: tuple[int, ...], *, micro_batch: int) -> tuple[Any, dict[str, Tensor]]:
    """Terms and gradients of the first batch in one pass or in two."""
    method.train()
    method.before_step(torch.tensor(0.0))
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    gradient = Gradient(
        method, to_input=to_input, device=torch.device("cpu"), precision="fp32", scaler=scaler, ranks=ALONE,
        micro_batch=micro_batch,
    )  # fmt: skip
    views = next(Views(sizes).epoch(0)).views
    terms = gradient(views, Targets.unlabelled(len(views[0])))
    return terms, {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
