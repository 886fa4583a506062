"""docs/translated.md: what it says to type here is taken; lines themselves are typed in test_examples."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import barlowctl
from barlowctl.recipe import load
from barlowctl.recipe.protocol import Protocol
from barlowctl.recipe.schema import Recipe

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "translated.md").read_text(encoding="utf-8")
SETS = sorted(set(re.findall(r"--set ([\w.]+=[^\s`]+)", PAGE)))
OF_A_RECIPE = [pair for pair in SETS if pair.partition("=")[0].partition(".")[0] in Recipe.model_fields]


@pytest.mark.parametrize("pair", OF_A_RECIPE)
def test_a_value_is_one_that_the_recipe_takes(pair: str) -> None:
    assert load.load("resnet50", [pair])


def test_the_others_are_of_a_protocol() -> None:
    others = {pair.partition("=")[0] for pair in SETS} - {pair.partition("=")[0] for pair in OF_A_RECIPE}
    assert others == {
        "lr_backbone",
        "lr_head",
        "epochs",
        "batch_size",
        "weight_decay",
        "key",
    }  # key=value stands for any
    assert others - {"key"} <= Protocol.model_fields.keys()
    assert len(OF_A_RECIPE) > 40


def test_numbers_of_the_authors_defaults_are_the_recipes() -> None:
    """The options of main.py that its command spells out are its defaults, and `resnet50` is that run."""
    typed = ("train.epochs=1000", "train.batch_size=2048", "optimizer.lr=0.2", "optimizer.lr_biases=3.0e-4")
    typed += ("optimizer.weight_decay=1.6e-5", "objective.lambd=0.0051", "model.projector=[8192,8192,8192]")
    assert set(typed) <= set(OF_A_RECIPE)
    assert load.load("resnet50", list(typed)) == load.load("resnet50")


def test_its_python_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    losses, training = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(losses, names)
    assert isinstance(names["loss"], torch.Tensor)
    given: dict[str, object] = {}
    monkeypatch.setattr(barlowctl, "pretrain", lambda recipe, **options: given.update(options, recipe=recipe))
    exec(training, {})
    overrides = given["overrides"]
    assert isinstance(overrides, dict)
    assert load.load(str(given["recipe"]), [f"{key}={value}" for key, value in overrides.items()]).train.epochs == 100
