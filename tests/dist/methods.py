"""The compared methods on a small network, as the ranks of a gang train them: each is made for any number of ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from barlowctl.distributed import Ranks
from barlowctl.methods import (
    BYOL,
    PIRL,
    BarlowTwins,
    Classifier,
    Method,
    MixedBarlowTwins,
    MoCo,
    SimCLR,
    Targets,
    VICReg,
    gathered,
)
from barlowctl.methods.doubts import Doubts
from barlowctl.model import build_mlp, build_patch_head, split_batch_norm, synchronize_batch_norm
from barlowctl.objective.barlow_twins import LossTerms
from barlowctl.objective.classification import ClassificationTerms
from benchmarks.collectives import Steps, recorded
from tests.dist.work import Run, network, train_method
from tests.methods import siamese_networks

ROWS = 24
GROUPS = 4
"""Parts that MoCo's batch norm sees, over all ranks."""
TRAINED = Run(rows=ROWS, optimizer="sgd", lr=0.4, lr_biases=0.1)
"""SGD, to which the scale of a gradient matters. LARS would hide it."""


def backbone(*, norm: bool) -> nn.Sequential:
    """Images `(n, 1, 6, 6)` -> features `(n, 20)`."""
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 5, 3, bias=not norm),  # ahead of a batch norm a bias has no gradient but rounding
        nn.BatchNorm2d(5) if norm else nn.Identity(),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(80, 20),
        nn.Tanh(),
    )


def simclr(ranks: Ranks, *, norm: bool = True) -> Method:
    network = backbone(norm=norm)
    head = build_mlp(20, (16, 8), batch_norm=norm, hidden_bias=False, last_bias=False, last_norm="scale")
    method = SimCLR(network, head if norm else head[:-1], temperature=0.2, ranks=ranks).double()
    return _over(ranks, method)


