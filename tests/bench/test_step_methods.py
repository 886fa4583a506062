"""`bench step` of the other methods: our step and lightly's documented one begin with the loss of the formula."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from barlowctl.assemble.model import build_method, preprocessing_of
from barlowctl.assemble.synthetic_steps import forward_flops, training_flops
from barlowctl.bench import loss_formulas, step, step_process
from barlowctl.bench.compared import COMPARED
from barlowctl.bench.step_lightly import EXAMPLES, LightlyStep
from barlowctl.bench.step_settings import CHECKED, StepSettings
from barlowctl.cli.app import run as barlowctl
from barlowctl.cli.bench.step_recipe import _of_method
from barlowctl.errors import UserError
from barlowctl.methods import MoCo
from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe
from tests.bench.test_step import TINY, Captured
from tests.oracles import contrastive, siamese, vicreg

HEADS = {
    "vicreg": ("[24, 24, 32]", "[]"),
    "simclr": ("[24, 32]", "[]"),
    "moco": ("[32]", "[]"),
    "moco-v2": ("[24, 32]", "[]"),
    "byol": ("[24, 32]", "[20]"),
    "simsiam": ("[24, 24, 24]", "[8]"),
    "swav": ("[24, 32]", "[]"),
}
SMALLER = {"moco": ("objective.queue=32",), "moco-v2": ("objective.queue=32",), "swav": ("objective.prototypes=8",)}


def tiny(method: str) -> Recipe:
    projector, predictor = HEADS[method]
    heads = (f"model.projector={projector}", f"model.predictor={predictor}", *SMALLER.get(method, ()))
    return step.base_recipe(load.load(f"resnet50-{method}", [*TINY, *heads]))


def settings_of(kind: str, method: str, optimizer: str = "own") -> StepSettings:
    return StepSettings(kind, tiny(method), torch.device("cpu"), threads=1, warmup=0, steps=1, optimizer=optimizer)


# ---- a stand-in for lightly: what its documentation says of these names --------------------------------------


def mlp(*widths: int, last: nn.Module | None = None, batch_norm: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths[:-1]):
        norm = [nn.BatchNorm1d(after)] if batch_norm else []
        layers += [nn.Linear(before, after, bias=not batch_norm), *norm, nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(*widths[-2:], bias=last is None), *([] if last is None else [last]))


def deep(features: int, hidden: int, width: int, num_layers: int, **keys: Any) -> nn.Sequential:
    return mlp(features, *[hidden] * (num_layers - 1), width, **keys)


class Prototypes(nn.Module):
    def __init__(self, width: int, prototypes: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList([nn.Linear(width, prototypes)])

    def normalize(self) -> None:
        weight = self.heads[0].weight
        weight.data = nn.functional.normalize(weight.data, dim=1)

    def forward(self, rows: Tensor) -> Tensor:
        scores: Tensor = self.heads[0](rows)
        return scores


class NTXent:
    """Of two views; with a memory bank, of queries, keys and what the bank was when it was called."""

    def __init__(self, temperature: float, memory_bank_size: tuple[int, int] | int = 0) -> None:
        self.temperature, self.memory_bank = temperature, ModuleType("memory_bank")
        self.with_bank = memory_bank_size != 0

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        if self.with_bank:
            return loss_formulas.info_nce(first, second, self.memory_bank.bank, self.temperature)
        assert self.temperature == loss_formulas.SIMCLR_TEMPERATURE
        return loss_formulas.nt_xent(first, second)


def follow(model: nn.Module, copy: nn.Module, m: float) -> None:
    for own, other in zip(copy.parameters(), model.parameters(), strict=True):
        own.data.mul_(m).add_(other.data, alpha=1 - m)


@pytest.fixture
def lightly(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {
        "lightly": {},
        "lightly.models": {},
        "lightly.loss": {
            "NTXentLoss": NTXent,
            "NegativeCosineSimilarity": lambda: lambda x, y: -nn.functional.cosine_similarity(x, y).mean(),
            "SwaVLoss": lambda *keys: lambda high, low: loss_formulas.swav(*high)[None],
            "VICRegLoss": lambda **keys: loss_formulas.vicreg,
        },
        "lightly.models.modules": {
            "SimCLRProjectionHead": lambda *w, num_layers: deep(*w, num_layers, last=nn.BatchNorm1d(w[-1])),
            "MoCoProjectionHead": lambda *w, num_layers: deep(*w, num_layers, batch_norm=False),
            "BYOLProjectionHead": mlp,
            "BYOLPredictionHead": mlp,
            "SimSiamProjectionHead": lambda features, hidden, width: mlp(
                features, hidden, hidden, width, last=nn.BatchNorm1d(width, affine=False)
            ),
            "SimSiamPredictionHead": mlp,
            "SwaVProjectionHead": mlp,
            "SwaVPrototypes": Prototypes,
        },
        "lightly.models.modules.heads": {
            "VICRegProjectionHead": lambda *w, num_layers: deep(*w, num_layers),
            "ProjectionHead": lambda blocks: nn.Sequential(*(nn.Linear(*block[:2]) for block in blocks)),
        },
        "lightly.models.utils": {
            "update_momentum": follow,
            "deactivate_requires_grad": lambda model: model.requires_grad_(False),
        },
    }
    for name, values in names.items():
        module = ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)


# ---- the same loss ---------------------------------------------------------------------------------------------


def expected_loss(method: str) -> float:
    """From the formula, in float64, of the embeddings that our network makes."""
    recipe = tiny(method)
    ours, to_input = build_method(recipe).double(), preprocessing_of(recipe).normalization()
    with torch.no_grad():
        ours.before_step(torch.zeros(()))
        made = ours.embeddings([to_input(view).double() for view in settings_of("ours", method).pixels(CHECKED)])
    rows = [z.numpy() for z in made]
    if isinstance(ours, MoCo):
        return contrastive.info_nce(*rows, ours.queue.rows.numpy(), recipe.objective.temperature)[0]  # type: ignore[union-attr]
    of_method: dict[str, Any] = {
        "vicreg": lambda: vicreg.loss(*rows),
        "simclr": lambda: contrastive.nt_xent(*rows, 0.1)[0],
        "byol": lambda: siamese.byol(*rows),
        "simsiam": lambda: siamese.simsiam(*rows),
        "swav": lambda: siamese.swav(rows[:2]),
    }
    return float(of_method[method]())


@pytest.mark.usefixtures("lightly")
@pytest.mark.parametrize("method", list(EXAMPLES))
def test_both_rows_compute_the_loss_of_the_formula_and_lightly_takes_steps(method: str) -> None:
    expected = pytest.approx(expected_loss(method), rel=1e-4)
    assert step_process.exact(step_process.build(settings_of("ours", method))) == expected
    theirs = step_process.build(settings_of("lightly", method, "documented"))
    assert isinstance(theirs, LightlyStep)
    assert step_process.exact(theirs) == expected
    before = [p.clone() for p in theirs.network.parameters() if p.requires_grad]
    theirs._step(*next(theirs._synthetic()))
    learned = [p for p in theirs.network.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in learned)
    assert any(not torch.equal(p, old) for p, old in zip(learned, before, strict=True))


def test_the_examples_are_the_compared_methods_without_barlow_twins() -> None:
    assert {"barlow-twins", *EXAMPLES} == set(COMPARED) == set(step.AS_OTHERS)


@pytest.mark.usefixtures("lightly")
def test_a_head_that_lightly_lacks_is_named() -> None:
    recipe = load.override(tiny("byol"), ["model.projector=[24, 24, 32]"])
    with pytest.raises(UserError, match=r"its projector has 2 layers, .*, not \[24, 24, 32\]"):
        LightlyStep(StepSettings("lightly", recipe, torch.device("cpu"), threads=1, warmup=0, steps=1))


@pytest.mark.parametrize(("method", "passes"), [("simclr", 3), ("byol", 2), ("moco-v2", 2)])
def test_networks_that_follow_have_no_backward_pass(method: str, passes: int) -> None:
    """Half of all forward passes are the followers': 3 (1 / 2) + 1 / 2 (BYOL's predictor aside)."""
    recipe = tiny(method)
    assert training_flops(recipe) / forward_flops(recipe) == pytest.approx(passes, rel=1e-3)


# ---- rows ------------------------------------------------------------------------------------------------------


def test_other_implementations_are_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "is_installed", lambda kind: True)
    chosen, left_out = step.choose_rows([], "byol")
    assert chosen == ["ours", "lightly", "lightly-same"]
    assert set(left_out) == set(step.ROWS) - set(chosen)
    assert left_out["authors"] == "of its steps only that of Barlow Twins is written out here, not byol's"
    with pytest.raises(UserError, match="of the rows authors none has byol"):
        step.choose_rows(["authors"], "byol")


@pytest.mark.parametrize("method", EXAMPLES)
def test_every_method_takes_the_default_recipe_and_any_batch(method: str) -> None:
    """As `--method NAME --batch N` makes it: MoCo's queue takes whole batches, and all of a benchmark are."""
    backbone = [change for change in TINY if "projector" not in change]
    recipe = step.base_recipe(load.load("resnet50", [*_of_method(method, "resnet50"), *backbone]))
    assert recipe.objective.name == method
    build_method(recipe)


def test_lightly_at_our_settings_has_the_optimizer_of_the_recipe() -> None:
    optimizers = {
        method: step.rows_of(["lightly-same"], settings_of("ours", method))[0].settings.optimizer
        for method in ("byol", "moco-v2")
    }
    assert optimizers == {"byol": "LARS", "moco-v2": "SGD"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--method", "byoll"], "there is no method 'byoll', did you mean 'byol'?"),
        (["--method", "byoll"], "next: barlowctl bench step --method byol"),
        (["--method", "pirl"], "no other library here has 'pirl' to compare with"),
        (["--recipe", "resnet50-pirl"], "no other library here has 'pirl' to compare with"),
        (["--method", "byol", "--ladder"], "--ladder is of the Barlow Twins loss, and the recipe's objective is BYOL"),
        (["--method", "swav", "--loading"], "--loading is of the Barlow Twins loss"),
    ],
)
def test_bad_input(flags: Sequence[str], message: str, capsys: Captured) -> None:
    assert barlowctl(["bench", "step", *flags]) == 2
    assert message in capsys.readouterr().err
