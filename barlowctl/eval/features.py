"""Features of a frozen backbone, and proof that it stayed as it was."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from barlowctl.errors import UserError
from barlowctl.modes import in_mode


class LabelledBatch(Protocol):
    """What a loader yields, as far as extraction is concerned."""

    @property
    def views(self) -> Sequence[Tensor]: ...

    @property
    def labels(self) -> Tensor: ...


def extract(
    backbone: nn.Module,
    batches: Iterable[LabelledBatch],
    to_input: Callable[[Tensor], Tensor],
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """Features and labels of all images, in the order of `batches`.

    Args:
        backbone: images -> features `(N, F)`. It runs in eval mode and without gradients; afterwards every
            submodule is back in the mode it was in, also when something fails on the way.
        batches: objects with `.views[0]`, images `(N, H, W, C)` uint8, and `.labels` `(N,)`. Both may alias
            buffers that the next batch overwrites.
        to_input: images on `device` -> what the backbone takes (layout, dtype, mean and std).
        device: where the backbone is.

    Returns:
        features `(N, F)` float32 and labels `(N,)` int64, both on the CPU.

    Raises:
        UserError: no batches, or a backbone whose output is not `(N, F)`.
    """
    features: list[Tensor] = []
    labels: list[Tensor] = []
    with in_mode(backbone, training=False), torch.inference_mode():
        for batch in batches:
            images = batch.views[0]
            if not len(images):  # none of them could be read
                continue
            output = backbone(to_input(images.to(device)))
            if output.ndim != 2 or len(output) != len(images):
                raise UserError(
                    f"the backbone returned {tuple(output.shape)} for {len(images)} images",
                    allowed="one feature vector per image, (N, F)",
                    next="use a backbone with global pooling (timm: num_classes=0)",
                )
            # `copy=True`: the output may alias the input, and the input a ring buffer.
            features.append(output.detach().to("cpu", torch.float32, copy=True))
            labels.append(batch.labels.detach().to("cpu", torch.int64, copy=True))
    if not features:
        raise UserError("there are no images to extract features from")
    # Outside inference mode, so that the results are ordinary tensors.
    return torch.cat(features), torch.cat(labels)


def backbone_digest(module: nn.Module) -> str:
    """SHA-256, in hexadecimal, over name, dtype, shape and bytes of every parameter and buffer."""
    digest = hashlib.sha256()
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_unchanged(backbone: nn.Module, before: str, what: str) -> None:
    """Whether a frozen backbone still has the `backbone_digest` of `before`.

    Raises:
        AssertionError: it has not: `what` changed it, and its measurements are of another network.
    """
    if backbone_digest(backbone) != before:
        raise AssertionError(f"{what} changed the backbone, which is frozen: its measurements are not of that backbone")
