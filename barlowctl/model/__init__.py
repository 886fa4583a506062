"""The networks: backbone, projector, predictor, and what stands in front of them.

Plain values and torch only: nothing here knows the recipe, the data or the objective.
"""

from barlowctl.model.attention import choose_attention
from barlowctl.model.backbone import (
    RESERVED_ARGS,
    STEMS,
    WrongImages,
    build_backbone,
    built_for,
    check_backbone_args,
    check_input,
    check_width,
    feature_width,
    patch_side,
    takes_any_size,
    zero_initialized_norms,
)
from barlowctl.model.batch_norm import synchronize_batch_norm
from barlowctl.model.cpu.fused_attention import prepare_attention
from barlowctl.model.cpu.fused_blocks import choose_norms, prepare_norms
from barlowctl.model.cpu.product_convolution import choose_convolutions, prepare_convolutions
from barlowctl.model.cpu.product_linear import choose_linears, prepare_linears
from barlowctl.model.cpu.strided_pointwise import take_seen_pixels_first
from barlowctl.model.footprint import Footprint, estimate_memory
from barlowctl.model.freezing import NOTHING, WHOLE, freezable, frozen_modules, frozen_parameters
from barlowctl.model.mlp import build_mlp
from barlowctl.model.normalize import InputNormalization
from barlowctl.model.one_pass import OnePass
from barlowctl.model.patch_head import PatchHead, build_patch_head
from barlowctl.model.pooling import QuarterPooling, last_map_shape, pooled_otherwise
from barlowctl.model.preprocessing import Preprocessing, unlike_timm
from barlowctl.model.projector import build_predictor, build_projector
from barlowctl.model.recompute import recompute_activations
from barlowctl.model.registered import Unpooled
from barlowctl.model.split_batch_norm import split_batch_norm
from barlowctl.model.stand_ins import Lookups, without_data

__all__ = [
    "NOTHING",
    "RESERVED_ARGS",
    "STEMS",
    "WHOLE",
    "Footprint",
    "InputNormalization",
    "Lookups",
    "OnePass",
    "PatchHead",
    "Preprocessing",
    "QuarterPooling",
    "Unpooled",
    "WrongImages",
    "build_backbone",
    "build_mlp",
    "build_patch_head",
    "build_predictor",
    "build_projector",
    "built_for",
    "check_backbone_args",
    "check_input",
    "check_width",
    "choose_attention",
    "choose_convolutions",
    "choose_linears",
    "choose_norms",
    "estimate_memory",
    "feature_width",
    "freezable",
    "frozen_modules",
    "frozen_parameters",
    "last_map_shape",
    "patch_side",
    "pooled_otherwise",
    "prepare_attention",
    "prepare_convolutions",
    "prepare_linears",
    "prepare_norms",
    "recompute_activations",
    "split_batch_norm",
    "synchronize_batch_norm",
    "take_seen_pixels_first",
    "takes_any_size",
    "unlike_timm",
    "without_data",
    "zero_initialized_norms",
]
