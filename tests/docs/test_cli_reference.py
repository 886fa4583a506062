"""docs/cli.md says what the commands say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

EXPECTED_COMMANDS = (
    "pretrain",
    "probe",
    "export",
    "ablate",
    "data pack",
    "bench loader",
    "bench step",
    "recipes list",
    "recipes diff",
    "doctor",
)


@pytest.fixture(scope="module")
def generator(script_of: Callable[[str], ModuleType]) -> ModuleType:
    return script_of("generate_cli_reference.py")


def test_the_reference_is_fresh(generator: ModuleType) -> None:
    assert generator.REFERENCE.is_file(), "run `make docs` and commit docs/cli.md"
    assert generator.REFERENCE.read_text(encoding="utf-8") == generator.reference(), "stale: run `make docs`"


@pytest.mark.parametrize("command", EXPECTED_COMMANDS)
def test_a_command_has_a_section_with_help(generator: ModuleType, command: str) -> None:
    _, heading, section = generator.reference().partition(f"# `barlowctl {command}`\n")
    assert heading
    help_text = section.split("```")[0].strip()
    assert len(help_text) > 10
    assert "`--json`" in section.split("\n## ")[0]


def test_every_option_says_what_it_is(generator: ModuleType) -> None:
    rows = [line for line in generator.reference().splitlines() if line.startswith("| `")]
    assert rows
    assert [row for row in rows if row.split(" | ")[1].strip(" |") == ""] == []


def test_terminal_settings_do_not_change_it(generator: ModuleType, checkout: Path) -> None:
    script = "import generate_cli_reference as g, sys; sys.stdout.write(g.reference())"
    environment = {
        "COLUMNS": "40",
        "FORCE_COLOR": "1",
        "TERM": "xterm-256color",
        "PYTHONPATH": str(checkout / "docs"),
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        cwd=checkout,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == generator.reference()
