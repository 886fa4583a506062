"""Families of recipes: one for each method, of the same kind of images, where a method's own settings are read from.

`fashion-mnist` (small images) and `resnet50` (ImageNet) are shipped: `resnet50-simclr` and so on, beside `resnet50` of
Barlow Twins. One's own: `./mine` is `./mine-simclr.toml` and so on, or a folder with `simclr.toml`, `any-simclr.toml`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from barlowctl import shell
from barlowctl.errors import UserError, did_you_mean, instead
from barlowctl.recipe import catalog, load, objectives
from barlowctl.recipe.schema import Recipe

MULTI_CROP = {"barlow-twins": "multicrop-barlow-twins", "swav": "swav-multicrop"}
"""Methods that take small views beside the first two -> what they are called with them."""

NAMES = (*objectives.OURS, *MULTI_CROP.values())
"""What can be compared: the methods, and those with small views, which have recipes of their own in a family."""

SMALL = 64
"""Pixels: views of at most this side take the settings for small images."""


def name_of(recipe: Recipe) -> str:
    """Which of `NAMES` a recipe is of."""
    method = recipe.objective.name
    return MULTI_CROP.get(method, method) if recipe.views.small.count else method


def shipped() -> list[str]:
    """Names of the shipped families."""
    return [stem for stem in catalog.shipped() if Family(stem).is_shipped]


def fitting(base: Recipe) -> Family:
    """The shipped family whose settings suit a base recipe's images, by the size of its views."""
    return Family("fashion-mnist" if base.views.size <= SMALL else "resnet50")


@dataclass(frozen=True)
class Family:
    """name: as it is typed."""

    name: str

    @cached_property
    def recipes(self) -> dict[str, Path]:
        """The file of each method that has one, in the order of `NAMES`.

        Raises:
            UserError: two files of a folder are of one method.
        """
        recipes = catalog.shipped()
        files_of: dict[str, Path] = {}
        if self.is_shipped:
            files_of = {name: recipes[f"{self.name}-{name}"] for name in NAMES if f"{self.name}-{name}" in recipes}
            files_of |= {objectives.DEFAULT: recipes[self.name]} if self.name in recipes else {}
        elif self._place.is_dir():
            for file in sorted(self._place.glob("*.toml")):
                name = _method_of(file.stem)
                if name in files_of:
                    raise UserError(
                        f"'{files_of[name]}' and '{file}' are both of the method '{name}'", next="rename one of them"
                    )
                if name is not None:
                    files_of[name] = file
        else:
            files = {name: self._place.with_name(f"{self._place.name}-{name}.toml") for name in NAMES}
            files_of = {name: file for name, file in files.items() if file.is_file()}
            plain = self._place.with_name(f"{self._place.name}.toml")
            if plain.is_file():  # of whatever method it is
                files_of.setdefault(load.load(str(plain)).objective.name, plain)
        return {name: files_of[name] for name in NAMES if name in files_of}

    @property
    def is_shipped(self) -> bool:
        """Whether it comes with barlowctl."""
        return any(f"{self.name}-{name}" in catalog.shipped() for name in NAMES)

    @property
    def _place(self) -> Path:
        place = Path(self.name.removesuffix(".toml")).expanduser()
        return place if place.name else place.absolute()  # of `.`, which has no name

    @property
    def names(self) -> list[str]:
        """The methods that have a recipe.

        Raises:
            UserError: none has.
        """
        if not self.recipes:
            raise UserError(
                f"there are no recipes '{self.name}-METHOD' to take settings from{did_you_mean(self.name, shipped())}",
                allowed=f"{', '.join(shipped())}, your own (./mine: ./mine-simclr.toml and so on), or a folder of them",
                next=instead("--settings-of", self.name, shipped()),
            )
        return list(self.recipes)

    def find(self, name: str) -> str:
        """The recipe of a method, as a name or path that opens it.

        Raises:
            UserError: the family has none of it.
        """
        if name in self.recipes:
            file = self.recipes[name]
            return file.stem if self.is_shipped else str(file)
        raise UserError(
            f"there is no recipe of '{name}' to take its settings from",
            allowed=f"with --settings-of {self.name}: {', '.join(self.names)}",
            next=(None if self.is_shipped else self._made(name)) or "--methods all",
        )

    def _made(self, name: str) -> str | None:
        """The command that makes a missing recipe of one's own from a shipped one; None: there is none like it."""
        target = self._place / f"{name}.toml" if self._place.is_dir() else Path(f"{self._place}-{name}.toml")
        like = f"fashion-mnist-{name}" if name != objectives.DEFAULT else "fashion-mnist"
        if like not in catalog.shipped():
            return None
        return shell.line("barlowctl", "recipes", "copy", like, target)

    def reference(self, base: Recipe) -> Recipe:
        """What a method's recipe is compared with, to learn what is its own: the one of Barlow Twins, else `base`."""
        plain = self.recipes.get(objectives.DEFAULT)
        return load.load(str(plain)) if plain is not None else base


def _method_of(stem: str) -> str | None:
    """The method that a file is named after: `my-mixed-barlow-twins` is not of `barlow-twins`."""
    fitting = [name for name in NAMES if stem == name or stem.endswith(f"-{name}")]
    return max(fitting, key=len, default=None)
