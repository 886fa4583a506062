"""Weights in the shapes of a network for other images: positions that timm leaves as they are, filters for channels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from timm.layers import GatedMlp
from timm.models.gcvit import GlobalContextVit
from timm.models.mlp_mixer import MlpMixer, SpatialGatingBlock
from timm.models.nest import Nest
from timm.models.volo import VOLO
from torch import Tensor, nn

from barlowctl.assemble.matching import match
from barlowctl.model import build_backbone


def network(family: str | type[nn.Module], seed: int = 0, *, channels: int = 3, **arguments: Any) -> nn.Module:
    """A timm name, or a class where timm's functions fix the widths."""
    torch.manual_seed(seed)
    if isinstance(family, str):
        return build_backbone(family, in_chans=channels, **arguments).eval()
    return family(in_chans=channels, num_classes=0, **arguments).eval()


def drawn(family: str | type[nn.Module], **arguments: Any) -> nn.Module:
    """A network of random numbers: none of its position embeddings is zero, as some are at first."""
    made = network(family, 1, **arguments)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.1)
    return made


def cubic(old: int, new: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(new, old): Keys' cubic (a = -1/2) of pixels' centres, as wide as the new pixels where these are the larger."""
    wide = max(old / new, 1.0)
    rows = np.zeros((new, old))
    for row in range(new):
        centre = (row + 0.5) * old / new
        for column in range(max(int(centre - 2 * wide + 0.5), 0), min(int(centre + 2 * wide + 0.5), old)):
            x = abs((column - centre + 0.5) / wide)
            rows[row, column] = 1.5 * x**3 - 2.5 * x**2 + 1 if x < 1 else -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return rows / rows.sum(axis=1, keepdims=True)


def resampled(grids: Tensor, side: int) -> Tensor:
    """(..., H, W) -> (..., side, side) in float64."""
    weights = torch.from_numpy(cubic(grids.shape[-1], side))
    return weights @ grids.double() @ weights.T


CAIT = {"embed_dim": 16, "depth": 1, "num_heads": 2}
PIT = {"base_dims": [8, 8, 8], "depth": [1, 1, 1], "heads": [1, 2, 4], "stride": 8}
CROSSVIT = {"embed_dim": [8, 8], "depth": [[1, 1, 0]], "num_heads": [1, 1], "mlp_ratio": [1, 1, 1]}
LEVIT = {"embed_dim": (8, 8, 8), "key_dim": 4, "num_heads": (1, 1, 1), "depth": (1, 1, 1)}
NEST = {"embed_dims": (8, 8, 8), "num_heads": (1, 1, 1), "depths": (1, 1, 1)}


@pytest.mark.parametrize(
    ("family", "sizes", "arguments", "key"),
    [
        ("cait_xxs24_224", (64, 96), CAIT, "pos_embed"),
        ("crossvit_tiny_240", (240, 120), CROSSVIT, "pos_embed_1"),
        (Nest, (224, 112), NEST, "levels.1.pos_embed"),
    ],
)
def test_positions_of_tokens_are_resampled(
    family: str | type[nn.Module], sizes: tuple[int, int], arguments: Any, key: str
) -> None:
    weights = drawn(family, img_size=sizes[0], **arguments).state_dict()
    other = network(family, img_size=sizes[1], **arguments)
    matched = match(other, weights)
    assert matched.complete
    own, made = weights[key], matched.taken[key]
    others = own.shape[-2] - math.isqrt(own.shape[-2]) ** 2  # CrossViT's class token, in front
    old, new = (math.isqrt(tokens.shape[-2]) for tokens in (own, made))
    assert old != new
    grids = own[..., others:, :].transpose(-1, -2).unflatten(-1, (old, old))
    expected = resampled(grids, new).flatten(-2).transpose(-1, -2)
    torch.testing.assert_close(made[..., others:, :].double(), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(made[..., :others, :], own[..., :others, :])
    other.load_state_dict(dict(matched.taken))
    assert other(torch.rand(1, 3, sizes[1], sizes[1])).isfinite().all()


def test_maps_of_positions_are_resampled() -> None:
    weights = drawn("pit_ti_224", img_size=64, **PIT).state_dict()
    matched = match(network("pit_ti_224", img_size=96, **PIT), weights)
    assert matched.complete
    expected = resampled(weights["pos_embed"], matched.taken["pos_embed"].shape[-1])
    torch.testing.assert_close(matched.taken["pos_embed"].double(), expected, rtol=1e-5, atol=1e-6)
    assert dict(matched.reshaped) == {"pos_embed": (tuple(weights["pos_embed"].shape), tuple(expected.shape))}


def test_maps_of_positions_whose_channels_are_last_are_resampled() -> None:
    arguments = {"layers": (1, 1), "embed_dims": (8, 8), "num_heads": (1, 1), "stem_hidden_dim": 8, "post_layers": None}
    weights = drawn(VOLO, img_size=64, **arguments).state_dict()
    matched = match(network(VOLO, img_size=96, **arguments), weights)
    assert matched.complete
    expected = resampled(weights["pos_embed"].movedim(-1, 1), 6).movedim(1, -1)
    torch.testing.assert_close(matched.taken["pos_embed"].double(), expected, rtol=1e-5, atol=1e-6)


def test_biases_of_attention_by_distance_are_resampled() -> None:
    weights = drawn("levit_128s", img_size=224, **LEVIT).state_dict()
    matched = match(network("levit_128s", img_size=112, **LEVIT), weights)
    assert matched.complete
    key = "stages.0.blocks.0.attn.attention_biases"
    expected = resampled(weights[key].unflatten(-1, (14, 14)), 7).flatten(-2)
    torch.testing.assert_close(matched.taken[key].double(), expected, rtol=1e-5, atol=1e-6)


def test_biases_of_attention_within_windows_are_resampled() -> None:
    """timm's function keeps the bias of a patch to itself, in the middle."""
    arguments = {"depths": (1, 1, 1, 1), "embed_dim": 8, "num_heads": (1, 1, 1, 1)}
    weights = drawn(GlobalContextVit, img_size=224, **arguments).state_dict()
    matched = match(network(GlobalContextVit, img_size=128, **arguments), weights)
    assert matched.complete
    key = "stages.0.blocks.0.attn.rel_pos.relative_position_bias_table"
    own, made = weights[key], matched.taken[key]
    assert len(own) > len(made)
    torch.testing.assert_close(made[len(made) // 2], own[len(own) // 2])


def test_what_is_no_grid_is_left() -> None:
    """gMLP mixes patches by a matrix with a row and a column for each."""
    arguments = {
        "embed_dim": 8,
        "num_blocks": 1,
        "block_layer": SpatialGatingBlock,
        "mlp_layer": GatedMlp,
        "mlp_ratio": 2,
    }
    matched = match(network(MlpMixer, img_size=96, **arguments), drawn(MlpMixer, img_size=64, **arguments).state_dict())
    assert matched.misshapen["blocks.0.mlp_channels.gate.proj.weight"] == ((16, 16), (36, 36))


@pytest.mark.parametrize(
    ("name", "size", "arguments"),
    [
        ("tresnet_m", 64, {"width_factor": 0.125}),
        ("naflexvit_base_patch16_gap", 32, {"embed_dim": 16, "depth": 1, "num_heads": 2}),
        (
            "gemma4_vit_167m",
            96,
            {"embed_dim": 48, "depth": 1, "num_heads": 1, "head_dim": 48, "intermediate_size": 16},
        ),
    ],
)
@pytest.mark.parametrize("channels", [(3, 1), (1, 3), (2, 4)])
def test_a_first_layer_with_several_pixels_in_its_columns_gives_on_grey_images_what_it_gave(
    name: str, size: int, arguments: Any, channels: tuple[int, int]
) -> None:
    before, after = channels
    own = network(name, 1, channels=before, **arguments)
    other = network(name, channels=after, **arguments)
    matched = match(other, own.state_dict())
    assert matched.complete
    other.load_state_dict(dict(matched.taken), strict=False)
    images = torch.rand(2, 1, size, size)
    with torch.no_grad():
        expected = own(images.repeat(1, before, 1, 1))
        given = other(images.repeat(1, after, 1, 1))
    differ = (expected[0] - expected[1]).abs().max()  # by which images can be told apart
    torch.testing.assert_close(given, expected, rtol=0, atol=float(differ) / 100)
