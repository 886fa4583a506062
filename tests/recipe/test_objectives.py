"""Methods in recipes: chosen by name, each with its own keys; recipes without a name are Barlow Twins as ever."""

from __future__ import annotations

import pytest

from barlowctl.errors import UserError
from barlowctl.recipe import load
from barlowctl.recipe.lambd import lambd_of
from barlowctl.recipe.objectives import DEFAULT, METHODS, BarlowTwins, Supervised, only_barlow_twins

MINIMAL = 'name = "mine"\n[data]\ndataset = "photos"\n'
LABELLED = MINIMAL + '[objective]\nname = "supervised"\n'


def refusal(text: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load.parse(text, overrides)
    return caught.value.message


def test_digests_are_those_from_before_there_were_names() -> None:
    """Of the commit before `objective.name`."""
    assert load.digest(load.load("quickstart", ["train.epochs=5"])) == "8eafc3c140f61311"
    assert load.digest(load.load("quickstart", ["train.epochs=5", "objective.name=barlow-twins"])) == "8eafc3c140f61311"
    assert load.digest(load.load("quickstart", ["train.epochs=5", "objective.name=supervised"])) != "8eafc3c140f61311"


def test_a_recipe_without_a_name_is_barlow_twins() -> None:
    recipe = load.parse(MINIMAL + "[objective]\nlambd = 0.3\n")
    assert recipe.objective == BarlowTwins(lambd=0.3)
    assert (recipe.objective.name, DEFAULT) == ("barlow-twins", "barlow-twins")
    assert load.parse(load.dump(recipe)) == recipe


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_be_set_and_comes_back_from_its_text(name: str) -> None:
    recipe = load.load("quickstart", [f"objective.name={name}"])
    assert recipe.objective.model_dump()["name"] == name
    assert isinstance(recipe.objective, METHODS[name])
    assert load.parse(load.dump(recipe)) == recipe
    assert load.flatten(recipe)["objective.name"] == name
    assert recipe.objective.title


def test_another_method_begins_its_keys_anew_in_whatever_order_they_are_set() -> None:
    there = load.parse(MINIMAL, ["objective.lambd=0.3", "objective.scale=2.0"])
    assert load.override(there, ["objective.name=supervised"]).objective == Supervised()
    back = load.parse(LABELLED, ["objective.lambd=0.3", "objective.name=barlow-twins"])
    assert back.objective == BarlowTwins(lambd=0.3)
    same = load.override(there, ["objective.name=barlow-twins", "objective.form=gram"])
    assert same.objective == BarlowTwins(lambd=0.3, scale=2.0, form="gram")


def test_a_wrong_name_or_key_is_answered_from_what_there_is() -> None:
    message = refusal(MINIMAL, "objective.name=superwised")
    assert "objective.name is 'superwised', did you mean 'supervised'? Allowed: 'barlow-twins', " in message
    assert "did you mean 'objective.lambd'?" in refusal(MINIMAL, "objective.lamda=1")
    message = refusal(LABELLED + "lambd = 1\n")
    assert message == (
        "recipe, line 6: unknown key 'objective.lambd' of supervised: it is one of barlow-twins, mixed-barlow-twins. "
        "Allowed in objective: name."
    )
    assert "objective.name is 3. Allowed: 'barlow-twins'" in refusal(MINIMAL, "objective.name=3")
    assert "objective is 3" in refusal(MINIMAL, "objective=3")
    assert "objective.form is 'gramm', did you mean 'gram'?" in refusal(MINIMAL, "objective.form=gramm")


def test_a_method_of_one_view_draws_the_first_one() -> None:
    recipe = load.parse(LABELLED, ["views.size=32", "views.first.hue=0.3"])
    assert recipe.drawn() == [(32, recipe.views.first)]
    assert recipe.sizes == [32]
    assert load.parse(MINIMAL).sizes == [224, 224]


def test_what_is_of_barlow_twins_alone_is_refused_for_others() -> None:
    assert only_barlow_twins(BarlowTwins(lambd=0.2), "this").lambd == 0.2
    with pytest.raises(UserError, match="the study 'lambd' is of the Barlow Twins loss") as caught:
        only_barlow_twins(Supervised(), "the study 'lambd'")
    assert caught.value.next == "--set objective.name=barlow-twins"


def test_lambd_auto_is_by_the_width_of_the_projector() -> None:
    assert lambd_of("auto", 8192) == (0.0051, "auto: 0.0051 x sqrt(8192 / 8192)")
    assert lambd_of("auto", 512)[0] == pytest.approx(0.0204, rel=1e-12)
    assert lambd_of(0.3, 512) == (0.3, "")
    recipe = load.parse(MINIMAL, ["objective.lambd=auto"])
    assert recipe.objective == BarlowTwins(lambd="auto")
    assert load.parse(load.dump(recipe)) == recipe
    assert refusal(MINIMAL, "objective.lambd=aut").startswith(
        "--set objective.lambd=aut: objective.lambd is 'aut', did you mean 'auto'?"
    )
    assert refusal(MINIMAL, "objective.lambd=-1") == (
        '--set objective.lambd=-1: objective.lambd is -1. Allowed: a number from 0 to 1,000,000 or "auto".'
    )
