"""Every `next:` that can be printed: a command that the command line takes, or words with a reason."""

from __future__ import annotations

import ast
import re
import shlex
from functools import cache

import pytest

from tests.advice.by_hand import REASONS
from tests.advice.checked import PROGRAMS, _faults_of_command, faults, faults_of_arguments, is_words
from tests.advice.collected import PACKAGE, VALUE, collect, in_source


@cache
def lines() -> dict[str, str]:
    """All lines of advice, and where each is given."""
    return {line: advice.where for advice in collect() for line in advice.text.splitlines()}


def test_advice_can_be_followed() -> None:
    assert {f"{where}: next: {line}": wrong for line, where in lines().items() if (wrong := list(faults(line)))} == {}


def test_words_have_a_reason() -> None:
    words = {line: where for line, where in lines().items() if is_words(line) and not where.startswith("doctor")}
    assert len(words) > 50
    assert [f"{where}: next: {line}" for line, where in words.items() if line not in REASONS] == [], (
        "no command: make it one that works when typed (or flags alone, see barlowctl/cli/advice.py), or say in "
        "tests/advice/by_hand.py why it cannot be"
    )


def test_much_advice_was_found() -> None:
    assert len(lines()) > 120
    assert sum(not is_words(line) for line in lines()) > 50


def test_commands_in_backticks_can_be_typed() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.name == "advice.py":  # its form is what it explains
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for command in re.findall(r"`(barlowctl [^`\n]+)`", node.value):
                    known = [fault for fault in faults_of_arguments(shlex.split(command)[1:]) if "missing" not in fault]
                    assert known == [], f"{path.name}: `{command}`"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("barlowctl prob RUN", "no command prob"),
        ("barlowctl probe RUN --dta X", "No such option"),
        ("barlowctl probe RUN --data FOLDER   (a folder)", "a shell reads"),
        ("barlowctl probe RUN or start a new run", "too many words"),
        ("barlowctl data pack images", "missing"),
        (f"barlowctl data pack SOURCE {VALUE} --overwrite", "only a person knows SOURCE"),
        ("--slurm-option partition=NAME", "only a person knows partition=NAME"),
        ("--data FOLDER", "only a person knows FOLDER"),
        ("barlowctl recipes show", "missing"),
        ("barlowctl pretrain --recipe resnet51", "no recipe resnet51"),
        ("barlowctl pretrain --set train.epoch=3", "nothing has the key train.epoch"),
        ("barlowctl pretrain ... --print-sbatch", "too many words"),
        ("torchrun -m barlowctl pretrain ...", "dots"),
        ("pip install 'barlowctl[plot]'", "cannot be installed"),
        ("--format timm, which prints lines", "no command takes"),
        ("--frmat timm", "no command"),
        ("--set data.droplast=true", "nothing has the key"),
        ("without --verfy", "no command"),
        ("--recipe r without --st", "no command has --st"),
        ("pass --overwrit to replace it", "no command has --overwrit"),
        ("install ffcv: `make set-up`", "no target"),
    ],
)
def test_what_cannot_be_followed_is_seen(line: str, fault: str) -> None:
    assert any(fault in text for text in faults(line)), list(faults(line))


@pytest.mark.parametrize(
    "line",
    [
        "barlowctl ...",
        "torchrun --nproc-per-node 2 -m barlowctl ...",
        f"rm {VALUE} && barlowctl ...",
        f"barlowctl data pack images {VALUE} --overwrite",
        "WANDB_MODE=offline barlowctl ...",
        f"pack its images again: `barlowctl data pack FOLDER {VALUE} --overwrite`",
        "pip install 'barlowctl[svm]'",
        "--set train.batch_size=2",
        "--set lr_head=0.03",
        "without --verify",
        "--recipe r.toml without --set",
        "--set lr_head=3 without --set=lr=3",
        "name another place with --out",
        "pick one: `make setup`",
    ],
)
def test_what_can_be_followed_passes(line: str) -> None:
    assert list(faults(line)) == []


def test_what_the_collector_reads() -> None:
    source = """
def f(console, run, name, flag):
    raise UserError("x", next="a" if flag else f"b {run}")
    steps = "c"
    raise Other("x", next=steps)
    console.next(shell.line("rm", "-r", run), "d")
    raise UserError("x", next=g(name))
    raise UserError("x", next="\\n".join(f"--split {n}" for n in name))
def g(name):
    return "e " + name
"""
    texts = [advice.text for advice in in_source(source, "m")]
    assert set(texts) == {"a", f"b {VALUE}", "c", f"rm -r {VALUE}", "d", f"e {VALUE}", f"--split {VALUE}"}


def test_programs_are_those_that_are_checked() -> None:
    assert list(_faults_of_command("barlowctl doctor")) == []
    assert "barlowctl" in PROGRAMS
