"""A backbone as format "onnx" holds it: with what comes before it and after it in the graph."""

from __future__ import annotations

import copy
import inspect
from typing import Any, cast

import torch
from torch import Tensor, nn

from barlowctl.exports.exported import ExportedModel
from barlowctl.exports.formats.options import Precision
from barlowctl.exports.keys import is_bound
from barlowctl.model import takes_any_size

_EXAMPLES = 2  # images; torch would take a batch of one for a constant


class OnnxNetwork(nn.Module):
    """Images to float32 features (N, F), on the CPU, in evaluation mode; the model is copied.

    Args:
        with_preprocessing: images are uint8 (N, crop, crop, channels); else normalised float32 (N, channels, crop,
            crop).
        precision: of the backbone; "fp16": float16.
    """

    def __init__(self, model: ExportedModel, with_preprocessing: bool, precision: Precision) -> None:
        super().__init__()
        preprocessing = model.preprocessing
        self.normalization = preprocessing.normalization() if with_preprocessing else nn.Identity()
        self.backbone = copy.deepcopy(model.backbone).cpu().to(memory_format=torch.contiguous_format)
        if takes_any_size(self.backbone) and not _has_windows(self.backbone):
            # ONNX interpolates position embeddings otherwise than torch; here it is done once, by timm
            cast(Any, self.backbone).set_input_size(img_size=(preprocessing.crop, preprocessing.crop))
        self.backbone.to(torch.float16 if precision == "fp16" else torch.float32)
        _bounds_as_numbers(self.backbone)
        self.dtype = torch.float16 if precision == "fp16" else torch.float32
        self.shape = (_EXAMPLES, preprocessing.channels, preprocessing.crop, preprocessing.crop)
        self.pixels = with_preprocessing
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.backbone(self.normalization(images).to(self.dtype))
        return features.float()

    def write_out_attention(self) -> bool:
        """Let timm compute attention by products and a softmax, instead of by torch's one function for it.

        Returns:
            Whether there was any to write out.
        """
        fused = [part for part in self.backbone.modules() if getattr(part, "fused_attn", False)]
        for part in fused:
            setattr(part, "fused_attn", False)  # noqa: B010 - which timm's modules have, and nn.Module has not
        return bool(fused)

    def example(self) -> Tensor:
        """A batch of zeros in the shape and type that the network takes."""
        images, channels, *sides = self.shape
        return torch.zeros(images, *sides, channels, dtype=torch.uint8) if self.pixels else torch.zeros(self.shape)


def _has_windows(network: nn.Module) -> bool:
    """Whether timm changes the size of its windows with the size of images, as a Swin's: that is another network."""
    return "window_size" in inspect.signature(cast(Any, network).set_input_size).parameters


def _bounds_as_numbers(network: nn.Module) -> None:
    """Replace the bounds that layers clip by, as Gemma's do, by numbers: of two tensors torch writes a broken Clip."""
    for part in network.modules():
        for name, buffer in list(part.named_buffers(recurse=False)):
            if is_bound(name, buffer):
                delattr(part, name)
                setattr(part, name, float(buffer))
