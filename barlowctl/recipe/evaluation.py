"""The section `eval` of a recipe: what is measured while a run trains, and how images are prepared for it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from barlowctl.criteria import CRITERIA
from barlowctl.datasets import IMAGENET, training_images
from barlowctl.recipe.images import Data
from barlowctl.recipe.section import Count, CountOrZero, DoesNotFit, Positive, Section


class Eval(Section):
    """What is measured while training, and how images are prepared for evaluation."""

    every_epochs: CountOrZero = Field(1, description="online kNN and diagnostics; 0: never")
    queries: Literal["holdout", "val", "off"] = Field(
        "off",
        description="online kNN queries: data.holdout images of the training set, or the val split",
    )
    linear: bool = Field(
        False, description="online linear probe on the same queries: a classifier that learns beside the method"
    )
    linear_lr: Positive = Field(1e-3, description="Adam's rate of that classifier")
    bank: Count = Field(10000, description="training images that vote in the online kNN")
    max_queries: Count = Field(10000, description="at most this many queries")
    lidar_images: CountOrZero = Field(
        0, description="training images whose views LiDAR is measured on, without labels (1000 and more); 0: never"
    )
    lidar_views: Annotated[int, Field(ge=2, le=1000)] = Field(10, description="distorted views of each of them")
    resize: Annotated[int, Field(ge=8, le=4096)] = Field(
        IMAGENET.resize, description="shorter side before the centre crop"
    )
    crop: Annotated[int, Field(ge=8, le=4096)] = Field(IMAGENET.crop, description="side of the centre crop")

    def measures(self, name: str) -> bool:
        """Whether online evaluations have that measure (see `criteria`), as far as a recipe knows."""
        if name in ("lidar", "feature_lidar"):
            return self.every_epochs > 0 and self.lidar_images > 0
        if CRITERIA[name].labels and self.queries == "off":
            return False
        return self.every_epochs > 0 and (name != "linear" or self.linear)

    def changes_to_measure(self, name: str, data: Data) -> tuple[str, ...]:
        """`key=value` of keys of a recipe, after which online evaluations have that measure.

        Images are held out to be queries where none are.
        """
        changes: tuple[str, ...] = ("eval.every_epochs=1",) if self.every_epochs == 0 else ()
        if name in ("lidar", "feature_lidar"):
            return (*changes, "eval.lidar_images=1000") if self.lidar_images == 0 else changes
        if CRITERIA[name].labels and self.queries == "off":
            held_out = () if data.holdout else (f"data.holdout={1000 if training_images(data.dataset) else 100}",)
            changes += ("eval.queries=holdout", *held_out)
        return (*changes, "eval.linear=true") if name == "linear" and not self.linear else changes

    @model_validator(mode="after")
    def _crop_fits(self) -> Eval:
        if self.crop > self.resize:
            message = f"crop is {self.crop}, larger than resize {self.resize}"
            raise DoesNotFit(message, (f".resize={self.crop}",), (f".crop={self.resize}",))
        return self

    @model_validator(mode="after")
    def _lidar_has_classes(self) -> Eval:
        if self.lidar_images == 1:
            message = "lidar_images is 1: LiDAR tells images apart, 2 or more (0: it is not measured)"
            raise DoesNotFit(message, (".lidar_images=2",))
        return self
