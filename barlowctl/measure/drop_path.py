"""A subject's backbone as it is trained with drop path: each block's branch is left out of some images at random."""

from __future__ import annotations

import copy

from timm.layers.drop import DropPath
from torch import nn

from barlowctl.errors import UserError
from barlowctl.generators import own_generator
from barlowctl.measure.subjects import Subject


def with_drop_path(subject: Subject, rate: float) -> nn.Module:
    """A copy of the subject's backbone with timm's `drop_path_rate`, whatever rate it was pre-trained with.

    Its weights and what it computes in evaluation mode are the same. The rate rises from 0 at the first block to `rate`
    at the last one, as timm has it (stochastic depth, Huang et al. 2016, arXiv 1603.09382).

    Raises:
        UserError: the network has no branch that could be left out.
    """
    if rate == 0.0:
        same = copy.deepcopy(subject.backbone)
        for module in same.modules():
            if isinstance(module, DropPath):
                module.drop_prob = 0.0
        return same
    backbone = None
    if subject.untrained is not None:
        try:
            with own_generator():
                backbone = subject.untrained(drop_path_rate=rate)
        except UserError as error:
            if "drop_path_rate" not in error.message:
                raise
    if backbone is None or not any(isinstance(module, DropPath) for module in backbone.modules()):
        raise UserError(
            f"'{subject.name}' has no drop path: timm builds {type(subject.backbone).__name__} without branches to "
            "leave out",
            next="--set drop_path=0",
        )
    backbone.load_state_dict(subject.backbone.state_dict())
    return backbone.eval()
