"""The Dockerfile as far as it can be read without a builder of images: it parses, and what it names exists."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.test_release import module, release

requirements = module("requirements")
INSTRUCTIONS = {"ARG", "FROM", "RUN", "COPY", "ENV", "WORKDIR", "USER", "ENTRYPOINT", "CMD"}
COMPILERS = re.compile(r"\b(gcc|g\+\+|clang|build-essential|cmake|python3-dev|ffcv)\b")


@dataclass
class Stage:
    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def of(self, instruction: str) -> list[str]:
        return [value for name, value in self.steps if name == instruction]


def instructions(text: str) -> list[tuple[str, str]]:
    """Name and value of each instruction: lines that end in a backslash go on, lines of # are comments."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", "", "\n".join(lines))
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def text(checkout: Path) -> str:
    return (checkout / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def stages(text: str) -> list[Stage]:
    stages: list[Stage] = []
    for name, value in instructions(text):
        assert name in INSTRUCTIONS
        if name == "FROM":
            base, as_, stage = value.split()
            assert as_ == "AS"
            stages.append(Stage(base, stage))
        elif stages:
            stages[-1].steps.append((name, value))
    return stages


def copied(stages: list[Stage]) -> list[str]:
    """Paths of the checkout that are copied."""
    copies = [value.split() for stage in stages for value in stage.of("COPY")]
    return [path for words in copies if not words[0].startswith("--from") for path in words[:-1]]


def test_stages_begin_with_the_base_or_with_one_before(stages: list[Stage]) -> None:
    names = [stage.name for stage in stages]
    assert [stage.base for stage in stages] == ["${BASE}", *["python"] * 3]
    assert names == ["python", "requirements", "wheel", "final"]
    sources = [value.split()[0] for stage in stages for value in stage.of("COPY") if value.startswith("--from")]
    assert sources == ["--from=requirements", "--from=wheel"]


def test_a_change_of_the_code_leaves_the_layers_of_packages(stages: list[Stage]) -> None:
    """Each of them is made before the wheel is there, from two files; behind it no index is asked."""
    steps = stages[-1].steps
    wheel = steps.index(("COPY", "--from=wheel /wheels /opt/barlowctl/wheels"))
    before = [value.split()[:-1] for name, value in steps[:wheel] if name == "COPY"]
    assert before == [[".ci/constraints.txt"], ["--from=requirements", "/requirements.txt"]]
    installing = [(at, value) for at, (name, value) in enumerate(steps) if name == "RUN" and "pip install" in value]
    assert [at < wheel for at, _ in installing] == [True, True, False]
    assert ["--no-index" in value for _, value in installing] == [False, False, True]


def test_requirements_are_those_of_the_wheel(checkout: Path) -> None:
    lines = requirements.requirements(
        {"dependencies": ["b"], "optional-dependencies": {"x": ["c", "a"], "y": ["barlowctl[x,z]", "c"], "z": ["d"]}},
        requirements.names("y"),
    )
    assert lines == ["a", "b", "c", "d"]
    script = [sys.executable, str(checkout / ".ci" / "requirements.py"), str(checkout / "pyproject.toml")]
    done = subprocess.run([*script, "embed,tiff"], check=True, capture_output=True, text=True).stdout.splitlines()
    names = {re.split(r"[>=<\[]", line)[0] for line in done}
    assert {"numpy", "torch", "timm", "umap-learn", "imagecodecs"} < names
    assert not {"barlowctl", "tensorboard", "ffcv"} & names
    refused = subprocess.run([*script, "embed,tif"], check=False, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "no extra 'tif' in pyproject.toml; extras: all, " in refused.stderr


def test_commands_are_of_the_shell(stages: list[Stage]) -> None:
    for stage in stages:
        for command in stage.of("RUN"):
            subprocess.run(["sh", "-n", "-c", command], check=True)


def test_what_is_copied_exists_and_is_not_ignored(stages: list[Stage], checkout: Path) -> None:
    ignored = (checkout / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignored
    assert {line[1:] for line in ignored if line.startswith("!")} == set(copied(stages))
    assert [path for path in copied(stages) if not (checkout / path).exists()] == []


def test_the_wheel_is_built_from_what_is_copied_alone(stages: list[Stage], checkout: Path, tmp_path: Path) -> None:
    for path in copied(stages):
        target = tmp_path / "source" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if (checkout / path).is_dir():
            shutil.copytree(checkout / path, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(checkout / path, target)
    wheel, _ = release.built(tmp_path / "source", tmp_path / "built")
    assert release.wheel_faults(wheel, checkout) == []


def test_the_last_stage_has_no_compiler_and_no_root(stages: list[Stage]) -> None:
    last = stages[-1]
    assert [command for stage in (stages[0], last) for command in stage.of("RUN") if COMPILERS.search(command)] == []
    assert last.of("USER") == ["10001"]
    user = last.steps.index(("USER", "10001"))
    assert {name for name, _ in last.steps[user:]} == {"USER", "RUN", "ENTRYPOINT", "CMD"}
    assert json.loads(last.of("ENTRYPOINT")[0]) == ["barlowctl"]
    assert json.loads(last.of("CMD")[0]) == ["doctor"]


def test_an_image_that_does_not_work_is_not_made(stages: list[Stage]) -> None:
    """The last step is the doctor's word, as the user of the image; nothing makes its exit code another."""
    steps = stages[-1].steps
    user = steps.index(("USER", "10001"))
    assert [value for name, value in steps[user:] if name == "RUN"] == ["barlowctl doctor"]
    assert not [name for name, _ in steps[user:] if name == "COPY"]


def test_arguments_of_the_build_are_documented(text: str, checkout: Path) -> None:
    named = [value.partition("=") for name, value in instructions(text) if name == "ARG"]
    arguments = {name: default for name, is_set, default in named if is_set}
    assert arguments.keys() == {name for name, _, _ in named}
    page = (checkout / "docs" / "install.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| (\S+) \|", page, re.MULTILINE))
    assert rows == {name: f"`{value}`" if value else "empty" for name, value in arguments.items()}
    extras = (checkout / "pyproject.toml").read_text(encoding="utf-8")
    assert all(re.search(rf"^{extra} = \[", extras, re.MULTILINE) for extra in arguments["EXTRAS"].split(","))


def test_another_index_brings_torch_and_torchvision_alone(stages: list[Stage]) -> None:
    """What they require is pinned; an index of torch's need not have those versions, and pip would refuse."""
    (command,) = [command for stage in stages for command in stage.of("RUN") if "TORCH_INDEX" in command]
    for index in ("", "https://example.org/cpu"):
        script = f'pip() {{ printf "%s\\n" "$@"; }}; find() {{ :; }}; TORCH_INDEX={index}; {command}'
        typed = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True).stdout.split()
        assert typed[-2:] == ["torch", "torchvision"]
        assert ("--no-deps" in typed) == bool(index)
        assert [typed[at + 1] for at, word in enumerate(typed) if word == "--index-url"] == ([index] if index else [])
