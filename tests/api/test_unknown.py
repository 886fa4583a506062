"""Arguments that a function does not have."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import barlowctl
from barlowctl.api.recipes import open_recipe
from barlowctl.recipe import bare_words
from tests.api.test_arguments import FUNCTIONS

METHODS = "barlow-twins, mixed-barlow-twins, vicreg, "


def refusal(function: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[str, str, str]:
    """What is wrong, what is allowed, and what comes next; to Python it is a TypeError, as of every function."""
    with pytest.raises(barlowctl.UserError) as refused:
        function(*arguments, **options)
    assert isinstance(refused.value, TypeError)
    allowed, advice = refused.value.__notes__
    return str(refused.value), allowed.removeprefix("allowed: "), advice.removeprefix("next: ")


@pytest.mark.parametrize(
    ("name", "value", "key", "allowed"),
    [
        ("epochs", 3, "train.epochs", "a number above 0 to 2,147,483,647"),
        ("batch_size", 64, "train.batch_size", "a whole number from 2 to 2,147,483,647"),
        ("lr", 0.1, "optimizer.lr", "a number from 1e-12 to 1,000,000"),
        ("learning_rate", 0.1, "optimizer.lr", "a number from 1e-12 to 1,000,000"),
        ("optimizer", "lars", "optimizer.name", '"lars", "sgd", "adamw", "muon"'),
        ("backbone", "resnet18", "model.backbone", "a timm model name"),
        ("loss", "vicreg", "objective.name", METHODS),
        ("temperature", 0.2, "objective.temperature", "a number from 1e-06 to 1,000,000"),
        ("seed", 1, "seed", "a whole number from 0 below"),
    ],
)
@pytest.mark.parametrize("function", [barlowctl.pretrain, barlowctl.pretrain_events, barlowctl.preview])
def test_a_key_of_the_recipe_is_named_with_the_call(
    function: Callable[..., Any], name: str, value: Any, key: str, allowed: str
) -> None:
    message, takes, advice = refusal(function, "quickstart", **{name: value})
    assert message == f"{function.__name__}() has no argument '{name}': it is a key of the recipe, {key}"
    assert takes.startswith(f"{key}: {allowed}")
    assert advice == f"overrides={{{key!r}: {value!r}}}"


@pytest.mark.parametrize("name", ["epochs", "batch_size", "lr", "optimizer", "backbone", "projector", "lambd"])
def test_the_call_that_is_advised_makes_that_recipe(name: str) -> None:
    """The advice is Python, and sets the key."""
    key = bare_words.key_of(name)
    assert key is not None
    _, _, advice = refusal(barlowctl.pretrain, "quickstart", **{name: object()})
    overrides = eval(advice.removeprefix("overrides="))
    assert list(overrides) == [key]
    section, _, leaf = key.partition(".")
    made = getattr(getattr(open_recipe("quickstart", overrides), section), leaf)
    assert made == bare_words.default(key)


@pytest.mark.parametrize("name", ["transform", "augmentations", "collate_fn"])
def test_distortions_in_hand_lead_to_the_recipes_and_to_a_loop(name: str) -> None:
    message, allowed, advice = refusal(barlowctl.pretrain, "quickstart", **{name: len})
    assert message.startswith(f"pretrain() has no argument '{name}': the views of an image are made as the recipe's")
    assert "a loop of your own, with any distortions" in allowed
    made = open_recipe("quickstart", eval(advice.removeprefix("overrides=")))
    assert made.views.first.crop_scale == made.views.second.crop_scale == (0.2, 1.0)
    assert all(key in allowed for key in ("crop_scale", "flip", "rotate90", "brightness", "blur"))
    assert {"crop_scale", "flip", "rotate90", "brightness", "blur"} <= type(made.views.first).model_fields.keys()


def test_words_of_other_tools_lead_to_ours() -> None:
    for name, meant in (("train_dataset", "data"), ("output_dir", "out"), ("callbacks", "on_event")):
        message, _, advice = refusal(barlowctl.pretrain, "quickstart", **{name: "x"})
        assert (message, advice) == (f"pretrain() has no argument '{name}', did you mean '{meant}'?", f"{meant}='x'")


def test_a_class_of_ones_own_as_the_backbone_leads_to_timms_registry(recipe: Path) -> None:
    for name in ("my_networks.Small", "my_networks:Small"):
        with pytest.raises(barlowctl.UserError, match="has no model named") as refused:
            barlowctl.build_method(recipe, overrides={"model.backbone": name, "model.stem": "default"})
        assert "a network of your own is registered with timm first" in str(refused.value.allowed)


def test_every_key_has_words() -> None:
    for key in bare_words._keys():
        assert bare_words.takes(key), key
        assert bare_words.key_of(key.rpartition(".")[2]) is not None


def test_a_loss_in_hand_is_answered_as_a_loss() -> None:
    message, allowed, advice = refusal(barlowctl.pretrain, "quickstart", loss=nn.Linear(2, 2))
    assert message == (
        "loss is a Linear: a run notes its loss as a key of its recipe, objective.name, to go on and to be repeated, "
        "and of an object it does not know that"
    )
    assert allowed.startswith(f"objective.name: {METHODS}")
    assert allowed.endswith("or a loop of your own, with any loss (docs/python.md, In a loop of your own)")
    assert advice == "overrides={'objective.name': 'barlow-twins'}"
    weight = nn.Parameter(torch.zeros(1))
    message, allowed, advice = refusal(barlowctl.pretrain, "quickstart", optimizer=torch.optim.SGD([weight], lr=0.1))
    assert "its optimizer as a key of its recipe, optimizer.name" in message
    assert advice == "overrides={'optimizer.name': 'lars'}"


@pytest.mark.parametrize(
    ("function", "options", "says", "advice"),
    [
        ("probe", {"knn": True}, "probe() has no argument 'knn'", "measures=['knn']"),
        ("probe", {"semi_10": True}, "probe() has no argument 'semi_10'", "trained=['semi-10']"),
        ("probe", {"epochs": 3}, "'epochs'", "trained=['linear'], overrides={'epochs': 3}"),
        ("probe", {"crop": 96}, "recipes, eval.crop", "barlowctl.open_network('x', overrides={'eval.crop': 96})"),
        ("features", {"pooling": "avg"}, "recipes, model.pooling",
         "barlowctl.open_network('x', overrides={'model.pooling': 'avg'})"),
        ("features", {"batch_size": 3}, "features() has no argument 'batch_size'", "leave batch_size out"),
        ("open_network", {"crop": 96}, "recipes, eval.crop", "overrides={'eval.crop': 96}"),
        ("export", {"backbone": "resnet18"}, "recipes, model.backbone", "overrides={'model.backbone': 'resnet18'}"),
        ("export", {"epochs": 3}, "export() has no argument 'epochs'", "leave epochs out"),
        ("pretrain", {"thread": 2}, "did you mean 'threads'?", "threads=2"),
        ("pretrain", {"dataset": "photos"}, "did you mean 'data'?", "data='photos'"),
        ("pretrain", {"nothing": print}, "no argument 'nothing'", "leave nothing out"),
        ("push", {"repository": "a/b", "license": "mit", "publik": True}, "did you mean 'public'?", "public=True"),
        ("pack", {"out": "y", "holdout": 20}, "did you mean 'hold_out'?", "hold_out=20"),
        ("Network", {"siz": 3}, "Network() has no argument 'siz', did you mean 'size'?", "size=3"),
    ],
)  # fmt: skip
def test_what_is_meant_is_named(function: str, options: dict[str, Any], says: str, advice: str) -> None:
    given = ("x", "y") if function == "features" else ("x",)
    message, _, what_next = refusal(getattr(barlowctl, function), *given, **options)
    assert says in message
    assert what_next == advice


@pytest.mark.parametrize(
    "name", [name for name, of in FUNCTIONS.items() if set(inspect.signature(of).parameters) - {"self"}]
)
def test_every_function_refuses_an_argument_that_it_does_not_have(name: str) -> None:
    named = re.escape(name.removesuffix(".__init__"))
    with pytest.raises(barlowctl.UserError, match=rf"^{named}\(\) has no argument 'nothing_like_it'\n"):
        FUNCTIONS[name](nothing_like_it=1)


def test_arguments_by_position_are_counted() -> None:
    message, allowed, advice = refusal(barlowctl.pretrain, "quickstart", "photos")
    assert message == "pretrain() was given 2 arguments by position, and takes 1 (recipe)"
    assert allowed.startswith("by name: on_event, stop, ")
    assert advice == "name what follows, e.g. data=..."
    with pytest.raises(
        barlowctl.UserError, match=r"^load\(\) was given 2 arguments by position, and takes 1 \(run\)"
    ) as error:
        barlowctl.load("run", "other")  # type: ignore[call-arg]
    assert error.value.next == "leave out what follows"


@pytest.mark.parametrize(
    ("name", "says"), [("ablate", "`barlowctl ablate`"), ("embed", r"barlowctl\.features\(network, images\)")]
)
def test_a_command_that_is_no_function_is_said_to_be_one(name: str, says: str) -> None:
    with pytest.raises(AttributeError, match=says):
        getattr(barlowctl, name)
    assert not hasattr(barlowctl, "nothing")
