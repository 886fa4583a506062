"""Which losses are compared, method by method: what goes in, who computes it, and by what values become one another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from barlowctl.bench import loss_formulas as formulas
from barlowctl.bench import loss_libraries as libraries
from barlowctl.bench.compared import check_method
from barlowctl.bench.loss_libraries import Loss
from barlowctl.errors import UserError, did_you_mean, instead
from barlowctl.objective.barlow_twins import barlow_twins_loss
from barlowctl.objective.byol import byol_loss
from barlowctl.objective.moco import info_nce
from barlowctl.objective.simclr import nt_xent
from barlowctl.objective.simsiam import simsiam_loss
from barlowctl.objective.swav import swav_loss
from barlowctl.objective.vicreg import vicreg_loss

Draw = Callable[[int, int, torch.device, torch.dtype], list[Tensor]]
WIDE = ((256, 2048), (256, 8192), (512, 8192), (1024, 8192), (2048, 8192))
QUEUE = 65536
"""Keys of MoCo's queue, as published."""


@dataclass(frozen=True)
class Contest:
    """One method's loss and those who compute it.

    Attributes:
        title: what people call the method.
        draw: what the loss takes at a batch of N and a width of D. learned: how many of these take a gradient.
        rows: who computes it -> how that is built. "authors" is the published formulation.
        sizes: N and D that are measured unless others are asked for. across: what D counts.
        factors: (a, b) of rows whose value v is another one: a v + b is the authors'.
        forms: whether the loss has two forms, and the wire a table: it is of the Barlow Twins loss.
    """

    title: str
    draw: Draw
    rows: Mapping[str, Callable[[], Loss]]
    sizes: tuple[tuple[int, int], ...]
    learned: int = 2
    across: str = "D"
    factors: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    forms: bool = False

    def inputs(self, n: int, d: int, device: torch.device, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        """What the loss takes, from torch's current generator; those that are learned come first."""
        drawn = self.draw(n, d, device, dtype)
        return [tensor.requires_grad_(place < self.learned) for place, tensor in enumerate(drawn)]

    def as_authors(self, name: str, value: float) -> float:
        """A row's value, made into the authors'."""
        factor, offset = self.factors.get(name, (1.0, 0.0))
        return factor * value + offset


def _normal(count: int) -> Draw:
    """So many batches of embeddings."""

    def draw(n: int, d: int, device: torch.device, dtype: torch.dtype) -> list[Tensor]:
        return [torch.randn(n, d, device=device, dtype=dtype) for _ in range(count)]

    return draw


def _with_queue(n: int, d: int, device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """Queries, keys, and a queue of rows of unit length."""
    queue = functional.normalize(torch.randn(QUEUE, d, device=device, dtype=dtype), dim=1)
    return [*_normal(2)(n, d, device, dtype), queue]


def _scores(n: int, d: int, device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """Cosines to D prototypes, of two views."""
    return [(0.3 * scores).clamp(-1.0, 1.0) for scores in _normal(2)(n, d, device, dtype)]


def _ours(function: Callable[..., tuple[Tensor, ...]], **keys: object) -> Callable[[], Loss]:
    """Our loss, as its method calls it: the first of its terms."""
    return lambda: lambda *inputs: function(*inputs, **keys)[0]


def _moco(title: str, temperature: float) -> Contest:
    return Contest(
        title,
        _with_queue,
        {
            "authors": lambda: partial(formulas.info_nce, temperature=temperature),
            "ours": _ours(info_nce, temperature=temperature),
            "lightly": lambda: libraries.lightly_moco(temperature),
            "solo-learn": lambda: libraries.solo_moco(temperature),
        },
        ((256, 128), (1024, 128)),
        learned=1,
    )


CONTESTS: Mapping[str, Contest] = {
    "barlow-twins": Contest(
        "Barlow Twins",
        _normal(2),
        {
            "authors": lambda: formulas.barlow_twins,
            "ours": _ours(barlow_twins_loss, lambd=formulas.LAMBD),
            "ours-gram": _ours(barlow_twins_loss, lambd=formulas.LAMBD, form="gram"),
            "ours-primal": _ours(barlow_twins_loss, lambd=formulas.LAMBD, form="primal"),
            "lightly": libraries.lightly_barlow_twins,
            "solo-learn": libraries.solo_barlow_twins,
        },
        WIDE,
        forms=True,
    ),
    "vicreg": Contest(
        "VICReg",
        _normal(2),
        {
            "authors": lambda: formulas.vicreg,
            "ours": _ours(vicreg_loss),
            "ours-gram": _ours(vicreg_loss, form="gram"),
            "ours-primal": _ours(vicreg_loss, form="primal"),
            "lightly": libraries.lightly_vicreg,
            "solo-learn": libraries.solo_vicreg,
        },
        WIDE,
    ),
    "simclr": Contest(
        "SimCLR",
        _normal(2),
        {
            "authors": lambda: formulas.nt_xent,
            "ours": _ours(nt_xent, temperature=formulas.SIMCLR_TEMPERATURE),
            "lightly": libraries.lightly_simclr,
            "solo-learn": libraries.solo_simclr,
        },
        ((256, 128), (1024, 128), (4096, 128)),
    ),
    "moco": _moco("MoCo", 0.07),
    "moco-v2": _moco("MoCo v2", 0.2),
    "byol": Contest(
        "BYOL",
        _normal(4),
        {
            "authors": lambda: formulas.byol,
            "ours": _ours(byol_loss),
            "lightly": libraries.lightly_cosines,
            "solo-learn": libraries.solo_byol,
        },
        ((256, 256), (4096, 256)),
        factors={"lightly": (4.0, 4.0)},  # 4 - 2 cos - 2 cos, and half of each negative cosine
    ),
    "simsiam": Contest(
        "SimSiam",
        _normal(4),
        {
            "authors": lambda: formulas.simsiam,
            "ours": _ours(simsiam_loss),
            "lightly": libraries.lightly_cosines,
            "solo-learn": libraries.solo_simsiam,
        },
        ((256, 2048), (512, 2048)),
    ),
    "swav": Contest(
        "SwAV",
        _scores,
        {
            "authors": lambda: formulas.swav,
            "ours": _ours(
                lambda *scores: swav_loss(
                    scores,
                    temperature=formulas.SWAV_TEMPERATURE,
                    epsilon=formulas.EPSILON,
                    iterations=formulas.ITERATIONS,
                )
            ),
            "lightly": libraries.lightly_swav,
            "solo-learn": libraries.solo_swav,
        },
        ((256, 3000), (4096, 3000)),
        across="prototypes",
    ),
}


def contest_of(method: str) -> Contest:
    """A method's contest.

    Raises:
        UserError: no such method, or one whose loss nobody else has.
    """
    return CONTESTS[check_method(method)]


def check_rows(method: str, names: Sequence[str]) -> list[str]:
    """The rows that were asked for, or all of them where none was.

    Raises:
        UserError: one that the method does not have.
    """
    known = list(contest_of(method).rows)
    for name in names:
        if name not in known:
            raise UserError(
                f"unknown loss '{name}'{did_you_mean(name, known)}",
                allowed=", ".join(known),
                next=instead("--rows", name, known),
            )
    return list(names) or known
