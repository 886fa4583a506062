"""Optional packages: one that is not there is installed, one that does not work is quoted and installed again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from barlowctl.errors import UserError
from barlowctl.packages import installation_of, package_of, required


class Other(UserError):
    """Of the caller."""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that modules are imported from."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("quite", "broken", "needy", "half"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_modules_that_are_there_are_given_in_their_order() -> None:
    assert required("a test needs them", "json", "xml.dom") == (sys.modules["json"], sys.modules["xml.dom"])


def test_what_is_not_there_is_installed(modules: Path) -> None:
    with pytest.raises(UserError) as raised:
        required("--quite needs the package quite", "quite", extra="plots", allowed="or none", advice="without --quite")
    assert raised.value.message == "--quite needs the package quite, which is not installed"
    assert (raised.value.allowed, raised.value.next) == ("or none", "pip install 'barlowctl[plots]'")
    with pytest.raises(Other) as other:
        required("this needs json, quite, sklearn", "json", "quite", "sklearn.nothing", error=Other)
    assert other.value.message == "this needs json, quite, sklearn; not installed: quite, scikit-learn"
    assert other.value.next == "pip install quite scikit-learn"


def test_a_folder_of_the_name_is_no_package(modules: Path) -> None:
    """W&B writes a folder `wandb` where it is used."""
    (modules / "quite").mkdir()
    with pytest.raises(UserError, match="which is not installed"):
        required("this needs quite", "quite")


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("broken", "raise ImportError('libssl.so.3: cannot open')", "ImportError: libssl.so.3: cannot open"),
        ("broken", "raise AttributeError('np.float_ was removed')", "AttributeError: np.float_ was removed"),
        ("broken", "raise SystemExit(1)", "SystemExit: 1"),
        ("needy", "import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
    ],
)
def test_what_does_not_work_is_quoted_and_installed_again(modules: Path, name: str, text: str, reason: str) -> None:
    (modules / f"{name}.py").write_text(text)
    with pytest.raises(UserError) as raised:
        required(f"--x needs the package {name}", name, extra="plots", advice="without --x")
    assert raised.value.message == f"--x needs the package {name}, which is installed and does not work: {reason}"
    assert raised.value.next == f"pip install --force-reinstall {name}\nwithout --x"
    with pytest.raises(UserError, match=f"; {name} is installed and does not work: {reason.partition(':')[0]}"):
        required("this needs two", "json", name)


def test_packages_are_called_as_pip_does(modules: Path) -> None:
    assert [package_of(name) for name in ("sklearn.svm", "umap", "torch.utils.tensorboard", "pycocotools.mask")] == [
        "scikit-learn", "umap-learn", "tensorboard", "pycocotools",
    ]  # fmt: skip
    (modules / "half.py").write_text("raise ImportError")
    assert installation_of("half", "heif") == "pip install --force-reinstall half"
    assert installation_of("quite", "heif") == "pip install 'barlowctl[heif]'"
