"""Finished runs that differ in their seed alone, taken together: what tells the groups apart, and what was measured.

Numbers are those that the runs hold: the last online evaluation of metrics.jsonl, and the results of `probe` and
`transfer` that lie in the run's folder.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from barlowctl import own_code
from barlowctl.errors import UserError
from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe
from barlowctl.runs import rundir
from barlowctl.runs.history import History

UNSAID = ("name", "description", "seed")
"""Keys of a recipe that make no other group."""
IMAGES = "images"
"""The setting that tells groups apart which were trained on other images under one name."""
CODE = "own code"
"""The setting that tells groups apart whose method or network, somebody's own, is of another version of its file."""
ONLINE = ("knn", "linear")
"""Accuracies of the online evaluation, which are columns unless others are asked for."""


class Measure(NamedTuple):
    """What a column holds.

    Attributes:
        source: "online" (metrics.jsonl), "probe" or "transfer". name: of the number there. data: the name of the
            labelled images; "" online. setting: what else must be the same for values to be of one scale.
    """

    source: str
    name: str
    data: str = ""
    setting: str = ""

    @property
    def key(self) -> str:
        """As it is chosen by: `knn`, `loss`, `probe.linear`, `transfer.voc07`."""
        return self.name if self.source == "online" else f"{self.source}.{self.name}"


@dataclass
class Group:
    """Runs of one recipe and the same images, a run a seed, in the order of their seeds.

    settings: key -> value, of the keys that differ between the groups and that this one's recipe has.
    values: measure -> its value in each run that has it.
    """

    recipe: Recipe
    runs: list[History]
    settings: dict[str, Any] = field(default_factory=dict)
    values: dict[Measure, list[float]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What the names of its runs begin with, else the recipe's name."""
        names = [run.name for run in self.runs]
        if len(names) == 1:
            return names[0]
        beginning = names[0]
        while not all(name.startswith(beginning) for name in names):
            beginning = beginning[:-1]
        return _COUNTED.sub("", beginning) or self.recipe.name

    def mean(self, measure: Measure) -> float | None:
        """None: no run has it."""
        values = self.values.get(measure)
        return statistics.fmean(values) if values else None

    def deviation(self, measure: Measure) -> float | None:
        """The sample standard deviation over the runs; None: fewer than two have it."""
        values = self.values.get(measure, [])
        return statistics.stdev(values) if len(values) > 1 else None


_COUNTED = re.compile(r"([-_.]+(seed|s)?\d*|\d+)+$")
"""The end of what several names begin with: a seed, a date, what joins them to it."""


def grouped(runs: Sequence[History]) -> tuple[list[Group], list[str]]:
    """The groups of the finished runs, in the order of their first runs, and what was left out, a line each.

    Raises:
        UserError: none is finished, or a recipe cannot be read.
    """
    groups: dict[str, Group] = {}
    notes: list[str] = []
    for run in runs:
        if run.state != "finished":
            notes.append(f"{run.name} is left out: {run.state} at step {run.step:,}")
            continue
        recipe = _recipe(run)
        images = (run.images or {}).get("digest", "")
        key = f"{load.digest(recipe.model_copy(update={'seed': 0}))} {images} {own_code.versions(run.about)}"
        group = groups.setdefault(key, Group(recipe, []))
        twin = next((other for other in group.runs if _seed(other) == recipe.seed), None)
        if twin is not None:
            notes.append(f"{run.name} is left out: {twin.name} is the same recipe with the same seed")
            continue
        group.runs.append(run)
    if not groups:
        raise UserError(
            "no run of these is finished", allowed="runs that are, which `runs list` shows", next="barlowctl runs list"
        )
    for group in groups.values():
        group.runs.sort(key=_seed)
        for run in group.runs:
            measured, of_run = _measured(run)
            notes += of_run
            for measure, value in measured.items():
                group.values.setdefault(measure, []).append(value)
    _tell_apart(list(groups.values()))
    return list(groups.values()), notes


def _seed(run: History) -> int:
    return _recipe(run).seed


def _recipe(run: History) -> Recipe:
    """Of a run whose method nobody has registered here, the error says who did."""
    from barlowctl.assemble.run_recipe import recipe_of

    return recipe_of(run.path)


def _tell_apart(groups: Sequence[Group]) -> None:
    """Give each group the settings in which it may differ from the others: those of which two groups differ."""
    flat = [load.flatten(group.recipe) for group in groups]
    keys = dict.fromkeys(key for values in flat for key in values if key not in UNSAID)
    for key in keys:
        if len({repr(values[key]) for values in flat if key in values}) > 1:
            for group, values in zip(groups, flat, strict=True):
                if key in values:
                    group.settings[key] = values[key]
    digests = [(group.runs[0].images or {}).get("digest", "") for group in groups]
    if len(set(digests)) > 1:
        for group, digest in zip(groups, digests, strict=True):
            group.settings[IMAGES] = digest[:8] or None
    of_names: dict[tuple[str, str], set[str]] = {}
    for group in groups:
        of_names.setdefault(_names(group), set()).add(own_code.versions(group.runs[0].about))
    for group in groups:
        if len(of_names[_names(group)]) > 1:
            group.settings[CODE] = own_code.versions(group.runs[0].about) or None


def _names(group: Group) -> tuple[str, str]:
    """Of the method and of the network, of which there may be several versions."""
    return group.recipe.objective.name, group.recipe.model.backbone


def _measured(run: History) -> tuple[dict[Measure, float], list[str]]:
    """What a run's files hold of its newest state, and a line for each result that is of another state."""
    values: dict[Measure, float] = {}
    notes = []
    online = {key: value for record in run.records for key, value in record.items() if key not in ("step", "epoch")}
    values |= {Measure("online", key): float(v) for key, v in online.items() if isinstance(v, int | float)}
    for source in ("probe", "transfer"):
        for file in sorted(run.path.glob(f"{source}-*.json")):
            document = rundir.read_json(file)
            if document.get("step", run.step) != run.step:
                notes.append(f"{run.name}: {file.name} is left out: of step {document['step']:,}, not {run.step:,}")
                continue
            values |= dict(_results(source, document))
    return values, notes


def _results(source: str, document: Mapping[str, Any]) -> Iterator[tuple[Measure, float]]:
    """The accuracies of a result of `probe` or `transfer`, in percent."""
    identity = document.get("identity", {})
    setting = json.dumps([identity.get("images"), identity.get("protocol")], sort_keys=True)
    if source == "transfer":
        if document.get("value") is not None:
            name, data = str(document.get("task", "")), str(document.get("name", ""))
            yield Measure(source, name, data, setting), float(document["value"])
        return
    for name, measured in document.items():
        if isinstance(measured, Mapping) and isinstance(measured.get("top1"), int | float):
            yield Measure(source, name, str(document.get("name", "")), setting), float(measured["top1"])


def measures_of(groups: Sequence[Group]) -> list[Measure]:
    """All measures that a group has, the online ones first."""
    return list(dict.fromkeys(measure for group in groups for measure in group.values))
