"""Several views in one pass through networks, with the batch norm statistics of each: half the calls on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from timm.layers.activations import Sigmoid
from timm.layers.adaptive_avgmax_pool import AdaptiveCatAvgMaxPool2d, SelectAdaptivePool2d
from timm.layers.attention_pool import AttentionPoolLatent
from timm.layers.classifier import ClassifierHead, NormMlpClassifierHead
from timm.layers.conv_bn_act import ConvNormAct
from timm.layers.grn import GlobalResponseNorm
from timm.layers.layer_scale import LayerScale
from timm.layers.mlp import GlobalResponseNormMlp, GluMlp, Mlp, SwiGLU
from timm.layers.norm import RmsNorm
from timm.layers.patch_embed import PatchEmbed
from timm.layers.pos_embed_sincos import RotaryEmbeddingCat, RotaryEmbeddingDinoV3
from timm.layers.squeeze_excite import SEModule
from timm.models import _efficientnet_blocks as inverted
from timm.models import byobnet, convnext, eva, regnet, resnetv2, vision_transformer
from timm.models.efficientnet import EfficientNet
from timm.models.mobilenetv3 import MobileNetV3
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn

from barlowctl.kernels import thread_team
from barlowctl.model.cpu.depthwise import DepthwiseConvolution
from barlowctl.model.cpu.fused_attention import FUSED
from barlowctl.model.cpu.fused_blocks import FusedBasicBlock, FusedBottleneck, FusedResNet
from barlowctl.model.cpu.fused_layer_norm import ROUNDED
from barlowctl.model.cpu.fused_norm import FORMATS, FusedBatchNorm1d, FusedBatchNorm2d, FusedBatchNormAct2d, ReLUOfFused
from barlowctl.model.cpu.fused_pooling import FusedCatAvgMaxPool2d
from barlowctl.model.cpu.patch_convolution import PatchConvolution
from barlowctl.model.cpu.pooled_norm import PoolingOfFused
from barlowctl.model.cpu.product_convolution import ProductConvolution
from barlowctl.model.cpu.product_linear import ProductLinear
from barlowctl.model.cpu.seen_taps import SeenTaps
from barlowctl.model.cpu.squeeze_excitation import FusedSEModule, FusedSqueezeExcite
from barlowctl.model.cpu.tabulated_activations import TABULATED

NORMS = (FusedBatchNorm1d, FusedBatchNorm2d, FusedBatchNormAct2d)
ROW_BY_ROW = {
    nn.Sequential, nn.Identity, nn.Flatten, nn.Linear, nn.Conv2d, SeenTaps, ProductConvolution, PatchConvolution,
    DepthwiseConvolution, nn.ReLU, ReLUOfFused, nn.ReLU6, nn.Sigmoid, nn.Hardswish, nn.Hardsigmoid, Sigmoid,
    nn.MaxPool2d, PoolingOfFused, nn.AvgPool2d, nn.AdaptiveAvgPool2d, SelectAdaptivePool2d, AdaptiveCatAvgMaxPool2d,
    FusedCatAvgMaxPool2d, ProductLinear, ResNet, FusedResNet, BasicBlock, Bottleneck, FusedBasicBlock, FusedBottleneck,
    EfficientNet, MobileNetV3, inverted.ConvBnAct, inverted.DepthwiseSeparableConv, inverted.InvertedResidual,
    inverted.EdgeResidual, inverted.UniversalInvertedResidual, inverted.SqueezeExcite, FusedSqueezeExcite,
    regnet.RegNet, regnet.RegStage, regnet.Bottleneck, ConvNormAct, SEModule, FusedSEModule, ClassifierHead,
    byobnet.ByobNet, byobnet.Stem, byobnet.BasicBlock, byobnet.BottleneckBlock,
    nn.ModuleList, *TABULATED, *TABULATED.values(), *ROUNDED, *ROUNDED.values(), RmsNorm, LayerScale, Mlp, GluMlp,
    SwiGLU, PatchEmbed, vision_transformer.VisionTransformer, vision_transformer.Block, *FUSED, *FUSED.values(),
    AttentionPoolLatent, eva.Eva, eva.EvaBlock, RotaryEmbeddingCat, RotaryEmbeddingDinoV3,
    convnext.ConvNeXt, convnext.ConvNeXtStage, convnext.ConvNeXtBlock, convnext.Downsample, NormMlpClassifierHead,
    GlobalResponseNorm, GlobalResponseNormMlp,
    resnetv2.ResNetV2, resnetv2.ResNetStage, resnetv2.PreActBasic, resnetv2.PreActBottleneck, resnetv2.DownsampleConv,
}  # fmt: skip
"""Modules that compute each image by itself and, without a rate of what is dropped, draw nothing at random."""


class OnePass:
    """Embeds views in one pass where that gives what a pass for each gives: all but batch norm is row by row.

    Where not every batch norm has our kernels (see `choose_norms`) there is a pass for each. Maps are in channels_last.

    Args:
        networks: all that the views go through.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        parts = [part for network in networks for part in network.modules()]
        self.norms = [part for part in parts if isinstance(part, NORMS)]
        self.goes = all(map(_goes_row_by_row, parts))

    def __call__(self, embed: Callable[[Tensor], Tensor], views: Sequence[Tensor]) -> list[Tensor]:
        """Views `(N, C, H, W)`, of one size or not -> what `embed` makes of each."""
        if not self._is_faster(views):
            return [embed(view) for view in views]
        with self._in_parts(len(views)):
            return list(embed(torch.cat(list(views))).chunk(len(views)))

    def _is_faster(self, views: Sequence[Tensor]) -> bool:
        alike = len({view.shape for view in views}) == 1 and all(type(view) is Tensor for view in views)
        autocast = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if autocast else views[0].dtype
        fused = thread_team.serves() and not torch.compiler.is_compiling()
        trained = all(norm.training for norm in self.norms)
        return self.goes and alike and dtype in FORMATS and fused and trained and views[0].device.type == "cpu"

    @contextmanager
    def _in_parts(self, count: int) -> Iterator[None]:
        for norm in self.norms:
            norm.parts = count
        try:
            yield
        finally:
            for norm in self.norms:
                norm.parts = 1


def _goes_row_by_row(part: nn.Module) -> bool:
    """Whether a row of its result is that of a row of its input alone, or a batch norm's."""
    if isinstance(part, nn.Dropout):
        return part.p == 0
    draws = getattr(part, "drop_rate", 0) or getattr(part, "aug_active", False)  # the latter of patches' places
    return (type(part) in ROW_BY_ROW and not draws) or isinstance(part, NORMS)
