"""Networks whose batch norms, and the ReLU, the shortcut or the pooling after one, a CPU computes together."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, cast

import torch
from timm.layers.norm_act import BatchNormAct2d
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from barlowctl.model.cpu import pooled_norm
from barlowctl.model.cpu.fused_layer_norm import choose_layer_norms, prepare_layer_norms
from barlowctl.model.cpu.fused_norm import (
    FusedBatchNorm1d,
    FusedBatchNorm2d,
    FusedBatchNormAct2d,
    FusedNorm,
    ReLUOfFused,
)
from barlowctl.model.cpu.fused_pooling import choose_pooling, prepare_pooling
from barlowctl.model.cpu.pooled_norm import PoolingOfFused
from barlowctl.model.cpu.shortcuts import begun
from barlowctl.model.cpu.squeeze_excitation import choose_squeeze_excitation, prepare_squeeze_excitation
from barlowctl.model.cpu.tabulated_activations import choose_activations, prepare_activations
from barlowctl.modes import is_watched


class FusedBasicBlock(BasicBlock):
    """timm's, whose last batch norm, addition of the shortcut and ReLU are one (see `FusedNorm.added`)."""

    def forward(self, x: Tensor) -> Tensor:
        """See `BasicBlock`."""
        if not _is_bare(self, self.bn2, self.act2):
            return super().forward(x)
        x, shortcut = begun(x, self.conv1, self.downsample)
        x = cast(Any, self).aa(self.act1(self.bn1(x)))
        return cast(FusedNorm, self.bn2).added(self.conv2(x), shortcut, self.act2)


class FusedBottleneck(Bottleneck):
    """timm's, whose last batch norm, addition of the shortcut and ReLU are one (see `FusedNorm.added`)."""

    def forward(self, x: Tensor) -> Tensor:
        """See `Bottleneck`."""
        if not _is_bare(self, self.bn3, self.act3):
            return super().forward(x)
        x, shortcut = begun(x, self.conv1, self.downsample)
        x = self.act1(self.bn1(x))
        x = cast(Any, self).aa(self.act2(self.bn2(self.conv2(x))))
        return cast(FusedNorm, self.bn3).added(self.conv3(x), shortcut, self.act3)


class FusedResNet(ResNet):
    """timm's, of whose stem batch norm, ReLU and maximum pooling are one (see `pooled_norm`)."""

    def forward_features(self, x: Tensor) -> Tensor:
        """See `ResNet`."""
        stem = cast(Any, self)
        watched = any(map(is_watched, (stem.bn1, stem.act1, stem.maxpool)))
        if watched or torch.compiler.is_compiling() or type(stem.act1) is not ReLUOfFused:
            return super().forward_features(x)
        stem.bn1.pools = True
        try:
            return super().forward_features(x)
        finally:
            stem.bn1.pools = False


BLOCKS: dict[type, type] = {BasicBlock: FusedBasicBlock, Bottleneck: FusedBottleneck}


def _is_bare(block: Any, norm: nn.Module, activation: nn.Module) -> bool:
    """Whether a block in training has nothing between its last batch norm and its ReLU but the shortcut."""
    plain = block.se is None and block.drop_path is None and type(block.drop_block) is nn.Identity
    return block.training and plain and isinstance(norm, FusedNorm) and type(activation) in (nn.ReLU, ReLUOfFused)


def choose_norms(network: nn.Module, device: torch.device) -> None:
    """Let norms, global pooling behind batch norms, and activations be computed by our kernels on a CPU.

    Names, parameters, buffers and hooks stay.
    """
    if device.type != "cpu":
        return
    choose_pooling(network)
    choose_layer_norms(network)
    choose_activations(network)
    choose_squeeze_excitation(network)
    for part in network.modules():
        if type(part) is nn.BatchNorm2d and _is_plain(part):
            part.__class__ = FusedBatchNorm2d
        elif type(part) is nn.BatchNorm1d and _is_plain(part):
            part.__class__ = FusedBatchNorm1d
        elif type(part) is BatchNormAct2d and _is_plain(part):
            part.__class__ = FusedBatchNormAct2d
    for norm, activation in _followed_by(network):
        if isinstance(norm, FusedNorm) and type(activation) in (nn.ReLU, ReLUOfFused):
            norm.rectifies = True
            activation.__class__ = ReLUOfFused
    for part in network.modules():
        part.__class__ = BLOCKS.get(type(part), type(part))
        if type(part) is ResNet:
            _choose_stem(part)


def _choose_stem(network: ResNet) -> None:
    norm, activation, pooling = (network.get_submodule(name) for name in ("bn1", "act1", "maxpool"))
    rectified = isinstance(norm, FusedBatchNorm2d) and type(activation) is ReLUOfFused
    if rectified and pooled_norm.fits(pooling, cast(nn.BatchNorm2d, norm).num_features):
        pooling.__class__, network.__class__ = PoolingOfFused, FusedResNet


def prepare_norms(network: nn.Module, dtype: torch.dtype) -> None:
    """Compile the kernels of the network's norms, pooling and activations, for maps in a number format.

    The first call ever takes seconds. Whoever times a step does this before, with the threads of that step.
    """
    prepare_pooling(network, dtype)
    prepare_layer_norms(network, dtype)
    prepare_activations(network, dtype)
    prepare_squeeze_excitation(network, dtype)
    if any(type(part) is FusedResNet for part in network.modules()):
        pooled_norm.prepare(dtype)
    if any(isinstance(part, FusedNorm) for part in network.modules()):
        from barlowctl.kernels.batch_norm.passes import FOR_SEVERAL

        for rows in (2,) if torch.get_num_threads() == 1 else (2, FOR_SEVERAL):
            x = torch.zeros(rows, 1, 1, 1, dtype=dtype).to(memory_format=torch.channels_last)
            FusedBatchNorm2d(1).added(x.requires_grad_(), x.detach(), nn.ReLU()).sum().backward()


def _is_plain(norm: _BatchNorm) -> bool:
    """Whether it has what the kernels expect."""
    return norm.affine and norm.track_running_stats and norm.momentum is not None


def _followed_by(network: nn.Module) -> Iterator[tuple[nn.Module, nn.Module]]:
    """A module and what alone takes its result, as far as the network's own classes say."""
    for part in network.modules():
        if type(part) is nn.Sequential:
            yield from pairwise(part.children())
        elif type(part) in (ResNet, FusedResNet):
            yield part.get_submodule("bn1"), part.get_submodule("act1")
        elif (
            isinstance(part, BasicBlock | Bottleneck)
            and type(part) in (*BLOCKS, *BLOCKS.values())
            and type(part.drop_block) is nn.Identity
        ):
            yield part.get_submodule("bn1"), part.get_submodule("act1")
            if isinstance(part, Bottleneck):
                yield part.get_submodule("bn2"), part.get_submodule("act2")
