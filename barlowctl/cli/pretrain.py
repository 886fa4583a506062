"""`barlowctl pretrain`: train a recipe, or show what would be trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from barlowctl.cli import options
from barlowctl.cli.console import Console
from barlowctl.cli.live import duration, show
from barlowctl.errors import UserError

if TYPE_CHECKING:
    from barlowctl.recipe.schema import Recipe

EPILOG = (
    "Examples: barlowctl pretrain --recipe quickstart | "
    "barlowctl pretrain --recipe resnet50 --data IMAGENET --dry-run | "
    "barlowctl pretrain --resume runs/NAME"
)

SHOWN = ("epochs", "steps", "loss", "knn", "feature_spread", "effective_rank", "images_per_second", "cpu_seconds")


def pretrain(
    recipe: Annotated[
        str | None, typer.Option("--recipe", "-r", help="A shipped recipe's name, or a TOML file.")
    ] = None,
    data: options.Data = None,
    out: Annotated[Path | None, typer.Option("--out", help="The run directory, new. Default: runs/NAME-DATE.")] = None,
    resume: Annotated[Path | None, typer.Option("--resume", help="Continue this run, exactly where it was.")] = None,
    overrides: options.Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the resolved run, its memory and time; train nothing.")
    ] = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
    workers: options.Workers = None,
    loader: Annotated[str, typer.Option("--loader", help="auto, fast (packed file) or plain (torchvision).")] = "auto",
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard files into the run.")] = False,
    wandb: Annotated[bool, typer.Option("--wandb", help="Log to Weights & Biases.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Pre-train a backbone on unlabelled images.

    Writes a run directory with the resolved recipe, metrics.jsonl, checkpoints and result.json. Stop it
    with Ctrl-C (exit code 3, state saved) and continue with --resume.
    """
    from barlowctl.recipe import catalog, load

    console = Console(json=json, quiet=quiet)
    if resume is not None:
        value = _recipe_of_run(resume, recipe, overrides, out)
    else:
        names = list(catalog.shipped())
        missing = UserError(
            "no recipe was named", allowed=", ".join(names), next="barlowctl pretrain --recipe quickstart"
        )
        value = load.load(recipe or console.choose("Which recipe?", names, missing=missing), overrides or ())

    from barlowctl.assemble.job import prepare
    from barlowctl.assemble.launch import launch
    from barlowctl.assemble.machine import Runtime
    from barlowctl.assemble.plan import plan
    from barlowctl.train import sinks

    runtime = Runtime(device=device, threads=threads, workers=workers, loader=loader)
    if dry_run:
        _dry_run(console, plan(value, runtime, data))
        return
    record = [lambda run: sinks.tensorboard(run / "tensorboard")] if tensorboard else []
    record += [lambda run: sinks.wandb(run, value.model_dump(mode="json"))] if wandb else []
    job = prepare(value, runtime, data)
    with show(console) as display:
        result = launch(job, resume or out, display, resume=resume is not None, record=record)
    console.table("", ("result", "value"), [(key, result[key]) for key in SHOWN if key in result])
    console.say(f"run: {result['run']}")
    console.say(f"next: barlowctl probe {result['run']}   barlowctl export {result['run']} --format timm")
    console.result(result)


def _recipe_of_run(run: Path, recipe: str | None, overrides: list[str] | None, out: Path | None) -> Recipe:
    """The recipe a run was started with; one given again must be the same.

    Raises:
        UserError: not a run, finished already, or a recipe that differs.
    """
    from barlowctl.recipe import load

    file = run / "recipe.toml"
    if not file.is_file():
        raise UserError(f"'{run}' is not a run: it has no recipe.toml", next="ls -d runs/*")
    if out is not None:
        raise UserError("--out and --resume exclude each other", next=f"barlowctl pretrain --resume {run}")
    if (run / "result.json").exists():
        raise UserError(f"'{run}' is finished", next=f"barlowctl probe {run}   or start a new run with --recipe")
    saved = load.load(str(file))
    if recipe is not None or overrides:
        given = load.load(recipe or str(file), overrides or ())
        changes = [change for change in load.diff(saved, given) if change[0] not in ("name", "description")]
        if changes:
            lines = "\n".join(f"  {key}: {old!r} in the run, {new!r} now" for key, old, new in changes)
            raise UserError(
                f"'{run}' was started with another recipe:\n{lines}",
                next=f"barlowctl pretrain --resume {run}   (or a new run without --resume)",
            )
    return saved


def _dry_run(console: Console, plan: dict[str, Any]) -> None:
    """Show a plan: facts, memory and, where a rate is known, time."""
    rows = list(plan["facts"].items())
    gib = 1 << 30
    memory = plan["memory"]
    rows.append(
        (
            "memory",
            f"about {memory['total'] / gib:.1f} GiB a step (activations {memory['activations'] / gib:.1f}, "
            f"weights, gradients and optimizer {(memory['total'] - memory['activations']) / gib:.1f})",
        )
    )
    rate = plan["rate"]
    rows.append(
        ("time", f"{duration(rate['seconds'])} at {rate['images_per_second']:,.1f} images/s ({rate['source']})")
    )
    console.table("What would be trained", ("", "resolved"), rows)
    console.say("nothing was trained; without --dry-run the run starts")
    console.result(plan)
