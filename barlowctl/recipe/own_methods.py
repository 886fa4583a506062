"""Methods that somebody registers: their keys, made of the parameters of a class or function. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import create_model

from barlowctl import own_code
from barlowctl.errors import UserError
from barlowctl.recipe.keys import Keys, Own
from barlowctl.recipe.objectives import METHODS, OURS
from barlowctl.recipe.own_parameters import check_name, parameters_of, section_of

GIVEN = ("backbone", "projector", "predictor", "features", "seed", "ranks", "images", "classes")
"""Parameters that are given by their names; every other one is a key of `objective.args`."""
FLAGS = ("small_views", "labels", "averages", "decorrelates")
"""Attributes of a method's class that are true or false; without them they are false."""


def register(name: Any, make: Callable[..., Any], attributes: Mapping[str, Any]) -> None:
    """Let recipes name a method; the same class or function again takes the place of what it was.

    Args:
        make: the class, or the function that returns a method. attributes: of the class, as far as it says any:
            `title`, `views` and `FLAGS`.

    Raises:
        UserError: a name or a parameter that cannot be, a name of another method, or attributes of the wrong kind.
    """
    before = METHODS.get(name, Keys) if isinstance(name, str) else Keys
    check_name("method", name, make, OURS, before.make if issubclass(before, Own) else None)
    of_class = _attributes(name, make, attributes)
    given, keys = parameters_of(f"the method {name!r}", make, GIVEN, "objective.args")
    if "backbone" not in given:
        raise UserError(
            f"the method {name!r} takes no backbone{own_code.line_of(make)}",
            allowed="a parameter named backbone, a network from images (N, C, H, W) to features (N, F)",
            next="let it take backbone, and keep it as self.backbone",
        )
    fields: dict[str, Any] = {"name": (Literal[name], name), "args": section_of(keys)}
    own = create_model("Own", __base__=Own, **fields)
    own.make, own.given, own.plain = make, given, tuple(keys)
    own.source = own_code.registration_of(make)
    for key, value in of_class.items():
        setattr(own, key, value)
    METHODS[name] = own


def _attributes(name: str, make: Callable[..., Any], attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What keys of a method say beside their values (`Keys`), of the attributes of its class.

    Raises:
        UserError: of the wrong kind.
    """
    views, title = attributes.get("views", 2), attributes.get("title", name)
    wrong = [f"{flag} = {attributes[flag]!r}" for flag in FLAGS if not isinstance(attributes.get(flag, False), bool)]
    wrong += [f"views = {views!r}"] if views not in (1, 2) or isinstance(views, bool) else []
    wrong += [f"title = {title!r}"] if not isinstance(title, str) or not title.strip() else []
    wrong += ["patches = True"] if attributes.get("patches") else []
    if wrong:
        raise UserError(
            f"the method {name!r} has {', '.join(wrong)}{own_code.line_of(make)}",
            allowed="views 1 or 2 (large views of each image; more of them are small: small_views = True), title a "
            f"text, {', '.join(FLAGS)} True or False; shuffled patches are PIRL's alone",
            next="correct the class",
        )
    return {"full_views": views, "title": title, **{flag: attributes.get(flag, False) for flag in FLAGS}}
