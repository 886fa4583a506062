"""What a stranger gets: a wheel that works anywhere, complete pins, a set-up that explains itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as pip builds it, offline."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-index"]
    command += ["--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(checkout)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("barlowctl-*.whl")
    return path


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run_python(script: str, *, path: Path, cwd: Path) -> str:
    """What a fresh interpreter prints with `path` first on its module path, outside the checkout."""
    environment = {**os.environ, "PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_wheel_lists_its_recipes_outside_the_checkout(unpacked: Path, tmp_path: Path, checkout: Path) -> None:
    script = (
        "import barlowctl; from barlowctl.recipe import catalog, load\n"
        "print(barlowctl.__file__)\n"
        "print(*[load.load(str(path)).name for path in catalog.shipped().values()])\n"
    )
    where, names = run_python(script, path=unpacked, cwd=tmp_path).splitlines()
    assert Path(where).is_relative_to(unpacked)
    assert sorted(names.split()) == sorted(path.stem for path in (checkout / "recipes").glob("*.toml"))


def test_the_wheel_has_the_console_script(unpacked: Path) -> None:
    (entry_points,) = unpacked.glob("*.dist-info/entry_points.txt")
    assert "barlowctl = barlowctl.__main__:main" in entry_points.read_text()


def test_the_version_is_the_package_s_own(wheel: Path) -> None:
    from barlowctl import __version__

    assert wheel.name.startswith(f"barlowctl-{__version__}-")


# Pins


def pins(checkout: Path) -> dict[str, str]:
    """Package to version, from the constraints file."""
    versions = {}
    for line in (checkout / ".ci" / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            assert canonicalize_name(name) == name, f"{name}: write it in its normal form"
            assert name not in versions, f"{name} is pinned twice"
            versions[name] = version
    return versions


def shim_requirements(checkout: Path) -> list[str]:
    lines = (checkout / ".ci" / "ffcv-shim" / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def required(names: list[str], *, there: frozenset[str] = frozenset()) -> set[str]:
    """Every package that an installation of these asks for beside what is `there`, read off what is installed."""
    packages: set[str] = set()
    pending = [Requirement(name) for name in names]
    seen: set[tuple[str, frozenset[str]]] = set()
    while pending:
        requirement = pending.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen or key[0] in there:
            continue
        seen.add(key)
        packages.add(key[0])
        try:
            below = metadata.requires(requirement.name) or []
        except metadata.PackageNotFoundError:
            continue
        for child in map(Requirement, below):
            chosen = requirement.extras or {""}
            if child.marker is None or any(child.marker.evaluate({"extra": extra}) for extra in chosen):
                pending.append(child)
    return packages


needs_installation = pytest.mark.skipif(
    not list(metadata.distributions(name="barlowctl")),
    reason="barlowctl is not installed here, as in the environment of `make test-oldest`",
)


@needs_installation
def test_every_package_that_setup_installs_is_pinned(checkout: Path) -> None:
    needed = required(["barlowctl[dev,tensorboard]", *shim_requirements(checkout)]) - {"barlowctl"}
    assert {"torch", "typer", "ruff", "numba", "hatchling"} <= needed
    assert needed - pins(checkout).keys() == set()
    assert "ffcv" in pins(checkout)


def test_every_package_that_an_extra_installs_is_pinned(checkout: Path) -> None:
    """Those that pyproject.toml names, and what they ask for where they are installed here."""
    extras = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {Requirement(line).name for lines in extras.values() for line in lines} - {"barlowctl"}
    assert {"imagecodecs", "sphinx", "wandb"} <= named
    needed = named | required([f"barlowctl[{','.join(extras)}]"]) - {"barlowctl"}
    assert {canonicalize_name(name) for name in needed} - pins(checkout).keys() == set()


def test_pins_are_versions_of_an_index_not_addresses(checkout: Path) -> None:
    for name, version in pins(checkout).items():
        assert re.fullmatch(r"[0-9][0-9A-Za-z.]*", version), f"{name}=={version}"


def test_pins_satisfy_the_lower_bounds(checkout: Path) -> None:
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    pinned = pins(checkout)
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    for requirement in map(Requirement, project["dependencies"] + extras):
        if requirement.name in pinned:
            assert requirement.specifier.contains(pinned[requirement.name]), str(requirement)


# Makefile and scripts


def test_make_alone_lists_every_target(checkout: Path) -> None:
    done = subprocess.run(["make", "--no-print-directory"], cwd=checkout, capture_output=True, text=True, check=True)
    for target in ("setup", "quickstart", "test", "test-slow", "gpu-wheels", "lint", "docs", "clean"):
        assert f"make {target} " in done.stdout


@pytest.mark.parametrize("script", ["setup", "run", "apt-install", "gpu-wheels"])
def test_a_script_is_executable_and_parses(checkout: Path, script: str) -> None:
    path = checkout / ".ci" / script
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", str(path)], check=True)


@pytest.fixture
def bare_checkout(checkout: Path, tmp_path: Path) -> Path:
    """The files that .ci/setup reads, in a folder without an environment."""
    folder = tmp_path / "checkout"
    shutil.copytree(checkout / ".ci", folder / ".ci")
    shutil.copy(checkout / "pyproject.toml", folder)
    return folder


def fake(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def tools(folder: Path, names: list[str]) -> Path:
    """A folder of these programs only, to be the whole PATH."""
    folder.mkdir(exist_ok=True)
    for name in names:
        program = shutil.which(name)
        assert program is not None
        (folder / name).symlink_to(program)
    return folder


SHELL_TOOLS = [
    "bash",
    "sh",
    "env",
    "cat",
    "cut",
    "dirname",
    "find",
    "sort",
    "tail",
    "tee",
    "xargs",
    "sha256sum",
    "id",
]


def test_setup_refuses_an_old_python_with_what_to_do(bare_checkout: Path, tmp_path: Path) -> None:
    path = tools(tmp_path / "bin", SHELL_TOOLS)
    fake(path, "python3", '[ "$1" = --version ] && echo "Python 3.8.10"; exit 1')
    done = subprocess.run(
        ["bash", ".ci/setup"], cwd=bare_checkout, env={"PATH": str(path)}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "Python 3.8.10" in done.stderr
    assert "make setup PYTHON=" in done.stderr


def test_setup_without_root_or_sudo_prints_the_line_to_run(bare_checkout: Path, tmp_path: Path) -> None:
    path = tools(tmp_path / "bin", [name for name in SHELL_TOOLS if name != "id"])
    fake(path, "id", "echo 1000")
    fake(path, "apt-get", "exit 100")
    fake(path, "python3", f'exec {sys.executable} "$@"')
    done = subprocess.run(
        ["bash", ".ci/setup"], cwd=bare_checkout, env={"PATH": str(path)}, capture_output=True, text=True
    )
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if "sudo apt-get install" in line]
    for package in ("g++", "pkg-config", "libopencv-imgproc-dev", "libturbojpeg0-dev"):
        assert package in line.split()
    assert "BARLOWCTL_FFCV=no" in done.stderr
    assert not (bare_checkout / ".venv").exists()


def test_setup_is_quick_when_nothing_is_missing(bare_checkout: Path) -> None:
    binaries = bare_checkout / ".venv" / "bin"
    binaries.mkdir(parents=True)
    fake(binaries, "python", "exit 0")
    state = subprocess.run(
        ["bash", "-c", "source <(sed -n '/^fingerprint()/,/^}/p' .ci/setup); fingerprint"],
        cwd=bare_checkout,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in (".setup-stamp", ".setup-stamp-ffcv"):
        (bare_checkout / ".venv" / name).write_text(state)
    done = subprocess.run(["bash", ".ci/setup"], cwd=bare_checkout, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_changed_pin_runs_setup_again(bare_checkout: Path) -> None:
    command = ["bash", "-c", "source <(sed -n '/^fingerprint()/,/^}/p' .ci/setup); fingerprint"]
    before = subprocess.run(command, cwd=bare_checkout, capture_output=True, text=True, check=True).stdout
    constraints = bare_checkout / ".ci" / "constraints.txt"
    constraints.write_text(constraints.read_text().replace("typer==", "typer==9"))
    after = subprocess.run(command, cwd=bare_checkout, capture_output=True, text=True, check=True).stdout
    assert before != after


@pytest.mark.slow
def test_ffcv_itself_imports(checkout: Path, tmp_path: Path) -> None:
    """The shim's list of what ffcv imports is complete. (Slow: ffcv compiles at import.)"""
    from barlowctl.data.beton import decode

    if not decode.available()[0]:
        pytest.skip("ffcv is not built on this machine")
    modules = "ffcv, ffcv.writer, ffcv.loader"
    script = f"import warnings; warnings.simplefilter('ignore'); import {modules}; print('done')"
    assert run_python(script, path=checkout, cwd=tmp_path).endswith("done")
