"""Words that a command has no place for."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from barlowctl.cli.app import commands
from barlowctl.cli.app import run as barlowctl
from barlowctl.cli.surplus import surplus_words

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def leaves(command: Any, *path: str) -> Iterator[tuple[list[str], Any]]:
    for name, child in getattr(command, "commands", {}).items():
        yield from leaves(child, *path, name)
    if not hasattr(command, "commands"):
        yield list(path), command


@pytest.mark.parametrize("path", [path for path, _ in leaves(commands())], ids=" ".join)
def test_every_command_names_the_word(path: list[str], capsys: Captured) -> None:
    (command,) = (command for known, command in leaves(commands()) if known == path)
    places = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    if any(place.nargs < 0 for place in places):
        assert surplus_words([*path, *"abcdefgh"], commands()) is None
        return
    taken = ["x"] * len(places)
    assert barlowctl([*path, *taken, "y", "z"]) == 2
    message, allowed, advice = capsys.readouterr().err.splitlines()
    assert message == "error: 'y' and 'z' are words too many"
    assert allowed.startswith("allowed: ")
    typed = shlex.split(advice.removeprefix("next: "))
    assert typed == (["barlowctl", "recipes", "list"] if path == ["pretrain"] else ["barlowctl", *path, *taken])


@pytest.mark.parametrize(
    ("typed", "message", "allowed", "advice"),
    [
        ("pretrain quickstart photos -q", "'quickstart' and 'photos' are words too many",
         "--recipe quickstart --data photos", "pretrain -q --recipe quickstart --data photos"),
        ("pretrain quickstrt", "'quickstrt' is a word too many", "--recipe quickstart", "pretrain --recipe quickstart"),
        ("pretrain x --recipe quickstart", "'x' is a word too many", "no argument, options alone",
         "pretrain --recipe quickstart"),
        ("pretrain photos --data photos", "'photos' is a word too many", "no argument, options alone", "recipes list"),
        ("probe resnet18 photos", "'photos' is a word too many", "--data photos", "probe resnet18 --data photos"),
        ("recipes diff a a a", "'a' is a word too many", "2 arguments (RECIPE, RECIPE), and options",
         "recipes diff a a"),
        ("export --format hub a hub", "'hub' is a word too many", "1 argument (RUN|FILE), and options",
         "export --format hub a"),
        ("export --format=hub -- -a b", "'b' is a word too many", "1 argument (RUN|FILE), and options",
         "export --format=hub -- -a"),
        ("doctor -- x", "'x' is a word too many", "no argument, options alone", "doctor"),
    ],
)  # fmt: skip
def test_what_is_said(typed: str, message: str, allowed: str, advice: str, capsys: Captured) -> None:
    Path("photos").mkdir()
    assert barlowctl(typed.split()) == 2
    says = capsys.readouterr().err.splitlines()
    assert says == [f"error: {message}", f"allowed: {allowed}", f"next: barlowctl {advice}"]


def test_runs_are_named_by_their_folder_in_a_variable(capsys: Captured) -> None:
    Path("here/one").mkdir(parents=True)
    Path("here/one/run.json").write_text("{}")
    assert barlowctl(["runs", "list", "here", "--json"]) == 2
    assert "next: BARLOWCTL_RUNS=here barlowctl runs list --json\n" in capsys.readouterr().err
    assert barlowctl(["runs", "list", "here/one"]) == 2
    assert capsys.readouterr().err.endswith("next: barlowctl runs show here/one\n")
