"""How images are shown to a network that is measured or exported: its own way, with what `--set` changes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from barlowctl import shell
from barlowctl.errors import UserError
from barlowctl.model import Preprocessing
from barlowctl.recipe import load

PREPARED_BY = ("eval.resize", "eval.crop", "data.range", "data.background", "data.bands", "model.pooling")
"""Keys of a recipe that a measurement takes."""
NORMALIZED_BY = ("views.mean", "views.std", "views.interpolation")
"""Keys that it takes beside them of a network that does not say these itself."""


def prepared_otherwise(own: Preprocessing, overrides: Sequence[str], *, beside: Sequence[str] = ()) -> Preprocessing:
    """A network's preprocessing with `key=value` overrides.

    Args:
        beside: keys that are taken beside `PREPARED_BY`.

    Raises:
        UserError: a key that is not taken, or a value that is not allowed.
    """
    recipe = load.measuring(
        {
            "data": {"range": own.range, "background": own.background, "bands": list(own.bands)},
            "views": {"mean": list(own.mean), "std": list(own.std), "interpolation": own.interpolation},
            "eval": {"resize": own.resize, "crop": own.crop},
            "model": {"pooling": own.pooling},
        },
        overrides,
    )
    taken = (*PREPARED_BY, *beside)
    for override in overrides:
        if (key := key_of(override)) not in taken:
            says_itself = key in NORMALIZED_BY or key.startswith("model.")
            why = "is what the network says itself" if says_itself else "is of a training, and changes nothing here"
            raise UserError(
                f"{shell.line('--set', override)}: '{key}' {why}",
                allowed=", ".join(taken),
                next=without(override) if says_itself else None,
            )
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


def key_of(override: str) -> str:
    """`eval.crop` of `eval.crop=224`."""
    return override.partition("=")[0].strip()


def without(override: str) -> str:
    """Advice to leave an override out; the network's name may have been typed as `--backbone`."""
    named, option = key_of(override) == "model.backbone", f"--set={override}"
    return shell.line("without", "--backbone", option) if named else shell.line("without", option)
