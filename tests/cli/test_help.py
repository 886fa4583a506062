"""Help pages: an example block in each, panels in the long ones, the same content on a terminal and in a pipe."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from barlowctl.cli import help as pages
from barlowctl.cli.app import run as barlowctl
from tests.advice.checked import faults_of_arguments
from tests.cli.tree import ROOT, contexts, parse

pytestmark = pytest.mark.usefixtures("narrow")
CONTEXTS = {context.command_path: context for context in contexts()}
COMMANDS = {path: context for path, context in CONTEXTS.items() if not hasattr(context.command, "commands")}


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def example_words(line: str) -> list[str]:
    return shlex.split(line.split(" > ")[0])[1:]


@pytest.mark.parametrize("path", CONTEXTS)
def test_every_help_has_examples_of_the_command_that_fit_a_narrow_terminal(path: str, capsys: Any) -> None:
    examples = pages.examples_of(CONTEXTS[path].command)
    assert examples
    if path in COMMANDS:
        assert all(line.split()[: len(path.split())] == path.split() for line in examples)
    assert [line for line in examples if len(line) > 76] == []
    assert barlowctl([*path.split()[1:], "--help"]) == 0
    assert "\nExamples:\n" + "".join(f"  {line}\n" for line in examples) in capsys.readouterr().out


@pytest.mark.parametrize(
    "line", sorted({line for context in CONTEXTS.values() for line in pages.examples_of(context.command)})
)
def test_every_example_parses_with_its_values(line: str) -> None:
    words = example_words(line)
    assert list(faults_of_arguments(words)) == []
    parse(words)  # refuses what is no number or no choice, too


def test_an_example_that_does_not_parse_is_seen() -> None:
    for words in (["--protocol", "papper"], ["--seeds", "many"], ["a", "b"], ["--dat", "x"]):
        with pytest.raises(Exception, match=r"papper|integer|extra argument|No such option"):
            parse(["probe", *words])


@pytest.mark.parametrize("path", CONTEXTS)
def test_every_option_and_command_is_on_its_page_once(path: str, capsys: Any) -> None:
    context = CONTEXTS[path]
    assert barlowctl([*path.split()[1:], "--help"]) == 0
    page = capsys.readouterr().out
    assert max(map(len, page.splitlines())) <= 80
    body = page.partition("\n\n")[2]
    for parameter in context.command.params:
        if parameter.param_type_name == "option" and not parameter.hidden:
            name = next(name for name in parameter.opts if name.startswith("--"))
            assert len(re.findall(rf"^  (?:    |-\w, ){name}\b(?!-)", body, re.MULTILINE)) == 1, name
    for child in getattr(context.command, "commands", {}):
        assert len(re.findall(rf"^  {child}  ", body, re.MULTILINE)) == 1


def test_the_main_help_has_panels_of_what_one_wants_to_do(capsys: Any) -> None:
    assert barlowctl(["--help"]) == 0
    page = capsys.readouterr().out
    titles = re.findall(r"^(\w[\w ]*):$", page, re.MULTILINE)
    assert titles == ["Train", "Measure", "Data", "Share", "This machine", "Options", "Examples"]
    sections = {one.title: [name for name, _ in one.rows] for one in pages.sections(ROOT, CONTEXTS["barlowctl"])}
    assert sections["Train"] == ["pretrain", "ablate", "recipes", "runs"]
    assert sections["Measure"] == ["probe", "transfer", "embed"]
    assert sections["Share"] == ["export", "report"]


@pytest.mark.parametrize("path", COMMANDS)
def test_long_helps_have_panels_and_the_last_one_is_the_same(path: str) -> None:
    panels = pages.sections(COMMANDS[path].command, COMMANDS[path])
    options = [one for one in panels if any("--" in name for name, _ in one.rows)]
    if sum(len(one.rows) for one in options) < pages.PANELS_FROM:
        assert [one.title for one in options] == ["Options"]
    else:
        assert len(options) > 2
        assert options[-1].title == pages.GENERAL
        assert [name.strip() for name, _ in options[-1].rows] == ["--json", "-q, --quiet", "-h, --help"]
        assert "Options" not in [one.title for one in options]


def test_defaults_and_limits_are_said() -> None:
    help_of = {}
    for context in COMMANDS.values():
        for section in pages.sections(context.command, context):
            help_of |= {(context.command_path, name.split()[-2 if " " in name.strip() else -1]): what
                     for name, what in section.rows}  # fmt: skip
    assert help_of["barlowctl pretrain", "--nodes"].endswith("Default: 1.")
    assert help_of["barlowctl embed", "--seed"].endswith("Default: 0.")
    assert help_of["barlowctl pretrain", "--rank-timeout"].endswith("Default: 900.")
    assert help_of["barlowctl data pack", "--quality"].endswith("Default: 95. 1 to 100.")
    assert help_of["barlowctl embed", "--map-images"].endswith("At least 4.")
    assert "Default" not in help_of["barlowctl pretrain", "--dry-run"]


def on_a_terminal(arguments: list[str], columns: int, program: str = "barlowctl", **environment: str) -> str:
    """What a command (or with `-c` a script) writes on a terminal of this width."""
    main, other = pty.openpty()
    values = {"COLUMNS": str(columns), "TERM": "xterm-256color", "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    values |= {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONUTF8": "1"} | environment
    start = [program] if program == "-c" else ["-m", program]
    process = subprocess.Popen([sys.executable, *start, *arguments], stdout=other, stderr=other, env=values)
    os.close(other)
    octets = b""
    while select.select([main], [], [], 30)[0]:
        try:
            part = os.read(main, 65536)
        except OSError:  # the other end is closed
            break
        octets += part
        if not part:
            break
    os.close(main)
    assert process.wait(30) == 0
    return octets.decode()


@pytest.mark.parametrize("columns", [40, 80, 160])
def test_on_a_terminal_the_page_has_boxes_and_colours_and_the_same_words(columns: int, capsys: Any) -> None:
    drawn = on_a_terminal(["probe", "--help"], columns)
    assert "\x1b[36m" in drawn
    bare = re.sub(r"\x1b\[[\d;]*m", "", drawn)
    lines = [line.rstrip("\r") for line in bare.split("\n") if not line.startswith("barlowctl")]  # never broken by us
    assert max(map(len, lines)) <= min(columns, pages.WIDEST)
    assert "╭─ Measures " in bare
    assert barlowctl(["probe", "--help"]) == 0
    plain = capsys.readouterr().out
    words = re.findall(r"[\w/.-]+", plain.replace(":\n", "\n"))
    assert words == re.findall(r"[\w/.-]+", re.sub(r"[╭─╮│╰╯]", " ", bare))


def test_without_colours_where_no_color_is_set() -> None:
    drawn = on_a_terminal(["--help"], 80, NO_COLOR="1")
    assert not re.search(r"\x1b\[[\d;]*3\dm", drawn)
    assert "╭─" in drawn
    assert "pretrain" in drawn


def test_a_group_alone_shows_its_help(capsys: Any) -> None:
    assert barlowctl(["data"]) == 2
    out, err = capsys.readouterr()
    assert out.startswith("Usage: barlowctl data")
    assert err == ""


def test_the_drawn_help_needs_rich_and_nothing_heavier() -> None:
    script = "import sys; from barlowctl.cli.app import run; run(['--help']); print('LOADED', *sys.modules)"
    for path, arguments in {"main": [], "pretrain": ["pretrain"]}.items():
        output = on_a_terminal([script.replace("['--help']", str([*arguments, "--help"]))], 80, program="-c")
        loaded = output.partition("LOADED")[2].split()
        assert "rich.panel" in loaded, path
        assert {"torch", "numba", "numpy", "timm"} & set(loaded) == set(), path
