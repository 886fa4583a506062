"""Packages that only some commands need: imported, or refused with how they are installed or mended. A leaf.

Standard library only.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from barlowctl.errors import UserError, one_line

PACKAGE_OF = {
    "pillow_heif": "pillow-heif",
    "sklearn": "scikit-learn",
    "torch.utils.tensorboard": "tensorboard",
    "umap": "umap-learn",
}
"""Modules whose package has another name."""


def required(
    need: str,
    *modules: str,
    extra: str | None = None,
    allowed: str | None = None,
    advice: str | None = None,
    error: type[UserError] = UserError,
) -> tuple[Any, ...]:
    """Modules of optional packages, imported.

    Args:
        need: what needs them, as the beginning of a sentence: "--wandb needs the package wandb".
        extra: of ours, which brings them; None: they are installed by their names.
        allowed, advice: what can be done instead where one does not work. error: the class that is raised.

    Raises:
        UserError: one is not installed, or cannot be imported, with the reason.
    """
    missing: list[str] = []
    imported = []
    for name in modules:
        try:
            imported.append(_imported(name))
        except (Exception, SystemExit) as reason:  # a package that gives up must not end the process
            package = package_of(name)
            if not _is_absent(reason, name):
                raise error(
                    f"{need}{';' if len(modules) > 1 else ','} "
                    f"{package if len(modules) > 1 else 'which'} is installed and does not work: {one_line(reason)}",
                    allowed=allowed,
                    next="\n".join((_mended(package), *((advice,) if advice else ()))),
                ) from reason
            missing.append(package)
    if missing:
        which = f"; not installed: {', '.join(missing)}" if len(modules) > 1 else ", which is not installed"
        raise error(f"{need}{which}", allowed=allowed, next=f"pip install {_installed_as(missing, extra)}")
    return tuple(imported)


def package_of(module: str) -> str:
    """What pip calls the package that has a module."""
    top = module.partition(".")[0]
    return PACKAGE_OF.get(module) or PACKAGE_OF.get(top, top)


def installation_of(module: str, extra: str) -> str:
    """The command after which a module that cannot be imported can be, as far as that is known."""
    try:
        _imported(module)
    except (Exception, SystemExit) as reason:
        if not _is_absent(reason, module):
            return _mended(package_of(module))
    return f"pip install {_installed_as((), extra)}"


def _mended(package: str) -> str:
    return f"pip install --force-reinstall {package}"


def _imported(name: str) -> ModuleType:
    module = importlib.import_module(name)
    spec = getattr(module, "__spec__", None)
    if spec is not None and spec.origin is None and spec.submodule_search_locations is not None:
        raise ModuleNotFoundError(f"'{name}' is a folder here", name=name)  # as the `wandb` that W&B writes
    return module


def _is_absent(reason: BaseException, module: str) -> bool:
    """Whether the package is not there at all, and not one that it needs."""
    names = {module, module.partition(".")[0], package_of(module)}
    return isinstance(reason, ModuleNotFoundError) and reason.name in names


def _installed_as(packages: Sequence[str], extra: str | None) -> str:
    return f"'barlowctl[{extra}]'" if extra else " ".join(packages)
