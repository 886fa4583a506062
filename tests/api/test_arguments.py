"""Arguments of a wrong kind: refused by name, by every public function, before anything happens."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch
from torch import nn

import barlowctl
from barlowctl.api import unknown
from barlowctl.api.recipes import override_texts
from barlowctl.errors import kind_of

IMAGES = "a string, a path, images in memory: a data set, a list, arrays and labels or None"
FUNCTIONS = {
    name: getattr(barlowctl, name) for name in barlowctl.__all__ if inspect.isfunction(getattr(barlowctl, name))
} | {
    f"{network.__name__}.{name}": function
    for network in (barlowctl.Network, barlowctl.Run)
    for name, function in vars(network).items()
    if inspect.isfunction(function) and (name == "__init__" or not name.startswith("_"))
}


def cases() -> list[Any]:
    """Every argument of every public function, those of unpacked options too."""
    cases = []
    for name, function in FUNCTIONS.items():
        for key, parameter in inspect.signature(function).parameters.items():
            options = parameter.kind is inspect.Parameter.VAR_KEYWORD
            hint = parameter.annotation.removeprefix("Unpack[").removesuffix("]") if options else None
            keys = get_type_hints(vars(inspect.getmodule(function))[hint]) if hint else [key]
            cases += [pytest.param(function, key, id=f"{name}({key})") for key in keys if key not in ("self", "images")]
    return cases


@pytest.mark.parametrize(("function", "key"), cases())
def test_every_function_refuses_what_it_does_not_take(function: Callable[..., Any], key: str) -> None:
    """`object` is of no kind that is taken; the other arguments that must be there are names."""
    parameters = inspect.signature(function).parameters.values()
    required = {p.name: "x" for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD}
    with pytest.raises(barlowctl.UserError, match=rf"^{key} is an object\n") as refused:
        function(**{**required, key: object()})
    assert refused.value.__notes__[0].startswith("allowed: ")


@pytest.mark.parametrize(
    ("options", "message", "allowed"),
    [
        ({"overrides": ["views.size=16"]}, "overrides is ['views.size=16'], a list", "a dictionary or None"),
        ({"threads": 1.5}, "threads is 1.5, a float", "a whole number or None"),
        ({"threads": True}, "threads is True, a bool", "a whole number or None"),
        ({"loader": 3}, "loader is 3, an int", "'auto', 'fast' or 'plain'"),
        ({"data": 3}, "data is 3, an int", IMAGES),
        ({"stop": "soon"}, "stop is 'soon', a str", "a function or None"),
    ],
)  # fmt: skip
def test_what_is_said(options: dict[str, Any], message: str, allowed: str, tmp_path: Path) -> None:
    with pytest.raises(barlowctl.UserError) as refused:
        barlowctl.pretrain("quickstart", out=tmp_path / "run", **options)
    assert str(refused.value) == message
    assert refused.value.__notes__ == [f"allowed: {allowed}"]
    assert not (tmp_path / "run").exists()


def own_measure(features: Any) -> float:
    return 0.0


@pytest.mark.parametrize(
    ("measures", "message"),
    [
        ([own_measure], "measures[0] is 'own_measure', a function"),
        (["knn", lambda features: 0.0], "measures[1] is '<lambda>', a function"),
        (("knn", None), "measures[1] is None, a NoneType"),
        ([["knn"]], "measures[0] is ['knn'], a list"),
        (own_measure, "measures is 'own_measure', a function"),
        ("knn", "measures is 'knn', a str"),
        ({"knn": 1}, "measures is {'knn': 1}, a dict"),
    ],
)
def test_an_item_that_is_not_taken_is_named(measures: Any, message: str) -> None:
    """Of a list with one wrong item it was said that a list is no list."""
    network = object.__new__(barlowctl.Network)
    with pytest.raises(barlowctl.UserError) as refused:
        network.probe(measures=measures)
    assert str(refused.value) == message
    assert refused.value.__notes__ == ["allowed: a list, each a string"]


def test_numbers_of_numpy_and_whatever_gives_paths_are_taken(tmp_path: Path) -> None:
    """They fit: what is refused is what they say."""
    with pytest.raises(barlowctl.UserError, match="the list of images is empty"):
        barlowctl.pretrain("quickstart", data=tmp_path.glob("*.png"), threads=np.int64(1))  # type: ignore[arg-type]


def test_an_argument_that_is_missing_is_named_with_a_call_that_has_it() -> None:
    with pytest.raises(TypeError, match=r"^push\(\) is missing 2 required arguments: repository, license") as error:
        barlowctl.push("x")  # type: ignore[call-arg]
    assert error.value.__notes__ == [
        "allowed: repository: a string; license: a string",
        "next: barlowctl.push(repository=..., license=..., run='x')",
    ]
    with pytest.raises(TypeError, match="multiple values"):
        barlowctl.push("x", run="y")  # type: ignore[call-arg,misc]


@pytest.mark.parametrize(
    ("given", "features"),
    [({}, 512), ({"recipe": "quickstart"}, 128), ({"recipe": "fashion-mnist-pirl", "images": 8}, 128)],
)
def test_a_backbone_by_name_leads_to_a_call_that_makes_it(given: dict[str, Any], features: int) -> None:
    """Whether or not the recipe, which the function needs, was named; that of a recipe has the recipe's widths."""
    with pytest.raises(barlowctl.UserError, match=r"^backbone is 'resnet18', a str") as error:
        barlowctl.build_method(**given, backbone="resnet18")  # type: ignore[arg-type]
    allowed, advice = error.value.__notes__
    assert allowed == ("allowed: a Module or None; a name is a value of the recipe, model.backbone: a timm model name")
    method = eval(advice.removeprefix("next: "), {"barlowctl": barlowctl})
    assert method.backbone.num_features == features


def test_a_recipe_that_is_missing_leads_to_a_call_that_works() -> None:
    with pytest.raises(barlowctl.UserError, match=r"^build_method\(\) is missing 1 required argument: recipe") as error:
        barlowctl.build_method()  # type: ignore[call-arg]
    advice = error.value.__notes__[1].removeprefix("next: ")
    assert advice == "barlowctl.build_method('quickstart')"
    assert eval(advice, {"barlowctl": barlowctl}).views == 2


def test_long_values_are_named_by_their_kind() -> None:
    assert unknown.described([0] * 100) == "a list"
    assert unknown.described(np.zeros(3)) == "array([0., 0., 0.]), an ndarray"
    assert kind_of(3) == "an int"


def test_a_module_is_no_part_of_a_recipe() -> None:
    module = nn.Linear(2, 2)
    with pytest.raises(barlowctl.UserError, match=r"^backbone is a Linear: a run notes how") as error:
        barlowctl.pretrain("quickstart", backbone=module)  # type: ignore[call-arg]
    assert "register_model" in error.value.__notes__[0]
    assert error.value.__notes__[1].startswith("next: barlowctl.build_method(recipe, backbone=module)")
    with pytest.raises(barlowctl.UserError, match=r"^overrides has a Linear for 'model\.backbone'"):
        barlowctl.pretrain("quickstart", overrides={"model.backbone": module})


def test_numbers_of_numpy_and_torch_are_numbers() -> None:
    overrides = {"views.mean": np.array([0.25, 0.5]), "train.epochs": np.int64(3), "optimizer.lr": torch.tensor(0.5)}
    assert override_texts(overrides) == ["views.mean=[0.25, 0.5]", "train.epochs=3", "optimizer.lr=0.5"]
