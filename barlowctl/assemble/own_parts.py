"""A run of parts that are somebody's: who registers them, and whether that has changed since it began."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from barlowctl import own_code
from barlowctl.errors import UserError
from barlowctl.model import registered
from barlowctl.recipe.keys import Keys, Own
from barlowctl.recipe.objectives import METHODS
from barlowctl.recipe.optimizers import REGISTERED
from barlowctl.recipe.schema import Recipe
from barlowctl.runs import rundir


class Unregistered(UserError):
    """A part of a run is somebody's, and nobody has registered it in this process."""


def record(recipe: Recipe) -> dict[str, dict[str, str]]:
    """What a run notes of its network, method and optimizer, where they are somebody's: name, module, file, sha256."""
    names = {"network": recipe.model.backbone, "method": recipe.objective.name, "optimizer": recipe.optimizer.name}
    parts = {part: dict(registered_now(part, name)) for part, name in names.items()}
    return {part: about for part, about in parts.items() if about}


def check(run: Path, parts: tuple[str, ...] = own_code.PARTS) -> None:
    """Refuse a run of a network, method or optimizer that somebody had registered when it began, and nobody has now.

    There may be one of that name that is timm's or barlowctl's: another one.

    Raises:
        Unregistered: with what registers it.
    """
    for part in parts:
        about = _noted(run, part)
        if not about or registered_now(part, about["name"]):
            continue
        where = " with timm" if part == "network" else ""
        raise Unregistered(
            f"the {part} of the run '{run}' is {about['name']!r}, which {own_code.who(about)} registered{where} when "
            "it began",
            allowed=own_code.FIRST,
            next=own_code.first_step(about),
        )


def unregistered_optimizer(run: Path) -> str:
    """The name of the run's optimizer, where somebody had registered it and nobody has now; empty: there is none such.

    A run can be measured and exported without it, and does not go on.
    """
    about = _noted(run, "optimizer")
    return about["name"] if about and not registered_now("optimizer", about["name"]) else ""


def unregistered_optimizers(study: Path) -> list[str]:
    """As `unregistered_optimizer`, of all runs of a study in this directory; none where there is no study."""
    runs = (file.parent for file in study.glob("cells/*/seed-*/run.json"))
    return sorted({name for run in runs if (name := unregistered_optimizer(run))})


def changed(run: Path) -> list[dict[str, str]]:
    """What the run notes (see `noted`) of each part whose file was another one when it began than is registered now."""
    return [
        about
        for about in noted(run)
        if about["sha256"]
        and registered_now(about["part"], about["name"]).get("sha256", "") not in ("", about["sha256"])
    ]


def note_changed(run: Path) -> tuple[str, ...]:
    """What is to be said where the file that registers a part of the run is another one than then."""
    return tuple(
        f"the {about['part']} is {'built' if about['part'] == 'network' else 'made'} by "
        f"{registered_now(about['part'], about['name'])['file']}, which is not as it was when the run began"
        for about in changed(run)
    )


def noted(run: Path) -> list[dict[str, str]]:
    """What the run notes of the parts that are somebody's: `record`, and which part it is."""
    return [{"part": part, **about} for part in own_code.PARTS if (about := _noted(run, part))]


def registered_now(part: str, name: str) -> Mapping[str, str]:
    """What a run would note of such a part today; {}: nobody has registered one of that name."""
    match part:
        case "network":
            return registered.record(name)
        case "method":
            keys = METHODS.get(name, Keys)
            return {"name": name, **keys.source} if issubclass(keys, Own) else {}
        case _:
            return {"name": name, **REGISTERED[name].source} if name in REGISTERED else {}


def _noted(run: Path, part: str) -> dict[str, str]:
    file = run / "run.json"
    return own_code.note_of(rundir.read_json(file), part) if file.is_file() else {}
