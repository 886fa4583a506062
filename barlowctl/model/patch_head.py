"""The head of an image's patches: each by itself through one network, then all together through a last layer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from barlowctl.model.mlp import build_mlp


class PatchHead(nn.Module):
    """Features of an image's patches -> one embedding.

    Args:
        each: features of a patch -> what is kept of it.
        together: of all patches, one behind the other -> the embedding.
    """

    def __init__(self, each: nn.Module, together: nn.Module) -> None:
        super().__init__()
        self.each = each
        self.together = together

    def forward(self, features: Tensor) -> Tensor:
        """`(N, patches, F)` -> `(N, D)`."""
        reduced: Tensor = self.each(features.flatten(0, 1))
        embedded: Tensor = self.together(reduced.view(len(features), -1))
        return embedded


def build_patch_head(in_features: int, widths: Sequence[int], *, patches: int) -> PatchHead:
    """PIRL's: for each patch Linear layers with a ReLU between, then one Linear of all; biases, no batch norm.

    With hidden widths (the paper's MLP variant) what comes out for a patch goes through a ReLU too, as in VISSL.

    Args:
        in_features: width of the backbone's features. widths: for each patch, the last one also of the embedding; PIRL:
            (128,), and (2048, 128) with the MLP. patches: of an image.
    """
    each = build_mlp(in_features, widths, batch_norm=False, hidden_bias=True, last_bias=True)
    if len(widths) > 1:
        each.append(nn.ReLU(inplace=True))
    together = build_mlp(patches * widths[-1], widths[-1:], batch_norm=False, hidden_bias=True, last_bias=True)
    return PatchHead(each, together)
