"""The mask head of Mask R-CNN C4: one deconvolution on the features that the box head has computed."""

from __future__ import annotations

from torch import Tensor, nn

from barlowctl.detect.rpn import at_least_float32


class C4MaskHead(nn.Sequential):
    """2 x 2 deconvolution of stride 2, ReLU, 1 x 1 convolution to a mask for each class.

    As detectron2 begins: Kaiming normal over the fan-out for the deconvolution, N(0, 0.001) for the last one, biases 0.

    Args:
        channels: of the features. width: between the two. num_classes: K.
    """

    def __init__(self, channels: int, width: int, num_classes: int) -> None:
        deconvolution = nn.ConvTranspose2d(channels, width, 2, stride=2)
        last = nn.Conv2d(width, num_classes, 1)
        nn.init.kaiming_normal_(deconvolution.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(last.weight, std=0.001)
        for layer in (deconvolution, last):
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        super().__init__(deconvolution, nn.ReLU(), last)

    def forward(self, x: Tensor) -> Tensor:
        """`(R, channels, S, S)` -> logits `(R, K, 2 S, 2 S)`, float32."""
        for layer in self:
            x = layer(x)
        return at_least_float32(x)
