"""What the ranks of a gang do: the same calls alone give what they are compared with. Returns numpy arrays."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from barlowctl.assemble.job import prepare
from barlowctl.assemble.machine import Runtime
from barlowctl.assemble.model import build_method
from barlowctl.assemble.same_on_ranks import check_trial
from barlowctl.assemble.start import begin
from barlowctl.distributed import ALONE, Ranks
from barlowctl.errors import UserError
from barlowctl.eval.features import backbone_digest
from barlowctl.model import build_backbone, split_batch_norm, synchronize_batch_norm
from barlowctl.methods import BarlowTwins, Method
from barlowctl.objective import barlow_twins_loss
from barlowctl.recipe import load
from barlowctl.train import checkpoint, engine
from barlowctl.train.events import StepDone
from barlowctl.train.gradient_sync import GradientSync
from barlowctl.train.optim import build_optimizer

DTYPES = {"float64": torch.float64, "float32": torch.float32}


def share(rows: Tensor, ranks: Ranks) -> Tensor:
    """A rank's rows, as the loader's plan cuts them: uneven where they must be."""
    return rows[len(rows) * ranks.rank // ranks.size : len(rows) * (ranks.rank + 1) // ranks.size]


def embeddings(n: int, d: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n + d)
    z1 = torch.randn(n, d, generator=generator, dtype=torch.float64) * 3 + 5
    z2 = 0.6 * z1 + torch.randn(n, d, generator=generator, dtype=torch.float64)
    return z1.to(dtype), z2.to(dtype)


def loss_and_gradients(
    ranks: Ranks, cases: Sequence[tuple[int, int, str, dict[str, Any]]], device: str = "cpu"
) -> list[list[np.ndarray]]:
    """For each (n, d, dtype, options): loss, both terms, and dL/dz1, dL/dz2 of own rows."""
    results = []
    for n, d, dtype, options in cases:
        pair = embeddings(n, d, DTYPES[dtype])
        z1, z2 = (share(z, ranks).to(device, copy=True).requires_grad_() for z in pair)
        terms = barlow_twins_loss(z1, z2, lambd=0.02, ranks=ranks, **options)
        terms.loss.backward()
        assert z1.grad is not None
        assert z2.grad is not None
        results.append([t.detach().cpu().numpy() for t in (*terms, z1.grad, z2.grad)])
    return results


def loss_and_gradients_on_gpus(
    ranks: Ranks, cases: Sequence[tuple[int, int, str, dict[str, Any]]]
) -> list[list[np.ndarray]]:
    """The same, one GPU per rank; the gang has joined with CUDA."""
    torch.cuda.set_device(ranks.rank)
    return loss_and_gradients(ranks, cases, f"cuda:{ranks.rank}")


class Images:
    """A loader of distinct images per rank: its share of batches that depend on epoch and number only.

    `small`: views of 4 x 4 pixels beside the two of 6 x 6.
    """

    def __init__(self, ranks: Ranks, batches: int, rows: int, small: int = 0) -> None:
        self.ranks, self.batches, self.rows, self.small = ranks, batches, rows, small

    def epoch(self, epoch: int, *, start_batch: int = 0) -> Iterator[Any]:
        for number in range(start_batch, self.batches):
            generator = torch.Generator().manual_seed(1000 * epoch + number)
            images = torch.randint(0, 256, (self.rows, 6, 6, 1), dtype=torch.uint8, generator=generator)
            noise = torch.randint(0, 60, (self.rows, 6, 6, 1), dtype=torch.uint8, generator=generator)
            small = [images[:, v % 3 : v % 3 + 4, v // 3 : v // 3 + 4] // (1 + v % 2) for v in range(self.small)]
            views = [share(view, self.ranks) for view in (images, images // 2 + noise, *small)]
            yield _Batch(tuple(views), share(torch.arange(self.rows) + number * self.rows, self.ranks))

    def shares(self, batch: int) -> list[int]:
        return [len(share(torch.arange(self.rows), replace(self.ranks, rank=rank))) for rank in range(self.ranks.size)]


@dataclass
class _Batch:
    views: tuple[Tensor, ...]
    indices: Tensor

    def __post_init__(self) -> None:
        self.labels = torch.full((len(self.views[0]),), -1)

    def to(self, device: torch.device) -> tuple[Tensor, ...]:
        return tuple(view.to(device) for view in self.views)

    def hold(self, event: Any) -> None:
        event.synchronize()


def network(
    ranks: Ranks,
    *,
    dtype: str,
    norm: bool = True,
    dropout: float = 0.0,
    norm_ranks: int = 0,
    norm_parts: int = 1,
    **options: Any,
) -> BarlowTwins:
    """Convolutions, batch norm of images and of vectors, biases.

    Batch norm is over all ranks, or groups of `norm_ranks`; alone it is of so many parts of the batch.
    """
    torch.manual_seed(3)
    norms = [nn.BatchNorm2d(5), nn.BatchNorm1d(24)] if norm else [nn.Identity(), nn.Identity()]
    convolution = nn.Conv2d(1, 5, 3, bias=not norm)  # ahead of a batch norm a bias has no gradient but rounding
    backbone = nn.Sequential(
        convolution, norms[0], nn.ReLU(), nn.Flatten(), nn.Dropout(dropout), nn.Linear(80, 20), nn.Tanh()
    )
    projector = nn.Sequential(nn.Linear(20, 24, bias=False), norms[1], nn.ReLU(), nn.Linear(24, 16, bias=False))
    method = BarlowTwins(backbone, projector, lambd=0.02, ranks=ranks, **options).to(DTYPES[dtype])
    if ranks.size > 1:
        synchronize_batch_norm(method, ranks.neighbours(norm_ranks), torch.device("cpu"))
    elif norm_parts > 1:
        split_batch_norm(method, norm_parts)
    return method


def transformer(ranks: Ranks, *, dtype: str = "float32") -> BarlowTwins:
    """A vision transformer of two blocks that skips residual branches, on images of 6 x 6 pixels."""
    torch.manual_seed(3)
    backbone = build_backbone(
        "vit_tiny_patch16_224",
        in_chans=1,
        img_size=6,
        patch_size=3,
        embed_dim=8,
        depth=2,
        num_heads=2,
        drop_path_rate=0.5,
    )
    projector = nn.Sequential(nn.Linear(8, 16, bias=False), nn.ReLU(), nn.Linear(16, 12, bias=False))
    return BarlowTwins(backbone, projector, lambd=0.02, ranks=ranks).to(DTYPES[dtype])


@dataclass(frozen=True)
class Run:
    """Ten steps of an optimizer; the learning rates are the peaks."""

    dtype: str = "float64"
    precision: str = "fp32"
    lr: float = 0.5
    lr_biases: float = 0.02
    weight_decay: float = 1e-2
    norm: bool = True
    rows: int = 22  # not a multiple of four: shares differ
    batches: int = 5
    epochs: int = 2
    micro_batch: int = 0
    scale: str = "exact"
    form: str = "auto"
    dropout: float = 0.0
    every_steps: int = 0
    small: int = 0
    device: str = "cpu"
    cuda_graph: bool = False
    optimizer: str = "lars"
    layer_decay: float = 1.0
    deferred: bool | None = None
    norm_ranks: int = 0
    norm_parts: int = 1
    shard: bool = False
    clip: float = 0.0


def optimizer_of(run: Run, method: Method) -> torch.optim.Optimizer:
    layers = list(method.backbone.parameters())
    return build_optimizer(
        method,
        run.optimizer,
        lr=run.lr,
        lr_biases=run.lr_biases,
        weight_decay=run.weight_decay,
        eta=0.02,
        lr_scales={p: run.layer_decay ** (len(layers) - layer) for layer, p in enumerate(layers)},
    )


def settings(run: Run) -> engine.Settings:
    return engine.Settings(
        epochs=run.epochs,
        steps_per_epoch=run.batches,
        warmup_epochs=0.2,
        final_lr_scale=0.001,
        precision=run.precision,  # type: ignore[arg-type]
        log_every_steps=1,
        checkpoint_every_epochs=1,
        keep_checkpoints=2,
        evaluate_every_epochs=0,
        checkpoint_every_steps=run.every_steps,
        micro_batch=run.micro_batch,
        gradient_scale=run.scale,  # type: ignore[arg-type]
        cuda_graph=run.cuda_graph,
        deferred=run.deferred,
        shard=run.shard,
        clip_grad_norm=run.clip,
    )


def train(ranks: Ranks, run: Run, folder: str, stop_at: int | None = None, resume: bool = False) -> dict[str, Any]:
    """Train Barlow Twins with the engine: see `train_method`."""
    method = network(
        ranks,
        dtype=run.dtype,
        norm=run.norm,
        dropout=run.dropout,
        form=run.form,
        norm_ranks=run.norm_ranks,
        norm_parts=run.norm_parts,
    )
    return train_method(ranks, method, run, folder, stop_at, resume)


def train_transformer(
    ranks: Ranks, run: Run, folder: str, stop_at: int | None = None, resume: bool = False
) -> dict[str, Any]:
    """Train a transformer with drop path: see `train_method`."""
    return train_method(ranks, transformer(ranks, dtype=run.dtype), run, folder, stop_at, resume)


def train_method(
    ranks: Ranks,
    method: Method,
    run: Run,
    folder: str,
    stop_at: int | None = None,
    resume: bool = False,
    watch: Callable[[Any], None] = lambda event: None,
) -> dict[str, Any]:
    """Train with the engine; the loss and the weights after every step, and the whole state at the end.

    watch: is told every event.
    """
    method = method.to(run.device)
    if ranks.rank:
        torch.manual_seed(100 + ranks.rank)
    optimizer = optimizer_of(run, method)
    losses: list[float] = []
    path: list[Tensor] = []

    def sink(event: Any) -> None:
        watch(event)
        if isinstance(event, StepDone):
            losses.append(event.values["loss"])
            path.append(torch.cat([p.detach().flatten().cpu() for p in method.parameters()]))

    engine.train(
        method,
        Images(ranks, run.batches, run.rows, run.small),
        optimizer,
        settings(run),
        to_input=lambda views: views.permute(0, 3, 1, 2).to(DTYPES[run.dtype]) / 255,
        device=torch.device(run.device),
        emit=sink,
        checkpoints=Path(folder),
        recipe_digest="d",
        # a signal reaches one rank only: the last one
        stop=lambda: stop_at is not None and len(losses) >= stop_at and ranks.rank == ranks.size - 1,
        resume=resume,
        ranks=ranks,
    )
    steps = {"loss": np.array(losses), "path": torch.stack(path).numpy()}
    return {**steps, **{k: v.cpu().numpy() for k, v in method.state_dict().items()}}


def train_until_an_image_is_damaged(ranks: Ranks, run: Run, folder: str, batch: int) -> None:
    """The last rank cannot read an image of the batch numbered `batch`, from 1."""
    given = Images.epoch

    def epoch(self: Images, number: int, *, start_batch: int = 0) -> Iterator[Any]:
        for position, made in enumerate(given(self, number, start_batch=start_batch), start=number * run.batches + 1):
            if position == batch and ranks.rank == ranks.size - 1:
                raise UserError("sample 7")
            yield made

    Images.epoch = epoch  # type: ignore[method-assign]
    train(ranks, run, folder)


def train_until_a_record_fails(ranks: Ranks, run: Run, folder: str, step: int) -> None:
    """Rank 0 cannot write what it records of a step."""

    def watch(event: Any) -> None:
        if isinstance(event, StepDone) and event.step == step and ranks.first:
            raise UserError("no room")

    train_method(ranks, network(ranks, dtype=run.dtype), run, folder, watch=watch)


def gradients(ranks: Ranks, run: Run) -> dict[str, np.ndarray]:
    """Every parameter's gradient of the first batch, as the optimizer gets it."""
    method = network(ranks, dtype=run.dtype, norm=run.norm, form=run.form)
    batch = next(Images(ranks, run.batches, run.rows).epoch(0))
    sync = GradientSync(ranks, list(method.parameters()), run.scale)  # type: ignore[arg-type]
    sync.start()
    method([view.permute(0, 3, 1, 2).to(DTYPES[run.dtype]) / 255 for view in batch.views]).loss.backward()
    sync.finish()
    return {name: p.grad.numpy() for name, p in method.named_parameters() if p.grad is not None}


