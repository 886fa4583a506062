"""`barlowctl pretrain`: train a recipe, or show what would be trained."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from barlowctl import launcher, shell
from barlowctl.cli import completion, options
from barlowctl.cli.console import Console
from barlowctl.cli.help import examples
from barlowctl.cli.live import binary_size, duration, show
from barlowctl.cores import usable_cores
from barlowctl.errors import UserError

if TYPE_CHECKING:
    from barlowctl.launchers.slurm import Slurm
    from barlowctl.recipe.schema import Recipe

EPILOG = examples(
    "barlowctl pretrain --recipe quickstart",
    "barlowctl pretrain --recipe resnet50 --data IMAGENET --dry-run",
    "barlowctl pretrain --resume runs/NAME",
    "barlowctl pretrain --recipe resnet50 --gpus 8",
    "barlowctl pretrain --recipe resnet50 --nodes 4 --gpus 8 --print-sbatch",
)

RUN, SEVERAL = "Run", "Several devices"  # panels of the help
SHOWN = ("epochs", "steps", "loss", "knn", "feature_spread", "effective_rank", "images_per_second", "cpu_seconds")


def pretrain(
    context: typer.Context,
    recipe: Annotated[str | None, options.recipe("A shipped recipe's name, or a TOML file.")] = None,
    overrides: options.Overrides = None,
    data: options.Data = None,
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
    gpus: Annotated[
        int | None,
        typer.Option(
            "--gpus",
            min=1,
            help="Train on this many GPUs of this machine (torchrun's agent).",
            rich_help_panel=SEVERAL,
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            "--processes",
            min=1,
            help="Train in this many processes on this machine's CPU.",
            rich_help_panel=SEVERAL,
        ),
    ] = None,
    rank_timeout: Annotated[
        float,
        typer.Option(
            "--rank-timeout",
            metavar="SECONDS",
            min=1.0,
            help="How long a rank that does not answer is waited for.",
            rich_help_panel=SEVERAL,
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
        typer.Option("--nodes", min=1, help="Machines of the Slurm job.", rich_help_panel=options.SLURM),
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
    from barlowctl.recipe import catalog, load
    from barlowctl.runs import rundir

    if not (slurm or print_sbatch):
        _refuse_flags_of_a_job(nodes > 1 and not dry_run, time_limit is not None, bool(slurm_options))
    if slurm or print_sbatch:
        launcher.refuse_several(f"pretrain {'--slurm' if slurm else '--print-sbatch'}")
        options_of_job = options.slurm_values(slurm_options)
    elif (count := gpus or processes) and not dry_run and not _is_rank(gpus, processes):
        raise typer.Exit(_run_ranks(context.obj, count, on_gpus=gpus is not None))
    console = Console(json=json, quiet=quiet)
    resumed = None if resume is None else rundir.find(resume)
    if resumed is not None:
        value = _recipe_of_run(resumed, recipe, overrides, out)
        data = _images_of_run(resumed, value) if data is None else data
    else:
        names = list(catalog.shipped())
        missing = UserError(
            "no recipe was named", allowed=", ".join(names), next="barlowctl pretrain --recipe quickstart"
        )
        value = load.load(recipe or console.choose("Which recipe?", names, missing=missing), overrides or ())

    from barlowctl.assemble.job import prepare
    from barlowctl.assemble.launch import launch
    from barlowctl.assemble.machine import Runtime, choose_device
    from barlowctl.assemble.next_commands import next_commands
    from barlowctl.assemble.plan import plan
    from barlowctl.distributed import joined
    from barlowctl.train.monitors import Monitor, TensorBoard, Wandb

    runtime = Runtime(device="cpu" if processes else device, threads=threads, workers=workers, loader=loader)
    if dry_run:
        started = launcher.detect()
        if started.rank == 0:
            ranks_asked = max(started.size, nodes * (gpus or processes or 1))
            _dry_run(console, plan(value, runtime, data, ranks_asked, resume=resumed))
        return
    if slurm or print_sbatch:
        from barlowctl.assemble.resolve import check_share
        from barlowctl.launchers.slurm import Slurm

        check_share(value, nodes * (gpus or processes or 1))  # the job would refuse it after hours in the queue
        asked = Slurm(nodes, gpus or processes or 1, processes is None, time_limit, options_of_job)
        named = str(resumed / "recipe.toml") if resumed else recipe or value.name
        start = ["--recipe", _absolute(named), *(part for text in overrides or () for part in ("--set", text))]
        arguments = _arguments_of_every_start(
            data or value.data.dataset, device, threads, workers, loader, processes, rank_timeout, tensorboard, wandb
        )
        _slurm(console, asked, value.name, resumed or out, start, arguments, submit=not print_sbatch)
        return
    watching: list[Monitor] = [TensorBoard()] if tensorboard else []
    watching += [Wandb(value.model_dump(mode="json"))] if wandb else []
    with joined(cuda=choose_device(runtime.device).type == "cuda", time_limit=rank_timeout) as ranks:
        if not ranks.first:
            console = Console(quiet=True)
        job = prepare(value, runtime, data, ranks)
        with show(console) as display:
            result = launch(job, resumed or out, display, resume=resumed is not None, monitors=watching)
    if ranks.first:
        console.table("", ("result", "value"), [(key, result[key]) for key in SHOWN if key in result])
        console.say(f"run: {result['run']}")
        if not quiet:
            then = next_commands(Path(result["run"]), value, job.source)
            if then.no_probe:
                console.say(f"note: `probe` cannot measure on the images of this run: {then.no_probe}")
            console.next(*then.commands)
        console.result(result)


def _refuse_flags_of_a_job(nodes: bool, time_limit: bool, slurm_options: bool) -> None:
    """Refuse what only a Slurm job has: a run that starts here would ignore it in silence."""
    for flag, given in (("--nodes", nodes), ("--time", time_limit), ("--slurm-option", slurm_options)):
        if given:
            raise UserError(
                f"{flag} belongs to a Slurm job, and this run would start here",
                allowed="with --slurm, which submits the job, or --print-sbatch, which prints its script",
                next="--print-sbatch",
            )


def _absolute(name: str) -> str:
    """A recipe's file with its whole path, a shipped one by its name: a job may start elsewhere."""
    return str(Path(name).resolve()) if Path(name).is_file() else name


