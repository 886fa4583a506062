"""Methods of somebody's own, by a name that recipes have: `barlowctl.register_method`."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from barlowctl import own_code
from barlowctl.api.arguments import checked
from barlowctl.errors import UserError, explained, kind_of
from barlowctl.methods import Method
from barlowctl.recipe import own_methods

Made = TypeVar("Made", bound=Callable[..., Any])
_CALL = (
    "@barlowctl.register_method('my-method') above a subclass of barlowctl.methods.Method, or a function that returns "
    "one"
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


def _attributes(name: str, made: Any) -> Mapping[str, Any]:
    """The attributes of a method's class, those of `Method` left out; of a function, of what it says it returns.

    Raises:
        UserError: it is no method, or lacks what one must have.
    """
    if not callable(made):
        raise UserError(f"{name!r} is registered as {kind_of(made)}", allowed=_CALL)
    place = own_code.line_of(made)
    of_class = made if isinstance(made, type) else _returned(made)
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


def _returned(made: Callable[..., Any]) -> type | None:
    """The class of methods that a function is annotated to return; None: it says none."""
    try:
        of_class = typing.get_type_hints(inspect.unwrap(made)).get("return")
    except Exception:  # names that are imported for a type checker alone
        return None
    return of_class if isinstance(of_class, type) and of_class is not Method else None
