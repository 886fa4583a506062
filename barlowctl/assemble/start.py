"""What a training starts from: weights put into a recipe's networks before the first step, and what became of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from barlowctl import shell
from barlowctl.assemble.matching import Match, match
from barlowctl.assemble.misfit import described, differences, listed, recognised, reshaped
from barlowctl.assemble.weights import Network, Weights, read_weights
from barlowctl.distributed import ALONE, Ranks
from barlowctl.errors import UserError
from barlowctl.exports.keys import describe_difference
from barlowctl.methods import Method
from barlowctl.model import Preprocessing
from barlowctl.recipe.initial import for_channels
from barlowctl.recipe.network import TIMM_NAMES, Model
from barlowctl.recipe.schema import Recipe
from barlowctl.recipe.views import Views


class Start:
    """Weights on their way into the networks of a recipe.

    Attributes:
        weights: what was read.
        match: what the backbone got of them; None until `fill`.
        heads: name of a head -> "" where it got its weights, else why it has fresh ones; empty until `fill`.
    """

    def __init__(self, weights: Weights, recipe: Recipe, *, normalization: str) -> None:
        self.weights, self.normalization = weights, normalization
        self._recipe = recipe
        self.match: Match | None = None
        self.heads: dict[str, str] = {}

    def fill(self, method: Method) -> None:
        """Put the weights in the place of those that the recipe's method was drawn with; copies begin as networks are.

        Raises:
            UserError: the backbone's do not fit as a whole, and `init.partial` does not allow that.
        """
        self._fill_backbone(method.backbone)
        self._fill_heads(method)
        method.begin_copies()

    def _fill_backbone(self, backbone: nn.Module) -> None:
        weights, recipe = self.weights, self._recipe
        channels = weights.preprocessing.channels if weights.preprocessing else None
        matched = match(backbone, weights.backbone, channels=channels)
        if not matched.taken or not (matched.complete or recipe.init.partial):
            raise _misfit(weights, recipe, matched)
        backbone.load_state_dict(dict(matched.taken), strict=False)
        self.match = matched

    def _fill_heads(self, method: Method) -> None:
        """Where method and shapes are the same."""
        own = self._recipe.objective.name
        for name, head in method.heads().items():
            state = self.weights.heads.get(name)
            if not self._recipe.init.heads:
                why = "init.heads is false"
            elif state is None:
                why = f"the {self.weights.kind} has none"
            elif self.weights.method != own:
                why = f"the {self.weights.kind}'s is of {self.weights.method}"
            else:
                why = describe_difference(head.state_dict(), state)
                why = f"the {self.weights.kind}'s {why}" if why else ""
            if not why:
                assert state is not None
                head.load_state_dict(dict(state))
            self.heads[name] = why

    def lines(self) -> dict[str, str]:
        """For the first lines of a run and of its dry run."""
        assert self.match is not None
        weights, matched = self.weights, self.match
        network = f" of {weights.network.architecture}" if weights.network else ""
        parts = [f"{weights.name} ({weights.kind}{network}, sha256 {weights.sha256[:12]})", _taken(matched)]
        parts += [f"{name}: {f'fresh weights, {why}' if why else 'taken'}" for name, why in self.heads.items()]
        notes = {"start note": "; ".join(weights.notes)} if weights.notes else {}
        return {"start": "; ".join(parts), **notes, "normalisation": self.normalization}

    def record(self) -> dict[str, Any]:
        """All of it as JSON values: what a run keeps."""
        assert self.match is not None
        weights, matched = self.weights, self.match
        return {
            "weights": weights.name,
            "kind": weights.kind,
            "sha256": weights.sha256,
            "source": dict(weights.source),
            "network": None if weights.network is None else vars(weights.network),
            "preprocessing": None if weights.preprocessing is None else weights.preprocessing.as_dict(),
            "within": matched.within,
            "taken": list(matched.taken),
            "reshaped": {key: [list(shape) for shape in shapes] for key, shapes in matched.reshaped.items()},
            "renamed": dict(matched.renamed),
            "fresh": list(matched.fresh),
            "misshapen": {key: [list(shape) for shape in shapes] for key, shapes in matched.misshapen.items()},
            "left": [*matched.unknown, *matched.beside],
            "heads": {name: why or "taken" for name, why in self.heads.items()},
            "normalization": self.normalization,
            "notes": list(weights.notes),
        }


def read_same(what: str, ranks: Ranks) -> Weights:
    """Weights that every rank reads itself.

    Raises:
        UserError: they cannot be read, or are not the same everywhere.
    """
    weights = read_weights(what)
    if len(set(ranks.objects(weights.sha256))) > 1:
        raise UserError(
            f"'{what}' is not the same on all {ranks.size} ranks",
            allowed="one file that all of them read, or copies of it; a run that is not being trained",
            next="copy the same weights to every machine",
        )
    return weights


def begin(recipe: Recipe, ranks: Ranks = ALONE) -> tuple[Recipe, Start | None]:
    """What a new training of a recipe starts from, read; and the recipe with what follows from it.

    Every rank reads the weights itself, and all agree that they are the same.

    Returns:
        The recipe with the weights' sha256, and with their mean, std and network where it follows them; None: random
        weights.

    Raises:
        UserError: the weights cannot be read, or are not those that the recipe has the sha256 of.
    """
    init = recipe.init
    if not init.weights:
        return recipe, None
    weights = read_same(init.weights, ranks)
    if init.sha256 not in ("", weights.sha256):
        raise UserError(
            f"'{init.weights}' holds other weights than the recipe says: their sha256 is {weights.sha256}, and "
            f"init.sha256 is {init.sha256}",
            allowed="the weights that the recipe was made with, wherever they lie now (--init), or these",
            next=shell.line("--set", f"init.sha256={weights.sha256}"),
        )
    views, how = _normalization(recipe, weights.preprocessing)
    model, network = recipe.model, weights.network
    if init.network == "weights" and network is not None:
        model = model.of_network(network.architecture, network.stem, network.arguments)
    noted = init.model_copy(update={"sha256": weights.sha256})
    settled = recipe.model_copy(update={"init": noted, "views": views, "model": model})
    return settled, Start(weights, settled, normalization=how)


def _normalization(recipe: Recipe, preprocessing: Preprocessing | None) -> tuple[Views, str]:
    """The views with the mean and std that the input gets, and why these, for people."""
    views, channels = recipe.views, recipe.data.channels
    own = _statistics(views.mean, views.std)
    if preprocessing is None:
        return views, f"{own}, of the recipe: the weights do not say theirs"
    mean, std = for_channels(preprocessing.mean, channels), for_channels(preprocessing.std, channels)
    theirs = _statistics(mean, std)
    averaged = f", their mean over {preprocessing.channels} channels" if preprocessing.channels > channels else ""
    if theirs == own:
        return views, f"{own}, of recipe and weights alike"
    if recipe.init.normalization == "recipe":
        return views, f"{own}, of the recipe (init.normalization); the weights were trained with {theirs}"
    instead = f"not the recipe's {own}; --set init.normalization=recipe keeps that"
    return views.model_copy(update={"mean": mean, "std": std}), f"{theirs}, of the weights{averaged}, {instead}"


def _statistics(mean: Sequence[float], std: Sequence[float]) -> str:
    means, stds = (", ".join(f"{value:.4g}" for value in values) for values in (mean, std))
    return f"mean ({means}), std ({stds})"


def _taken(matched: Match) -> str:
    """What the backbone got, in a few words."""
    missing = [key for key in matched.fresh if key not in matched.misshapen]
    text = f"backbone: {'all' if matched.complete else 'only'} {len(matched.taken):,} tensors"
    if matched.within:
        text += f" under '{matched.within}'"
    if matched.reshaped:
        text += f", reshaped: {listed([reshaped(key, shapes) for key, shapes in matched.reshaped.items()])}"
    text += "".join(f", {theirs} as {ours} (for the recipe's pooling)" for ours, theirs in matched.renamed.items())
    if not matched.complete:
        kinds = ((missing, "not in the weights"), (list(matched.misshapen), "of another shape"))
        text += "".join(f", {len(keys)} fresh ({why}: {listed(keys)})" for keys, why in kinds if keys)
    if left := [*matched.unknown, *matched.beside]:
        text += f"; {len(left)} left ({listed(left)})"
    return text


def _misfit(weights: Weights, recipe: Recipe, matched: Match) -> UserError:
    """Weights that are not those of the recipe's network: how they differ, and what to set."""
    model, theirs = recipe.model, weights.network or recognised(weights)
    own = Network(model.backbone, model.stem, model.network_args)
    differs = theirs is not None and theirs != own
    advice = [_flags(theirs, model)] if theirs is not None and differs else []
    advice += ["--set init.partial=true"] if matched.taken else []
    return UserError(
        f"'{weights.name}' does not fit the recipe's network, {described(own)}"
        + (f": it is {described(theirs)}" if theirs is not None and differs else "")
        + f". {differences(weights, matched)}",
        allowed="weights of the same network"
        + (", or on purpose what fits of them (init.partial)" if matched.taken else ""),
        next="\n".join(advice) or "name another one with --init",
    )


def _flags(network: Network, model: Model) -> str:
    """What makes a recipe's network that of the weights. Arguments with a key of their own are put there."""
    arguments = dict(network.arguments)
    named = {key: arguments.pop(argument, own) for key, (argument, own) in TIMM_NAMES.items()}
    del named["drop_path"]  # of a training, whatever theirs was
    keys: Mapping[str, Any] = {
        "model.backbone": network.architecture,
        "model.stem": network.stem,
        **{f"model.{key}": value for key, value in named.items() if getattr(model, key) != value},
        "model.backbone_args": _inline(arguments),
    }
    return shell.line(*(word for key, value in keys.items() for word in ("--set", f"{key}={value}")))


def _inline(values: Mapping[str, Any]) -> str:
    """A table on one line of TOML."""
    pairs = (f"{key} = {_inline(v) if isinstance(v, Mapping) else json.dumps(v)}" for key, v in values.items())
    return "{" + ", ".join(pairs) + "}"
