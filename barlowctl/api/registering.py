"""Methods and optimizers of somebody's own, by names that recipes have."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch.optim import Optimizer

from barlowctl import own_code
from barlowctl.api.arguments import checked
from barlowctl.errors import UserError, explained, kind_of
from barlowctl.methods import Method
from barlowctl.recipe import optimizers, own_methods
from barlowctl.train.own_optimizer import refuse_closure

Made = TypeVar("Made", bound=Callable[..., Any])
_CALL = (
    "@barlowctl.register_method('my-method') above a subclass of barlowctl.methods.Method, or a function that returns "
    "one"
)

_CALL_OPTIMIZER = (
    "@barlowctl.register_optimizer('my-optimizer') above a subclass of torch.optim.Optimizer, or a function that "
    "returns one"
)


@checked
def register_method(name: str) -> Callable[[Made], Made]:
    """Register a method under a name, which `objective.name` of a recipe then has: a decorator.

    What is decorated is a subclass of `barlowctl.methods.Method`, or a function that returns one. It is called with
    what its parameters name: `backbone`; `projector`, of `model.projector` as Barlow Twins has it; `predictor`, of
    `model.predictor`, None where that is empty; `features`, the backbone's width; `seed`; `ranks`, the
    `barlowctl.distributed.Ranks` that share each batch; `images` and `classes`, how many there are. Every other
    parameter is a key of `objective.args`, checked by its annotation, with its default.

    Attributes of the class say what it asks of a recipe: `views`, 1 or 2; `title`, what it is called; and, false where
    they are not there, `small_views` (it takes them beside the large ones), `labels` (it learns from them), `averages`
    (a moving average follows the networks), `decorrelates` (its loss takes dimensions apart: C says how far). Those of
    a function are of the class that it is annotated to return.

    Args:
        name: small letters, digits, dots, dashes and underscores. The same class or function again takes its own
            place, as when a notebook's cell is run twice.

    Returns:
        The decorator; it returns what it is given.

    Raises:
        UserError: a name of barlowctl's own methods or of another class; a class without what `Method` asks for; or
            parameters without a name of their own (`**kwargs`).
    """

    @explained
    def register(made: Made) -> Made:
        own_methods.register(name, made, _attributes(name, made))
        return made

    return register


@checked
def register_optimizer(name: str) -> Callable[[Made], Made]:
    """Register an optimizer under a name, which `optimizer.name` of a recipe then has: a decorator.

    What is decorated is a subclass of `torch.optim.Optimizer`, or a function that returns one. Its first parameter is
    given the parameter groups, as torch's take them: each has `params`, `lr` and `weight_decay`, a `name` ("weights",
    "biases") and the `peak_lr` that the schedule multiplies. `lr`, `weight_decay`, `momentum`, `betas`, `eta` and
    `nesterov`, as far as it takes them, are those of the recipe's `optimizer`; of the last four its own default stands
    where a recipe says nothing. Every other parameter is a key of `optimizer.args`, checked by its annotation, with its
    default. `barlowctl.register_optimizer("nadam")(torch.optim.NAdam)` takes one as it is.

    Before it trains, it takes a few steps on copies of some parameters: what raises, leaves parameters out, or would
    not go on alike from a checkpoint is refused.

    `elementwise = True` of the class says that a step takes every number by itself, whatever tensor it is in: then
    `train.shard` may divide the backbone.

    Args:
        name: small letters, digits, dots, dashes and underscores. The same class or function again takes its own
            place, as when a notebook's cell is run twice.

    Returns:
        The decorator; it returns what it is given.

    Raises:
        UserError: a name of barlowctl's own optimizers or of another class; a class that is no optimizer, or whose step
            needs a closure; or parameters without a name of their own (`**kwargs`).
    """

    @explained
    def register(made: Made) -> Made:
        optimizers.register(name, made, elementwise=_is_elementwise(name, made))
        return made

    return register


def _is_elementwise(name: str, made: Any) -> bool:
    """What the class of an optimizer says of its step; of a function, the class that it says it returns.

    Raises:
        UserError: it is no optimizer, or none that can be called as the engine does.
    """
    allowed = _CALL_OPTIMIZER
    if not callable(made):
        raise UserError(f"{name!r} is registered as {kind_of(made)}", allowed=allowed)
    place = own_code.line_of(made)
    of_class = made if isinstance(made, type) else _returned(made, Optimizer)
    if of_class is None:
        return False
    if not issubclass(of_class, Optimizer):
        raise UserError(
            f"{name!r} is registered as the class {of_class.__name__}, which is no optimizer{place}", allowed=allowed
        )
    refuse_closure(of_class, f"the optimizer {name!r}", place)
    elementwise = getattr(of_class, "elementwise", of_class in (torch.optim.SGD, torch.optim.AdamW))
    if not isinstance(elementwise, bool):
        raise UserError(
            f"{of_class.__name__}.elementwise is {elementwise!r}{place}",
            allowed="True: a step takes every number by itself; False",
            next="correct the class",
        )
    return elementwise


def _attributes(name: str, made: Any) -> Mapping[str, Any]:
    """The attributes of a method's class, those of `Method` left out; of a function, of what it says it returns.

    Raises:
        UserError: it is no method, or lacks what one must have.
    """
    if not callable(made):
        raise UserError(f"{name!r} is registered as {kind_of(made)}", allowed=_CALL)
    place = own_code.line_of(made)
    of_class = made if isinstance(made, type) else _returned(made, Method)
    if of_class is None:
        return {}
    if not issubclass(of_class, Method):
        raise UserError(
            f"{name!r} is registered as the class {of_class.__name__}, which is no method{place}", allowed=_CALL
        )
    if lacking := sorted(getattr(of_class, "__abstractmethods__", ())):
        raise UserError(
            f"{of_class.__name__} lacks {', '.join(lacking)}{place}",
            allowed="a method with all of: embeddings, compare, heads, describe",
            next=f"write {lacking[0]}, as barlowctl.methods.Method says",
        )
    terms = getattr(of_class, "terms", None)
    if not (
        isinstance(terms, Mapping) and terms and all(isinstance(word, str) for item in terms.items() for word in item)
    ):
        raise UserError(
            f"{of_class.__name__}.terms {'is missing' if terms is None else f'is {terms!r}'}{place}",
            allowed="the terms that compare returns beside the loss, in their order, each with what it says: "
            "terms = {'agreement': 'mean cosine of both views'}",
            next="correct the class",
        )
    names = {*own_methods.FLAGS, "views", "title", "patches"}
    return {key: getattr(of_class, key) for key in names if hasattr(of_class, key)}


def _returned(made: Callable[..., Any], base: type) -> type | None:
    """The class that a function is annotated to return; None: it says none, or no more than the base."""
    try:
        of_class = typing.get_type_hints(inspect.unwrap(made)).get("return")
    except Exception:  # names that are imported for a type checker alone
        return None
    return of_class if isinstance(of_class, type) and of_class is not base else None