def unused_parameters(ranks: Ranks) -> dict[str, Any]:
    """Small buckets, a parameter that no rank uses, and two dtypes."""
    from barlowctl.train import gradient_sync

    gradient_sync.BUCKET_BYTES = 64
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.randn(3, 4, dtype=dtype)) for dtype in (torch.float32, torch.float64) * 3]
    sync = GradientSync(ranks, parameters)
    for _ in range(2):  # the second step starts anew
        for p in parameters:
            p.grad = None
        sync.start()
        sum((p.double() * (ranks.rank + 1)).sum() for p in parameters[1:]).backward()  # type: ignore[union-attr]
        sync.finish()
    return {"unused": parameters[0].grad is None, "grads": [p.grad.numpy() for p in parameters[1:]]}


def collectives(ranks: Ranks) -> dict[str, Any]:
    shares = ranks.shares(ranks.rank + 1)
    rows = torch.full((ranks.rank + 1, 2), float(ranks.rank))
    drawn = torch.full((2, 3, 4, 4), float(ranks.rank)).to(memory_format=torch.channels_last)
    ranks.copy_from_first([drawn])
    return {
        "shares": shares,
        "gathered": ranks.gather(rows, shares).numpy(),
        "sum": ranks.add(torch.ones(2)).numpy(),
        "objects": ranks.objects({"rank": ranks.rank}),
        "first": ranks.from_first(f"from {ranks.rank}"),
        "copied": float(drawn.sum()),
        "strides": drawn.stride(),
    }


