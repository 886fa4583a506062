"""Keys that change nothing beside the others: refused where somebody types them, named where a file has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import barlowctl
from barlowctl.errors import UserError
from barlowctl.recipe import catalog, load
from barlowctl.recipe.idle import idle, refuse_idle, without_effect
from barlowctl.recipe.optimizers import REGISTERED, unregistered


@pytest.fixture
def nadam() -> Iterator[str]:
    """torch's NAdam, registered: it has betas, and a momentum_decay of its own."""
    barlowctl.register_optimizer("nadam-here")(torch.optim.NAdam)
    yield "nadam-here"
    REGISTERED.pop("nadam-here")


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["optimizer.name=sgd", "optimizer.eta=0.01"], "optimizer.name is 'sgd'"),
        (["optimizer.name=adamw", "optimizer.momentum=0.8"], "optimizer.name is 'adamw'"),
        (["optimizer.name=lars", "optimizer.betas=[0.9,0.95]"], "optimizer.name is 'lars'"),
        (["optimizer.nesterov=true"], "optimizer.name is 'muon'"),
        (["optimizer.lars_variant=larc"], "optimizer.name is 'muon'"),
        (["train.schedule=constant", "train.final_lr_scale=0.1"], "train.schedule is 'constant'"),
        (["train.milestones=[2]"], "train.schedule is 'cosine'"),
        (["train.warmup_epochs=0", "train.warmup_start_scale=0.1"], "train.warmup_epochs is 0"),
        (["train.stop_after=3"], "train.stop is 'off'"),
        (["train.freeze=backbone", "train.freeze_backbone_epochs=1"], "train.freeze is 'backbone'"),
        (["eval.linear_lr=0.1"], "eval.linear is false"),
        (["eval.lidar_views=3"], "eval.lidar_images is 0"),
        (["eval.every_epochs=0", "eval.bank=100"], "eval.every_epochs is 0"),
        (["eval.queries=off", "eval.max_queries=10"], "eval.queries is 'off'"),
        (["views.first.jitter=0", "views.first.brightness=0.3"], "views.first.jitter is 0"),
        (["views.second.blur=0", "views.second.blur_sigma=[1,2]"], "views.second.blur is 0"),
        (["views.first.hue=0.2"], "data.channels is 1"),
        (["views.small.size=16"], "views.small.count is 0"),
        (["objective.name=supervised", "views.second.flip=0.1"],
         "objective.name is 'supervised', which takes no such view"),
    ],
)  # fmt: skip
def test_what_is_typed_and_changes_nothing_is_refused(overrides: list[str], why: str) -> None:
    recipe = load.load("quickstart", overrides)
    with pytest.raises(UserError) as refused:
        refuse_idle([recipe], overrides[-1:])
    assert refused.value.message == f"--set {overrides[-1]} changes nothing: {why}"
    assert refused.value.next.startswith("without ")
    assert f"--set={overrides[-1].partition('=')[0]}" in refused.value.next
    refuse_idle([recipe], overrides[:-1])


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["eval.queries=off", "eval.max_queries=10"], "eval.max_queries: eval.queries is 'off'"),
        (["views.small.size=16", "views.small.count=0"], "views.small.size: views.small.count is 0"),
        (["views.first={jitter=0, brightness=0.3}"], "views.first.brightness: views.first.jitter is 0"),
        (["train.schedule=constant", "train.final_lr_scale=0.1"], "train.final_lr_scale: train.schedule is 'constant'"),
    ],
)
def test_what_is_typed_beside_what_turns_it_off_is_named(overrides: list[str], line: str) -> None:
    """Scripts set both, and so does advice that turns a part off; another optimizer is not a part that is off."""
    recipe = load.load("quickstart", overrides)
    refuse_idle([recipe], overrides)
    assert line in without_effect(recipe)["no effect"]
    sgd = ["optimizer.name=sgd", "optimizer.eta=0.01"]
    with pytest.raises(UserError, match=r"optimizer\.name is 'sgd'"):
        refuse_idle([load.load("quickstart", sgd)], sgd)


@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer.name=lars", "optimizer.eta=0.01", "optimizer.clip_trust_ratio=true", "optimizer.momentum=0.8"],
        ["optimizer.name=adamw", "optimizer.betas=[0.9,0.95]", "optimizer.layer_decay=0.7"],
        ["optimizer.betas=[0.9,0.95]", "optimizer.momentum=0.8"],
        ["optimizer.name=sgd", "optimizer.nesterov=true", "optimizer.exclude_biases=false"],
        ["optimizer.name=adamw", "optimizer.nesterov=false"],
        ["views.first.jitter=0", "views.first.brightness=0", "views.first.grayscale=0"],
        ["train.schedule=step", "train.milestones=[2]", "train.milestone_factor=0.5"],
        ["eval.queries=val", "eval.max_queries=10", "eval.linear=true", "eval.linear_lr=0.1"],
    ],
)
def test_what_changes_something_or_is_off_is_taken(overrides: list[str]) -> None:
    refuse_idle([load.load("quickstart", overrides)], overrides)


def test_an_optimizer_of_somebodys_takes_what_it_names(nadam: str) -> None:
    named = f"optimizer.name={nadam}"
    overrides = [named, "optimizer.momentum=0.8"]
    with pytest.raises(UserError, match=f"optimizer.momentum=0.8 changes nothing: optimizer.name is '{nadam}'"):
        refuse_idle([load.load("quickstart", overrides)], overrides)
    overrides = [named, "optimizer.betas=[0.8,0.9]", "optimizer.args.momentum_decay=0.01"]
    refuse_idle([load.load("quickstart", overrides)], overrides)
    text = load.dump(load.load("quickstart", overrides))
    REGISTERED.pop(nadam)
    with unregistered(nadam):
        assert without_effect(load.parse(text)) == {}
    barlowctl.register_optimizer(nadam)(torch.optim.NAdam)


def test_several_are_one_error_and_a_section_names_its_key() -> None:
    overrides = ["optimizer={name='adamw',momentum=0.8}", "eval.linear_lr=0.1"]
    with pytest.raises(UserError) as refused:
        refuse_idle([load.load("quickstart", overrides)], overrides)
    assert refused.value.message.splitlines() == [
        f"--set {overrides[0]} changes nothing: optimizer.momentum, since optimizer.name is 'adamw'",
        "--set eval.linear_lr=0.1 changes nothing: eval.linear is false",
    ]
    assert refused.value.allowed == "it with optimizer.name=lars, sgd or muon; eval.linear=true"


def test_what_changes_one_of_several_recipes_is_taken() -> None:
    recipes = [load.load("quickstart", [f"optimizer.name={name}", "optimizer.eta=0.01"]) for name in ("sgd", "lars")]
    refuse_idle(recipes, ["optimizer.eta=0.01"])
    with pytest.raises(UserError, match="changes nothing"):
        refuse_idle(recipes[:1], ["optimizer.eta=0.01"])


def test_a_files_keys_are_named_in_a_line_and_no_shipped_recipe_has_any(tmp_path: Path) -> None:
    assert not {name for name, path in catalog.shipped().items() if without_effect(load.load(str(path)))}
    recipe = load.load("quickstart", ["optimizer.name=adamw", "train.schedule=constant"])
    expected = {"no effect": "optimizer.momentum: optimizer.name is 'adamw'"}
    assert without_effect(recipe) == expected
    written = tmp_path / "recipe.toml"
    written.write_text(load.dump(recipe))
    assert without_effect(load.load(str(written))) == expected
    assert {"train.final_lr_scale", "optimizer.eta"} <= {entry.key for entry in idle(recipe)}
