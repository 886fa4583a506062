"""lightly's training step of each method beside Barlow Twins, as its documentation's example of that method has it.

The backbone, the heads' widths and their weights are ours. What its heads have and ours lack (biases of a last layer,
the shift of a batch norm) begins as 0; what ours have and its lack is taken away by the batch norm behind it. Each
view goes through the network by itself, as in its examples; for the check alone together where ours go together, since
batch norm would otherwise see other statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from barlowctl.assemble.model import begin_method
from barlowctl.bench.lightly_examples import (
    Example,
    Together,
    WithKeys,
    WithPredictor,
    WithPrototypes,
    WithTarget,
)
from barlowctl.bench.loss_contests import contest_of
from barlowctl.bench.step_others import RATE, OtherStep, copy_layers, two_groups
from barlowctl.bench.step_settings import CHECKED, StepSettings
from barlowctl.errors import UserError
from barlowctl.methods import Method, MoCo
from barlowctl.model import feature_width
from barlowctl.recipe.schema import Recipe


class LightlyStep(OtherStep):
    """One of `EXAMPLES`, the gradient of its loss, the optimizer."""

    def __init__(self, settings: StepSettings) -> None:
        recipe = settings.recipe
        self.example = EXAMPLES[recipe.objective.name](recipe, begin_method(recipe))
        self._place(settings, self.example, self._optimizer)

    def check(self) -> float:
        """See `OurStep.check`; by the method's factor what ours is."""
        self.example.train()
        with torch.no_grad():
            first, second = (self._input(self.to_input(view)) for view in self.settings.pixels(CHECKED))
            value = self.example.compare(self.example.checked(first, second)).item()
        return contest_of(self.settings.recipe.objective.name).as_authors("lightly", value)

    def _loss(self, first: Tensor, second: Tensor) -> Tensor:
        self.example.before()
        return self.example.compare(self.example.embedded(first, second))

    def _optimizer(self, network: nn.Module) -> Any:
        recipe, learned = self.settings.recipe.optimizer, [p for p in network.parameters() if p.requires_grad]
        if self.settings.optimizer == "documented":
            return torch.optim.SGD(learned, lr=RATE)
        if self.settings.optimizer == "SGD":
            return torch.optim.SGD(learned, lr=RATE, momentum=0.9, weight_decay=recipe.weight_decay)
        from lightly.utils.lars import LARS

        weights, others = two_groups(learned)
        return LARS([weights, {**others, "weight_decay": 0.0}], lr=RATE, momentum=0.9, weight_decay=1.5e-6)


# ---- the examples --------------------------------------------------------------------------------------------


def _simclr(recipe: Recipe, ours: Method) -> Example:
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead

    head = _with_layers(SimCLRProjectionHead, recipe, ours)
    return Together(ours.backbone, head, NTXentLoss(temperature=_key(recipe, "temperature")))


def _vicreg(recipe: Recipe, ours: Method) -> Example:
    from lightly.loss import VICRegLoss
    from lightly.models.modules.heads import VICRegProjectionHead

    weights = {
        "lambda_param": _key(recipe, "invariance"),
        "mu_param": _key(recipe, "variance"),
        "nu_param": _key(recipe, "covariance"),
    }
    return Example(ours.backbone, _with_layers(VICRegProjectionHead, recipe, ours), VICRegLoss(**weights))


def _moco(recipe: Recipe, ours: Method) -> Example:
    from lightly.loss import NTXentLoss
    from lightly.models.modules import MoCoProjectionHead
    from lightly.models.modules.heads import ProjectionHead

    assert isinstance(ours, MoCo)
    queue = ours.queue.rows
    criterion = NTXentLoss(temperature=_key(recipe, "temperature"), memory_bank_size=tuple(queue.shape))
    criterion.memory_bank.bank = queue.clone()
    widths = recipe.model.projector
    if len(widths) == 1:  # MoCo v1's, which its MoCoProjectionHead has not: the class of all its heads, of one Linear
        head = _copied(ProjectionHead([(feature_width(ours.backbone), widths[0], None, None)]), ours, "projector")
    else:
        head = _with_layers(MoCoProjectionHead, recipe, ours)
    return WithKeys(ours.backbone, head, criterion, _key(recipe, "momentum"))


def _byol(recipe: Recipe, ours: Method) -> Example:
    from lightly.loss import NegativeCosineSimilarity
    from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead

    widths = recipe.model.projector
    _has_layers(widths, 2)
    head = _copied(BYOLProjectionHead(feature_width(ours.backbone), *widths), ours, "projector")
    hidden = (recipe.model.predictor or widths)[0]
    predictor = _copied(BYOLPredictionHead(widths[-1], hidden, widths[-1]), ours, "predictor")
    return WithTarget(ours.backbone, head, NegativeCosineSimilarity(), predictor, _key(recipe, "momentum"))


def _simsiam(recipe: Recipe, ours: Method) -> Example:
    from lightly.loss import NegativeCosineSimilarity
    from lightly.models.modules import SimSiamPredictionHead, SimSiamProjectionHead

    widths = recipe.model.projector
    _has_layers(widths, 3)
    head = _copied(SimSiamProjectionHead(feature_width(ours.backbone), *widths[1:]), ours, "projector")
    hidden = (recipe.model.predictor or (max(widths[-1] // 4, 1),))[0]
    predictor = _copied(SimSiamPredictionHead(widths[-1], hidden, widths[-1]), ours, "predictor")
    return WithPredictor(ours.backbone, head, NegativeCosineSimilarity(), predictor)


def _swav(recipe: Recipe, ours: Method) -> Example:
    from lightly.loss import SwaVLoss
    from lightly.models.modules import SwaVProjectionHead, SwaVPrototypes

    widths = recipe.model.projector
    _has_layers(widths, 2)
    head = _copied(SwaVProjectionHead(feature_width(ours.backbone), *widths), ours, "projector")
    criterion = SwaVLoss(_key(recipe, "temperature"), int(_key(recipe, "sinkhorn_iterations")), _key(recipe, "epsilon"))
    prototypes = _copied(SwaVPrototypes(widths[-1], int(_key(recipe, "prototypes"))), ours, "prototypes")
    prototypes.normalize()
    return WithPrototypes(ours.backbone, head, criterion, prototypes)


EXAMPLES: Mapping[str, Callable[[Recipe, Method], Example]] = {
    "vicreg": _vicreg,
    "simclr": _simclr,
    "moco": _moco,
    "moco-v2": _moco,
    "byol": _byol,
    "simsiam": _simsiam,
    "swav": _swav,
}


def _key(recipe: Recipe, key: str) -> float:
    return float(getattr(recipe.objective, key))


def _with_layers(kind: Callable[..., nn.Module], recipe: Recipe, ours: Method) -> nn.Module:
    """A head of as many layers as ours, its hidden ones of one width."""
    widths = recipe.model.projector
    _has_layers(widths, len(widths))
    layers = len(widths)
    return _copied(kind(feature_width(ours.backbone), widths[0], widths[-1], num_layers=layers), ours, "projector")


def _has_layers(widths: Sequence[int], layers: int) -> None:
    if len(widths) != layers or layers < 2 or len(set(widths[:-1])) != 1:
        raise UserError(f"its projector has {max(layers, 2)} layers, all but the last of one width, not {list(widths)}")


def _copied(theirs: Any, ours: Method, head: str) -> Any:
    copy_layers(ours.heads()[head], theirs)
    return theirs
