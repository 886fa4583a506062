"""What other tools call an option, and the words that do the same here: of a run's directory, of a recipe's keys."""

from __future__ import annotations

from collections.abc import Sequence

_OF_OUT = (
    "--output", "--output-dir", "--out-dir", "--outdir", "--save-dir", "--save-path", "--log-dir", "--logdir",
    "--run-dir", "--results-dir", "--checkpoint-dir", "--default-root-dir",
)  # fmt: skip
_OF_NAME = ("--name", "--run-name", "--exp-name", "--experiment", "--experiment-name")
"""Of a run by its name alone, which is a directory in `runs/`."""


def instead(option: str, value: str | None, path: Sequence[str], options: Sequence[str]) -> list[str]:
    """The words for an option of another tool and its value; empty where nobody can say.

    Args:
        option: `--output-dir` or `--output_dir`. value: what follows it; None: nothing. path: the command. options: its
            own.
    """
    name = option.replace("_", "-").lower()
    if not value:
        return []
    if name in _OF_OUT and "--out" in options:
        return ["--out", value]
    if tuple(path) != ("pretrain",):
        return []
    if name in _OF_NAME:
        from barlowctl.runs import rundir

        return ["--out", value if "/" in value else str(rundir.runs_home() / value)]
    from barlowctl.recipe.bare_words import key_of

    key = key_of(name.removeprefix("--").replace("-", "_"))
    return ["--set", f"{key}={value}"] if key else []