def lose_a_rank(ranks: Ranks, how: str) -> None:
    """The last rank is killed, fails, or falls silent; the others are in a collective."""
    ranks.add(torch.ones(1))
    if ranks.rank == ranks.size - 1:
        match how:
            case "killed":
                os.kill(os.getpid(), 9)
            case "fails":
                raise ValueError("no such image")
            case "silent":
                time.sleep(1000)
    sync = GradientSync(ranks, [parameter := nn.Parameter(torch.ones(4))])
    sync.start()
    parameter.sum().backward()
    sync.finish()


def bytes_sent(ranks: Ranks, n: int, d: int, form: str) -> int:
    """What this rank receives in a forward and backward pass of the loss, by the ring's arithmetic."""
    received = 0.0
    foreign = (ranks.size - 1) / ranks.size

    class Counting(Ranks):
        def add(self, tensor: Tensor) -> Tensor:
            nonlocal received
            received += 2 * foreign * tensor.numel() * tensor.element_size()
            return super().add(tensor)

        def gather(self, rows: Tensor, shares: Sequence[int]) -> Tensor:
            nonlocal received
            everything = super().gather(rows, shares)
            received += foreign * everything.numel() * everything.element_size()
            return everything

    counting = Counting(ranks.rank, ranks.size, store=ranks.store)
    z1, z2 = (share(z, ranks).clone().requires_grad_() for z in embeddings(n, d, torch.float32))
    barlow_twins_loss(z1, z2, form=form, ranks=counting).loss.backward()  # type: ignore[arg-type]
    return round(received)


