"""The options that several commands share, spelled once: name, short form, type, panel of the help.

What a command is about is its argument (a run, a recipe, what is packed, the packed file that `data info` describes);
images to be used are `--data` in every command. Options whose default or result differs by command are functions of
their help text. What an option was called before is in `renamed`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from barlowctl import shell
from barlowctl.cli import completion, limits
from barlowctl.cli.help import GENERAL
from barlowctl.errors import UserError

RECIPE, IMAGES, OUTPUT, MACHINE, SLURM = "Recipe", "Images", "Output", "Machine", "Slurm"
SEVERAL, SUBJECT = "Several devices", "Network"
"""Panels of the help that several commands have."""

Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document on standard output.", rich_help_panel=GENERAL),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show the result only.", rich_help_panel=GENERAL)]
DATA_HELP = "Images instead of the recipe's dataset: .beton, image folder, or dataset folder."


def data(help: str = DATA_HELP, *, named: bool = True) -> Any:
    """--data: images, as the name of a data set in the data home (where they may be `named`) or as a path."""
    names = completion.datasets if named else None
    return typer.Option("--data", metavar="IMAGES", help=help, autocompletion=names, rich_help_panel=IMAGES)


def recipe(help: str) -> Any:
    """--recipe: a shipped recipe's name, or a TOML file."""
    return typer.Option(
        "--recipe", "-r", metavar="RECIPE", help=help, autocompletion=completion.recipes, rich_help_panel=RECIPE
    )


def overrides(help: str, panel: str = RECIPE, *, keys: Any = None) -> Any:
    """--set: values in place of a recipe's or a protocol's. keys: what a shell completes."""
    words = f"{help} Repeatable."
    return typer.Option("--set", metavar="KEY=VALUE", help=words, autocompletion=keys, rich_help_panel=panel)


def init(help: str, panel: str = RECIPE) -> Any:
    """--init: weights that training starts from."""
    return typer.Option("--init", metavar="WEIGHTS", help=help, autocompletion=completion.runs, rich_help_panel=panel)


def out(help: str) -> Any:
    """--out: where the result is written."""
    return typer.Option("--out", "-o", metavar="PATH", help=help, rich_help_panel=OUTPUT)


def seed(help: str, panel: str | None = None, *, max: int = limits.SEED) -> Any:
    """--seed: of what is drawn."""
    return typer.Option("--seed", min=0, max=max, help=help, rich_help_panel=panel)


def seeds(help: str, panel: str) -> Any:
    """--seeds: how often something is repeated."""
    return typer.Option("--seeds", min=1, max=10_000, help=help, rich_help_panel=panel)


def random_init(help: str, panel: str) -> Any:
    """--random-init: the same of untrained weights, as a baseline."""
    return typer.Option("--random-init", help=help, rich_help_panel=panel)


def method(help: str, panel: str) -> Any:
    """--method: one of those that other libraries have too."""
    return typer.Option(
        "--method", metavar="NAME", help=help, autocompletion=completion.compared, rich_help_panel=panel
    )


def batch(help: str, panel: str, *, min: int) -> Any:
    """--batch: images of a batch."""
    return typer.Option("--batch", min=min, max=limits.IMAGES, help=help, rich_help_panel=panel)


def size(help: str, panel: str, *, min: int = 8, max: int = 1024) -> Any:
    """--size: the side of a view."""
    return typer.Option("--size", min=min, max=max, help=help, rich_help_panel=panel)


def top(help: str, panel: str) -> Any:
    """--top: how many lines of a list."""
    return typer.Option("--top", min=1, max=limits.IMAGES, help=help, rich_help_panel=panel)


def steps(help: str, panel: str) -> Any:
    """--steps: of training, that are measured."""
    return typer.Option("--steps", min=1, max=limits.STEPS, help=help, rich_help_panel=panel)


def warmup(help: str, panel: str) -> Any:
    """--warmup: steps before those that are measured."""
    return typer.Option("--warmup", min=0, max=limits.STEPS, help=help, rich_help_panel=panel)


def rows(help: str, panel: str) -> Any:
    """--rows: which rows of a comparison."""
    return typer.Option("--rows", metavar="NAMES", help=help, rich_help_panel=panel)


def rounds(panel: str) -> Any:
    """--rounds: how often the rows of a comparison take turns."""
    words = "Rounds that count; the order of the rows turns around after each. One of warm-up comes first."
    return typer.Option("--rounds", min=1, max=limits.STEPS, help=words, rich_help_panel=panel)


def workers(help: str = "Threads of the loader. Default: 1 on a CPU, else the cores.") -> Any:
    """--workers: how many read and decode images."""
    return typer.Option("--workers", min=1, max=limits.AT_ONCE, help=help, rich_help_panel=MACHINE)


def threads(
    help: str = "Threads for the mathematics on a CPU. Default: the recipe's, else OMP_NUM_THREADS, else the cores.",
) -> Any:
    """--threads: of torch on a CPU."""
    return typer.Option("--threads", min=1, max=limits.AT_ONCE, help=help, rich_help_panel=MACHINE)


