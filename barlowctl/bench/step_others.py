"""The others' training steps, each written as its own documentation or code has it, on the same backbone and weights.

Only the mathematics and its order: no checkpoints, no logging, no online classifier (which solo-learn's and lightly's
own training scripts have, and which would make their steps slower). Images are float tensors, normalised, in the
memory format that the row has, as their loaders deliver them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from barlowctl.assemble.model import begin_method, preprocessing_of
from barlowctl.bench.loss_libraries import one_file
from barlowctl.bench.step_settings import CHECKED, StepSettings
from barlowctl.bench.stopwatch import Stopwatch
from barlowctl.errors import UserError
from barlowctl.methods import Method
from barlowctl.model import feature_width
from barlowctl.train.groupwise import GroupwiseOptimizer

Loss = Callable[[Tensor, Tensor], Tensor]
PREFETCHED = 2
"""Batches that each worker of a DataLoader has made in advance: torch's default."""
RATE = 1e-6
"""Learning rate of all: the weights stay where they are, so that every round is the same work."""
AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Parts:
    """What another implementation brings: its projector, its loss, its optimizer over the whole network."""

    projector: nn.Module
    loss: Loss
    optimizer: Callable[[nn.Module], Any]


class OtherStep:
    """Two passes through the network, the loss, its gradient, the optimizer; autocast and scaling as the row says."""

    def __init__(self, settings: StepSettings) -> None:
        if settings.kind == "authors":
            torch.backends.cudnn.benchmark = True
        ours = begin_method(settings.recipe)
        parts = PARTS[settings.kind](settings, ours)
        copy_layers(ours.heads()["projector"], parts.projector)
        self.loss = parts.loss
        self._place(settings, nn.Sequential(ours.backbone, parts.projector), parts.optimizer)

    def _place(self, settings: StepSettings, network: nn.Module, optimizer: Callable[[nn.Module], Any]) -> None:
        """The network on its device in its memory format, and what its steps need."""
        self.settings, recipe, device = settings, settings.recipe, settings.device
        self.format = torch.channels_last if recipe.train.channels_last else torch.contiguous_format
        self.network = network.to(device)
        self.network.to(memory_format=self.format)
        self.optimizer = optimizer(self.network)
        self.to_input = preprocessing_of(recipe).normalization().to(device)
        self.dtype = AUTOCAST[recipe.train.precision]
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)

    def check(self) -> float:
        """See `OurStep.check`."""
        self.network.train()
        with torch.no_grad():
            first, second = (self._input(self.to_input(view)) for view in self.settings.pixels(CHECKED))
            return self._loss(first, second).item()

    def run(self, watch: Stopwatch) -> None:
        """Take steps until there are no more rounds."""
        loading = self.settings.loading
        batches = self._synthetic() if loading is None else self._loaded()
        while True:
            self._step(*watch.next_batch(batches, ahead=PREFETCHED * loading.workers if loading else 0))

    def _step(self, first: Tensor, second: Tensor) -> None:
        self.optimizer.zero_grad()
        with self._autocast():
            loss = self._loss(first, second)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _loss(self, first: Tensor, second: Tensor) -> Tensor:
        return self.loss(self.network(first), self.network(second))

    def _autocast(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.dtype is None else torch.autocast(self.settings.device.type, dtype=self.dtype)

    def _input(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=self.format)

    def _synthetic(self) -> Iterator[tuple[Tensor, Tensor]]:
        pixels = self.settings.pixels(self.settings.recipe.train.batch_size)
        first, second = (self._input(self.to_input(view)) for view in pixels)
        while True:
            yield first, second

    def _loaded(self) -> Iterator[tuple[Tensor, Tensor]]:
        """ImageFolder and DataLoader with its transforms, without an end; pinned as the authors have it."""
        from barlowctl.bench.loader_task import Endless, LoaderTask
        from barlowctl.bench.torch_loaders import authors_images, lightly_images

        settings, images = self.settings, self.settings.loading
        assert images is not None
        batch, size = settings.recipe.train.batch_size, settings.recipe.views.size
        channels = preprocessing_of(settings.recipe).channels
        task = LoaderTask(images.folder, images.packed, 0, batch, size, images.workers, channels)
        dataset = (lightly_images if settings.kind == "lightly" else authors_images)(task)
        loader = torch.utils.data.DataLoader(
            dataset,
            batch_size=batch,
            sampler=Endless(len(dataset)),
            num_workers=images.workers,
            pin_memory=settings.device.type == "cuda" and settings.kind == "authors",
        )
        for views, _ in loader:
            first, second = (self._input(view.to(settings.device, non_blocking=True)) for view in views)
            yield first, second


def copy_layers(source: nn.Module, target: nn.Module) -> None:
    """The weights of one projector in another with the same layers; a bias that the first one lacks becomes 0."""
    kinds = (nn.Linear, nn.modules.batchnorm._BatchNorm)
    pairs = [[layer for layer in network.modules() if isinstance(layer, kinds)] for network in (source, target)]
    with torch.no_grad():
        for from_layer, to_layer in zip(*pairs, strict=True):
            assert (from_layer.weight is None) == (to_layer.weight is None)
            if from_layer.weight is None:  # a bare batch norm
                continue
            to_layer.weight.copy_(from_layer.weight)
            if to_layer.bias is not None:
                to_layer.bias.zero_() if from_layer.bias is None else to_layer.bias.copy_(from_layer.bias)


# ---- the authors' step (section 2.2 and appendix A of the paper, their published code's order of steps) ----


class LoopLARS(GroupwiseOptimizer):
    """The formula of `train.lars.LARS` for one parameter after another: a handful of operations for each.

    It does not heed `found_inf`: on a GPU each step waits for the device, as the authors' does with fp16's scaling.
    """

    def __init__(self, params: Any, lr: float, weight_decay: float, momentum: float = 0.9, eta: float = 0.001) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "eta": eta})

    def update(self, group: dict[str, Any]) -> None:
        """See `GroupwiseOptimizer`."""
        for p in group["params"]:
            if p.grad is not None:
                self._update(p, group)

    def _update(self, p: Tensor, group: dict[str, Any]) -> None:
        update = p.grad
        assert update is not None
        if p.ndim > 1:
            update = update + group["weight_decay"] * p
            own, size = torch.linalg.vector_norm(p), torch.linalg.vector_norm(update)
            ratio = torch.where((own > 0) & (size > 0), group["eta"] * own / size, torch.ones_like(own))
            update = update * ratio
        mu = self.state[p].setdefault("mu", torch.zeros_like(p))
        mu.mul_(group["momentum"]).add_(update)
        p.sub_(mu, alpha=group["lr"])


