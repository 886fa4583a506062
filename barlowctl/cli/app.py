"""The command line's entry: puts the commands together and is the one error boundary."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from typing import Annotated, Any

import typer

from barlowctl import __version__, launcher
from barlowctl.cli import ablate, bench, data, doctor, embed, export, pretrain, probe, recipes, report, runs, transfer
from barlowctl.cli.advice import completed
from barlowctl.cli.console import allow_any_text, forget, show_error
from barlowctl.errors import EXIT_ABORTED, EXIT_BAD_INPUT, EXIT_DONE, EXIT_INTERNAL, Aborted, UserError, one_line

EPILOG = (
    "Exit codes: 0 done, 1 internal error, 2 bad input, 3 stopped with saved state, 4 another rank was lost, "
    "5 the loss is not finite, 130 aborted by Ctrl-C with nothing to save. "
    "BARLOWCTL_DEBUG=1 shows tracebacks."
)


class _Broken(Exception):
    """Ctrl-C, or a reader of the output that went away: typer would leave without a word, with its own exit code."""


class _Commands(typer.core.TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, BrokenPipeError) as error:
            raise _Broken from error


app = typer.Typer(
    name="barlowctl",
    cls=_Commands,
    help="Pre-train, measure, ablate and export Barlow Twins on your own images.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: half the time to start, and the same everywhere
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("pretrain", epilog=pretrain.EPILOG)(pretrain.pretrain)
app.command("probe", epilog=probe.EPILOG)(probe.probe)
app.command("transfer", epilog=transfer.EPILOG)(transfer.transfer)
app.command("embed", epilog=embed.EPILOG)(embed.embed)
app.command("report", epilog=report.EPILOG)(report.report)
app.command("ablate", epilog=ablate.EPILOG)(ablate.ablate)
app.command("export", epilog=export.EPILOG)(export.export)
app.add_typer(data.app, name="data")
app.add_typer(recipes.app, name="recipes")
app.add_typer(runs.app, name="runs")
app.add_typer(bench.app, name="bench")
app.command("doctor")(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"barlowctl {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> None:
    """Run a command and leave the process with its exit code."""
    code = run(sys.argv[1:] if arguments is None else arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the outcome is settled
    if folder := os.environ.get("BARLOWCTL_EXIT_CODES"):  # for `launchers.ranks`, which started this rank
        with contextlib.suppress(OSError), open(os.path.join(folder, os.environ["RANK"]), "w") as file:
            file.write(str(code))
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # Python would try again, and change the exit code
            forget(stream)
    distributed = sys.modules.get("barlowctl.distributed")
    if distributed is not None and distributed.is_closing():
        os._exit(code)
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run a command and return its exit code; a user's errors become one message here."""
    allow_any_text()
    as_json = "--json" in arguments
    if "WORLD_SIZE" in os.environ or "SLURM_PROCID" in os.environ:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # we say what broken connections mean
    try:
        return app(arguments, standalone_mode=False, prog_name="barlowctl", obj=arguments) or 0
    except UserError as error:
        _trace()
        error.next = completed(error.next, arguments, typer.main.get_command(app))
        other_rank = not launcher.says_errors()
        if not (other_rank if error.told is None else error.told):
            show_error(error, json=as_json and not other_rank)
        return error.exit_code
    except typer.TyperException as error:
        show_error(_usage_error(error, arguments), json=as_json)
        return EXIT_BAD_INPUT
    except (typer.Abort, _Broken) as error:
        if isinstance(error.__cause__, BrokenPipeError):  # whoever read has seen enough, as with `| head`
            forget(sys.stdout)
            return EXIT_DONE
        notes = getattr(error.__cause__, "__notes__", None) or ["no file is left half-written"]
        show_error(Aborted(f"aborted: {'; '.join(notes)}"), json=False)
        return EXIT_ABORTED
    except Exception as error:  # a fault of ours: say so, keep the trace for whoever asks
        _trace()
        again = completed("BARLOWCTL_DEBUG=1 barlowctl ...", arguments, typer.main.get_command(app))
        show_error(UserError(f"internal error: {one_line(error)}", next=again), json=as_json)
        return EXIT_INTERNAL


def _trace() -> None:
    """The traceback of the error at hand, for whoever asked for it."""
    if os.environ.get("BARLOWCTL_DEBUG") == "1":
        traceback.print_exc()


def _usage_error(error: typer.TyperException, arguments: list[str]) -> UserError:
    """A wrong flag or argument, with the command whose help answers it."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "barlowctl"
    return UserError(error.format_message(), next=f"{path} --help")
