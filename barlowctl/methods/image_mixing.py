"""How two images become one, mixup or CutMix: drawn on the device, from a seed and the number of the step."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from barlowctl.methods import keyed

STREAM, DRAWS = 1, 5
"""Of a step: mixed at all, by which of the two, how much, and the row and column that a box is around."""
QUANTILES = 4096


class ImageMixing(nn.Module):
    """The weights by which the images of one batch are mixed: the same for all of them, as in timm's `Mixup`.

        mixup   w = s everywhere,  s ~ Beta(mixup, mixup)                         (Zhang et al. 2018, arXiv 1710.09412)
        CutMix  w = 0 in a box and 1 around it; the box has sides H sqrt(1 - s) and W sqrt(1 - s), s ~ Beta(cutmix,
                cutmix), and its centre anywhere; what lies outside is cut off    (Yun et al. 2019, arXiv 1905.04899)

    The mixed image is w x + (1 - w) y, and the share of its first label the mean of w.

    Deviation: s is one of the 4,096 quantiles of its distribution that are equally likely, since a Beta variable cannot
    be drawn on a device by a fixed number of whole-number operations.

    Args:
        mixup, cutmix: parameters of the distributions; 0: not that one. One of them is above 0.
        probability: of a batch being mixed. cutmix_share: of CutMix where both are above 0.

    Raises:
        ValueError: none of them is above 0.
    """

    mixup_shares: Tensor
    cutmix_shares: Tensor

    def __init__(self, mixup: float, cutmix: float, probability: float = 1.0, cutmix_share: float = 0.5) -> None:
        super().__init__()
        if not (mixup > 0.0 or cutmix > 0.0):
            raise ValueError(f"mixup {mixup:g} and cutmix {cutmix:g}: one of them is above 0")
        self.probability = probability
        self.cutmix_share = cutmix_share if mixup and cutmix else float(cutmix > 0.0)
        for name, alpha in (("mixup_shares", mixup), ("cutmix_shares", cutmix)):
            self.register_buffer(name, _beta_quantiles(alpha or 1.0), persistent=False)

    def weights(self, seed: int, step: Tensor, height: int, width: int) -> Tensor:
        """w of a step, `(height, width)`, float32 in [0, 1], on the step's device. Nothing is read on the host."""
        draws = keyed.bits(seed, step, STREAM, torch.arange(DRAWS, device=step.device))
        whether, which = ((draws[:2] + 0.5) / 2**32).unbind()
        place, row, column = (
            draw * below >> 32 for draw, below in zip(draws[2:], (QUANTILES, height, width), strict=True)
        )
        side = (1.0 - self.cutmix_shares.take(place)).sqrt()  # by [place], one number, the host would wait for it
        in_box = _inside(row, side, height)[:, None] & _inside(column, side, width)[None, :]
        mixed = torch.where(which < self.cutmix_share, 1.0 - in_box.to(torch.float32), self.mixup_shares.take(place))
        return torch.where(whether < self.probability, mixed, 1.0)


def _inside(centre: Tensor, side: Tensor, length: int) -> Tensor:
    """Which of `length` positions a box of `side` (a share of the length) around `centre` covers; as timm rounds it."""
    extent = (side * length).floor().to(torch.int64)
    start, end = centre - extent // 2, centre + (extent + 1) // 2
    positions = torch.arange(length, device=centre.device)
    return (positions >= start) & (positions < end)


def _beta_quantiles(alpha: float) -> Tensor:
    """Equally likely values of Beta(alpha, alpha), float32 `(QUANTILES,)`.

    The density x^(alpha-1) (1-x)^(alpha-1) is integrated from 0 to 1/2 over u with x = u^p, p = max(1, 1/alpha), in
    which it is finite; the other half mirrors it. Below 1e-12 all values are 0 or 1, and are those of 1e-12.
    """
    alpha = max(alpha, 1e-12)
    p = max(1.0, 1.0 / alpha)
    u = np.linspace(0.0, 0.5 ** (1.0 / p), 16 * QUANTILES)
    x = u**p
    density = u ** (max(alpha, 1.0) - 1.0) * ((1.0 - x) / 0.5) ** (alpha - 1.0)
    mass = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    middles = (np.arange(QUANTILES // 2) + 0.5) / QUANTILES
    lower = np.interp(middles, 0.5 * mass / mass[-1], u) ** p
    return torch.from_numpy(np.concatenate([lower, 1.0 - lower[::-1]]).astype(np.float32))
