"""One option, one meaning: a name has the same short form, kind and panel wherever it is; a choice is a choice."""

from __future__ import annotations

import ast
import errno
import inspect
import shlex
from collections import defaultdict
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from barlowctl.cli import app, other_words
from barlowctl.cli import options as shared
from barlowctl.cli.app import run as barlowctl
from barlowctl.cli.help import choices, kind
from tests.advice.checked import PLACEHOLDER
from tests.cli.tree import ROOT, contexts, options, parse

Captured = pytest.CaptureFixture[str]
SEVERAL = {"--init"}  # a training starts from one; `transfer` puts several beside each other
NARROWER = {"--precision", "--protocol"}  # a command may let choose from a part of what another one has


def by_name() -> dict[str, list[tuple[str, Any]]]:
    options_of = defaultdict(list)
    for path, option in options():
        options_of[next(name for name in option.opts if name.startswith("--"))].append((path, option))
    return options_of


def test_the_commands_are_put_together_once(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    """That takes as long as reading a command line and refusing it."""
    made = []
    monkeypatch.setattr(typer.main, "get_command", lambda group: made.append(group) or ROOT)
    app.commands.cache_clear()
    try:
        assert app.run(["probe", "--nope"]) == app.run(["recipes", "show", "nope"]) == 2
        assert made == [app.app]
    finally:
        monkeypatch.undo()
        app.commands.cache_clear()


@pytest.mark.parametrize("name", by_name())
def test_a_name_has_one_short_form_and_one_kind(name: str) -> None:
    ones = by_name()[name]
    assert len({tuple(sorted(one.opts + one.secondary_opts)) for _, one in ones}) == 1
    kinds = {(bool(choices(one)) or kind(one), one.multiple, one.is_flag) for _, one in ones}
    assert len(kinds) == 1 or (name in SEVERAL and kinds == {(str(str), False, False), ("list[str]", True, False)})
    assert len({one.metavar for _, one in ones}) == 1
    values = [set(choices(one)) for _, one in ones]
    assert all(some == values[0] for some in values) or name in NARROWER
    assert max(values, key=len) == set.union(*values)


def test_an_option_is_spelled_once() -> None:
    """What several commands have is in `options`: nobody else writes its name again."""
    folder = Path(shared.__file__).parent
    spelled = defaultdict(list)
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "typer.Option":
                for name in (one.value for one in node.args if isinstance(one, ast.Constant)):
                    spelled[name].append(str(file.relative_to(folder)))
    assert (spelled["--gpus"], spelled["--init"], spelled["--resume"]) == (
        ["options.py"],
        ["options.py"],
        ["pretrain.py"],
    )
    assert {name: files for name, files in spelled.items() if len(files) > 1} == {}


def test_a_short_form_belongs_to_one_name() -> None:
    long_forms = defaultdict(set)
    for _, option in options():
        long = next(name for name in option.opts if name.startswith("--"))
        for name in option.opts:
            if not name.startswith("--"):
                long_forms[name].add(long)
    assert {short: names for short, names in long_forms.items() if len(names) > 1} == {}
    assert long_forms["-o"] == {"--out"}


def test_what_most_commands_have_every_one_has() -> None:
    for context in contexts():
        if not hasattr(context.command, "commands"):
            names = {name for option in context.command.params for name in option.opts}
            assert {"--json", "--quiet", "-q"} <= names, context.command_path
    reads_images = {"pretrain", "probe", "transfer", "embed", "ablate"}
    for name in reads_images:
        names = {name for option in ROOT.commands[name].params for name in option.opts}
        assert {"--data", "--device", "--threads", "--workers", "--loader", "--out", "-o"} <= names


def test_a_help_that_lists_words_to_choose_from_is_a_choice() -> None:
    """`auto, fast or plain` in the help of a text option would be a choice that no shell completes."""
    free = {"--device", "--background", "--range", "--recipe", "--method"}
    with_a_text_as_default = {
        max(option.opts, key=len)
        for _, option in options()
        if kind(option) == "<class 'str'>" and isinstance(option.default, str) and option.default
    }
    assert with_a_text_as_default == free


def test_the_choices_are_those_of_the_code() -> None:
    from barlowctl.data.tree.splits import SPLITS
    from barlowctl.datasets import DETECTION
    from barlowctl.exports import FORMATS
    from barlowctl.measure.transfer import TASKS

    allowed = {name: choices(ones[0][1]) for name, ones in by_name().items()}
    assert set(allowed["--task"]) == {*TASKS, *DETECTION}
    assert allowed["--split"] == tuple(SPLITS)
    assert allowed["--format"] == tuple(FORMATS)
    assert get_args(shared.Policy) == ("stop", "skip")


CHOICES = sorted({(path, max(one.opts, key=len)) for path, one in options() if choices(one)})


@pytest.mark.parametrize(("path", "name"), CHOICES)
def test_a_wrong_choice_is_refused_with_the_right_ones(path: str, name: str, capsys: Any) -> None:
    option = next(one for where, one in options() if where == path and name in one.opts)
    right = choices(option)[-1]
    needed = ["SOURCE", "OUT"] if path.endswith("pack") else []
    assert barlowctl([*path.split()[1:], *needed, name, f"{right}x"]) == 2
    err = capsys.readouterr().err
    assert err.splitlines() == [
        f"error: {name} is '{right}x', did you mean '{right}'?",
        f"allowed: {', '.join(choices(option))}",
        f"next: {' '.join([path, *needed])} {name} {right}",
    ]


def test_words_of_other_tools_stand_for_commands_that_there_are() -> None:
    commands = {context.command_path.removeprefix("barlowctl").strip() for context in contexts()}
    ours = [words for words in other_words._COMMANDS.values() if words[0] != "--version"]
    named = {" ".join(word for word in words if not word.startswith("-") and "." not in word) for words in ours}
    within = {f"{group} {name}" for group, names in other_words._WITHIN.items() for name in names.values()}
    assert named | within <= commands
    taken = {f"{group} {word}" for group, names in other_words._WITHIN.items() for word in names}
    assert not (taken | set(other_words._COMMANDS)) & commands


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["prob", "x"], ["there is no command 'prob', did you mean 'probe'?", "next: barlowctl probe x"]),
        (["runs", "compair", "a"], ["'runs compair', did you mean 'compare'?", "next: barlowctl runs compare a"]),
        (["evaluate", "x"], ["'evaluate', did you mean 'probe'?", "next: barlowctl probe x"]),
        (["predict"], ["'predict', did you mean 'embed'?", "next: barlowctl embed\n"]),
        (["resume", "x"], ["'resume', did you mean 'pretrain --resume'?", "next: barlowctl pretrain --resume x"]),
        (["compare", "a"], ["'compare', did you mean 'runs compare'?", "next: barlowctl runs compare a"]),
        (["data", "download", "stl10"], ["did you mean 'get'?", "next: barlowctl data get stl10"]),
        (["runs", "delete", "x"], ["there is no command 'runs delete'\n", "next: barlowctl runs --help"]),
        (["xyz"], ["there is no command 'xyz'\n", "allowed: pretrain, ", "next: barlowctl --help"]),
        (["probe", "--dta=x", "-q"], ["there is no option --dta, did you", "next: barlowctl probe --data=x -q"]),
        (["embed", "--samples", "9"], ["there is no option --samples\n", "next: barlowctl embed --help"]),
        (["probe", "--seed", "many"], ["there is no option --seed\n", "next: barlowctl probe --help"]),
        (["probe", "--seed", "3"], ["no option --seed, did you mean '--seeds'?", "next: barlowctl probe --seeds 3"]),
        (["probe", "--jsn", "a"], ["no option --jsn, did you mean '--json'?", "next: barlowctl probe --json a"]),
        (["probe", "-z"], ["there is no option -z\n", "next: barlowctl probe --help"]),
        (
            ["probe", "--seeds", "many"],
            ["--seeds is 'many'", "allowed: a whole number, 1 to 10,000", "probe --seeds 5"],
        ),
        (["transfer", "--cost", "x", "--cost", "2"], ["--cost is 'x'\n", "next: barlowctl transfer --cost 1"]),
        (["data", "preview", "--samples=900"], ["--samples is '900'", "allowed: a whole number, 1 to 200"]),
        (["transfer", "--cost", "x"], ["--cost is 'x'", "allowed: a number"]),
        (["export", "-f"], ["-f is without a value\n", "allowed: timm, torchvision, hub", "barlowctl export -f hub"]),
        (["embed", "--patches", "--layer", "2"], ["--layer is an option itself", "--patches patches.png --layer 2"]),
        (
            ["embed", "x", "--map", "--layer=2"],
            ["--map is without", "next: barlowctl embed x --map map.html --layer=2"],
        ),
        (["embed", "--neighbours", "-q"], ["--neighbours is without", "barlowctl embed --neighbours 12 -q"]),
        (["embed", "--map", "--help"], ["--map is without a value", "next: barlowctl embed --help"]),
        (["embed", "--map=--layer"], ["--map is '--layer'\n"]),
        (["data", "pack", "a", "b", "--bands", "-q"], ["next: barlowctl data pack --help"]),
        (["bench", "step", "--rows"], ["--rows is without a value\n", "next: barlowctl bench step --rows ours\n"]),
        (["probe", "--device", "-q"], ["--device is without", "next: barlowctl probe --device auto -q"]),
        (["probe", "--semi", "--knn"], ["allowed: 1, 10\n", "next: barlowctl probe --semi 1 --knn"]),
        (["data", "info", "--split=x"], ["--split is 'x'\n", "next: barlowctl data info --split train"]),
        (["probe", "--json=3"], ["--json takes no value"]),
        (["--install-completion", "zsh"], ["--install-completion takes no value, and 'zsh' is behind it"]),
        (["--show-completion", "fish"], ["--show-completion takes no value", "typed in a shell of that kind"]),
        (["recipes", "show"], ["RECIPE is missing", "next: barlowctl recipes show --help"]),
        (["probe", "a", "b"], ["'b' is a word too many", "next: barlowctl probe a"]),
    ],
)
def test_words_that_are_not_understood(arguments: list[str], messages: list[str], capsys: Any) -> None:
    assert barlowctl(arguments) == 2
    err = capsys.readouterr().err
    assert [text for text in messages if text not in err] == [], err
    assert err.startswith("error: ")


