"""A method that somebody has registered, made of what a recipe says, and looked at."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from barlowctl import own_code
from barlowctl.amounts import counted
from barlowctl.assemble.predictor import refuse_predictor
from barlowctl.distributed import Ranks
from barlowctl.errors import UserError, kind_of
from barlowctl.methods import Method
from barlowctl.methods.doubts import Doubts, check_state
from barlowctl.model import build_predictor, build_projector, feature_width
from barlowctl.recipe.keys import Own
from barlowctl.recipe.own_methods import FLAGS
from barlowctl.recipe.schema import Recipe


def build(recipe: Recipe, keys: Own, backbone: nn.Module, ranks: Ranks, images: int, classes: int) -> Method:
    """What the registered class or function makes of its parameters; heads are drawn projector first.

    Args:
        images, classes: see `methods.Context`.

    Raises:
        UserError: it raises an error, or makes what cannot be trained; or `build_projector` does.
    """
    model, make = recipe.model, type(keys).make  # of the class: of `keys` a function would be bound to them
    if "predictor" not in keys.given:
        refuse_predictor(recipe)
    given: dict[str, Callable[[], Any]] = {
        "backbone": lambda: backbone,
        "projector": lambda: build_projector(
            feature_width(backbone), model.projector, batch_norm=model.projector_batch_norm
        ),
        "predictor": lambda: build_predictor(model.projector[-1], model.predictor) if model.predictor else None,
        "features": lambda: feature_width(backbone),
        "seed": lambda: recipe.seed,
        "ranks": lambda: ranks,
        "images": lambda: images,
        "classes": lambda: classes,
    }
    arguments = {name: make() for name, make in given.items() if name in keys.given}
    values = {name: getattr(keys.args, name) for name in keys.plain}
    arguments |= {name: value for name, value in values.items() if value is not None}  # which is a default, or none
    try:
        with own_code.exits_are_errors():
            method = make(**arguments)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"the method {keys.name!r} cannot be made: {own_code.reason_of(error)}",
            allowed="a class or function that takes what its parameters name, as barlowctl.register_method says",
            next=f"mend it{own_code.line_of(make)}",
        ) from error
    doubts = Doubts(ranks, labels=keys.labels, mend=f"mend it{own_code.line_of(make)}")
    with doubts.advising():
        _check(method, keys, backbone)
    method.views, method.doubts = keys.full_views, doubts
    return method


def _check(method: Any, keys: Own, backbone: nn.Module) -> None:
    """Refuse what cannot be trained, or would be in part, or would be lost.

    Raises:
        UserError: says what it is.
    """
    fault = _fault(method, keys, backbone)
    if fault is None:
        check_state(method, [backbone])
        return
    what, allowed = fault
    place = own_code.line_of(type(keys).make)
    raise UserError(f"the method {keys.name!r} {what}", allowed=allowed, next=f"mend it{place}")


def _fault(made: Any, keys: Own, backbone: nn.Module) -> tuple[str, str] | None:
    """What is wrong with it, and what is allowed; None: nothing is."""
    if not isinstance(made, Method):
        return f"is {kind_of(made)}, and no method", "a barlowctl.methods.Method"
    name = type(made).__name__
    if getattr(made, "backbone", None) is not backbone:
        return f"does not keep its backbone as {name}.backbone", "self.backbone = backbone"
    views, terms = getattr(made, "views", keys.full_views), getattr(made, "terms", None)
    asks = {"views": views} | {flag: bool(getattr(made, flag, False)) for flag in FLAGS}
    registered = {"views": keys.full_views} | {flag: getattr(keys, flag) for flag in FLAGS}
    if other := next((key for key in asks if asks[key] != registered[key]), None):
        return (
            f"has {other} = {asks[other]}, and was registered with {registered[other]}",
            f"a function that is annotated with the class that it returns: -> {name}",
        )
    if calls := _called_otherwise(made):
        return f"has {name}.{calls[0]}, which is called otherwise", calls[1]
    if not isinstance(terms, Mapping) or not terms:
        return f"has no {name}.terms", "names of the terms beside the loss, each with what it says"
    heads = made.heads()
    if not (isinstance(heads, Mapping) and all(isinstance(head, nn.Module) for head in heads.values())):
        return (
            f"has heads that are {kind_of(heads)}",
            "a dictionary of names and modules: {'projector': self.projector}",
        )
    if empty := [path for path, parameter in made.named_parameters() if not parameter.numel()]:
        return f"has a parameter without a number in it: {name}.{empty[0]}", "widths of 1 and more"
    listed = {parameter for part in (backbone, *heads.values()) for parameter in part.parameters()}
    own = {parameter: path for path, parameter in made.named_parameters()}
    unlisted = [path for parameter, path in own.items() if parameter.requires_grad and parameter not in listed]
    if unlisted:
        paths = ", ".join(unlisted[:3]) + (", ..." if len(unlisted) > 3 else "")
        return (
            f"trains {counted(len(unlisted), 'parameter')} that {name}.heads does not list: {paths}",
            "heads() that names every module beside the backbone that is trained; what is not trained has "
            "requires_grad_(False), or is a buffer",
        )
    if missing := [head for head, part in heads.items() if not own.keys() >= set(part.parameters())]:
        return f"has a head {missing[0]!r} that is no part of it", "modules that are attributes of the method"
    return None


def _called_otherwise(made: Method) -> tuple[str, str] | None:
    """A function of the method that cannot be called as `Method`'s of that name is, and how that is; None: all can."""
    for name, ours in inspect.getmembers(Method, inspect.isfunction):
        theirs = getattr(made, name)
        if name.startswith("_") or getattr(theirs, "__func__", None) is ours:
            continue
        expected = list(inspect.signature(ours).parameters)
        try:
            inspect.signature(theirs).bind(*expected[1:])
        except TypeError:
            as_written = ", ".join(inspect.signature(theirs).parameters)
            return f"{name}(self, {as_written})".replace(", )", ")"), f"{name}({', '.join(expected)})"
        except ValueError:  # of C, and says nothing of itself
            continue
    return None
