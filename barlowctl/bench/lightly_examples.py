"""The networks of lightly's documented examples, and the order of their steps: one class for each kind of method."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Example(nn.Module):
    """An example of its documentation: backbone, heads and criterion.

    Args:
        backbone: ours. head: its projection head, with our weights. criterion: its loss.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, criterion: Callable[..., Any]) -> None:
        super().__init__()
        self.backbone, self.projection_head, self.criterion = backbone, head, criterion

    def before(self) -> None:
        """What a step begins with."""

    def project(self, images: Tensor) -> Tensor:
        """Images -> projections `(N, D)`."""
        projected: Tensor = self.projection_head(self.backbone(images).flatten(start_dim=1))
        return projected

    def embedded(self, first: Tensor, second: Tensor) -> Sequence[Tensor]:
        """Both views -> what is compared."""
        return [self.project(first), self.project(second)]

    def checked(self, first: Tensor, second: Tensor) -> Sequence[Tensor]:
        """What `embedded` gives, with batch norm over the images that it sees with us."""
        return self.embedded(first, second)

    def compare(self, embedded: Sequence[Tensor]) -> Tensor:
        """The loss."""
        loss: Tensor = self.criterion(*embedded)
        return loss


class Together(Example):
    """Our views go through the network together."""

    def checked(self, first: Tensor, second: Tensor) -> Sequence[Tensor]:
        """See `Example`."""
        return self.project(torch.cat([first, second])).chunk(2)


class WithPrototypes(Together):
    """SwAV: projections of length 1 against prototypes, which are scaled to length 1 before each step."""

    def __init__(self, backbone: nn.Module, head: nn.Module, criterion: Callable[..., Any], prototypes: Any) -> None:
        super().__init__(backbone, head, criterion)
        self.prototypes = prototypes

    def before(self) -> None:
        """See `Example`."""
        self.prototypes.normalize()

    def project(self, images: Tensor) -> Tensor:
        """Images -> scores `(N, K)`."""
        scores: Tensor = self.prototypes(functional.normalize(super().project(images), dim=1, p=2))
        return scores

    def compare(self, embedded: Sequence[Tensor]) -> Tensor:
        """Two large views and no small ones."""
        loss: Tensor = self.criterion(list(embedded), [])
        return loss.squeeze()  # it has one element


class WithPredictor(Example):
    """SimSiam: predictions against the other view's projection, which is a constant; half of each."""

    def __init__(self, backbone: nn.Module, head: nn.Module, criterion: Callable[..., Any], predictor: nn.Module):
        super().__init__(backbone, head, criterion)
        self.prediction_head = predictor

    def embedded(self, first: Tensor, second: Tensor) -> Sequence[Tensor]:
        """Two predictions, then two projections."""
        projections = [self.project(view) for view in (first, second)]
        return [*(self.prediction_head(z) for z in projections), *(z.detach() for z in projections)]

    def compare(self, embedded: Sequence[Tensor]) -> Tensor:
        """Both orders of the views."""
        p1, p2, z1, z2 = embedded
        loss: Tensor = 0.5 * (self.criterion(p1, z2) + self.criterion(p2, z1))
        return loss


class WithTarget(WithPredictor):
    """BYOL: what is predicted is a moving average's, which follows before each step."""

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        criterion: Callable[..., Any],
        predictor: nn.Module,
        momentum: float,
    ) -> None:
        super().__init__(backbone, head, criterion, predictor)
        self.target, self.momentum = _frozen_copy(backbone, head), momentum

    def before(self) -> None:
        """See `Example`."""
        _follow(self, self.target, self.momentum)

    def embedded(self, first: Tensor, second: Tensor) -> Sequence[Tensor]:
        """Two predictions, then two of the target's projections."""
        predictions = [self.prediction_head(self.project(view)) for view in (first, second)]
        return [*predictions, *(self.target(view).detach() for view in (first, second))]


class WithKeys(Example):
    """MoCo: queries of the first view, and keys of the second by a moving average, which follows before each step."""

    def __init__(self, backbone: nn.Module, head: nn.Module, criterion: Callable[..., Any], momentum: float) -> None:
        super().__init__(backbone, head, criterion)
        self.target, self.momentum = _frozen_copy(backbone, head), momentum

    def before(self) -> None:
        """See `Example`."""
        _follow(self, self.target, self.momentum)

    def embedded(self, first: Tensor, second: Tensor) -> Sequence[Tensor]:
        """Queries and keys."""
        return [self.project(first), self.target(second).detach()]


def _frozen_copy(*networks: nn.Module) -> nn.Sequential:
    from lightly.models.utils import deactivate_requires_grad

    copies = nn.Sequential(*(copy.deepcopy(network) for network in networks))
    deactivate_requires_grad(copies)
    return copies


def _follow(example: Example, target: nn.Sequential, momentum: float) -> None:
    from lightly.models.utils import update_momentum

    update_momentum(example.backbone, target[0], m=momentum)
    update_momentum(example.projection_head, target[1], m=momentum)
