"""The command line's entry: puts the commands together and is the one error boundary."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from functools import cache
from platform import system
from typing import Annotated, Any

import typer

from barlowctl import __version__, launcher, own_code, program
from barlowctl.cli import (
    ablate,
    bench,
    completion,
    data,
    doctor,
    embed,
    export,
    pretrain,
    probe,
    recipes,
    report,
    runs,
    transfer,
)
from barlowctl.cli.advice import completed
from barlowctl.cli.console import show_error
from barlowctl.cli.help import DATA, MACHINE, MEASURE, SHARE, TRAIN, Command, Group
from barlowctl.cli.importing import import_all
from barlowctl.cli.renamed import current
from barlowctl.cli.streams import allow_any_text, forget, open_streams, refused_output
from barlowctl.cli.usage import (
    refuse_missing_values,
    refused_disk,
    refused_memory,
    refused_path,
    usage_error,
)
from barlowctl.errors import (
    EXIT_BAD_INPUT,
    EXIT_BY_SIGNAL,
    EXIT_DONE,
    EXIT_INTERNAL,
    Aborted,
    UserError,
    one_line,
    refused_package,
)
from barlowctl.signals import Ended, ended_as_by_interrupt, ignore_from_now_on

EPILOG = (
    "barlowctl doctor\n"
    "barlowctl pretrain --recipe quickstart\n"
    "barlowctl probe\n"
    "barlowctl export --format hub --out my-model\n\n"
    "Exit codes: 0 done, 1 internal error, 2 bad input, 3 stopped with saved state, 4 another rank was lost, "
    "5 loss, gradient or weights not finite, 130 aborted by Ctrl-C with nothing to save (143 by SIGTERM, "
    "129 by SIGHUP, 138 by SIGUSR1). BARLOWCTL_DEBUG=1 shows tracebacks."
)

_TRACED = "BARLOWCTL_DEBUG=1 barlowctl ..."


class _Broken(Exception):
    """Ctrl-C, or a reader of the output that went away: typer would leave without a word, with its own exit code."""


class _Commands(Group):
    def make_context(self, *arguments: Any, **named: Any) -> Any:
        try:
            return super().make_context(*arguments, **named)
        except (KeyboardInterrupt, BrokenPipeError) as error:  # a pipe that --help and --version are written to
            raise _Broken from error

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:  # a shell that completes what was typed so far
            refuse_missing_values(args, self)
            _refuse_behind_completion(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, BrokenPipeError) as error:
            raise _Broken from error


def _refuse_behind_completion(arguments: list[str]) -> None:
    """Refuse `--install-completion zsh`: typer drops what is behind it, and takes the shell that it is typed in."""
    if len(arguments) > 1 and arguments[0] in ("--install-completion", "--show-completion"):
        raise UserError(
            f"{arguments[0]} takes no value, and '{arguments[1]}' is behind it: the shell is the one it is typed in",
            allowed=f"barlowctl {arguments[0]}, typed in a shell of that kind",
            next="barlowctl --help",
        )


app = typer.Typer(
    name="barlowctl",
    cls=_Commands,
    help="Pre-train, measure, ablate and export Barlow Twins on your own images.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # `help` draws the pages, with Rich on a terminal, and errors are a line
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("pretrain", cls=Command, epilog=pretrain.EPILOG, rich_help_panel=TRAIN)(pretrain.pretrain)
app.command("ablate", cls=Command, epilog=ablate.EPILOG, rich_help_panel=TRAIN)(ablate.ablate)
app.add_typer(recipes.app, name="recipes", rich_help_panel=TRAIN)
app.add_typer(runs.app, name="runs", rich_help_panel=TRAIN)
app.command("probe", cls=Command, epilog=probe.EPILOG, rich_help_panel=MEASURE)(probe.probe)
app.command("transfer", cls=Command, epilog=transfer.EPILOG, rich_help_panel=MEASURE)(transfer.transfer)
app.command("embed", cls=Command, epilog=embed.EPILOG, rich_help_panel=MEASURE)(embed.embed)
app.add_typer(data.app, name="data", rich_help_panel=DATA)
app.command("export", cls=Command, epilog=export.EPILOG, rich_help_panel=SHARE)(export.export)
app.command("report", cls=Command, epilog=report.EPILOG, rich_help_panel=SHARE)(report.report)
app.command("doctor", cls=Command, epilog=doctor.EPILOG, rich_help_panel=MACHINE)(doctor.doctor)
app.add_typer(bench.app, name="bench", rich_help_panel=MACHINE)


def _version(is_set: bool) -> None:
    if is_set:
        typer.echo(f"barlowctl {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
    imports: Annotated[
        list[str] | None,
        typer.Option(
            program.IMPORT,
            metavar="MODULE|FILE.py",
            help="Import this first, which registers networks, methods or optimizers of yours; it may be repeated.",
            autocompletion=completion.modules,
        ),
    ] = None,
) -> None:
    if system() == "Windows" and context.invoked_subcommand != "doctor":
        raise UserError("barlowctl does not run on Windows", allowed="Linux, macOS, WSL 2", next="barlowctl doctor")


def main(arguments: list[str] | None = None) -> None:
    """Run a command and leave the process with its exit code."""
    open_streams()
    if arguments is None:
        program.begin()
    arguments = sys.argv[1:] if arguments is None else arguments
    if launcher.may_be_of_several():
        code = run(arguments)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # its launcher ends it by SIGTERM
    else:
        with ended_as_by_interrupt():
            code = run(arguments)
            ignore_from_now_on()
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


@cache
def commands() -> Any:
    """The tree of all commands, put together once: an error reads it too."""
    if "_BARLOWCTL_COMPLETE" in os.environ:
        completion.keep_apostrophes_in_zsh()
    return typer.main.get_command(app)


def run(arguments: list[str]) -> int:
    """Run a command and return its exit code; a user's errors become one message here."""
    allow_any_text()
    names, arguments = program.split(arguments)
    program.begin_with(names)
    arguments = current(arguments)
    as_json = "--json" in arguments
    if launcher.may_be_of_several():
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # we say what broken connections mean
    try:
        with own_code.exits_are_errors():
            if arguments and arguments[0] in commands().commands:
                import_all(names, arguments)
            return commands().main(arguments, standalone_mode=False, prog_name="barlowctl", obj=arguments) or 0
    except UserError as error:
        _trace()
        _hand_over(error)
        error.next = completed(error.next, arguments, commands(), alone=error.alone)
        other_rank = not launcher.says_errors()
        if not (other_rank if error.reported_elsewhere is None else error.reported_elsewhere):
            show_error(error, json=as_json and not other_rank)
        return error.exit_code
    except typer.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # a group alone: its help, which is the message
            typer.echo(error.format_message())
        else:
            show_error(usage_error(error, arguments, commands()), json=as_json)
        return EXIT_BAD_INPUT
    except (typer.Abort, _Broken, KeyboardInterrupt) as error:
        cause = error if isinstance(error, KeyboardInterrupt) else error.__cause__
        if isinstance(cause, BrokenPipeError):  # whoever read has seen enough, as with `| head`
            forget(sys.stdout)
            return EXIT_DONE
        return _aborted(cause)
    except Exception as error:  # a fault of ours, most often: say so, keep the trace for whoever asks
        _trace()
        refusal = refused_package(error) or refused_memory(error)
        if isinstance(error, OSError):
            refusal = (
                refused_output(error)
                or refused_path(error, arguments, commands())
                or refused_disk(error, arguments, commands())
            )
        if refusal is not None:
            _hand_over(refusal)
            refusal.next = completed(refusal.next, arguments, commands())
            show_error(refusal, json=as_json)
            return EXIT_BAD_INPUT
        going_on = getattr(error, "going_on", "")  # of a run that has saved its state: it would be in its own way
        again = f"BARLOWCTL_DEBUG=1 {going_on}" if going_on else completed(_TRACED, arguments, commands())
        where = own_code.place(error) or "internal error"
        show_error(UserError(f"{where}: {one_line(error)}", next=again), json=as_json)
        return EXIT_INTERNAL


def _hand_over(error: UserError) -> None:
    """Say what went wrong to the pool that started this process, if one did, with the advice as it was raised."""
    if "BARLOWCTL_FAILURE" in os.environ:
        from barlowctl.launchers.pool import hand_over

        hand_over(error.message, error.next)


def _aborted(cause: BaseException | None) -> int:
    """Say that a signal ended the command; returns the exit code."""
    notes = getattr(cause, "__notes__", None) or ["no file is left half-written"]
    number = cause.number if isinstance(cause, Ended) else signal.SIGINT
    by = "" if number == signal.SIGINT else f" by {number.name}"
    show_error(Aborted(f"aborted{by}: {'; '.join(notes)}"), json=False)
    return EXIT_BY_SIGNAL + number


def _trace() -> None:
    """The traceback of the error at hand, for whoever asked for it."""
    if os.environ.get("BARLOWCTL_DEBUG") == "1":
        traceback.print_exc()
