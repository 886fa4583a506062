"""Help pages: one layout of sections, drawn as panels on a terminal and as lists under headings elsewhere.

Every command's epilog is its examples, one to a line; other paragraphs of an epilog are text.
"""

from __future__ import annotations

import inspect
import shutil
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
import typer.core

from barlowctl.cli.limits import UNSAID

WIDEST = 100
"""Columns of a help page at most: longer lines are hard to read."""
LEAST = 24
"""Columns of text beside a name: where there are fewer, it stands below the name."""
GENERAL = "General"
"""The panel of --json, --quiet and --help, in every command the last one of its options."""
COMMAND_PANELS = TRAIN, MEASURE, DATA, SHARE, MACHINE = "Train", "Measure", "Data", "Share", "This machine"
"""The panels of the commands, in the order of the main help."""
PANELS_FROM = 9
"""Options from which a command's help has them in panels."""


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it: rows of a name and what it is."""

    title: str
    rows: tuple[tuple[str, str], ...]


def examples(*lines: str) -> str:
    """The epilog of a command: its examples, each a command line that can be typed."""
    return "\n".join(lines)


class Command(typer.core.TyperCommand):
    """A command whose help is drawn by this module."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return usage_pieces(self, ctx)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        formatter.write(page(self, ctx))


class Group(typer.core.TyperGroup):
    """A group of commands whose help is drawn by this module."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [*usage_pieces(self, ctx), self.subcommand_metavar]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        formatter.write(page(self, ctx))


def usage_pieces(command: Any, ctx: Any) -> list[str]:
    """The words of the usage line after the command's name: `[X]` can be left out, `X...` repeated."""
    pieces = [command.options_metavar] if command.options_metavar else []
    for argument in _arguments(command, ctx):
        name = _name_of_argument(argument)
        pieces.append(name if argument.required else f"[{name}]")
    return pieces


def sections(command: Any, ctx: Any) -> list[Section]:
    """Commands in their panels, arguments, and options in theirs; hidden ones are left out."""
    in_panels = [Section("Arguments", tuple((_name_of_argument(a), _what(a, ctx)) for a in _arguments(command, ctx)))]
    options = [p for p in command.get_params(ctx) if p.param_type_name == "option" and not p.hidden]
    panels: dict[str, list[Any]] = {}
    for option in options:
        panel = GENERAL if "--help" in option.opts else getattr(option, "rich_help_panel", None) or "Options"
        panels.setdefault(panel if len(options) >= PANELS_FROM else "Options", []).append(option)
    for title, of_panel in sorted(panels.items(), key=lambda panel: panel[0] == GENERAL):
        in_panels.append(Section(title, tuple((_name_of_option(option), _what(option, ctx)) for option in of_panel)))
    return [section for section in (*_commands(command), *in_panels) if section.rows]


def _commands(command: Any) -> Iterator[Section]:
    """A group's commands in their panels."""
    kinds: dict[str, list[Any]] = {title: [] for title in COMMAND_PANELS}
    for child in getattr(command, "commands", {}).values():
        if not child.hidden:
            kinds.setdefault(child.rich_help_panel or "Commands", []).append(child)
    return (
        Section(title, tuple((child.name, _summary(child)) for child in children)) for title, children in kinds.items()
    )


def paragraphs(command: Any) -> list[str]:
    """What a command says of itself."""
    return [" ".join(part.split()) for part in inspect.cleandoc(command.help or "").split("\n\n") if part.strip()]


def examples_of(command: Any) -> tuple[str, ...]:
    """The example lines of a command's epilog."""
    return tuple(line for part in _epilog(command) if part.startswith("barlowctl ") for line in part.splitlines())


def remarks(command: Any) -> list[str]:
    """The text of a command's epilog."""
    return [" ".join(part.split()) for part in _epilog(command) if not part.startswith("barlowctl ")]


def page(command: Any, ctx: Any) -> str:
    """The help page, as wide as the terminal: with colours and boxes on a terminal that has them."""
    usage = f"{ctx.command_path} {' '.join(command.collect_usage_pieces(ctx))}"
    return _drawn(command, ctx, usage) if sys.stdout.isatty() else _plain(command, ctx, usage)


def _plain(command: Any, ctx: Any, usage: str) -> str:
    """The page as text, for pipes and files."""
    width = min(shutil.get_terminal_size((80, 24)).columns, WIDEST) - 1
    lines = [*_folded(f"Usage: {usage}", width, "", " " * 7), ""]
    for paragraph in paragraphs(command):
        lines += [*_folded(paragraph, width), ""]
    for section in sections(command, ctx):
        lines += [f"{section.title}:", *(f"  {name}{text}".rstrip() for name, text in _lines(section, width - 2)), ""]
    if example_lines := examples_of(command):
        lines += ["Examples:", *(f"  {line}" for line in example_lines), ""]
    for paragraph in remarks(command):
        lines += [*_folded(paragraph, width), ""]
    return "\n".join(lines)