def comma_separated(flag: str, text: str | None) -> list[str]:
    """The parts of an option's value between its commas; none of an option that was not given.

    Raises:
        UserError: commas alone, which would mean all.
    """
    parts = [part.strip() for part in (text or "").split(",") if part.strip()]
    if text and not parts:
        raise UserError(f"{flag} is '{text}'", allowed="names or sizes joined by commas", next=f"without {flag}")
    return parts


def dry_run(help: str, panel: str | None = None) -> Any:
    """--dry-run: say what would be done."""
    return typer.Option("--dry-run", help=help, rich_help_panel=panel)


def yes(help: str, panel: str | None = None) -> Any:
    """--yes: do without asking what is asked otherwise."""
    return typer.Option("--yes", help=help, rich_help_panel=panel)


def print_sbatch(help: str) -> Any:
    """--print-sbatch: a Slurm script in place of a start."""
    return typer.Option("--print-sbatch", help=help, rich_help_panel=SLURM)


def samples(help: str, panel: str | None = None, *, min: int, max: int) -> Any:
    """--samples: how many images."""
    return typer.Option("--samples", min=min, max=max, help=help, rich_help_panel=panel)


def split(help: str = "Which part of the data set.") -> Any:
    """--split: a part of a data set."""
    return typer.Option("--split", help=help, rich_help_panel=IMAGES)


def on_unreadable(help: str) -> Any:
    """--on-unreadable: what is done about an image that cannot be read."""
    return typer.Option("--on-unreadable", help=help, rich_help_panel=IMAGES)


def protocol(help: str, panel: str) -> Any:
    """--protocol: how a classifier is trained."""
    return typer.Option("--protocol", help=help, rich_help_panel=panel)


def overwrite(help: str, panel: str = OUTPUT) -> Any:
    """--overwrite: what is there may be replaced."""
    return typer.Option("--overwrite", help=help, rich_help_panel=panel)


def subject(help: str) -> Any:
    """What is measured, an argument."""
    return typer.Argument(metavar="RUN|FILE|MODEL", help=help, autocompletion=completion.runs)


_OF_WEIGHTS = "Of a file of weights that does not say which network it holds: its name in timm."


def backbone(panel: str, help: str = _OF_WEIGHTS) -> Any:
    """--backbone: which network a file of weights holds, or what `help` says."""
    return typer.Option("--backbone", metavar="NAME", help=help, rich_help_panel=panel)


def run(help: str, metavar: str = "RUN") -> Any:
    """A run, an argument: its name in the runs home, or its directory."""
    return typer.Argument(metavar=metavar, help=help, autocompletion=completion.runs)


SplitName = Literal["train", "val", "test", "unlabelled"]
Policy = Literal["stop", "skip"]
Data = Annotated[str | None, data()]
Overrides = Annotated[
    list[str] | None, overrides("Override a recipe value, e.g. train.epochs=5.", keys=completion.keys)
]
Split = Annotated[SplitName, split()]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="auto, cpu, cuda or cuda:N.",
        autocompletion=completion.devices,
        rich_help_panel=MACHINE,
    ),
]
Threads = Annotated[int | None, threads()]
Workers = Annotated[int | None, workers()]
PackWorkers = Annotated[int | None, workers("Threads that decode. Default: the cores.")]
Gpus = Annotated[
    int | None,
    typer.Option(
        "--gpus",
        min=1,
        max=limits.AT_ONCE,
        help="Train on this many GPUs of this machine (torchrun's agent).",
        rich_help_panel=SEVERAL,
    ),
]
Processes = Annotated[
    int | None,
    typer.Option(
        "--processes",
        min=1,
        max=limits.AT_ONCE,
        help="Train in this many processes on this machine's CPU.",
        rich_help_panel=SEVERAL,
    ),
]
Backbone = Annotated[str | None, backbone(SUBJECT)]
Loader = Annotated[
    Literal["auto", "fast", "plain"],
    typer.Option("--loader", help="fast reads a packed file, plain is torchvision's way.", rich_help_panel=MACHINE),
]
SlurmOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--slurm-option",
        metavar="NAME=VALUE",
        help="Another option of sbatch, e.g. partition=gpu. Repeatable.",
        rich_help_panel=SLURM,
    ),
]
OnUnreadable = Annotated[
    Policy | None,
    on_unreadable(
        "stop at an image that cannot be read, or skip: it is left out, named and counted. Default: stop; skip for a "
        "run that went on past such images (data.on_unreadable)."
    ),
]


def slurm_values(texts: list[str] | None) -> dict[str, str]:
    """sbatch's options, name -> value, from NAME=VALUE.

    Raises:
        UserError: one without a value.
    """
    values: dict[str, str] = {}
    for text in texts or ():
        name, _, value = text.lstrip("-").partition("=")
        if not (name and value):
            raise UserError(
                f"--slurm-option is '{text}'",
                allowed="NAME=VALUE",
                next=f"--slurm-option partition=gpu without {shell.line(f'--slurm-option={text}')}",
            )
        values[name] = value
    return values
