"""What other tools call a command, and the words that do the same here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from barlowctl.errors import nearest

_COMMANDS = {
    "fit": ("pretrain",),
    "resume": ("pretrain", "--resume"),
    "evaluate": ("probe",),
    "eval": ("probe",),
    "validate": ("probe",),
    "test": ("probe",),
    "benchmark": ("bench", "step"),
    "knn": ("probe", "--knn"),
    "linear": ("probe", "--linear"),
    "finetune": ("probe", "--finetune"),
    "fine-tune": ("probe", "--finetune"),
    "predict": ("embed",),
    "infer": ("embed",),
    "extract": ("embed",),
    "features": ("embed",),
    "embeddings": ("embed",),
    "umap": ("embed", "--map", "map.png"),
    "visualize": ("report",),
    "plot": ("report",),
    "convert": ("export",),
    "push": ("export", "--push"),
    "sweep": ("ablate", "--grid"),
    "grid": ("ablate", "--grid"),
    "tune": ("ablate", "--grid"),
    "search": ("ablate", "--grid"),
    "study": ("ablate",),
    "ablation": ("ablate",),
    "download": ("data", "get"),
    "dataset": ("data",),
    "config": ("recipes",),
    "models": ("recipes", "list"),
    "version": ("--version",),
}
_WITHIN = {
    "data": {
        "download": "get",
        "fetch": "get",
        "convert": "pack",
        "prepare": "pack",
        "show": "info",
    },
    "runs": {"ls": "list", "log": "show", "logs": "show", "status": "list", "tail": "watch", "plot": "compare"},
    "recipes": {"new": "copy", "edit": "copy", "create": "copy", "compare": "diff", "ls": "list"},
    "bench": {"train": "step", "data": "loader"},
}
ALIKE = 0.7
"""Of difflib's ratio: below it a command is another word, and not this one mistyped."""


def meant(path: Sequence[str], name: str, command: Any) -> tuple[str, ...]:
    """The words after `barlowctl` that do what is meant by a command that there is not; () where nobody can say.

    Args:
        path: the commands before it. command: the click group of the last of them.
    """
    there: Mapping[str, Any] = {known: child for known, child in command.commands.items() if not child.hidden}
    known = _WITHIN.get(path[-1], {}).get(name) if path else None
    if known in there:
        return (*path, str(known))
    if not path and name in _COMMANDS:
        return _COMMANDS[name]
    if near := nearest(name, there, cutoff=ALIKE):
        return (*path, near)
    groups = [group for group, child in there.items() if name in getattr(child, "commands", {})]
    return (groups[0], name) if len(groups) == 1 else ()
