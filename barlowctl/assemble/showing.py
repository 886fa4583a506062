"""How images are shown to a network that is measured or exported: its own way, with what `--set` changes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from barlowctl import shell
from barlowctl.errors import UserError
from barlowctl.model import Preprocessing
from barlowctl.recipe import load
from barlowctl.recipe.overrides import Wrong, as_typed, left_out, refused

PREPARED_BY = ("eval.resize", "eval.crop", "data.range", "data.background", "data.bands", "model.pooling")
"""Keys of a recipe that a measurement takes."""
OF_TRAINING = ("init", "objective", "optimizer", "train", "seed", "name", "description")
"""Sections and keys of a recipe of which a measurement takes nothing."""
NORMALIZED_BY = ("views.mean", "views.std", "views.interpolation")
"""Keys that it takes beside them of a network that does not say these itself."""


def prepared_otherwise(own: Preprocessing, overrides: Sequence[str], *, beside: Sequence[str] = ()) -> Preprocessing:
    """A network's preprocessing with `key=value` overrides.

    Args:
        beside: keys that are taken beside `PREPARED_BY`.

    Raises:
        UserError: keys that are not taken, all of them, or a value that is not allowed.
    """
    taken = (*PREPARED_BY, *beside)
    recipe = measuring(
        {
            "data": {"range": own.range, "background": own.background, "bands": list(own.bands)},
            "views": {"mean": list(own.mean), "std": list(own.std), "interpolation": own.interpolation},
            "eval": {"resize": own.resize, "crop": own.crop},
            "model": {"pooling": own.pooling},
        },
        overrides,
        taken,
    )
    if wrong := [_not_taken(override, taken) for override in overrides if key_of(override) not in taken]:
        raise refused(wrong)
    return replace(
        own,
        resize=recipe.eval.resize,
        crop=recipe.eval.crop,
        interpolation=recipe.views.interpolation,
        mean=recipe.views.mean,
        std=recipe.views.std,
        squash=own.squash and not any(key_of(override) == "eval.resize" for override in overrides),
        range=recipe.data.range,
        background=recipe.data.background,
        bands=recipe.data.bands,
        pooling=own.pooling if recipe.model.pooling == "default" else recipe.model.pooling,
    )


def measuring(tables: dict[str, Any], overrides: Sequence[str], taken: Sequence[str]) -> load.Measuring:
    """The recipe of a measurement, with those of `key=value` overrides that are not of a training.

    Args:
        taken: keys that are allowed in the place of the others.

    Raises:
        UserError: a key or a value that no recipe has; names those of a training too.
    """
    of_training = [override for override in overrides if _section_of(override) in OF_TRAINING]
    try:
        return load.measuring(tables, [override for override in overrides if override not in of_training])
    except UserError as error:
        if not of_training:
            raise
        wrong = [_not_taken(override, taken) for override in of_training]
        error.message = "\n".join([error.message, *(one.text for one in wrong)])
        error.args = (error.message,)
        error.allowed = error.allowed or ", ".join(taken)
        error.next = _also_without(error.next or "", [word for one in wrong for word in one.left_out])
        raise


def _also_without(advice: str, words: Sequence[str]) -> str:
    """Advice of flags that leaves these words out too; any other as it is."""
    if not advice.startswith(("without ", "--set", "'--set")) or "\n" in advice:
        return advice
    return " ".join([advice, *([] if "without " in advice else ["without"]), shell.line(*words)])


def key_of(override: str) -> str:
    """`eval.crop` of `eval.crop=224`."""
    return override.partition("=")[0].strip()


def _section_of(override: str) -> str:
    return key_of(override).partition(".")[0]


def _not_taken(override: str, taken: Sequence[str]) -> Wrong:
    key = key_of(override)
    says_itself = key in NORMALIZED_BY or key.startswith("model.")
    why = "is what the network says itself" if says_itself else "is of a training, and changes nothing here"
    return Wrong(f"{as_typed([override])}: '{key}' {why}", ", ".join(taken), left_out(override))
