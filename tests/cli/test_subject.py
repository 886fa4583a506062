"""Errors that need no torch come before it is imported, which takes seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from barlowctl.cli.app import run
from barlowctl.cli.subject import require
from barlowctl.errors import UserError

REFUSE = """
import sys
class Refused:
    def find_spec(self, name, path=None, target=None):
        if name in {"torch", "timm", "torchvision", "numba"}:
            raise AssertionError(f"{name} is imported")
sys.meta_path.insert(0, Refused())
from barlowctl.cli import app
sys.exit(app.run(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("report none", "'none' is not a run"),
        ("report run --out page.txt", "--out is 'page.txt'"),
        ("export none", "'none' is not a run"),
        ("export run --license mit", "--license is of --push"),
        ("transfer runs/none --data photos", "'runs/none' does not exist"),
        ("transfer none.pth --data photos", "'none.pth' does not exist"),
        ("transfer resnet18 --data nothing", "nothing"),
        ("transfer resnet18 --data photos", "no test split"),
        ("probe runs/none", "'runs/none' does not exist"),
        ("probe resnet18 --data nothing", "nothing"),
        ("embed runs/none --out features.npz", "'runs/none' does not exist"),
        ("embed resnet18 --data nothing --out features.npz", "nothing"),
    ],
)
def test_it_comes_before_torch(tmp_path: Path, command: str, message: str) -> None:
    for file in ("run/recipe.toml", "run/run.json", "photos/a/1.jpg"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    words = ["./photos" if word == "photos" else word for word in command.split()]
    done = subprocess.run([sys.executable, "-c", REFUSE, *words], cwd=tmp_path, capture_output=True, text=True)
    assert "is imported" not in done.stderr, done.stderr
    assert done.returncode == 2
    assert message in done.stderr


def test_a_bare_word_may_be_a_model_and_a_run_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARLOWCTL_RUNS", str(tmp_path))
    (tmp_path / "study" / "first.pth").mkdir(parents=True)
    for name in ("resnet18", "resnet18.a1_in1k", "study/first.pth"):
        require(name)
    for name, says in (("study/second", "does not exist"), (__file__, "is a file of another kind")):
        with pytest.raises(UserError, match=says):
            require(name)


@pytest.mark.parametrize(
    ("named", "what"),
    [
        ("./photos", "a folder of images"),
        ("photos", "a folder of images"),
        ("./packed.beton", "a packed file of images"),
        ("birds", "a data set of the data home"),
    ],
)
def test_images_in_the_place_of_the_network_are_answered_with_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], named: str, what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BARLOWCTL_DATA", str(tmp_path / "home"))
    for file in ("photos/a/1.jpg", "packed.beton", "home/birds/train.beton"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    for command, *rest in (["probe", "--knn"], ["transfer", "-q"], ["embed"]):
        assert run([command, named, *rest]) == 2
        err = capsys.readouterr().err
        assert f"error: '{named}' is {what}, and no network\n" in err
        assert f"next: barlowctl {' '.join([command, *rest, '--data', named])}\n" in err


@pytest.mark.parametrize(
    ("typed", "advice"),
    [
        ("pretrain photos", "pretrain --data photos"),
        ("pretrain quickstart", "pretrain --recipe quickstart"),
        ("pretrain mine.toml -q", "pretrain -q --recipe mine.toml"),
        ("data preview photos --out v.png", "data preview --out v.png --data photos"),
        ("probe resnet18 photos", "probe resnet18 --data photos"),
        ("pretrain --data my photos", "recipes list"),  # a name with a space: which part is meant, nobody knows
        ("pretrain nothing-there", "recipes list"),
    ],
)
def test_a_word_too_many_is_answered_with_its_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str, advice: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    assert run(typed.split()) == 2
    assert capsys.readouterr().err.rstrip().endswith(f"next: barlowctl {advice}")