def authors(settings: StepSettings, ours: Method) -> Parts:
    """bn(z1).T @ bn(z2), the squares on and off its diagonal; LARS as a loop."""
    from barlowctl.model import build_projector

    recipe = settings.recipe
    norm = nn.BatchNorm1d(recipe.model.projector[-1], affine=False, device=settings.device)

    def loss(z1: Tensor, z2: Tensor) -> Tensor:
        c = norm(z1).T @ norm(z2)
        c.div_(len(z1))
        on_diagonal = torch.diagonal(c).add_(-1).pow_(2).sum()
        d = len(c)
        off_diagonal = c.flatten()[:-1].view(d - 1, d + 1)[:, 1:].flatten().pow_(2).sum()
        return on_diagonal + settings.lambd * off_diagonal

    projector = build_projector(feature_width(ours.backbone), recipe.model.projector)
    return Parts(
        projector, loss, lambda network: LoopLARS(two_groups(network.parameters()), lr=RATE, weight_decay=1e-6)
    )


def two_groups(parameters: Iterable[Tensor]) -> list[dict[str, Any]]:
    """Weights, then what has one dimension: biases and batch norm."""
    every = list(parameters)
    return [{"params": [p for p in every if p.ndim != 1]}, {"params": [p for p in every if p.ndim == 1]}]


