"""A linear classifier of the backbone's features that learns beside a method, step by step, and never touches it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

BETAS, EPSILON = (0.9, 0.999), 1e-8  # Adam's
RUNNING = 0.1  # the share of a new batch in the running statistics, as in torch's batch norm
SMALLEST_VARIANCE = 1e-5


class OnlineProbe:
    """Multinomial logistic regression on the features of each batch's first view, by Adam at a constant rate.

    Features are standardised: by the batch while it learns, by running statistics when it is asked (batch norm without
    parameters). It begins with zeros, so that nothing is drawn, and its gradient is written out: p - y times features.
    Each rank could have one of its own rows; the run has that of rank 0, which evaluates.

    Args:
        classes: how many. lr: the rate.
    """

    def __init__(self, classes: int, lr: float) -> None:
        self.classes, self.lr = classes, lr
        self._tensors: dict[str, Tensor] = {}  # empty until the first batch says how wide features are

    @property
    def has_learned(self) -> bool:
        """Whether there is anything to ask."""
        return bool(self._tensors)

    @torch.no_grad()
    def learn(self, features: Tensor, labels: Tensor, *, unless: Tensor | None = None) -> None:
        """One step on features `(n, F)` float32 and their labels int64 `(n,)`; -1: unlabelled, left out.

        unless: 0-dimensional; where it is not 0 nothing changes (see `step.TrainingStep`). Nothing is read back from
        the device.
        """
        own = self._tensors or self._begin(features)
        labelled = ((labels >= 0) & (labels < self.classes)).to(torch.float32)
        count = labelled.sum()
        skipped = count == 0 if unless is None else (count == 0) | (unless != 0)
        variance, mean = torch.var_mean(features, dim=0, correction=0)
        x = (features - mean) * (variance + SMALLEST_VARIANCE).rsqrt()
        p = torch.softmax(torch.addmm(own["bias"], x, own["weight"]), dim=1)
        y = torch.nn.functional.one_hot(labels.clamp(0, self.classes - 1), self.classes)
        error = (p - y) * (labelled / count.clamp_min(1.0))[:, None]
        moved = {"mean": own["mean"].lerp(mean, RUNNING), "variance": own["variance"].lerp(variance, RUNNING)}
        taken = own["taken"] + 1  # on the device: a step that does not count is not counted there
        for name, gradient in (("weight", x.t() @ error), ("bias", error.sum(dim=0))):
            first = own[f"{name}_first"].lerp(gradient, 1.0 - BETAS[0])
            second = own[f"{name}_second"].lerp(gradient.square(), 1.0 - BETAS[1])
            step = first / (1.0 - BETAS[0] ** taken) / ((second / (1.0 - BETAS[1] ** taken)).sqrt() + EPSILON)
            moved |= {name: own[name] - self.lr * step, f"{name}_first": first, f"{name}_second": second}
        for name, value in (moved | {"taken": taken}).items():
            own[name].copy_(torch.where(skipped, own[name], value))

    @torch.no_grad()
    def predict(self, features: Tensor) -> Tensor:
        """Logits `(N, classes)` of features `(N, F)`, on the CPU."""
        own = {name: value.cpu() for name, value in self._tensors.items()}
        x = (features.cpu().float() - own["mean"]) * (own["variance"] + SMALLEST_VARIANCE).rsqrt()
        return torch.addmm(own["bias"], x, own["weight"])

    def state(self) -> Mapping[str, Any]:
        """All of it, for a checkpoint."""
        return {"classes": self.classes, "tensors": dict(self._tensors)}

    def restore(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Go on from a `state`."""
        self._tensors = {name: value.to(device) for name, value in state["tensors"].items()}

    def _begin(self, features: Tensor) -> dict[str, Tensor]:
        width = features.shape[1]
        shapes = {"weight": (width, self.classes), "bias": (self.classes,)}
        zeros = {f"{name}{part}": shape for name, shape in shapes.items() for part in ("", "_first", "_second")}
        self._tensors = {name: features.new_zeros(shape) for name, shape in zeros.items()}
        self._tensors |= {"mean": features.new_zeros(width), "variance": features.new_ones(width)}
        self._tensors["taken"] = features.new_zeros(())
        return self._tensors
