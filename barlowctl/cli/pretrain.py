"""`barlowctl pretrain`: train a recipe, or show what would be trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from barlowctl import criteria, launcher
from barlowctl.amounts import rate
from barlowctl.cli import completion, limits, options
from barlowctl.cli.console import Console
from barlowctl.cli.help import examples
from barlowctl.cli.init_weights import overrides_with_init
from barlowctl.cli.live import binary_size, duration, show
from barlowctl.cli.pretrain_job import absolute, arguments_of_every_start, refuse_flags_of_a_job, start_job
from barlowctl.cli.pretrain_ranks import device_of_ranks, is_rank, run_ranks
from barlowctl.errors import UserError
from barlowctl.quantities import label_of
from barlowctl.signals import noted

if TYPE_CHECKING:
    from barlowctl.assemble.machine import Runtime
    from barlowctl.assemble.resumed import ResumedRun
    from barlowctl.recipe.schema import Recipe

EPILOG = examples(
    "barlowctl pretrain --recipe quickstart",
    "barlowctl pretrain --recipe resnet50 --data IMAGENET --dry-run",
    "barlowctl pretrain --recipe resnet50 --data PHOTOS --init resnet50.a1_in1k",
    "barlowctl pretrain --resume runs/NAME",
    "barlowctl pretrain --recipe resnet50 --gpus 8",
    "barlowctl pretrain --recipe resnet50 --nodes 4 --gpus 8 --print-sbatch",
)

RUN = "Run"  # a panel of the help
SUMMARY = (
    "epochs", "steps", "loss", "knn", "knn_start", "linear", "feature_spread", "effective_rank", "stopped_early",
    "images_per_second", "cpu_seconds",
)  # fmt: skip
"""What the last table has of a run's result."""
OF_A_RUN = {"knn_start": "kNN at the start", "cpu_seconds": "CPU seconds"}
"""What is called otherwise than `quantities.label_of` does."""