# ---- libraries ------------------------------------------------------------------------------------------


def lightly(settings: StepSettings, ours: Method) -> Parts:
    """Its documentation's example: BarlowTwinsProjectionHead, BarlowTwinsLoss, SGD; its LARS in the "-same" row."""
    from lightly.loss import BarlowTwinsLoss
    from lightly.models.modules import BarlowTwinsProjectionHead

    hidden, width = _three_layers(settings)
    projector = BarlowTwinsProjectionHead(feature_width(ours.backbone), hidden, width)

    def optimizer(network: nn.Module) -> Any:
        if settings.optimizer == "documented":
            return torch.optim.SGD(network.parameters(), lr=RATE)
        from lightly.utils.lars import LARS

        weights, others = two_groups(network.parameters())
        return LARS([weights, {**others, "weight_decay": 0.0}], lr=RATE, momentum=0.9, weight_decay=1.5e-6)

    return Parts(projector, BarlowTwinsLoss(lambda_param=settings.lambd), optimizer)


def solo_learn(settings: StepSettings, ours: Method) -> Parts:
    """Its loss and its LARS around SGD; its projector has biases."""
    hidden, width = _three_layers(settings)
    function = one_file("solo", "losses/barlow.py").barlow_loss_func
    wrapper = one_file("solo", "utils/lars.py").LARSWrapper

    def optimizer(network: nn.Module) -> Any:
        inner = torch.optim.SGD(network.parameters(), lr=RATE, momentum=0.9, weight_decay=1e-4)
        return wrapper(inner, eta=0.02, clip=True, exclude_bias_n_norm=True)

    return Parts(
        _projector_with_biases(feature_width(ours.backbone), hidden, width),
        lambda z1, z2: function(z1, z2, lamb=settings.lambd, scale_loss=1.0),
        optimizer,
    )


def stable_pretraining(settings: StepSettings, ours: Method) -> Parts:
    """Its loss, whose standard deviation has N - 1 in the denominator, and its LARS; its projector is the authors'."""
    from stable_pretraining.losses import BarlowTwinsLoss
    from stable_pretraining.optim import LARS

    from barlowctl.model import build_projector

    projector = build_projector(feature_width(ours.backbone), settings.recipe.model.projector)

    def optimizer(network: nn.Module) -> Any:
        return LARS(network.parameters(), lr=RATE, momentum=0.9, weight_decay=1e-6, exclude_bias_n_norm=True)

    return Parts(projector, BarlowTwinsLoss(lambd=settings.lambd), optimizer)


PARTS: dict[str, Callable[[StepSettings, Method], Parts]] = {
    "authors": authors,
    "lightly": lightly,
    "solo-learn": solo_learn,
    "stable-pretraining": stable_pretraining,
}
PACKAGES = {"lightly": "lightly", "solo-learn": "solo", "stable-pretraining": "stable_pretraining"}


def is_installed(kind: str) -> bool:
    """Whether the implementation's package is there."""
    return kind not in PACKAGES or importlib.util.find_spec(PACKAGES[kind]) is not None


def _three_layers(settings: StepSettings) -> tuple[int, int]:
    widths = settings.recipe.model.projector
    if len(widths) != 3 or widths[0] != widths[1]:
        raise UserError(f"its projector has three layers, the first two of one width, not {list(widths)}")
    return widths[0], widths[2]


def _projector_with_biases(features: int, hidden: int, width: int) -> nn.Sequential:
    first = [nn.Linear(features, hidden), nn.BatchNorm1d(hidden), nn.ReLU()]
    return nn.Sequential(*first, nn.Linear(hidden, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, width))