ONLY_A_USER_KNOWS = {
    "--import",
    *("--data", "--init", "--resume", "--out", "--grid", "--without", "--semi-list", "--set", "--neighbours-out"),
    *("--from-official", "--push", "--license-file", "--member", "--image-column", "--label-column", "--bands"),
}
WITH_VALUES = [(path, one) for path, one in options() if not one.is_flag]


@pytest.mark.parametrize(("path", "option"), WITH_VALUES, ids=[f"{path} {one.opts[0]}" for path, one in WITH_VALUES])
def test_an_option_never_takes_the_next_one_for_its_value(path: str, option: Any, capsys: Captured) -> None:
    """And what the error says to type is read by the command line, save where only a user has the value."""
    name, words = max(option.opts, key=len), path.split()[1:]
    assert barlowctl([*words, name, "--quiet"]) == 2
    error, *_, advice = capsys.readouterr().err.splitlines()
    assert error == f"error: {name} is without a value: --quiet is an option itself"
    typed = shlex.split(advice.removeprefix("next: barlowctl "))
    if typed == [*words, "--help"]:
        assert name in ONLY_A_USER_KNOWS
        return
    assert not PLACEHOLDER.fullmatch(typed[-2].rpartition("=")[2]), "that is to be typed as it is"
    assert typed[-2] != "cuda", "there may be none"
    assert typed[: len(words) + 1] == [*words, name]
    assert typed[-1] == "--quiet"
    assert len(typed) == len(words) + 3
    command = next(context.command for context in contexts() if context.command_path == path)
    parse([*typed, *("x" for one in command.params if one.param_type_name == "argument" and one.required)])