def start_of_a_run(ranks: Ranks, weights: Sequence[str], recipe: str) -> tuple[str, str]:
    """Digest of the weights that each rank starts from, and of the whole method's state; each reads its own file."""
    loaded = load.load(recipe, [f"init.weights='{weights[ranks.rank]}'"])
    settled, start = begin(loaded, ranks)
    assert start is not None
    method = build_method(settled)
    start.fill(method)
    return settled.init.sha256, backbone_digest(method)


def prepared(ranks: Ranks, recipes: Sequence[str], images: Sequence[str]) -> int:
    """How many images this rank would train on by its own recipe and its own `--data`."""
    small = ["train.batch_size=8", "data.holdout=8"]
    job = prepare(load.load(recipes[ranks.rank], small), Runtime(device="cpu"), images[ranks.rank], ranks)
    return job.resolved.images


def checked_trial(ranks: Ranks, digests: Sequence[str]) -> None:
    check_trial(digests[ranks.rank], ranks)


def alone(function: Any, *arguments: Any) -> Any:
    return function(ALONE, *arguments)


__all__ = ["Run", "replace"]


def stop_early(ranks: Ranks, run: Run, folder: str) -> tuple[int, dict[str, Any]]:
    """Train until a measure that rank 0 alone has improves no more; how many steps this rank made, and its result."""
    method = network(ranks, dtype=run.dtype)
    optimizer = build_optimizer(method, run.optimizer, lr=run.lr, lr_biases=run.lr_biases, weight_decay=0.0, eta=0.02)
    course, steps = iter([50.0, 60.0, 55.0, 60.0, 99.0]), []
    result = engine.train(
        method,
        Images(ranks, run.batches, run.rows),
        optimizer,
        replace(
            settings(run), evaluate_every_epochs=1, keep_best="knn", stop="knn", stop_after=2, checkpoint_every_epochs=9
        ),
        to_input=lambda views: views.permute(0, 3, 1, 2).to(DTYPES[run.dtype]) / 255,
        device=torch.device(run.device),
        emit=lambda event: steps.append(event.step) if isinstance(event, StepDone) else None,
        checkpoints=Path(folder),
        recipe_digest="d",
        evaluate=(lambda: {"knn": next(course)}) if ranks.first else None,
        ranks=ranks,
    )
    return len(steps), result