def moco(ranks: Ranks, *, norm: bool = True, symmetric: bool = False) -> Method:
    network = backbone(norm=norm)
    head = build_mlp(20, (16, 8), batch_norm=False, hidden_bias=True, last_bias=True)
    split_batch_norm(network, GROUPS // ranks.size)
    return MoCo(
        network,
        head,
        width=8,
        batch=ROWS,
        queue=4 * ROWS,
        momentum=0.9,
        temperature=0.2,
        symmetric=symmetric,
        shuffles=True,
        ranks=ranks,
    ).double()


def moco_symmetric(ranks: Ranks, *, norm: bool = True) -> Method:
    return moco(ranks, norm=norm, symmetric=True)


def vicreg(ranks: Ranks, *, norm: bool = True) -> Method:
    network = _backbone_of_any_size(norm=norm)
    head = build_mlp(20, (24, 16), batch_norm=norm, hidden_bias=not norm, last_bias=False)
    return _over(ranks, VICReg(network, head, scale=0.01, ranks=ranks).double())


class MixedInGroups(MixedBarlowTwins):
    """Images are mixed within parts of the batch, four over all ranks: on four ranks these are the ranks' own rows."""

    def partners(self, rows: int) -> Tensor:
        parts = GROUPS // self.ranks.size
        within = super().partners(rows // parts)
        return torch.cat([within + part * (rows // parts) for part in range(parts)])


def mixed_barlow_twins(ranks: Ranks, *, norm: bool = True) -> Method:
    network = _backbone_of_any_size(norm=norm)
    head = build_mlp(20, (24, 16), batch_norm=norm, hidden_bias=False, last_bias=False)
    method = MixedInGroups(network, head, seed=5, lambd=0.02, lambd_reg=2.0, reg_warmup=0.3, scale=0.01, ranks=ranks)
    return _over(ranks, method.double())


def multi_crop(ranks: Ranks, *, norm: bool = True) -> Method:
    network = _backbone_of_any_size(norm=norm)
    head = build_mlp(20, (24, 32), batch_norm=norm, hidden_bias=False, last_bias=False)
    return _over(ranks, BarlowTwins(network, head, small=2, lambd=0.02, scale=0.02, ranks=ranks).double())


class PIRLOfSmallViews(PIRL):
    """The first view is the image, and the small ones are its patches."""

    def arrange(self, views: Sequence[Tensor], targets: Targets) -> list[Tensor]:
        return super().arrange([views[0], *views[2:]], targets)


def pirl(ranks: Ranks, *, norm: bool = True, criterion: Any = "nce") -> Method:
    network = _backbone_of_any_size(norm=norm)
    head = build_mlp(20, (8,), batch_norm=False, hidden_bias=True, last_bias=True)
    method = PIRLOfSmallViews(
        network,
        head,
        build_patch_head(20, (8,), patches=4),
        images=TRAINED.batches * ROWS,
        width=8,
        patches=4,
        seed=2,
        criterion=criterion,
        temperature=0.3,
        negatives=40,
        ranks=ranks,
    )
    return _over(ranks, method.double())


def pirl_cross_entropy(ranks: Ranks, *, norm: bool = True) -> Method:
    return pirl(ranks, norm=norm, criterion="cross_entropy")


def _backbone_of_any_size(*, norm: bool) -> nn.Sequential:
    network = backbone(norm=norm)
    return nn.Sequential(*network[:3], nn.AdaptiveAvgPool2d(4), *network[3:])


def _over(ranks: Ranks, method: Method) -> Method:
    if ranks.size > 1:
        synchronize_batch_norm(method, ranks, torch.device("cpu"))
    return method


class Numbered(Classifier):
    """The first view alone, and the images' numbers for labels: those of the tests have none."""

    def embeddings(self, views: Sequence[Tensor]) -> list[Tensor]:
        return super().embeddings(views[:1])

    def compare(self, embeddings: Sequence[Tensor], targets: Targets) -> ClassificationTerms:
        return super().compare(embeddings, replace(targets, labels=targets.indices % 3))


def supervised(ranks: Ranks, *, norm: bool = True) -> Method:
    method = Numbered(backbone(norm=norm), width=20, num_classes=3, frozen=False, ranks=ranks)
    return _over(ranks, method.double())


def adapted_barlow_twins(ranks: Ranks, *, norm: bool = True) -> Method:
    """The convolution and its batch norm stay as they are; for the first steps the whole backbone does."""
    network = _backbone_of_any_size(norm=norm)
    head = build_mlp(20, (24, 16), batch_norm=norm, hidden_bias=False, last_bias=False)
    return _adapted(ranks, BarlowTwins(network, head, lambd=0.02, scale=0.02, ranks=ranks).double())


class Gathered(Method):
    """Barlow Twins as somebody writes it, from its formula: the rows of all ranks on each."""

    views = 2
    terms: ClassVar[Mapping[str, str]] = {"invariance": "of the diagonal", "redundancy": "of what is beside it"}

    def __init__(self, network: nn.Module, projector: nn.Module, ranks: Ranks) -> None:
        super().__init__()
        self.backbone, self.projector, self.ranks, self.doubts = network, projector, ranks, Doubts(ranks)

    def embeddings(self, views: Sequence[Tensor]) -> list[Tensor]:
        return [self.projector(self.backbone(view)) for view in views]

    def compare(self, embeddings: Sequence[Tensor], targets: Targets) -> LossTerms:
        rows = [gathered(z, self.ranks, targets.shares) for z in embeddings]
        z1, z2 = ((z - z.mean(0)) / z.std(0, unbiased=False) for z in rows)
        c = z1.T @ z2 / len(z1)
        diagonal = (1 - c.diagonal()).square().sum()
        beside = c.square().sum() - c.diagonal().square().sum()
        return LossTerms(0.02 * (diagonal + 0.02 * beside), diagonal.detach(), beside.detach())

    def heads(self) -> dict[str, nn.Module]:
        return {"projector": self.projector}

    def describe(self, batch: int, ranks: int = 1) -> str:
        return "the formula"


def gathered_barlow_twins(ranks: Ranks, *, norm: bool = True) -> Method:
    network = backbone(norm=norm)  # which seeds what is drawn
    head = build_mlp(20, (24, 16), batch_norm=norm, hidden_bias=False, last_bias=False)
    return _over(ranks, Gathered(network, head, ranks).double())


def adapted_byol(ranks: Ranks, *, norm: bool = True) -> Method:
    """A frozen part and a moving average."""
    network = _backbone_of_any_size(norm=norm)
    heads = [build_mlp(width, (16, 8), batch_norm=norm, hidden_bias=not norm, last_bias=False) for width in (20, 8)]
    return _adapted(ranks, BYOL(network, *heads, momentum=0.9, ranks=ranks).double())


def _adapted(ranks: Ranks, method: Method) -> Method:
    for network in method.backbones():
        parts = list(network.children())[:2]
        method.freeze(parts, [p for part in parts for p in part.parameters()])
    method.heads_alone = 0.35
    if ranks.size > 1:
        synchronize_batch_norm(method, ranks, torch.device("cpu"), frozen=method.frozen_modules)
    return method


MAKERS: Mapping[str, Callable[..., Method]] = {
    "supervised": supervised,
    "simclr": simclr,
    "moco": moco,
    "moco, symmetric": moco_symmetric,
    "vicreg": vicreg,
    "mixed-barlow-twins": mixed_barlow_twins,
    "multi-crop": multi_crop,
    "pirl": pirl,
    "pirl, cross-entropy": pirl_cross_entropy,
    "barlow-twins, adapted": adapted_barlow_twins,
    "barlow-twins, gathered": gathered_barlow_twins,
    "byol, adapted": adapted_byol,
}
SMALL = {"multi-crop": 2, "pirl": 4, "pirl, cross-entropy": 4}
"""Small views beside the two, of the methods that take any."""


def run_of(name: str, run: Run) -> Run:
    """The run of a method: with its small views, and with layer-wise rates where it is adapted."""
    return replace(run, small=SMALL.get(name, 0), layer_decay=0.7 if name.endswith("adapted") else 1.0)


def train_each(ranks: Ranks, run: Run, folder: str) -> dict[str, dict[str, Any]]:
    """Every method, trained: see `train_method`."""
    return {
        name: train_method(ranks, make(ranks, norm=run.norm), run_of(name, run), str(Path(folder) / name))
        for name, make in MAKERS.items()
    }


def collectives_of_each(ranks: Ranks, folder: str) -> dict[str, list[int]]:
    """Of every method, and of the forms of Barlow Twins: how many collectives belong to each step but the first."""
    short = replace(TRAINED, batches=3, epochs=1)
    made: dict[str, Callable[[Callable[[Any], None]], Any]] = {}
    for name, make in MAKERS.items():
        made[name] = partial(_train_watched, ranks, make(ranks), run_of(name, short), f"{folder}/{name}")
    for form in ("gram", "primal"):
        method = network(ranks, dtype="float64", form=form)
        run = replace(short, epochs=2)
        made[f"barlow-twins, {form}"] = partial(_train_watched, ranks, method, run, f"{folder}/{form}")
    for name in siamese_networks.MAKE:
        made[name] = partial(siamese_networks.train, ranks, name, f"{folder}/{name}")
    counts: dict[str, list[int]] = {}
    for name, train in made.items():
        with recorded() as calls:
            marks = Steps(calls)
            train(watch=marks)
        counts[name] = [len(marks.between(step)) for step in range(len(marks.ends) - 1)]
    return counts


def _train_watched(ranks: Ranks, method: Method, run: Run, folder: str, *, watch: Callable[[Any], None]) -> None:
    train_method(ranks, method, run, folder, watch=watch)