def test_no_two_texts_of_one_option_differ_by_accident() -> None:
    """Options of which each command says the same: the text is the shared one."""
    for name in ("--json", "--quiet", "--device", "--loader", "--slurm-option"):
        assert len({inspect.cleandoc(one.help) for _, one in by_name()[name]}) == 1, name


LONG = "a" * 300


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["pretrain", "--recipe", LONG, "--dry-run"], "pretrain"),
        (["pretrain", "--recipe", "quickstart", "--init", LONG, "--dry-run"], "pretrain"),
        (["probe", LONG], "probe"),
        (["runs", "show", LONG], "runs show"),
        (["data", "info", LONG], "data info"),
    ],
)
def test_a_name_that_no_file_can_have_is_bad_input(arguments: list[str], command: str, capsys: Captured) -> None:
    assert barlowctl(arguments) == 2
    error = capsys.readouterr().err.splitlines()
    assert error[-3].startswith("error: the system does not take '")
    assert error[-3].endswith("…': file name too long")
    assert error[-2:] == ["allowed: names of at most 255 bytes", f"next: barlowctl {command} --help"]


def test_a_path_that_is_not_permitted_is_bad_input(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    from barlowctl.recipe import catalog

    def forbidden() -> dict[str, Path]:
        error = PermissionError(errno.EACCES, "Permission denied", "/home/somebody/recipes")
        error.add_note("nothing was written")
        raise error

    monkeypatch.setattr(catalog, "shipped", forbidden)
    assert barlowctl(["recipes", "list"]) == 2
    error = capsys.readouterr().err
    assert "the system does not take '/home/somebody/recipes': permission denied; nothing was written" in error


@pytest.mark.parametrize(
    ("arguments", "message", "following"),
    [
        (["embed", "runs/a", "pics", "--out="], "--out is empty", "embed runs/a pics --out photos.parquet"),
        (["probe", "--data", "", "--knn"], "--data is empty", "probe --help"),
        (["pretrain", "--recipe=", "--dry-run"], "--recipe is empty", "pretrain --recipe quickstart --dry-run"),
        (["pretrain", "--set", ""], "--set is empty", "pretrain --set train.epochs=5"),
        (["data", "pack", "--groups", "", "a", "b"], "--groups is empty", "data pack --groups 'patient[0-9]+' a b"),
        (["runs", "watch", ""], "an argument is empty, ''", "runs watch --help"),
        (["data", "pack", "--", "", "x"], "an argument is empty, ''", "data pack --help"),
    ],
)  # fmt: skip
def test_an_empty_string_is_no_value(arguments: list[str], message: str, following: str, capsys: Captured) -> None:
    """As an unset variable of a shell leaves it; `runs watch ''` and `--out=` were internal errors."""
    assert barlowctl(arguments) == 2
    assert capsys.readouterr().err.splitlines() == [f"error: {message}", f"next: barlowctl {following}"]


def numeric() -> list[tuple[str, Any]]:
    """Every option that takes a number of a range."""
    ones = [(path, one) for path, one in options() if "int" in kind(one) or "float" in kind(one)]
    return [(path, one) for path, one in ones if "|" not in str(one.metavar)]


@pytest.mark.parametrize("value", ["1e400", "1" + "0" * 30, "-1" + "0" * 30, "1" * 5000, "nan", "inf"])
def test_a_number_beyond_its_ends_is_refused_before_anything_is_begun(capsys: Captured, value: str) -> None:
    assert len(numeric()) > 50
    for path, option in numeric():
        name = max(option.opts, key=len)
        assert barlowctl([*path.split()[1:], f"{name}={value}"]) == 2, (path, name)
        error, allowed, following = capsys.readouterr().err.splitlines()
        assert error.startswith(f"error: {name} is '{value[:9]}"), (path, name)
        words = shlex.split(following)
        low, high = (float(end.replace(",", "")) for end in allowed.rpartition(", ")[2].split(" to "))
        assert low <= float(words[words.index(name) + 1]) <= high, (path, name)


def test_a_share_that_is_none_is_answered_with_a_usual_one(capsys: Captured) -> None:
    """The least that is allowed, 1 percent of each class, is no test split."""
    assert app.run(["data", "pack", "photos", "p.beton", "--hold-out", "200"]) == 2
    assert capsys.readouterr().err == (
        "error: --hold-out is '200'\nallowed: a whole number of percent, 1 to 99\n"
        "next: barlowctl data pack photos p.beton --hold-out 20\n"
    )


def test_the_ends_of_numbers_are_written_for_people(capsys: Captured) -> None:
    assert barlowctl(["bench", "loader", "--samples", "1000000000000"]) == 2
    assert "allowed: a whole number, 8 to 10,000,000\n" in capsys.readouterr().err
    assert barlowctl(["pretrain", "--rank-timeout", "0.5"]) == 2
    assert "allowed: a number, 1 to 1,000,000\n" in capsys.readouterr().err


def test_the_keys_of_a_recipe_are_completed() -> None:
    from barlowctl.cli import completion
    from barlowctl.recipe import load

    assert completion.keys("train.ep") == ["train.epochs="]
    assert completion.keys("objective.lam") == ["objective.lambd=", "objective.lambd_reg="]
    assert {"objective.name=", "objective.queue=", "seed=", "eval.resize="} <= set(completion.keys(""))
    assert not [key for key in completion.keys("") if key.count("=") != 1 or "objective=" in key]
    load.load("quickstart", [f"{key}1" for key in completion.keys("train.epochs")])
