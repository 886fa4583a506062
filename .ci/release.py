"""Is this checkout a release? Builds wheel and source distribution in a temporary folder and checks them.

Usage: python .ci/release.py [--untagged] [--out FOLDER]
--untagged     before the tag is set: all but the tag is checked, and the command that sets it is printed
--out FOLDER   the two files are put there when nothing is wrong
Needs hatchling. Exit codes: 0 a release; 1 something is wrong (every fault is a line).
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path, PurePosixPath

CHECKOUT = Path(__file__).resolve().parents[1]
CACHES = ("__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".venv", ".git")
LINK = re.compile(r"\[[^\]]+\]\((?!\w+:|#)([^)\s]+)\)")


def main() -> int:
    """Check, and say what is wrong."""
    options = argparse.ArgumentParser(description="Is this checkout a release?")
    options.add_argument("--untagged", action="store_true", help="before the tag is set")
    options.add_argument("--out", type=Path, help="folder for the files, when nothing is wrong")
    chosen = options.parse_args()
    version = version_of(CHECKOUT)
    faults = [*version_faults(CHECKOUT), *([] if chosen.untagged else tag_faults(CHECKOUT, version))]
    with tempfile.TemporaryDirectory() as folder:
        wheel, source = built(CHECKOUT, Path(folder))
        faults += [*wheel_faults(wheel, CHECKOUT), *source_faults(source, CHECKOUT, listed(CHECKOUT))]
        faults += differences(wheel, wheel_of_source(source, Path(folder) / "again"))
        for fault in faults:
            print(f"release: {fault}", file=sys.stderr)
        if faults:
            return 1
        for file in (wheel, source):
            print(f"release: {file.name}, {file.stat().st_size / 2**20:.1f} MiB")
            if chosen.out:
                chosen.out.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, chosen.out)
    print(f"release: {version} is complete" + (f"; git tag v{version}" if chosen.untagged else ""))
    return 0


# What it is called


def version_of(checkout: Path) -> str:
    """The package's version, as the build reads it."""
    (version,) = re.findall(
        r'^__version__ = "(.+)"$', (checkout / "barlowctl" / "__init__.py").read_text(), re.MULTILINE
    )
    return str(version)


