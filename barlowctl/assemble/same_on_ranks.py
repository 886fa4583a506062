"""What every rank reads for itself, and all must have alike: the recipe and the images."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

import barlowctl
from barlowctl.amounts import counted
from barlowctl.assemble.data import ImageSet
from barlowctl.data.beton.reader import Beton
from barlowctl.distributed import Ranks
from barlowctl.errors import UserError
from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe

_NAMES, _READ = 1000, 32  # images whose names are compared, and whose first bytes are
_NEXT = "bring the same files to every machine"


def check_recipe(recipe: Recipe, ranks: Ranks) -> None:
    """Refuse ranks that train by other settings, or by another version; each reads its own files.

    Raises:
        UserError: names the settings, on every rank.
    """
    versions = ranks.objects(barlowctl.__version__)
    recipes = ranks.objects(load.digest(_without_paths(recipe)))
    if len(set(versions)) > 1:
        rank = _first_other(versions)
        raise UserError(
            f"rank {rank} runs barlowctl {versions[rank]}, and rank 0 {versions[0]}",
            allowed="one version on all machines",
            next="install the same version on every machine",
        )
    if len(set(recipes)) == 1:
        return
    rank = _first_other(recipes)
    settings = [Recipe.model_validate(values) for values in ranks.objects(recipe.model_dump(mode="json"))]
    changes = load.diff(_without_paths(settings[0]), _without_paths(settings[rank]))
    key, first, other = changes[0]
    more = f"; {len(changes)} keys of it differ" if len(changes) > 1 else ""
    raise UserError(
        f"the recipe is not the same on all {ranks.size} ranks: {key} is {first} on rank 0 and {other} on rank {rank}"
        f"{more}",
        allowed="one recipe file that all of them read, or copies of it",
        next=_NEXT,
    )


def check_images(source: ImageSet, ranks: Ranks) -> None:
    """Refuse ranks that see other images: what is drawn for one of them would be another image elsewhere.

    Compared are the number of images, all labels, some names and the first bytes of a few.

    Raises:
        UserError: says which rank, on every rank.
    """
    if ranks.size == 1:
        return
    digests = ranks.objects(_digest(source))
    if len(set(digests)) == 1:
        return
    rank, seen = _first_other(digests), ranks.objects((source.num_samples, str(source.path.absolute())))
    (images, path), (others, place) = seen[0], seen[rank]
    which = "other images of that number" if images == others else counted(others, "image")
    raise UserError(
        f"the images are not the same on all {ranks.size} ranks: rank 0 sees {counted(images, 'image')} in '{path}', "
        f"rank {rank} {which} in '{place}'",
        allowed="one folder or file that all of them read, or copies of it",
        next=_NEXT,
    )


def check_trial(digest: str, ranks: Ranks) -> None:
    """Refuse ranks that train a detector of other weights, on other images or otherwise than rank 0.

    Args:
        digest: of all of that, as this rank has it.

    Raises:
        UserError: says which rank, on every rank.
    """
    digests = ranks.objects(digest)
    if len(set(digests)) > 1:
        raise UserError(
            f"rank {_first_other(digests)} has other weights, annotated images or settings than rank 0",
            allowed="the same files for all ranks, or copies of them",
            next=_NEXT,
        )


def _first_other(values: list[Any]) -> int:
    return next(rank for rank, value in enumerate(values) if value != values[0])


def _without_paths(recipe: Recipe) -> Recipe:
    """Weights to start from may lie elsewhere on every machine: their sha256 is compared."""
    return recipe.model_copy(update={"init": recipe.init.model_copy(update={"weights": ""})})


def _digest(source: ImageSet) -> str:
    """SHA-256 of what identifies the images, as far as it is known at once."""
    if isinstance(source, Beton):
        return source.fingerprint.digest
    digest = hashlib.sha256(np.ascontiguousarray(source.labels).tobytes())
    digest.update(repr(source.class_names).encode())
    for index in _spread(source.num_samples, _NAMES):
        digest.update(repr(source.name_of(index)).encode())
    for index in () if source.in_memory else _spread(source.num_samples, _READ):
        digest.update(hashlib.sha256(source.stored(index)).digest())
    return digest.hexdigest()


def _spread(images: int, most: int) -> list[int]:
    """Positions of `most` images that lie evenly among all of them; of all where there are fewer."""
    return sorted({int(index) for index in np.linspace(0, images - 1, min(most, images))})
