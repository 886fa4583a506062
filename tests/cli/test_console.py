"""What is printed comes through as it is: names, on any terminal, and lines to be pasted in one piece."""

from __future__ import annotations

import io
import os
import re
import subprocess
from pathlib import Path

import pytest

from barlowctl import shell, waits
from barlowctl.cli import app
from barlowctl.cli.console import Console, show_error, showable
from barlowctl.cli.live import show
from barlowctl.errors import UserError
from barlowctl.recipe import catalog
from barlowctl.train.events import EpochDone, RunStarted, StepDone

LONG = "x" * 30 + " " + "y" * 70 + " z"


class Terminal(io.TextIOWrapper):
    """Standard output of 80 columns in a given encoding, with what was written to it."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding, errors="strict", newline="")

    def isatty(self) -> bool:
        return True

    @property
    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode(self.encoding)  # type: ignore[attr-defined]


def _terminal(monkeypatch: pytest.MonkeyPatch, encoding: str = "utf-8") -> Terminal:
    made = Terminal(encoding)
    monkeypatch.setattr("sys.stdout", made)
    monkeypatch.setenv("COLUMNS", "80")
    return made


def _words(terminal: Terminal) -> list[str]:
    """The lines that say something, without the rules of tables."""
    lines = [line.strip("| ") for line in terminal.text.splitlines()]
    return [line for line in lines if line.strip("-+|─")]


def test_what_is_copied_is_not_broken_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    console = Console()
    console.say(LONG)
    console.next(f"barlowctl probe {LONG}")
    console.paste(f"import timm\nmodel = timm.create_model({LONG!r})")
    assert terminal.text.splitlines() == [
        "x" * 30,  # prose
        "y" * 70 + " z",
        f"next: barlowctl probe {LONG}",
        "import timm",
        f"model = timm.create_model({LONG!r})",
    ]


@pytest.mark.parametrize("name", ["lr [high]", "ph[/otos]", "[bold]x[/bold]", ":cat:", "[link=a]", "\\[red]"])
def test_no_name_is_read_as_markup(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    console = Console()
    console.say(name)
    console.table(f"in {name}", ("name", name), [(name, 1.0), (f"{name}2", None)])
    lines = _words(terminal)
    assert lines[:2] == [name, f"in {name}"]
    assert lines[2].split("  ")[0] == "name"
    assert lines[2].endswith(name)
    assert lines[3].startswith(f"{name} ")
    assert lines[4].startswith(f"{name}2 ")


@pytest.mark.parametrize("name", ["lr [high]", "ph[/otos]"])
def test_no_name_is_read_as_markup_in_a_bar(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with Console().progress(f"packing into {name}", 3) as bar:
        bar.advance()
    assert f"packing into {name}" in terminal.text


@pytest.mark.parametrize(
    ("encoding", "name", "escaped"),
    [
        ("ascii", "café", r"caf\xe9"),
        ("ascii", "写真", r"\u5199\u771f"),
        ("latin-1", "café", "café"),
        ("latin-1", "写真", r"\u5199\u771f"),
        ("utf-8", "写真", "写真"),
        ("utf-8", os.fsdecode(b"caf\xe9"), r"caf\udce9"),
        ("utf-8", "a\x1b[31mb\rc\x07", r"a\x1b[31mb\rc\x07"),
        ("ascii", "85.0 ± 0.3", "85.0 +/- 0.3"),
    ],
)
def test_what_a_terminal_lacks_is_escaped(
    encoding: str, name: str, escaped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = _terminal(monkeypatch, encoding)
    console = Console()
    console.say(name)
    console.table(name, ("name",), [(name,)])
    assert _words(terminal) == [escaped, escaped, "name", escaped]


def test_a_line_break_in_a_cell_does_not_make_two_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    Console().table("", ("name", "loss"), [("a\nb", 1.0)])
    assert r"a\nb" in terminal.text


def test_a_command_with_a_name_outside_the_encoding_is_no_internal_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    terminal = _terminal(monkeypatch, "ascii")
    target = tmp_path / "réçette.toml"
    assert app.run(["recipes", "copy", "quickstart", str(target)]) == 0
    *copied, following = terminal.text.splitlines()
    assert copied[-1].endswith(r"r\xe9\xe7ette.toml")
    command = following.removeprefix("next: ")
    read = subprocess.run(["bash", "-c", f"printf %s {command.split()[-1]}"], capture_output=True, check=True)
    assert read.stdout.decode() == str(target)


def test_an_error_shows_no_instructions_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show_error(UserError("'a\x1b[2Jb'\nis bad"), json=False)
    assert capsys.readouterr().err == "error: 'a\\x1b[2Jb'\nis bad\n"


def test_a_document_is_utf8_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch, "ascii")
    Console().document("cd 'café'\n" + os.fsdecode(b"caf\xe9"))
    assert terminal.buffer.getvalue() == "cd 'café'\n".encode() + b"caf\xe9"  # type: ignore[attr-defined]


def test_a_table_is_drawn_in_ascii_where_there_is_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch, "ascii")
    Console().table("runs", ("name", "kNN"), [("a", "85.00 ± 0.30"), ("b", 1.0)])
    assert [line.split() for line in _words(terminal)] == [
        ["runs"],
        ["name", "|", "kNN"],
        ["a", "|", "85.00", "+/-", "0.30"],
        ["b", "|", "1.00"],
    ]


PATHS = [
    "plain",
    "lr [high]",
    "it's",
    'a "quoted" one',
    "$HOME `id` \\ !x",
    "-dash",
    "a;b&c|d>e",
    "~",
    "été",
    "two\nlines",
    "tab\there",
    os.fsdecode(b"latin\xe9"),
    "*?",
    "#x",
]


@pytest.mark.parametrize("name", PATHS)
def test_a_printed_path_is_read_back_by_the_shell(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    line = shell.line("ls", "-d", Path(name))
    assert showable(line, io.TextIOWrapper(io.BytesIO(), encoding="utf-8")) == line, "one printable line"
    assert len(line.splitlines()) == 1
    done = subprocess.run(["bash", "-c", f"{line} | tr '\\n' '\\n'"], cwd=tmp_path, capture_output=True, check=True)
    assert os.fsdecode(done.stdout).removesuffix("\n").removeprefix("./") == name


@pytest.mark.parametrize("name", [*PATHS, "it's", "back\\slash\n"])
def test_a_printed_line_is_read_back_as_words(name: str) -> None:
    assert shell.split(shell.line("barlowctl", name, "--set=a=b c")) == ["barlowctl", name, "--set=a=b c"]


def test_a_name_stays_whole_where_the_other_columns_have_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name in the first column is what is typed next."""
    terminal = _terminal(monkeypatch)
    name = "fashion-mnist-multicrop-barlow-twins"
    Console().table("", ("name", "what"), [(name, " ".join(["word"] * 20))])
    assert _words(terminal)[1].startswith(f"{name} ")
    Console().table("", ("name", "a", "b", "c"), [(name * 2, "x" * 20, "y" * 20, "z" * 20)])
    assert name * 2 not in terminal.text, "no room for the others"


