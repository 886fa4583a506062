"""Recipes of one kind of images, one for each method: shipped ones, and one's own by the beginning of their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from barlowctl.errors import UserError
from barlowctl.recipe import catalog, load
from barlowctl.study.family import Family, fitting, shipped


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`mine.toml` and `mine-simsiam.toml`, and the same recipes in a folder under the names of what they were."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for source, target in (("quickstart", "mine"), ("fashion-mnist-simsiam", "mine-simsiam")):
        catalog.copy(source, tmp_path / f"{target}.toml")
    for source in ("fashion-mnist-multicrop-barlow-twins", "fashion-mnist-simsiam", "quickstart"):
        catalog.copy(source, tmp_path / "folder")
    return tmp_path


def test_small_views_and_large_ones_have_families_that_are_shipped() -> None:
    assert fitting(load.load("quickstart")) == Family("fashion-mnist")
    assert fitting(load.load("resnet50")) == Family("resnet50")
    assert shipped() == ["fashion-mnist", "resnet50"]
    assert Family("resnet50").find("barlow-twins") == "resnet50"
    assert Family("fashion-mnist").find("swav") == "fashion-mnist-swav"


@pytest.mark.parametrize("name", ["mine", "./mine", "./mine.toml", "../{here}/mine"])
def test_ones_own_recipes_by_the_beginning_of_their_names(name: str, own: Path) -> None:
    family = Family(name.format(here=own.name))
    assert family.names == ["barlow-twins", "simsiam"]
    assert load.load(family.find("simsiam")).objective.name == "simsiam"
    assert load.load(family.find("barlow-twins")).name == "quickstart"


def test_a_folder_has_files_named_after_methods_or_ending_in_their_names(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Family("folder").names == Family("./folder/").names == ["simsiam", "multicrop-barlow-twins"]
    monkeypatch.chdir(own / "folder")
    assert Family(".").names == ["simsiam", "multicrop-barlow-twins"]
    base = load.load("quickstart")
    assert Family(".").reference(base) == base  # no Barlow Twins in it: whatever the method's recipe has is its own
    Path("simsiam.toml").write_text("")
    with pytest.raises(UserError, match="both of the method 'simsiam'"):
        Family(".").names  # noqa: B018


def test_a_missing_recipe_of_ones_own_is_made_from_a_shipped_one(own: Path) -> None:
    with pytest.raises(UserError, match="no recipe of 'swav'") as error:
        Family("./mine").find("swav")
    assert error.value.next == "barlowctl recipes copy fashion-mnist-swav mine-swav.toml"
    assert error.value.allowed == "with --settings-of ./mine: barlow-twins, simsiam"
    with pytest.raises(UserError) as error:
        Family("folder").find("barlow-twins")
    assert error.value.next == "barlowctl recipes copy fashion-mnist folder/barlow-twins.toml"


@pytest.mark.parametrize(("name", "near"), [("fashion-mnst", "fashion-mnist"), ("resnet5", "resnet50")])
def test_a_family_that_is_not_there(name: str, near: str) -> None:
    with pytest.raises(UserError, match=f"no recipes '{name}-METHOD' .*did you mean '{near}'") as error:
        Family(name).find("swav")
    assert error.value.next == f"--settings-of {near}"
