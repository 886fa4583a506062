"""What `--set`, `--backbone` and `--on-unreadable` say in the commands that measure: how images are prepared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from barlowctl.cli import options

if TYPE_CHECKING:
    from barlowctl.data.images.unreadable import OnMeasuring


def of_backbone(name: str | None) -> list[str]:
    """`--backbone NAME` as an override, for which it is short."""
    return [] if name is None else [f"model.backbone={name}"]


def measuring(
    overrides: list[str] | None, on_unreadable: options.Policy | None, backbone: str | None = None
) -> tuple[list[str], list[str], OnMeasuring | None]:
    """How images are prepared in a measuring command: by `--set` and `--on-unreadable`.

    Returns:
        How images are prepared (`eval.resize`, ...), the other overrides, and what is done about unreadable images: a
        recipe's words for that mean the same here, but another image never stands in for one that is measured. None:
        neither flag is about it, and the recipe of what is measured decides.
    """
    from barlowctl.recipe.overrides import PREPARING

    geometry, others = of_backbone(backbone), list[str]()
    policy: OnMeasuring | None = None if on_unreadable is None else "skip" if on_unreadable == "skip" else "raise"
    for override in overrides or []:
        if override in ("data.on_unreadable=replace", "data.on_unreadable=raise"):
            policy = "skip" if override.endswith("replace") else "raise"
        else:
            (geometry if override.startswith(PREPARING) else others).append(override)
    return geometry, others, policy
