"""Keys of transformers' networks as timm names them, for the families that both build alike."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_RESNET = (
    (r"embedder\.embedder\.convolution\.", "conv1."),
    (r"embedder\.embedder\.normalization\.", "bn1."),
    (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.shortcut\.convolution\.", r"layer<\1>.\2.downsample.0."),
    (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.shortcut\.normalization\.", r"layer<\1>.\2.downsample.1."),
    (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.layer\.(\d+)\.convolution\.", r"layer<\1>.\2.conv<\3>."),
    (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.layer\.(\d+)\.normalization\.", r"layer<\1>.\2.bn<\3>."),
)
_CONVNEXT = (
    (r"embeddings\.patch_embeddings\.", "stem.0."),
    (r"embeddings\.layernorm\.", "stem.1."),
    (r"encoder\.stages\.(\d+)\.downsampling_layer\.", r"stages.\1.downsample."),
    (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.layer_scale_parameter", r"stages.\1.blocks.\2.gamma"),
    (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.dwconv\.", r"stages.\1.blocks.\2.conv_dw."),
    (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.layernorm\.", r"stages.\1.blocks.\2.norm."),
    (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.pwconv(\d)\.", r"stages.\1.blocks.\2.mlp.fc\3."),
    (r"layernorm\.", "head.norm."),
)
_BLOCK = r"(?:encoder\.layer|layers)\.(\d+)\."
# Both spellings: that of published files, and that of transformers 5.
_VIT = (
    (r"embeddings\.cls_token", "cls_token"),
    (r"embeddings\.distillation_token", "dist_token"),
    (r"embeddings\.register_tokens", "register_tokens"),  # the authors' name: timm's reader does the rest
    (r"embeddings\.mask_token", "mask_token"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (_BLOCK + r"attention\.(?:attention\.query|q_proj)\.", r"blocks.\1.attn.q."),
    (_BLOCK + r"attention\.(?:attention\.key|k_proj)\.", r"blocks.\1.attn.k."),
    (_BLOCK + r"attention\.(?:attention\.value|v_proj)\.", r"blocks.\1.attn.v."),
    (_BLOCK + r"attention\.(?:output\.dense|o_proj)\.", r"blocks.\1.attn.proj."),
    (_BLOCK + r"(?:layernorm_before|norm1)\.", r"blocks.\1.norm1."),
    (_BLOCK + r"(?:layernorm_after|norm2)\.", r"blocks.\1.norm2."),
    (_BLOCK + r"(?:intermediate\.dense|mlp\.fc1)\.", r"blocks.\1.mlp.fc1."),
    (_BLOCK + r"(?:output\.dense|mlp\.fc2)\.", r"blocks.\1.mlp.fc2."),
    (_BLOCK + r"layer_scale(\d)\.lambda1", r"blocks.\1.ls\2.gamma"),
    (r"layernorm\.", "norm."),
)
FAMILIES = {
    "resnet": _RESNET,
    "convnext": _CONVNEXT,
    "vit": _VIT,
    "deit": _VIT,
    "dinov2": _VIT,
    "dinov2_with_registers": _VIT,
    "timm_wrapper": ((r"timm_model\.", ""),),
}
"""transformers' `model_type` -> patterns of the beginning of a key, and what it begins with in timm."""


def in_timms_words(model_type: str, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """A state dict of transformers with timm's keys; query, key and value become timm's one layer.

    What is beside the backbone (a classifier, a pooler) keeps its name. None: a family that is not known here.
    """
    if model_type not in FAMILIES:
        return None
    prefix = f"{model_type}."
    renamed = {_renamed(key.removeprefix(prefix), model_type): value for key, value in state.items()}
    return _with_one_projection(renamed)


def _renamed(key: str, model_type: str) -> str:
    for pattern, beginning in FAMILIES[model_type]:
        if match := re.match(pattern, key):
            start = re.sub(r"<(\d+)>", lambda number: str(int(number[1]) + 1), match.expand(beginning))  # from 1
            return start + key[match.end() :]
    return key


def _with_one_projection(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`attn.q`, `attn.k` and `attn.v` one below the other as `attn.qkv`, in place of the first of them."""
    merged: dict[str, Tensor] = {}
    for key, value in state.items():
        part = re.fullmatch(r"(.*\.attn\.)([qkv])(\.weight|\.bias)", key)
        if part is None:
            merged[key] = value
        elif part[2] == "q":
            rows = [state.get(f"{part[1]}{name}{part[3]}") for name in "qkv"]
            merged[f"{part[1]}qkv{part[3]}"] = torch.cat([row for row in rows if row is not None])
    return merged
