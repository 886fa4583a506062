"""PIRL as a method: an image and a jigsaw of its patches, both near the image's row in a memory bank."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, get_args

import torch
from torch import Tensor, nn

from barlowctl.distributed import ALONE, Ranks
from barlowctl.errors import UserError
from barlowctl.methods import keyed
from barlowctl.methods.base import Method, Targets
from barlowctl.methods.given import check_width
from barlowctl.methods.moved_rows import MovedRows
from barlowctl.objective.barlow_twins import check_option
from barlowctl.objective.moco import TEMPERATURE
from barlowctl.objective.pirl import Criterion, PIRLTerms, log_partition, pirl_loss
from barlowctl.objective.settings import check_counts, check_positive, check_shares
from barlowctl.objective.similarity import unit_rows

NEGATIVES, JIGSAW = 1, 2
"""Streams of a step's random numbers: rows of the bank, and the order of each image's patches."""


class PIRL(Method):
    """PIRL (arXiv 1912.01991) with the jigsaw.

    The order of an image's patches is drawn from the seed, the number of the step and the image, and the negatives from
    the seed and the step: they are the same on any number of ranks, and a run that is resumed goes on with them. The
    bank changes once a step, after the optimizer: m <- norm(momentum m + (1 - momentum) v), v the image's embedding.

    Args:
        backbone: images -> features.
        projector: features of the image -> embedding `(N, D)`.
        patch_head: features of the patches `(N, patches, F)` -> embedding `(N, D)`.
        images: rows of the bank: the images of the source, which their indices are below.
        trained_on: int64 `(M,)`, the indices of those that are trained on, whose rows are drawn as negatives: the rows
            of others never move. None: all.
        patches: of an image. width: of an embedding, D.
        seed: of negatives and orders.
        criterion, temperature: see `pirl_loss`. negatives: how many rows are drawn from the bank for a step.
        momentum: of the bank's rows.
        ranks: those that share the batch.
    """

    terms: ClassVar[Mapping[str, str]] = {
        "image": "the half of the loss that compares the image with its row in the bank",
        "patches": "the half of the loss that compares the patches with that row",
    }
    bank: Tensor
    trained_on: Tensor | None
    log_z: Tensor | None
    step: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        patch_head: nn.Module,
        *,
        images: int,
        width: int,
        patches: int = 9,
        seed: int = 0,
        criterion: Criterion = "nce",
        temperature: float = TEMPERATURE,
        negatives: int = 32000,
        momentum: float = 0.5,
        trained_on: Tensor | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__()
        check_positive(temperature=temperature)
        check_shares(momentum=momentum)
        check_counts(1, images=images, width=width, patches=patches, negatives=negatives)
        check_option("criterion", criterion, get_args(Criterion))
        self.backbone = backbone
        self.projector = projector
        self.patch_head = patch_head
        self.patches, self.views = patches, 1 + patches
        self.seed = seed
        self.criterion: Criterion = criterion
        self.temperature, self.negatives, self.momentum = temperature, negatives, momentum
        self.ranks = ranks
        self.register_buffer("bank", random_bank(images, width))
        self.register_buffer("trained_on", trained_on, persistent=False)
        unknown = torch.full((2,), math.inf) if criterion == "nce" else None  # until the first batch
        self.register_buffer("log_z", unknown)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self._fresh: tuple[Tensor, Targets] | None = None  # of the step: embeddings of its images
        self._moved: tuple[MovedRows, ...] = ()

    @property
    def images(self) -> int:
        """How many images are trained on, M."""
        return len(self.bank if self.trained_on is None else self.trained_on)

    def arrange(self, views: Sequence[Tensor], targets: Targets) -> list[Tensor]:
        """The image, and its patches in the order of its jigsaw."""
        if len(views) != self.views:
            raise UserError(
                f"PIRL takes the image and {self.patches} patches of each, got {len(views)} views",
                allowed=f"{self.views}",
            )
        order = keyed.permutations(self.seed, self.step, JIGSAW, targets.indices, self.patches)
        cut = torch.stack(list(views[1:]))  # (patches, N, ...)
        rows = torch.arange(len(order), device=order.device)
        return [views[0], *(cut[place, rows] for place in order.t())]

    def embeddings(self, views: Sequence[Tensor]) -> list[Tensor]:
        """The image `(N, C, S, S)` and its patches `(N, C, s, s)` in order -> embeddings `(N, D)` of it and of them."""
        features = self.backbone(torch.cat(list(views[1:])))
        of_patches = features.view(self.patches, -1, features.shape[1]).transpose(0, 1)
        return [self.projector(self.backbone(views[0])), self.patch_head(of_patches)]

    def compare(self, embeddings: Sequence[Tensor], targets: Targets) -> PIRLTerms:
        """Embeddings `(N, D)` of image and patches -> loss and its halves."""
        for embedded in embeddings:
            check_width(self.bank.shape[1], embedded)
        drawn = keyed.integers(self.seed, self.step, NEGATIVES, self.negatives, self.images)
        if self.trained_on is not None:
            drawn = self.trained_on[drawn]
        positives, negatives = self.bank[targets.indices], self.bank[drawn]
        if self.log_z is not None:
            now = torch.stack([self._log_partition(z, positives, negatives, targets) for z in embeddings])
            self.log_z.copy_(torch.where(self.log_z.isinf(), now.to(self.log_z.dtype), self.log_z))
        self._fresh = embeddings[0].detach(), targets
        return pirl_loss(
            embeddings[0],
            embeddings[1],
            positives,
            negatives,
            images=self.images,
            log_z=self.log_z,
            criterion=self.criterion,
            temperature=self.temperature,
            ranks=self.ranks,
            shares=targets.shares,
        )

    def _log_partition(self, z: Tensor, positives: Tensor, negatives: Tensor, targets: Targets) -> Tensor:
        return log_partition(
            z,
            positives,
            negatives,
            images=self.images,
            temperature=self.temperature,
            ranks=self.ranks,
            shares=targets.shares,
        )

    @torch.no_grad()
    def after_step(self, progress: Tensor) -> None:
        """Move the rows of the batch's images in the bank, those of all ranks on each; the next step draws anew."""
        self._moved = ()
        if self._fresh is not None:
            (embedded, targets), self._fresh = self._fresh, None
            shares = targets.shares or self.ranks.shares(len(embedded))
            new = self.ranks.gather(unit_rows(embedded).to(self.bank.dtype), shares)
            where = self.ranks.gather(targets.indices, shares)
            moved = self.momentum * self.bank[where] + (1.0 - self.momentum) * new
            self._moved = (MovedRows.move(self.bank, where, unit_rows(moved)),)
        self.step += 1

    def moved_by_row(self) -> Sequence[Tensor]:
        """The bank."""
        return (self.bank,)

    def moved_rows(self) -> Sequence[MovedRows]:
        """Those of the batch's images."""
        return self._moved

    def heads(self) -> dict[str, nn.Module]:
        """The image's head and the patches'."""
        return {"projector": self.projector, "patch head": self.patch_head}

    def describe(self, batch: int, ranks: int = 1) -> str:
        """The form of the loss, and the bank."""
        return (
            f"PIRL, {self.criterion.replace('_', '-')} at temperature {self.temperature:g}, {self.negatives:,} "
            f"negatives of a memory bank of {self.images:,} x {self.bank.shape[1]}, jigsaw of {self.patches} patches"
        )

    def project(self, images: Tensor) -> Tensor:
        """Images `(N, C, H, W)` -> the image head's embeddings `(N, D)`."""
        embedded: Tensor = self.projector(self.backbone(images))
        return embedded


def random_bank(images: int, width: int) -> Tensor:
    """`(images, width)` at unit length, from U(-sqrt(3 / width), sqrt(3 / width)) by torch's current generator."""
    spread = math.sqrt(3.0 / width)
    return nn.functional.normalize(torch.empty(images, width).uniform_(-spread, spread), dim=1)
