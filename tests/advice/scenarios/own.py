"""Modules of somebody's that a command imports first, and runs of what they register."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from timm.models import _registry

from barlowctl.recipe.objectives import METHODS
from barlowctl.recipe.optimizers import REGISTERED
from tests.advice.scenario import Scenario

NETWORK = """
from timm.models import register_model


@register_model
def advised_network(pretrained=False, **_):
    return None
"""


METHOD = """
import barlowctl
from torch import nn


@barlowctl.register_method("advised-method")
def made(backbone: nn.Module):
    return barlowctl.methods.BarlowTwins(backbone, nn.Identity())
"""


OPTIMIZER = """
import barlowctl
import torch

barlowctl.register_optimizer("advised-optimizer")(torch.optim.NAdam)
"""


def forget() -> None:
    """As in a process that has imported neither module: another scenario may have, in this one."""
    for module in ("advised_networks", "advised_methods", "advised_optimizers"):
        sys.modules.pop(module, None)
    METHODS.pop("advised-method", None)
    REGISTERED.pop("advised-optimizer", None)
    _registry._model_entrypoints.pop("advised_network", None)
    _registry._model_to_module.pop("advised_network", None)
    _registry._module_to_models.pop("advised_networks", None)


def a_module(patch: pytest.MonkeyPatch) -> None:
    patch.syspath_prepend(".")
    Path("advised_parts.py").write_text("")


def _of(patch: pytest.MonkeyPatch, part: str, name: str, text: str, run: str = "done") -> None:
    """The finished run, or another one, as of a part that a module beside it registers."""
    patch.syspath_prepend(".")
    forget()
    module = Path(f"advised_{part}s.py")
    module.write_text(text)
    file = Path("runs", run, "run.json")
    about = json.loads(file.read_text())
    about[part] = {"name": name, "module": module.stem, "file": str(module.resolve()), "sha256": ""}
    file.write_text(json.dumps(about))


def of_a_network(patch: pytest.MonkeyPatch) -> None:
    _of(patch, "network", "advised_network", NETWORK)


def of_a_method(patch: pytest.MonkeyPatch) -> None:
    _of(patch, "method", "advised-method", METHOD)


def of_an_optimizer(patch: pytest.MonkeyPatch) -> None:
    _of(patch, "optimizer", "advised-optimizer", OPTIMIZER)


def stopped_of_an_optimizer(patch: pytest.MonkeyPatch) -> None:
    _of(patch, "optimizer", "advised-optimizer", OPTIMIZER, "stopped")


def failing_once(patch: pytest.MonkeyPatch) -> None:
    """A file of somebody's that is not yet whole: what it needs is there when it is imported again."""
    a_module(patch)
    text = "from pathlib import Path\nfile = Path('is there')\nwas = file.exists()\nfile.touch()\nassert was\n"
    Path("advised_once.py").write_text(text)


SCENARIOS = {
    "--import of a module that is not there": Scenario(["--import", "advised_part", "runs", "list"], a_module),
    "--import behind the command": Scenario(["runs", "list", "--import", "advised_parts"], a_module),
    "--import that fails": Scenario(["--import", "advised_once.py", "runs", "list"], failing_once),
    "a method that nobody registers": Scenario(["report", "runs/done", "--out", "own.html"], of_a_method),
    "an optimizer that nobody registers": Scenario(
        ["pretrain", "--resume", "runs/stopped", "--threads", "1"], stopped_of_an_optimizer
    ),
    "a run's recipe of an optimizer that nobody registers": Scenario(
        ["pretrain", "--recipe", "runs/done/recipe.toml", "--set", "optimizer.name=advised-optimizer", "--dry-run"],
        of_an_optimizer,
    ),
    "a network that nobody registers": Scenario(
        ["export", "runs/done", "--format", "timm", "--out", "own.safetensors"], of_a_network
    ),
    "a run's recipe of a method that nobody registers": Scenario(
        ["pretrain", "--recipe", "runs/done/recipe.toml", "--set", "objective.name=advised-method", "--dry-run"],
        of_a_method,
    ),
    "a run's recipe of a network that nobody registers": Scenario(
        ["pretrain", "--recipe", "runs/done/recipe.toml", "--set", "model.backbone=advised_network", "--dry-run"],
        of_a_network,
        then="builds no network",
    ),
}
