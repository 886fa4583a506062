"""The release check sees what is wrong with a release, and finds nothing wrong with what is built here."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
import yaml  # type: ignore[import-untyped]

CI = Path(__file__).parents[1] / ".ci"
WORKFLOWS = Path(__file__).parents[1] / ".github" / "workflows"


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"ci_{name}", CI / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


release, long_description = module("release"), module("long_description")


@pytest.fixture(scope="module")
def built(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("BARLOWCTL_SOURCE_URL", raising=False)
        wheel, source = release.built(checkout, tmp_path_factory.mktemp("built"))
    return wheel, source


def test_the_wheel_has_no_fault_and_its_source_builds_the_same(
    built: tuple[Path, Path], checkout: Path, tmp_path: Path
) -> None:
    wheel, source = built
    assert release.wheel_faults(wheel, checkout) == []
    assert release.differences(wheel, release.wheel_of_source(source, tmp_path / "again")) == []


def test_the_source_distribution_has_every_file_of_the_repository(built: tuple[Path, Path], checkout: Path) -> None:
    if not (checkout / ".git").exists():
        pytest.skip("not a repository")
    faults = release.source_faults(built[1], checkout, release.listed(checkout))
    assert [fault for fault in faults if "lacks" in fault] == []
    more = release.source_faults(built[1], checkout, {"LICENSE"})
    assert f"{built[1].name} holds barlowctl/__init__.py, which is not committed" in more


def changed(wheel: Path, folder: Path, *, without: str = "", with_: str = "", description: str = "") -> Path:
    """A copy of the wheel with a file less, a file more, or a longer description."""
    copy = folder / wheel.name
    with zipfile.ZipFile(wheel) as archive, zipfile.ZipFile(copy, "w") as written:
        for name in archive.namelist():
            if not (without and name.endswith(without)):
                end = description.encode() if name.endswith("METADATA") else b""
                written.writestr(name, archive.read(name) + end)
        if with_:
            written.writestr(with_, "x")
    return copy


@pytest.mark.parametrize(
    "name",
    ["recipes/quickstart.toml", "cli/doctor.py", "py.typed", "report/map.html", "licenses/LICENSE", "entry_points.txt"],
)
def test_a_file_that_the_wheel_lacks_is_a_fault(
    built: tuple[Path, Path], checkout: Path, tmp_path: Path, name: str
) -> None:
    (fault,) = release.wheel_faults(changed(built[0], tmp_path, without=f"/{name}"), checkout)
    assert " lacks barlowctl" in fault
    assert fault.endswith(name)


@pytest.mark.parametrize(
    "name", ["tests/test_release.py", "barlowctl/__pycache__/files.cpython-313.pyc", "barlowctl/recipes/mine.toml"]
)
def test_a_file_that_is_not_of_the_package_is_a_fault(
    built: tuple[Path, Path], checkout: Path, tmp_path: Path, name: str
) -> None:
    (fault,) = release.wheel_faults(changed(built[0], tmp_path, with_=name), checkout)
    assert fault.endswith(f"holds {name}, which is not of the package")


def test_a_link_of_the_description_that_leads_nowhere_is_a_fault(
    built: tuple[Path, Path], checkout: Path, tmp_path: Path
) -> None:
    copy = changed(built[0], tmp_path, description="\nSee [the guide](docs/guide.md), [timm](https://example.org).\n")
    assert release.wheel_faults(copy, checkout) == ["the description links to docs/guide.md, beside README.md"]


def test_wheels_that_differ_are_told_apart(built: tuple[Path, Path], tmp_path: Path) -> None:
    copy = changed(built[0], tmp_path, without="recipes/adapt.toml", description="more")
    assert release.differences(built[0], copy) == [
        "the wheel that the source distribution builds has another barlowctl-0.1.0.dist-info/METADATA",
        "the wheel that the source distribution builds has another barlowctl/recipes/adapt.toml",
    ]


# The page of a package index


def test_links_of_the_readme_begin_with_the_address_or_become_text() -> None:
    page = "[a](docs/a.md#b), [docs/c.md](docs/c.md), [d](https://example.org), [e](#below)\n```\nx[0](y)\n```\n"
    assert long_description.outside(page, None) == page.replace("[a](docs/a.md#b)", "a (docs/a.md#b)").replace(
        "[docs/c.md](docs/c.md)", "docs/c.md"
    )
    assert long_description.outside(page, "https://example.org/v1/") == page.replace(
        "(docs/", "(https://example.org/v1/docs/"
    )


def test_every_relative_link_of_the_readme_leads_to_a_file(checkout: Path) -> None:
    links = long_description.relative_links((checkout / "README.md").read_text(encoding="utf-8"))
    assert len(links) > 10
    assert [link for link in links if not (checkout / link.partition("#")[0]).exists()] == []


# Version, heading and tag


@pytest.fixture
def versioned(tmp_path: Path) -> Path:
    (tmp_path / "barlowctl").mkdir()
    (tmp_path / "barlowctl" / "__init__.py").write_text('__version__ = "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.3 (2027-01-02)\n\n- x\n\n## 1.2.2 (2026-01-02)\n")
    (tmp_path / "CITATION.cff").write_text("cff-version: 1.2.0\nversion: 1.2.3\n")
    return tmp_path


def test_versions_that_agree_have_no_fault(versioned: Path) -> None:
    assert release.version_faults(versioned) == []


@pytest.mark.parametrize(
    ("file", "text", "fault"),
    [
        ("CHANGELOG.md", "## Unreleased\n\n## 1.2.3 (2027-01-02)\n", "'Unreleased', not with '1.2.3 (YYYY-MM-DD)'"),
        ("CHANGELOG.md", "## 1.2.3\n", "'1.2.3', not with"),
        ("CHANGELOG.md", "", "'none', not with"),
        ("CITATION.cff", "cff-version: 1.2.0\nversion: 1.2.2\n", "the version 1.2.2, not 1.2.3"),
    ],
)
def test_a_version_that_disagrees_is_a_fault(versioned: Path, file: str, text: str, fault: str) -> None:
    (versioned / file).write_text(text)
    (line,) = release.version_faults(versioned)
    assert fault in line


def test_the_tag_is_of_this_commit_with_nothing_changed(versioned: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=versioned, check=True, capture_output=True)

    git("init")
    git("add", ".")
    git("commit", "-m", "x")
    git("tag", "v1.2.2")
    assert release.tag_faults(versioned, "1.2.3") == ["this commit has the tags ['v1.2.2'], and not v1.2.3"]
    git("tag", "v1.2.3")
    assert release.tag_faults(versioned, "1.2.3") == []
    (versioned / "LICENSE").write_text("x")
    assert release.tag_faults(versioned, "1.2.3") == ["not committed: LICENSE"]


# Workflows


def test_publishing_checks_first_and_alone_has_the_right_to_publish() -> None:
    workflow = yaml.safe_load((WORKFLOWS / "publish.yml").read_text(encoding="utf-8"))
    build, publish = workflow["jobs"]["build"], workflow["jobs"]["publish"]
    assert [step["run"] for step in build["steps"] if "release.py" in step.get("run", "")] == [
        "python .ci/release.py --out dist"
    ]
    assert workflow["permissions"] == {"contents": "read"}
    assert "permissions" not in build
    assert publish["needs"] == "build"
    assert publish["permissions"] == {"id-token": "write"}
    assert not any("run" in step for step in publish["steps"])  # nothing of the repository runs with that right
    assert "secrets." not in (WORKFLOWS / "publish.yml").read_text(encoding="utf-8")


def test_the_tests_are_run_as_anybody_runs_them(checkout: Path) -> None:
    workflow = yaml.safe_load((WORKFLOWS / "test.yml").read_text(encoding="utf-8"))
    assert "make test-oldest" in [step.get("run") for step in workflow["jobs"]["oldest"]["steps"]]
    job = workflow["jobs"]["test"]
    assert ".ci/run" in [step.get("run") for step in job["steps"]]
    classifiers = (checkout / "pyproject.toml").read_text(encoding="utf-8")
    assert all(
        f'"Programming Language :: Python :: {version}"' in classifiers
        for version in job["strategy"]["matrix"]["python"]
    )


def test_no_token_stays_in_a_checkout() -> None:
    """Else whatever a later step runs could read it from .git/config."""
    files = sorted(WORKFLOWS.glob("*.yml"))
    jobs = [job for file in files for job in yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"].values()]
    checkouts = [step for job in jobs for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
    assert (len(files), len(checkouts)) == (2, 3)
    assert [step for step in checkouts if step.get("with", {}).get("persist-credentials") is not False] == []


def test_actions_are_named_by_commit_and_say_their_release() -> None:
    """A tag can be moved to other code, and `publish` may write to the package index."""
    lines = [
        line.split("uses:", 1)[1].strip()
        for file in sorted(WORKFLOWS.glob("*.yml"))
        for line in file.read_text(encoding="utf-8").splitlines()
        if "uses:" in line and not line.lstrip().startswith("#")
    ]
    assert len(lines) == 9
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []
    commits = {line.split("@")[0]: line.split("@")[1] for line in lines}
    assert sorted(set(lines)) == sorted(f"{action}@{commit}" for action, commit in commits.items()), "two commits"