def version_faults(checkout: Path) -> list[str]:
    """Where the version is written otherwise than in the package, or not at all."""
    version, faults = version_of(checkout), []
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version):
        faults.append(f"__version__ is {version!r}, not like 1.2.3 or 1.2.3rc1")
    headings = re.findall(r"^## (.+)$", (checkout / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    newest = headings[0] if headings else "none"
    if not re.fullmatch(re.escape(version) + r" \(\d{4}-\d{2}-\d{2}\)", newest):
        faults.append(f"CHANGELOG.md begins with the heading {newest!r}, not with '{version} (YYYY-MM-DD)'")
    cited = re.findall(r"^version: (.+)$", (checkout / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    if cited != [version]:
        faults.append(f"CITATION.cff has the version {', '.join(cited) or 'none'}, not {version}")
    return faults


def tag_faults(checkout: Path, version: str) -> list[str]:
    """Whether this very commit, with nothing changed, has the version's tag."""
    tags = _git(checkout, "tag", "--points-at", "HEAD").split()
    faults = [] if f"v{version}" in tags else [f"this commit has the tags {tags}, and not v{version}"]
    if changed := _git(checkout, "status", "--porcelain").splitlines():
        faults.append(f"not committed: {', '.join(line[3:] for line in changed)}")
    return faults


def listed(checkout: Path) -> set[str]:
    """The files of the repository."""
    return set(_git(checkout, "ls-files").splitlines())


def _git(checkout: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=checkout, capture_output=True, text=True, check=True).stdout


# The two files


def built(checkout: Path, folder: Path) -> tuple[Path, Path]:
    """Wheel and source distribution, each built from the checkout by a fresh interpreter."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [_build(kind, checkout, folder) for kind in ("wheel", "sdist")]
    return folder / names[0], folder / names[1]


def wheel_of_source(source: Path, folder: Path) -> Path:
    """The wheel that is built from the source distribution alone."""
    with tarfile.open(source) as archive:
        archive.extractall(folder, filter="data")
    (root,) = folder.iterdir()
    return folder / _build("wheel", root, folder)


def _build(kind: str, root: Path, folder: Path) -> str:
    script = f"import sys, hatchling.build; print(hatchling.build.build_{kind}(sys.argv[1]))"
    command = [sys.executable, "-c", script, str(folder)]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.splitlines()[-1]


def wheel_faults(wheel: Path, checkout: Path) -> list[str]:
    """What the wheel lacks, and what is in it that should not be."""
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    with zipfile.ZipFile(wheel) as archive:
        if damaged := archive.testzip():
            return [f"{wheel.name}: {damaged} is damaged"]
        names = set(archive.namelist())
        dist_info = f"{project['name']}-{wheel.name.split('-')[1]}.dist-info"
        needed = expected_in_wheel(checkout) | {f"{dist_info}/{name}" for name in ("METADATA", "RECORD", "WHEEL")}
        needed |= {f"{dist_info}/licenses/{name}" for name in project["license-files"]} | {
            f"{dist_info}/entry_points.txt"
        }
        faults = [f"{wheel.name} lacks {name}" for name in sorted(needed - names)]
        faults += [f"{wheel.name} holds {name}, which is not of the package" for name in sorted(names - needed)]
        if f"{dist_info}/METADATA" in names:
            faults += metadata_faults(archive.read(f"{dist_info}/METADATA"), project)
    return faults


def expected_in_wheel(checkout: Path) -> set[str]:
    """The package's files, and the recipes inside of it: no tests, no caches."""
    package = (path for path in (checkout / "barlowctl").rglob("*") if path.is_file() and not is_cached(path))
    recipes = {f"barlowctl/recipes/{path.name}" for path in (checkout / "recipes").glob("*.toml")}
    return {path.relative_to(checkout).as_posix() for path in package} | recipes | {"barlowctl/py.typed"}


def is_cached(path: Path | PurePosixPath) -> bool:
    """Whether a tool made the file as it ran: no part of any release."""
    return not set(CACHES).isdisjoint(path.parts) or path.suffix in (".pyc", ".pyo", ".nbi", ".nbc", ".so")


def metadata_faults(written: bytes, project: dict[str, object]) -> list[str]:
    """Links that lead nowhere outside of the repository, and extras that were lost."""
    metadata = message_from_bytes(written)
    description = written.decode().partition("\n\n")[2]
    faults = [] if description.strip() else ["the wheel has no description"]
    outside_code = re.sub(r"^```.*?^```$", "", description, flags=re.MULTILINE | re.DOTALL)
    faults += [f"the description links to {target}, beside README.md" for target in LINK.findall(outside_code)]
    extras = project["optional-dependencies"]
    assert isinstance(extras, dict)
    if lost := sorted(set(extras) - set(metadata.get_all("Provides-Extra", []))):
        faults.append(f"the wheel lacks the extras {', '.join(lost)}")
    return faults


def source_faults(source: Path, checkout: Path, files: set[str]) -> list[str]:
    """Files of the repository that the source distribution lacks, and others that it holds."""
    with tarfile.open(source) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    needed = {name for name in files if (checkout / name).exists()}
    faults = [f"{source.name} lacks {name}" for name in sorted(needed - names)]
    others = sorted(names - needed - {"PKG-INFO"})
    return faults + [f"{source.name} holds {name}, which is not committed" for name in others]


def differences(first: Path, second: Path) -> list[str]:
    """Files that two wheels do not share byte for byte (the list of their checksums says nothing more)."""
    with zipfile.ZipFile(first) as archive, zipfile.ZipFile(second) as other:
        names = set(archive.namelist()) | set(other.namelist())
        shared = set(archive.namelist()) & set(other.namelist())
        differing = {name for name in names if name not in shared or archive.read(name) != other.read(name)}
    return [
        f"the wheel that the source distribution builds has another {name}"
        for name in sorted(differing)
        if not name.endswith("/RECORD")
    ]


if __name__ == "__main__":
    sys.exit(main())
