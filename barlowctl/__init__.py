"""barlowctl: Barlow Twins pre-training, evaluation and export, from the command line and from Python (docs/python.md).

    run = barlowctl.pretrain("quickstart", data="photos")
    run.features(images); run.probe(); run.export()

Importing this package is cheap: what it offers is imported when it is first used, and torch with it.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from barlowctl import losses, methods
    from barlowctl.api.building import build_method
    from barlowctl.api.functions import export, export_all, features, load, open_network, probe, push
    from barlowctl.api.network import Network
    from barlowctl.api.packing import Packed, pack
    from barlowctl.api.previewing import preview
    from barlowctl.api.registering import register_method, register_optimizer
    from barlowctl.api.run import Run
    from barlowctl.api.training import pretrain, pretrain_events
    from barlowctl.errors import RunDiverged, RunStopped, UserError
    from barlowctl.eval.embeddings import Embeddings
    from barlowctl.exports import ExportedFolder, ExportReport
    from barlowctl.measure.measurement import Probed
    from barlowctl.measure.publication import Publication
    from barlowctl.train import events

__version__ = "0.1.0"

__all__ = [
    "Embeddings",
    "ExportReport",
    "ExportedFolder",
    "Network",
    "Packed",
    "Probed",
    "Publication",
    "Run",
    "RunDiverged",
    "RunStopped",
    "UserError",
    "build_method",
    "events",
    "export",
    "export_all",
    "features",
    "load",
    "losses",
    "methods",
    "open_network",
    "pack",
    "pretrain",
    "pretrain_events",
    "preview",
    "probe",
    "push",
    "register_method",
    "register_optimizer",
]

_MODULES = {
    "Embeddings": "eval.embeddings",
    "ExportReport": "exports",
    "ExportedFolder": "exports",
    "Network": "api.network",
    "Packed": "api.packing",
    "Probed": "measure.measurement",
    "Publication": "measure.publication",
    "Run": "api.run",
    "RunDiverged": "errors",
    "RunStopped": "errors",
    "UserError": "errors",
    "build_method": "api.building",
    "events": "train.events",
    "export": "api.functions",
    "export_all": "api.functions",
    "features": "api.functions",
    "load": "api.functions",
    "losses": "losses",
    "methods": "methods",
    "open_network": "api.functions",
    "pack": "api.packing",
    "pretrain": "api.training",
    "pretrain_events": "api.training",
    "preview": "api.previewing",
    "probe": "api.functions",
    "push": "api.functions",
    "register_method": "api.registering",
    "register_optimizer": "api.registering",
}


_COMMANDS = {
    "embed": "what `barlowctl embed` writes is barlowctl.features(network, images)",
    **{
        name: f"on the command line, `barlowctl {name}`" for name in ("ablate", "bench", "doctor", "report", "transfer")
    },
}
"""Commands that are no function of the same name, and where what they do is."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        meant = f": {_COMMANDS[name]}" if name in _COMMANDS else ""
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'{meant}")
    module = _imported(f"{__name__}.{_MODULES[name]}")
    value = module if _MODULES[name].rpartition(".")[2] == name else getattr(module, name)
    globals()[name] = value
    return value


def _imported(name: str) -> ModuleType:
    """A module of ours; a package that it needs and that is missing or broken is a `UserError`."""
    try:
        return importlib.import_module(name)
    except Exception as error:  # a library that fails to import raises what it likes
        from barlowctl.api.wording import reworded
        from barlowctl.errors import refused_package

        refusal = refused_package(error)
        if refusal is None:
            raise
        with reworded():
            raise refusal from error


def __dir__() -> list[str]:
    """What is offered, for completion: what this module imports for itself is not."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__") and name.endswith("__"))})