def _drawn(command: Any, ctx: Any, usage: str) -> str:
    """The page with Rich: panels, and colours where the terminal shows them and NO_COLOR is not set."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.panel import Panel
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False)
    console.width = width = min(console.width, WIDEST)

    def panel(title: str, text: Text) -> None:
        console.print(Panel(text, title=Text(title, style="bold"), title_align="left", border_style="dim"))

    with console.capture() as captured:
        console.print(Padding(Text.assemble(("Usage: ", "bold"), usage), (0, 1)))
        for paragraph in paragraphs(command):
            console.print(Padding(Text(paragraph), (1, 1, 0, 1)))
        console.print()
        for section in sections(command, ctx):
            pairs = [((name, "cyan"), f"{text}\n") for name, text in _lines(section, width - 4)]
            text = Text.assemble(*(part for pair in pairs for part in pair))
            text.rstrip()
            panel(section.title, text)
        if example_lines := examples_of(command):
            if max(map(len, example_lines)) > width - 4:  # whole, to be copied: the terminal breaks the line
                console.print("Examples", *example_lines, sep="\n", soft_wrap=True)
            else:
                panel("Examples", Text("\n".join(example_lines)))
        for paragraph in remarks(command):
            console.print(Padding(Text(paragraph), (0, 1)))
    return captured.get()


def _lines(section: Section, width: int) -> Iterator[tuple[str, str]]:
    """The lines of a section: a name, padded, and what stands beside it; a long name has a line of its own."""
    most = max(24, width * 2 // 5)
    column = max((len(name) for name, _ in section.rows if len(name) <= most), default=most)
    if width - column - 2 < LEAST:
        column = 4
    for name, what in section.rows:
        texts = _folded(what, max(1, width - column - 2))
        if len(name) > column:
            yield name, ""
        else:
            yield f"{name:<{column}}  ", texts.pop(0)
        yield from (((" " * (column + 2)), text) for text in texts)


def _folded(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    ) or [first.rstrip()]


def _epilog(command: Any) -> list[str]:
    return [part.strip() for part in (command.epilog or "").split("\n\n") if part.strip()]


def _arguments(command: Any, ctx: Any) -> Iterator[Any]:
    return (p for p in command.get_params(ctx) if p.param_type_name == "argument" and not p.hidden)


def _name_of_argument(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return f"{name}..." if argument.nargs != 1 else name


def _name_of_option(option: Any) -> str:
    """Its short form, its long form and what it takes; long forms stand below one another."""
    short = [name for name in option.opts if not name.startswith("--")]
    long = [name for name in (*option.opts, *option.secondary_opts) if name.startswith("--")]
    names = f"{short[0]}, {' / '.join(long)}" if short else f"    {' / '.join(long)}"
    return names if option.is_flag else f"{names} {takes(option)}"


def takes(option: Any) -> str:
    """The kind of value of an option: its choices, or what it stands for."""
    if option.metavar:
        return str(option.metavar)
    if values := choices(option):
        return "|".join(values)
    return next((name for part, name in _KINDS.items() if part in kind(option)), "TEXT")


def choices(option: Any) -> tuple[str, ...]:
    """What an option lets one choose from; empty where it is no choice."""
    values = getattr(getattr(option, "type_descriptor", None), "choices", None)
    return tuple(str(getattr(choice, "value", choice)) for choice in values or ())


def kind(option: Any) -> str:
    """The type of an option's value, as typer writes it; where another version keeps it elsewhere, nothing."""
    return str(getattr(getattr(option, "type_descriptor", None), "annotation", ""))


_KINDS = {"int": "N", "float": "NUMBER", "Path": "PATH"}


def _what(parameter: Any, ctx: Any) -> str:
    """What a parameter means, its default and its limits."""
    help_text = " ".join((parameter.help or "").split())
    default = parameter.get_default(ctx, call=False)
    default_text = f"{default:g}" if isinstance(default, float) else default
    default_text = "the working directory" if default == Path(".") else default_text  # ".." is another one
    sentences = [] if isinstance(default, bool) or default in (None, "", (), []) else [f"Default: {default_text}."]
    low, high = getattr(parameter, "min", None), getattr(parameter, "max", None)
    if high is not None and high not in UNSAID:
        sentences.append(f"{low} to {high}.")
    elif low is not None and low not in (0, 1) and low > 1e-3:
        sentences.append(f"At least {low}.")
    return " ".join([help_text, *sentences]).strip()


def _summary(command: Any) -> str:
    """One line of a command for the help of its group, and the names of a group's own commands."""
    first = " ".join((command.short_help or (paragraphs(command) or [""])[0]).split())
    names = [child.name for child in getattr(command, "commands", {}).values() if not child.hidden]
    return f"{first} Commands: {', '.join(names)}." if names else first
