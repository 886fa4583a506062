"""What keys of every method say beside their values: what the method asks of a recipe, and what memory it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field, model_validator

from barlowctl.recipe.section import Section


class Large(NamedTuple):
    """A key that memory grows with. usual: a value beside which others are large. instead: what to set for less."""

    key: str
    value: int
    usual: int
    instead: int


class Keys(Section):
    """Keys of a method, and what it asks of a recipe.

    Attributes:
        title: what people call it.
        full_views: how many views of `views.size` pixels it takes of each image: both, or the first one alone.
        small_views, patches: whether it takes these beside them.
        labels: whether it learns from labels.
        decorrelates: whether its loss takes the dimensions of embeddings apart: then C says how far it has come.
        averages: whether a moving average of the networks' parameters follows them.
    """

    title: ClassVar[str]
    full_views: ClassVar[Literal[1, 2]] = 2
    small_views: ClassVar[bool] = False
    patches: ClassVar[bool] = False
    labels: ClassVar[bool] = False
    decorrelates: ClassVar[bool] = False
    averages: ClassVar[bool] = False

    def large(self, batch: int) -> list[Large]:
        """Keys that memory grows with, for batches of so many images."""
        return []

    def working_bytes(self, batch: int, width: int) -> int:
        """Bytes that the loss of such a batch takes for a while, where they are more than a few embeddings.

        Args:
            width: of the embeddings.
        """
        return 0


OWN = "a registered one"
"""The tag of methods that somebody has registered: no method's name, which has no spaces."""


class Own(Keys):
    """Keys of a method that somebody has registered in this process; each has a subclass of this (`own_methods`).

    Attributes:
        make: the class or function that makes the method.
        given: the parameters of it that the recipe's networks, images and ranks are given to.
        plain: the parameters of it that `args` has a value for.
        source: what a run notes of it: module, file and sha256 of that.
    """

    make: ClassVar[Callable[..., Any]]
    given: ClassVar[tuple[str, ...]] = ()
    plain: ClassVar[tuple[str, ...]] = ()
    source: ClassVar[Mapping[str, str]] = {}

    name: str
    args: Section = Field(Section(), description="arguments of a registered method, by their names")

    @model_validator(mode="before")
    @classmethod
    def _args_can_be_left_out(cls, values: Any) -> Any:
        """So that one without a default is missed by its own name."""
        return {"args": {}, **values} if isinstance(values, Mapping) else values
