"""Fine-tuning as its papers have it, in NumPy and float64: mixed images, smoothed targets and their cross-entropy."""

from __future__ import annotations

import math

import numpy as np


def mixup(images: np.ndarray, partners: np.ndarray, share: float) -> np.ndarray:
    """mixup (Zhang et al. 2018), equation 1."""
    return share * images + (1.0 - share) * partners


def cutmix(images: np.ndarray, partners: np.ndarray, drawn: float, row: int, column: int) -> tuple[np.ndarray, float]:
    """CutMix (Yun et al. 2019), equations 1 and 5: images `(N, C, H, W)` with the box pasted in, and the first's share.

    The box has its centre at (row, column); what lies outside of the image is cut off, and the share is what is left.
    """
    height, width = images.shape[-2:]
    tall, wide = int(height * math.sqrt(1.0 - drawn)), int(width * math.sqrt(1.0 - drawn))
    mixed = images.copy()
    count = 0
    for y in range(row - tall // 2, row + (tall + 1) // 2):
        for x in range(column - wide // 2, column + (wide + 1) // 2):
            if 0 <= y < height and 0 <= x < width:
                mixed[:, :, y, x] = partners[:, :, y, x]
                count += 1
    return mixed, 1.0 - count / (height * width)


def loss(logits: np.ndarray, labels: np.ndarray, partners: np.ndarray, share: float, smoothing: float) -> float:
    """Cross-entropy with the mixed, smoothed target: - 1/N sum_n sum_c t_nc log p_nc."""
    rows, classes = logits.shape
    target = np.full((rows, classes), smoothing / classes)
    for row in range(rows):
        target[row, labels[row]] += (1.0 - smoothing) * share
        target[row, partners[row]] += (1.0 - smoothing) * (1.0 - share)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-(target * log_p).sum(axis=1).mean())
