"""Tensors of weights in the shape that a network has them in: filters of other channels, positions of other images.

Only what timm's own reader of a family has left in another shape.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.nn.functional as F
from timm.layers.pos_embed_rel import resize_rel_pos_bias_table
from timm.layers.space_to_depth import SpaceToDepth
from torch import Tensor, nn


def in_shape_of(network: nn.Module, key: str, value: Tensor, target: Tensor, *, channels: int | None) -> Tensor:
    """A tensor of some weights for that key of the network, in the shape of `target`; else as it is.

    Args:
        channels: of the images that the weights were trained on; None: as the first layer has.
    """
    if value.ndim != target.ndim:
        return value
    if key in _first_layer(network):
        return _other_channels(network, key, value, target, channels)
    name = key.rpartition(".")[2]
    if re.fullmatch(r"pos_embed(_?\d+)?", name):
        return _positions(value, target)
    if name == "attention_biases":
        return _biases(value, target)
    if name == "relative_position_bias_table":
        return _bias_table(value, target)
    return value


@contextmanager
def timm_unheard() -> Iterator[None]:
    """Without torch's warnings about how timm's functions are written, such as its interpolation of biases."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _first_layer(network: nn.Module) -> tuple[str, ...]:
    """Keys of the filters that images meet first: by timm's configuration, else the first convolution there is."""
    own = network.state_dict()
    names = (getattr(network, "pretrained_cfg", None) or {}).get("first_conv") or ()
    keys = tuple(f"{name}.weight" for name in ([names] if isinstance(names, str) else names))
    convolutions = (key for key, value in own.items() if value.ndim == 4 and key.endswith(".weight"))
    return tuple(key for key in keys if key in own) or tuple(convolutions)[:1]


def _other_channels(network: nn.Module, key: str, value: Tensor, target: Tensor, channels: int | None) -> Tensor:
    """The filters of a first layer for another number of channels, as timm's `adapt_input_conv` makes them.

    For one channel the filters are summed over channels, else repeated in their order and scaled by old / new, so that
    a grey image gives what it gave. timm (before 1.0.27) takes three channels alone as the old number; here any is. A
    layer that has several pixels in its columns (`_pixels`) is made for other channels pixel by pixel.
    """
    pixels, channel_is_last = _pixels(network, key)
    old, rest = divmod(value.shape[1], pixels)
    new = target.shape[1] // pixels
    alike = value.shape[0] == target.shape[0] and value.shape[2:] == target.shape[2:]
    if not alike or rest or (channels is not None and old != channels):
        return value
    filters = value.float().unflatten(1, (pixels, old) if channel_is_last else (old, pixels))
    place = 2 if channel_is_last else 1
    if new == 1:
        filters = filters.sum(dim=place, keepdim=True)
    else:
        copies = [1] * filters.ndim
        copies[place] = -(-new // old)
        filters = filters.repeat(copies).narrow(place, 0, new) * (old / new)
    return filters.flatten(1, 2).to(value.dtype)


def _pixels(network: nn.Module, key: str) -> tuple[int, bool]:
    """How many pixels of an image a column of the first layer's input has, and whether channels change fastest in it.

    One for a convolution on an image. TResNet moves blocks of pixels into the channels before it; a linear patch
    embedding (NaFlexViT, Gemma's) has whole patches.
    """
    owner = network.get_submodule(key.rpartition(".")[0].rpartition(".")[0])
    if network.state_dict()[key].ndim == 2:
        sides = cast(Any, owner).patch_size
        return math.prod(sides) if isinstance(sides, tuple) else sides**2, bool(getattr(owner, "channels_last", False))
    blocks = [part.bs**2 for part in network.modules() if isinstance(part, SpaceToDepth)]
    return (blocks[0], True) if blocks else (1, False)


def _positions(value: Tensor, target: Tensor) -> Tensor:
    """Position embeddings of a square image for one of another size.

    They are (1, F, H, W), or (1, H, W, F), or (1, tokens, F) in the order of rows, behind tokens of the class and of
    distillation; NesT has (1, blocks, tokens, F).
    """
    before, after = value.shape, target.shape
    if value.ndim == 4 and before[:2] == after[:2] and before[2] == before[3] and after[2] == after[3]:
        return _resized(value, after[2])
    if value.ndim == 4 and before[::3] == after[::3] and before[1] == before[2] and after[1] == after[2]:
        return _resized(value.permute(0, 3, 1, 2), after[1]).permute(0, 2, 3, 1)
    if value.ndim not in (3, 4) or before[:-2] != after[:-2] or before[-1] != after[-1]:
        return value
    for others in (0, 1, 2):
        old, new = math.isqrt(max(before[-2] - others, 0)), math.isqrt(max(after[-2] - others, 0))
        if before[-2] - others == old**2 > 0 and after[-2] - others == new**2 > 0:
            grids = value.flatten(0, -3)[:, others:].transpose(1, 2).unflatten(2, (old, old))
            tokens = _resized(grids, new).flatten(2).transpose(1, 2).unflatten(0, before[:-2])
            return torch.cat([value[..., :others, :], tokens], dim=-2)
    return value


def _biases(value: Tensor, target: Tensor) -> Tensor:
    """LeViT's biases of attention, (heads, distances in rows by distances in columns), of another image size."""
    old, new = math.isqrt(value.shape[-1]), math.isqrt(target.shape[-1])
    if value.ndim != 2 or value.shape[0] != target.shape[0] or old**2 != value.shape[1] or new**2 != target.shape[1]:
        return value
    return _resized(value.unflatten(1, (old, old))[None], new)[0].flatten(1)


def _bias_table(value: Tensor, target: Tensor) -> Tensor:
    """Biases of attention within windows, (offsets in rows by those in columns, heads), for windows of another size."""
    old, new = math.isqrt(value.shape[0]), math.isqrt(target.shape[0])
    if value.ndim != 2 or value.shape[1] != target.shape[1] or old**2 != value.shape[0] or new**2 != target.shape[0]:
        return value
    window = ((new + 1) // 2, (new + 1) // 2)
    with timm_unheard():
        return cast(Tensor, resize_rel_pos_bias_table(value, new_window_size=window, new_bias_shape=target.shape))


def _resized(grids: Tensor, side: int) -> Tensor:
    """(N, F, H, W) as timm resamples position embeddings (`resample_abs_pos_embed`)."""
    made = F.interpolate(grids.float(), size=(side, side), mode="bicubic", antialias=True)
    return made.to(grids.dtype)
