"""`make gpu-wheels`: its lists are complete, and it refuses what it cannot do with what to do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.test_setup import SHELL_TOOLS, fake, needs_installation, pins, required, shim_requirements, tools

THIS = f"{sys.version_info[0]}.{sys.version_info[1]}"


def listed(checkout: Path, name: str) -> dict[str, str]:
    """Package to version ("" where constraints.txt has it) of one of the lists."""
    lines = (checkout / ".ci" / "gpu" / f"{name}.txt").read_text().splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    versions = {requirement.name: str(requirement.specifier).removeprefix("==") for requirement in requirements}
    assert len(versions) == len(requirements), f"{name}.txt names a package twice"
    assert [package for package in versions if canonicalize_name(package) != package] == []
    return versions


LEFT_OUT = {"astropy", "astropy-iers-data", "h5py", "pyerfa"}
"""Of the tests' packages: 18 MB of wheels whose images no GPU test reads. Tests that need them are skipped there."""


@needs_installation
def test_what_is_gathered_is_what_is_needed_less_what_is_there(checkout: Path) -> None:
    there = frozenset(listed(checkout, "there"))
    needed = required(["barlowctl[heif,tiff,test]", *shim_requirements(checkout)], there=there) - {"barlowctl"}
    assert needed >= LEFT_OUT
    assert needed - LEFT_OUT == listed(checkout, "lacking").keys()


def test_every_gathered_package_has_one_version(checkout: Path) -> None:
    pinned = pins(checkout)
    for name in ("lacking", "peers", "tools"):
        for package, version in listed(checkout, name).items():
            # One place for each: constraints.txt for what `make setup` installs too.
            assert (package in pinned) != bool(version), f"{name}.txt: {package}"
            assert re.fullmatch(r"[0-9.]*", version), f"{name}.txt: {package}"
    assert listed(checkout, "lacking").keys() & listed(checkout, "peers").keys() == set()
    gathered = listed(checkout, "lacking").keys() | listed(checkout, "peers").keys()
    assert gathered & listed(checkout, "there").keys() == set()


def gather(checkout: Path, path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The script with no program but those in the folder `path`."""
    return subprocess.run(
        ["bash", str(checkout / ".ci" / "gpu-wheels"), *arguments],
        cwd=checkout,
        env={"PATH": str(path), "HOME": str(path), **environment},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tools(tmp_path / "bin", [*SHELL_TOOLS, "mktemp", "rm", "grep"])
    fake(folder, "uname", "echo Linux x86_64")
    return folder


def test_another_python_is_refused_with_the_command(checkout: Path, path: Path) -> None:
    fake(path, "python3", '[ "$1" = --version ] && echo "Python 3.8.10"; exit 1')
    done = gather(checkout, path, "3.12", "python3")
    assert done.returncode == 2
    assert "no Python 3.12 here (python3 is Python 3.8.10)" in done.stderr
    assert "make gpu-wheels GPU_PYTHON=3.12 PYTHON=/path/to/python3.12" in done.stderr


@pytest.mark.parametrize("version", ["3", "312", "3.12.1", "latest"])
def test_a_version_that_is_none_is_refused(checkout: Path, path: Path, version: str) -> None:
    done = gather(checkout, path, version, sys.executable)
    assert done.returncode == 2
    assert done.stderr.startswith(f"gpu-wheels: '{version}' is not a version of Python")


def test_another_kind_of_machine_is_refused(checkout: Path, path: Path) -> None:
    fake(path, "uname", "echo Darwin arm64")
    done = gather(checkout, path, THIS, sys.executable)
    assert done.returncode == 2
    assert "this machine is Darwin arm64" in done.stderr


def test_without_a_network_it_says_so_and_leaves_nothing(checkout: Path, path: Path, tmp_path: Path) -> None:
    """The interpreter is ours; its pip finds no index, as without a network."""
    (tmp_path / "work").mkdir()
    before = sorted((checkout / "gpu-wheels").glob("*")) if (checkout / "gpu-wheels").exists() else None
    # A virtual environment without pip's files: what pip says without an index, from one that is there.
    fake(
        path,
        "python3",
        f'[ "$2" = venv ] && mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && exit; exec {sys.executable} "$@"',
    )
    (path / "mkdir").symlink_to("/bin/mkdir")
    (path / "cp").symlink_to("/bin/cp")
    settings = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": "/dev/null", "TMPDIR": str(tmp_path / "work")}
    done = gather(checkout, path, THIS, "python3", **settings)
    if "no headers" in done.stderr:
        pytest.skip("this interpreter has no headers")
    assert done.returncode == 1, done.stderr
    assert "No matching distribution found for auditwheel" in done.stderr
    assert "this needs a network" in done.stderr
    after = sorted((checkout / "gpu-wheels").glob("*")) if (checkout / "gpu-wheels").exists() else None
    assert before == after