def _arguments_of_every_start(
    data: str,
    device: str,
    threads: int | None,
    workers: int | None,
    loader: str,
    processes: int | None,
    rank_timeout: float,
    tensorboard: bool,
    wandb: bool,
) -> list[str]:
    """The arguments of this command that every start of a job takes; it may start in another folder."""
    from barlowctl.data import home

    valued = {
        "--data": home.anywhere(data),
        "--device": "cpu" if processes else device,
        "--threads": threads,
        "--workers": workers,
        "--loader": loader,
        "--rank-timeout": rank_timeout,
    }
    arguments = [text for flag, value in valued.items() if value is not None for text in (flag, str(value))]
    return [*arguments, *(["--tensorboard"] if tensorboard else []), *(["--wandb"] if wandb else [])]


def _slurm(
    console: Console,
    asked: Slurm,
    name: str,
    run: Path | None,
    start: list[str],
    arguments: list[str],
    *,
    submit: bool,
) -> None:
    """Print the job's script, or submit it."""
    from barlowctl.launchers import slurm
    from barlowctl.runs import rundir

    run_directory = (run or rundir.runs_home() / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}").resolve()
    text = slurm.run_script(run_directory, asked, start, arguments)
    if not submit:
        if not console.json:
            console.document(text)
        console.result({"script": text, "run": str(run_directory)})
        return
    path = run_directory.with_name(f"{run_directory.name}.sbatch")
    job = slurm.submit(text, path)
    console.say(f"job {job}: {run_directory}")
    console.next(
        shell.line("squeue", "-j", job),
        shell.line("tail", "-F", f"{run_directory}.slurm.log"),
        shell.line("barlowctl", "runs", "watch", run_directory),
    )
    console.result({"job": job, "script": str(path), "run": str(run_directory)})


def _is_rank(gpus: int | None, processes: int | None) -> bool:
    """Whether this process is a rank of --gpus or --processes already.

    Raises:
        UserError: both were given, or a launcher started other ranks.
    """
    if gpus and processes:
        raise UserError("--gpus and --processes exclude each other", next="without --processes")
    if os.environ.get("BARLOWCTL_EXIT_CODES") and "WORLD_SIZE" in os.environ:
        return True
    started = launcher.detect()
    if started.size > 1:
        raise UserError(
            f"{started.by} started {started.size} ranks already, and --gpus or --processes would start more in each",
            next="without --gpus --processes",
        )
    return False


def _run_ranks(arguments: list[str], count: int, *, on_gpus: bool) -> int:
    """Run the same command in `count` processes; returns the exit code.

    Raises:
        UserError: fewer GPUs, or cores, than ranks.
    """
    import torch

    from barlowctl.launchers.ranks import run_ranks

    there = torch.cuda.device_count() if on_gpus else usable_cores()
    if count > there:
        kind = "GPUs" if on_gpus else "cores"
        raise UserError(
            f"{count} {kind} were asked for, and this machine has {there}",
            allowed=f"1 to {there}" if there else None,
            next=f"{'--gpus' if on_gpus else '--processes'} {there}" if there else "without --gpus",
        )
    return run_ranks(arguments, count)


def _recipe_of_run(run: Path, recipe: str | None, overrides: list[str] | None, out: Path | None) -> Recipe:
    """The recipe a run was started with; one given again must be the same.

    Raises:
        UserError: not a run, finished already, a recipe that differs, or was edited since the run began.
    """
    from barlowctl.assemble.run_recipe import check_recipe, recipe_of
    from barlowctl.recipe import load

    saved = recipe_of(run)
    if out is not None:
        raise UserError("--out and --resume exclude each other", next="without --out")
    if (run / "result.json").exists():
        raise UserError(f"'{run}' is finished", next=shell.line("barlowctl", "report", run))
    if recipe is not None or overrides:
        given = load.load(recipe or str(run / "recipe.toml"), overrides or ())
        changes = [change for change in load.diff(saved, given) if change[0] not in ("name", "description")]
        if changes:
            lines = "\n".join(f"  {key}: {old!r} in the run, {new!r} now" for key, old, new in changes)
            raise UserError(
                f"'{run}' was started with another recipe:\n{lines}",
                next=shell.line("barlowctl", "pretrain", "--resume", run),
            )
    check_recipe(run)
    return saved


def _images_of_run(run: Path, recipe: Recipe) -> str:
    """The images a run was started with."""
    from barlowctl.assemble.run_images import require

    return require(run, recipe)


def _dry_run(console: Console, plan: dict[str, Any]) -> None:
    """Show a plan: its first lines, memory and, where a rate is known, time."""
    rows = list(plan["facts"].items())
    memory = plan["memory"]
    rows.append(
        (
            "memory",
            f"about {binary_size(memory['total'])} a step (activations {binary_size(memory['activations'])}, "
            f"weights, gradients and optimizer {binary_size(memory['total'] - memory['activations'])})",
        )
    )
    rate = plan["rate"]
    rows.append(
        ("time", f"{duration(rate['seconds'])} at {rate['images_per_second']:,.1f} images/s ({rate['source']})")
    )
    console.table("What would be trained", ("", "resolved"), rows)
    console.say("nothing was trained; without --dry-run the run starts")
    console.result(plan)