def pretrain(
    context: typer.Context,
    recipe: Annotated[str | None, options.recipe("A shipped recipe's name, or a TOML file.")] = None,
    overrides: options.Overrides = None,
    data: options.Data = None,
    init: Annotated[
        str | None, options.init("Start from these: a run, an export, a file or folder of weights, a timm name.")
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume",
            metavar="RUN",
            help="Continue this run, exactly where it was.",
            autocompletion=completion.runs,
            rich_help_panel=RUN,
        ),
    ] = None,
    dry_run: Annotated[
        bool, options.dry_run("Show the resolved run, its memory and time; train nothing.", RUN)
    ] = False,
    out: Annotated[Path | None, options.out("The run directory, new. Default: runs/NAME-DATE.")] = None,
    tensorboard: Annotated[
        bool,
        typer.Option("--tensorboard", help="Write TensorBoard files into the run.", rich_help_panel=options.OUTPUT),
    ] = False,
    wandb: Annotated[
        bool, typer.Option("--wandb", help="Log to Weights & Biases.", rich_help_panel=options.OUTPUT)
    ] = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
    workers: options.Workers = None,
    loader: options.Loader = "auto",
    gpus: options.Gpus = None,
    processes: options.Processes = None,
    rank_timeout: Annotated[
        float,
        typer.Option(
            "--rank-timeout",
            metavar="SECONDS",
            min=1.0,
            max=limits.SECONDS,
            help="How long a rank that does not answer is waited for.",
            rich_help_panel=options.SEVERAL,
        ),
    ] = 900.0,
    slurm: Annotated[
        bool,
        typer.Option(
            "--slurm",
            help="Submit as a Slurm job that resumes by itself; --gpus are per node.",
            rich_help_panel=options.SLURM,
        ),
    ] = False,
    print_sbatch: Annotated[bool, options.print_sbatch("Print that job's script instead.")] = False,
    nodes: Annotated[
        int,
        typer.Option(
            "--nodes",
            min=1,
            max=limits.NODES,
            help="Machines of the Slurm job.",
            rich_help_panel=options.SLURM,
        ),
    ] = 1,
    time_limit: Annotated[
        str | None,
        typer.Option(
            "--time",
            metavar="HH:MM:SS",
            help="Time limit of the Slurm job, e.g. 24:00:00.",
            rich_help_panel=options.SLURM,
        ),
    ] = None,
    slurm_options: options.SlurmOptions = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Pre-train a backbone on unlabelled images.

    Writes a run directory with the resolved recipe, metrics.jsonl, checkpoints and result.json. Stop it with Ctrl-C
    (again, not to wait for the step), SIGTERM, SIGUSR1 or SIGHUP (exit code 3, state saved); continue with --resume.

    Several devices: --gpus, or torchrun with any number of nodes. The batch is shared by them, and the
    gradient is that of the whole batch.
    """
    device = device_of_ranks(gpus, processes, device)
    if slurm or print_sbatch:
        launcher.refuse_several(f"pretrain {'--slurm' if slurm else '--print-sbatch'}")
        sbatch_options = options.slurm_values(slurm_options)
    else:
        refuse_flags_of_a_job(nodes > 1 and not dry_run, time_limit is not None, bool(slurm_options))
        if (count := gpus or processes) and not dry_run and not is_rank():
            raise typer.Exit(run_ranks(context.obj, count, on_gpus=gpus is not None, quiet=quiet))
    console = Console(json=json, quiet=quiet)
    overrides = overrides_with_init(overrides, init, resume, look=True)
    resumed = None if resume is None else _resumed(resume, recipe, overrides, out)
    value = _named_recipe(console, recipe, overrides) if resumed is None else resumed.recipe
    data = resumed.dataset() if resumed is not None and data is None else data
    directory = out if resumed is None else resumed.directory
    ranks_per_node = gpus or processes or 1

    from barlowctl.assemble.machine import Runtime

    runtime = Runtime(device=device, threads=threads, workers=workers, loader=loader)
    if dry_run:
        _dry_run(console, value, runtime, data, nodes * ranks_per_node, resumed.directory if resumed else None)
        return
    if slurm or print_sbatch:
        from barlowctl.assemble.resolve import check_share
        from barlowctl.launchers.slurm import Slurm

        check_share(value, nodes * ranks_per_node)  # the job would refuse it after hours in the queue
        named = str(resumed.directory / "recipe.toml") if resumed else recipe or value.name
        start_job(
            console,
            Slurm(nodes, ranks_per_node, runtime.device != "cpu", time_limit, sbatch_options,
                  threads or value.train.cpu_threads),
            value.name,
            directory,
            ["--recipe", absolute(named), *(part for text in overrides or () for part in ("--set", text))],
            arguments_of_every_start(
                data or value.data.dataset, device, threads, workers, loader,
                rank_timeout, tensorboard, wandb,
            ),
            submit=not print_sbatch,
        )  # fmt: skip
        return
    _train(
        console, value, runtime, data, directory,
        resume=resumed is not None, rank_timeout=rank_timeout, tensorboard=tensorboard, wandb=wandb,
    )  # fmt: skip


def _resumed(name: str, recipe: str | None, overrides: list[str] | None, out: Path | None) -> ResumedRun:
    """The run of --resume."""
    from barlowctl.assemble.resumed import run_to_resume

    return run_to_resume(name, recipe, overrides or (), out)


def _named_recipe(console: Console, recipe: str | None, overrides: list[str] | None) -> Recipe:
    """The recipe of a new run; asked for where none was named."""
    from barlowctl.recipe import catalog, load
    from barlowctl.recipe.idle import refuse_idle

    names = list(catalog.shipped())
    missing = UserError("no recipe was named", allowed=", ".join(names), next="barlowctl pretrain --recipe quickstart")
    if recipe is None and console.can_ask:
        console.say("what each is: barlowctl recipes list")
    chosen = recipe or console.choose("Which recipe?", names, default="quickstart", missing=missing)
    value = load.load(chosen, overrides or ())
    refuse_idle([value], overrides or ())
    return value


def _train(
    console: Console,
    recipe: Recipe,
    runtime: Runtime,
    data: str | None,
    directory: Path | None,
    *,
    resume: bool,
    rank_timeout: float,
    tensorboard: bool,
    wandb: bool,
) -> None:
    """Train as this process's rank. Rank 0 shows how far it is, and in the end the result and what can be done with it.

    Args:
        directory: of the run; None: a new one, named by recipe and date.
    """
    from barlowctl.assemble.next_commands import next_commands
    from barlowctl.assemble.training import train

    trained = train(
        recipe,
        runtime,
        data,
        directory,
        show=lambda first: show(console if first else Console(quiet=True)),
        resume=resume,
        rank_timeout=rank_timeout,
        monitors=[name for name, is_set in (("tensorboard", tensorboard), ("wandb", wandb)) if is_set],
    )
    if not trained.first:
        return
    with noted():  # the run is finished, and says so
        result = trained.result
        console.table(
            "",
            ("result", "value"),
            [(OF_A_RUN.get(key, label_of(key)), result[key]) for key in SUMMARY if key in result],
        )
        if "since_start" in result:
            console.say(f"since the start: {result['since_start']}")
        if "best" in result:
            console.say(f"best state: {criteria.described(result['best'])}; `export --best` takes it")
        console.say(f"run: {result['run']}")
        if not console.quiet:
            then = next_commands(trained.run, recipe, trained.job.source)
            if then.no_probe:
                console.say(f"note: `probe` cannot measure on the images of this run: {then.no_probe}")
            console.next(*then.commands)
        console.result(result)


def _dry_run(
    console: Console, recipe: Recipe, runtime: Runtime, data: str | None, ranks: int, resume: Path | None
) -> None:
    """Show what would be trained: metadata, memory and, where a rate is known, time.

    Args:
        ranks: that were asked for; a launcher may have started more.
    """
    from barlowctl.assemble.plan import plan

    process = launcher.detect()
    if process.rank != 0:
        return
    with console.waiting("looking at images and network, and timing a step ..."):
        planned = plan(recipe, runtime, data, max(process.size, ranks), resume=resume)
    rows = list(planned["facts"].items())
    memory = planned["memory"]
    rows.append(
        (
            "memory",
            f"about {binary_size(memory['total'])} a step (activations {binary_size(memory['activations'])}, "
            f"weights, gradients, optimizer and buffers {binary_size(memory['total'] - memory['activations'])})",
        )
    )
    speed = planned["rate"]
    alone, devices = duration(speed["seconds"]), speed["devices"]
    if devices > 1:
        alone += f" on this device alone, at the least {duration(speed['seconds'] / devices)} on {devices} like it;"
    rows.append(("time", f"{alone} at {rate(speed['images_per_second'])} images/s ({speed['source']})"))
    console.table("What would be trained", ("", "resolved"), rows)
    console.say("nothing was trained; without --dry-run the run starts")
    console.result(planned)
