"""The keys of a recipe that say which network is trained: a backbone of timm's, and the layers on top of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from barlowctl.recipe.section import Count, CountOrZero, Decay, Section

Pooling = Literal["default", "token", "avg", "max", "avgmax", "catavgmax"]
TIMM_NAMES: dict[str, tuple[str, int | float | str]] = {
    "image_size": ("img_size", 0),
    "patch_size": ("patch_size", 0),
    "pooling": ("global_pool", "default"),
    "drop_path": ("drop_path_rate", 0.0),
}
"""Keys that are arguments of timm's: what it calls them, and the value that leaves them to the architecture."""


class Model(Section):
    """Backbone (any timm name) and the layers on top of it."""

    backbone: str = Field("resnet50", description="a timm model name")
    image_size: CountOrZero = Field(
        0,
        description="side in pixels that position embeddings are made for, which images of other sizes resample; "
        "0: timm's own, e.g. 224",
    )
    patch_size: CountOrZero = Field(
        0, description="side in pixels of the patches that a transformer or a ConvNeXt begins with; 0: timm's own"
    )
    pooling: Pooling = Field(
        "default",
        description="of tokens or of the last map to one vector, in timm's words: token (the class token), avg (the "
        "mean), max, avgmax (half of both), catavgmax (both); default: the architecture's own",
    )
    drop_path: Decay = Field(
        0.0,
        description="stochastic depth: an image skips the last block's residual branches with this probability, "
        "those of earlier blocks more rarely",
    )
    backbone_args: dict[str, Any] = Field(default_factory=dict, description="further arguments of timm.create_model")
    stem: Literal["default", "cifar", "stride2"] = Field(
        "default",
        description="ResNets only. default: timm's own; cifar: 3x3 stride 1, no max-pool; "
        "stride2: 5x5 stride 2, no max-pool",
    )
    zero_init_last: bool = Field(True, description="last batch norm of each residual block starts at zero")
    projector: tuple[Count, ...] = Field((8192, 8192, 8192), min_length=1, description="widths of the layers")
    projector_batch_norm: bool = Field(True, description="batch norm after the hidden layers of the projector")
    predictor: tuple[Count, ...] = Field(
        (),
        description="hidden widths of a predictor on one branch (Table 6: [8192]); empty: none, but of BYOL and "
        "SimSiam one in the published proportion",
    )

    def of_network(self, architecture: str, stem: str, arguments: Mapping[str, Any]) -> Model:
        """The same heads and drop path on another network; `arguments`: of `timm.create_model`.

        Image size, patch size and pooling are what these keys say where they do not leave them to the architecture.
        """
        own = {argument for key, (argument, left) in TIMM_NAMES.items() if getattr(self, key) != left}
        rest = {key: value for key, value in arguments.items() if key not in own | {TIMM_NAMES["drop_path"][0]}}
        return self.model_copy(update={"backbone": architecture, "stem": stem, "backbone_args": rest})

    @property
    def timm_args(self) -> dict[str, Any]:
        """All arguments of `timm.create_model` that these keys are."""
        named = {
            argument: getattr(self, key) for key, (argument, own) in TIMM_NAMES.items() if getattr(self, key) != own
        }
        return {**self.backbone_args, **named}

    @property
    def network_args(self) -> dict[str, Any]:
        """Those that a trained network's features depend on: all but `drop_path`."""
        return {key: value for key, value in self.timm_args.items() if key != "drop_path_rate" or not self.drop_path}

    @model_validator(mode="after")
    def _named_once(self) -> Model:
        for key, (argument, own) in TIMM_NAMES.items():
            if argument in self.backbone_args and getattr(self, key) != own:
                raise ValueError(f"backbone_args has {argument} = {self.backbone_args[argument]!r}, which {key} is for")
        return self