@pytest.mark.parametrize("columns", ["80", "150"])
def test_recipes_are_listed_by_names_that_are_whole(monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    terminal = _terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", columns)
    assert app.run(["recipes", "list"]) == 0
    names = [line.split()[0] for line in terminal.text.splitlines() if line.strip()]
    shipped = list(catalog.shipped())
    assert [name for name in names if name in shipped] == shipped == sorted(shipped)


@pytest.mark.parametrize(("typed", "chosen"), [("\n", "b"), ("1\n", "a"), ("7\n3\n", "c")])
def test_enter_takes_what_is_usual(monkeypatch: pytest.MonkeyPatch, typed: str, chosen: str) -> None:
    terminal = _terminal(monkeypatch)
    monkeypatch.setattr(Console, "can_ask", True)
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    missing = UserError("nothing was named")
    assert Console().choose("Which?", ["a", "b", "c"], default="b", missing=missing) == chosen
    assert "Which? (2):" in terminal.text


def test_every_question_has_a_usual_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`choose` fails where the default is none of the choices."""
    questions: list[tuple[str, str]] = []

    def choose(console: Console, question: str, choices: list[str], *, default: str, missing: UserError) -> str:
        assert default in choices
        questions.append((question, default))
        raise missing

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Console, "choose", choose)
    assert [app.run([*command]) for command in (("pretrain",), ("data", "get"), ("ablate",))] == [2, 2, 2]
    assert [question for question, _ in questions] == ["Which recipe?", "Which data set?", "Which study?"]


@pytest.mark.parametrize(
    ("variable", "value", "live"),
    [
        ("COLUMNS", "80", True),
        ("JPY_PARENT_PID", "12", False),
        ("MPLBACKEND", "module://matplotlib_inline.backend_inline", False),
    ],
)
def test_a_cell_of_a_notebook_gets_lines_and_no_question(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, live: bool
) -> None:
    """There `!` is a terminal that nobody can type to, and each redrawing would be a line more."""
    terminal = _terminal(monkeypatch)
    monkeypatch.setattr("sys.stdin", terminal)
    monkeypatch.setenv("TERM", "xterm-color")
    for name in ("JPY_PARENT_PID", "MPLBACKEND"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)
    console = Console()
    assert (console.live, console.can_ask) == (live, live)
    with console.progress("packing", 300) as bar:
        for _ in range(300):
            bar.advance()
    assert ("\x1b[2K" in terminal.text) == live
    assert "packing" in terminal.text


def test_a_terminal_without_a_cursor_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich draws no bar there before the end: hours of training said nothing."""
    terminal = _terminal(monkeypatch)
    monkeypatch.setenv("TERM", "dumb")
    with show(Console()) as display:
        display(RunStarted(Path("run"), {"recipe": "r"}, 2, 10, 20, 0, ()))
        display(StepDone(10, 0, {"loss": 3.0}))
        display(EpochDone(10, 0, {"loss": 2.0}))
        assert "loss 2" in terminal.text
    with Console().progress("packing", 3):
        assert terminal.text.endswith("packing\n")
    assert "\x1b" not in terminal.text


def test_the_rest_of_a_bar_is_grey_and_its_time_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich's own is almost black, which on a light ground looks as what is done."""
    terminal = _terminal(monkeypatch)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with Console().progress("packing", 4) as bar:
        bar.advance(2)
    assert re.search(r"\x1b\[90m━+", terminal.text)
    assert re.search(r"2/4 +\S+ left", re.sub(r"\x1b\[[0-9;]*m", "", terminal.text))


def test_a_log_in_colour_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr("sys.stdout", log)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert not Console().live
    with Console().progress("packing", 3) as bar:
        bar.advance()
    assert log.getvalue() == "packing\n"


@pytest.mark.parametrize("live", [True, False])
def test_what_takes_a_while_is_announced(monkeypatch: pytest.MonkeyPatch, live: bool) -> None:
    terminal = _terminal(monkeypatch)
    monkeypatch.setenv("TERM", "xterm" if live else "dumb")
    console = Console()
    monkeypatch.setattr(type(console), "live", live)
    with console.waiting("timing a step ..."):
        before = terminal.text
    assert "timing a step ..." in (terminal.text if live else before)


def test_a_long_wait_is_a_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    for json in (False, True):
        console = Console(json=json)
        assert waits._listener == console._say_wait
        console._say_wait("compiling ...")
        assert capsys.readouterr() == ("", "compiling ...\n")
    Console(quiet=True)._say_wait("compiling ...")
    assert capsys.readouterr() == ("", "")


def test_a_long_wait_stands_with_what_is_drawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    monkeypatch.setenv("TERM", "xterm")
    Console()._say_wait("compiling ...")
    assert "compiling ..." in terminal.text
    terminal.detach()
    Console()._say_wait("compiling ...")


def test_of_several_ranks_the_first_says_a_wait(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank, text in (("0", "compiling ...\n"), ("1", "")):
        for name, value in (("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "2")):
            monkeypatch.setenv(name, value)
        Console()._say_wait("compiling ...")
        assert capsys.readouterr().err == text
