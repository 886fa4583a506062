"""An optimizer of somebody's, registered: trained with as with barlowctl's own, resumed, and its mistakes named."""

from __future__ import annotations

import hashlib
import importlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import barlowctl
from barlowctl.api.training import pretrain
from barlowctl.cli import app
from barlowctl.recipe import load
from barlowctl.recipe.optimizers import REGISTERED
from tests.api.own_optimizers import SOURCE, forget

Captured = pytest.CaptureFixture[str]
FP32 = {"train.precision": "fp32", "train.log_every_steps": 1, "train.checkpoint_every_steps": 3, "train.epochs": 1}
SGD = {"optimizer.name": "own-sgd", "optimizer.momentum": 0.9}


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a module that registers optimizers, imported."""
    file = tmp_path / "own_optimizers_of_mine.py"
    file.write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    importlib.import_module("own_optimizers_of_mine")
    yield file
    forget()


def losses(run: Path) -> list[float]:
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [record["loss"] for record in records if "invariance" in record]


def state(run: barlowctl.Run) -> dict[str, torch.Tensor]:
    return load_file(max((run.path / "checkpoints").glob("step-*")) / "model.safetensors")


def alike(first: barlowctl.Run, second: barlowctl.Run) -> bool:
    before, after = state(first), state(second)
    return before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize(
    ("ours", "theirs", "more"),
    [
        ({"optimizer.name": "adamw"}, {"optimizer.name": "torch-adamw"}, {}),
        ({"optimizer.name": "sgd", "optimizer.momentum": 0.9}, SGD, {"optimizer.clip_grad_norm": 0.5}),
        ({"optimizer.name": "sgd", "optimizer.momentum": 0.9}, SGD, {"optimizer.layer_decay": 0.5}),
    ],
    ids=["adamw", "sgd clipped", "sgd layer by layer"],
)
def test_it_trains_as_barlowctls_own_to_the_same_numbers(
    recipe: Path, module: Path, ours: dict[str, Any], theirs: dict[str, Any], more: dict[str, float]
) -> None:
    values = {**FP32, "optimizer.weight_decay": 0.01, "train.micro_batch": 32, **more}
    expected = pretrain(recipe, overrides={**values, **ours}, out="ours", threads=1)
    run = pretrain(recipe, overrides={**values, **theirs}, out="theirs", threads=1)
    assert len(losses(expected.path)) == 10
    assert losses(run.path) == pytest.approx(losses(expected.path), rel=1e-5)
    if ours["optimizer.name"] == "adamw":
        assert alike(expected, run)
    assert load.parse(load.dump(run.recipe)) == run.recipe
    about = json.loads((run.path / "run.json").read_text())
    sha256 = hashlib.sha256(module.read_bytes()).hexdigest()
    name = theirs["optimizer.name"]
    noted = {"name": name, "module": "own_optimizers_of_mine", "file": str(module), "sha256": sha256}
    assert about["optimizer"] == noted
    assert about["facts"]["optimizer"].startswith(f"{name}, peak learning rates: ")
    assert "optimizer" not in json.loads((expected.path / "run.json").read_text()).keys() - {"facts"}


def test_a_resumed_run_comes_to_the_same_bits(recipe: Path) -> None:
    whole = pretrain(recipe, overrides={**FP32, **SGD}, out="whole", threads=1)
    steps = itertools.count()
    stopped = pretrain(recipe, overrides={**FP32, **SGD}, out="stopped", threads=1, stop=lambda: next(steps) == 4)
    assert not stopped.finished
    forget()
    importlib.import_module("own_optimizers_of_mine")
    resumed = pretrain(resume="stopped")
    assert alike(whole, resumed)
    assert losses(whole.path) == losses(resumed.path)


def test_its_own_defaults_stand_where_the_recipe_says_nothing(recipe: Path) -> None:
    lines = [line for line in recipe.read_text().splitlines() if not line.startswith("momentum")]
    Path("bare.toml").write_text("\n".join(lines))
    read = load.load("bare.toml", ["optimizer.name=own-sgd"])
    assert read.optimizer.momentum == 0.5
    assert load.load("bare.toml", ["optimizer.name=sgd"]).optimizer.momentum == 0.9
    assert "[optimizer.args]" in load.dump(read)
    assert load.load("bare.toml", ["optimizer.name=own-sgd", "optimizer.momentum=0.7"]).optimizer.momentum == 0.7


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("init", r"the optimizer 'own-sgd' cannot be made: KeyError: 'nothing', in {file}, line 17"),
        ("step", r"the optimizer 'own-sgd' cannot take a step: ValueError: no step, in {file}, line 31"),
        ("dropped", r"the optimizer 'own-sgd' leaves out \d+ parameters of \d+"),
        ("added", "the optimizer 'own-sgd' trains 1 parameter that it was not given"),
        ("flat", "the optimizer 'own-sgd' has a group of parameters without name, peak_lr"),
        ("still", r"the optimizer 'own-sgd' leaves a parameter of shape \(\d+,\) in the group 'biases' as it is"),
        ("outside", "the optimizer 'own-sgd' would go on otherwise when a run is resumed"),
        ("unsaved", r"the optimizer 'own-sgd' has a state that is not saved: state.0.device is a device"),
        ("norm", "the optimizer 'own-sgd' says elementwise = True, and a step of half a tensor is another one"),
    ],
)
def test_a_mistake_in_it_is_one_clear_error_before_anything_is_trained(
    recipe: Path, module: Path, fault: str, message: str
) -> None:
    with pytest.raises(barlowctl.UserError, match=message.format(file=module)) as refused:
        pretrain(recipe, overrides={**FP32, **SGD, "optimizer.args": {"fault": fault}}, out="own", threads=1)
    assert refused.value.next == f"mend it, {module}, line 9"
    assert not Path("own").exists()


def test_one_that_raises_later_is_named_and_the_state_is_that_of_the_last_checkpoint(
    recipe: Path, module: Path, capsys: Captured
) -> None:
    words = ["pretrain", "--recipe", str(recipe), "--threads", "1", "--out", "own", "--set", "optimizer.name=own-sgd"]
    pairs = [f"{key}={value}" for key, value in {**FP32, "optimizer.args.fault": "later"}.items()]
    assert app.run([*words, *(word for pair in pairs for word in ("--set", pair))]) == 1
    error = capsys.readouterr().err
    assert f"ValueError: no step, in {module}, line 31" in error or f"{module}, line 31: ValueError: no step" in error
    assert [path.name for path in sorted(Path("own/checkpoints").glob("step-*"))][-1] == "step-00000006"


def test_one_that_has_a_rate_of_its_own_is_noted(recipe: Path) -> None:
    values = {**FP32, **SGD, "optimizer.args": {"fault": "rate"}}
    run = pretrain(recipe, overrides=values, out="own", threads=1)
    notices = (run.path / "notices.jsonl").read_text()
    assert "the optimizer 'own-sgd' takes the same steps at half the rate" in notices


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("lbfgs", "the optimizer 'own-function' has a step that needs a closure"),
        ("none", "the optimizer 'own-function' is None, and no optimizer"),
    ],
)
def test_what_a_function_returns_is_looked_at(recipe: Path, kind: str, message: str) -> None:
    function = {"optimizer.name": "own-function", "optimizer.args": {"kind": kind}}
    with pytest.raises(barlowctl.UserError, match=message):
        pretrain(recipe, overrides={**FP32, **function}, out="own", threads=1)


def test_its_keys_are_checked() -> None:
    with pytest.raises(barlowctl.UserError, match=r"'optimizer\.args\.kind' is missing"):
        load.load("quickstart", ["optimizer.name=own-function"])
    with pytest.raises(barlowctl.UserError, match=r"unknown key 'optimizer\.args\.falt', did you mean"):
        load.load("quickstart", ["optimizer.name=own-sgd", "optimizer.args.falt=x"])
    with pytest.raises(
        barlowctl.UserError, match=r"unknown key 'optimizer\.fault', did you mean 'optimizer.args.fault'"
    ):
        load.load("quickstart", ["optimizer.name=own-sgd", "optimizer.fault=x"])
    with pytest.raises(
        barlowctl.UserError, match=r"optimizer.name is 'own-sdg', did you mean 'own-sgd'\? Allowed: 'lars'"
    ):
        load.load("quickstart", ["optimizer.name=own-sdg", "optimizer.args.fault=x"])
    with pytest.raises(barlowctl.UserError, match=r"optimizer.args.eps is 'x'. Allowed: a number"):
        load.load("quickstart", ["optimizer.name=torch-adamw", "optimizer.args.eps=x"])


def test_where_nobody_registers_it_the_error_says_who_did(recipe: Path, module: Path, capsys: Captured) -> None:
    steps = itertools.count()
    pretrain(recipe, overrides={**FP32, **SGD}, out="own", threads=1, stop=lambda: next(steps) == 7)
    pretrain(recipe, overrides=FP32, out="ours", threads=1)
    forget()
    words = ["pretrain", "--resume", "own"]
    capsys.readouterr()
    assert app.run(words) == 2
    error, _, advice = capsys.readouterr().err.splitlines()
    assert error == (
        f"error: the optimizer of the run 'own' is 'own-sgd', which own_optimizers_of_mine ({module}) registered when "
        "it began"
    )
    assert advice == f"next: barlowctl --import own_optimizers_of_mine {' '.join(words)}"
    assert app.run([*words, "--dry-run"]) == 2
    assert f"'own-sgd' is one that own_optimizers_of_mine ({module}) registered" in capsys.readouterr().err
    assert app.run(advice.split()[2:]) == 0
    forget()
    capsys.readouterr()
    assert app.run(["runs", "compare", "ours", "own"]) == 0
    assert "optimizer.name = own-sgd" in capsys.readouterr().out
    assert app.run(["recipes", "show", "own/recipe.toml"]) == 2
    assert "optimizer.name is 'own-sgd', which own_optimizers_of_mine" in capsys.readouterr().err
    module.write_text(SOURCE + "\n")
    importlib.import_module("own_optimizers_of_mine")
    assert barlowctl.load("own").notes == (
        f"the optimizer is made by {module}, which is not as it was when the run began",
    )


def test_a_run_is_measured_and_exported_where_nobody_registers_it(recipe: Path, capsys: Captured) -> None:
    """The weights are there whatever trained them; what would go on from them is led to the import."""
    args = {"optimizer.name": "torch-adamw", "optimizer.args": {"eps": 1e-7}}
    begun = pretrain(recipe, overrides={**FP32, **args, "train.epochs": 1}, out="own", threads=1)
    there, begun_recipe = begun.export("timm", "there.safetensors"), begun.recipe
    forget()
    elsewhere = barlowctl.load("own")
    assert elsewhere.notes == ()
    assert elsewhere.recipe.optimizer.args["eps"] == 1e-7
    assert load.dump(elsewhere.recipe) == load.dump(begun_recipe)
    assert elsewhere.probe(measures=["knn"]).knn == begun.probe(measures=["knn"]).knn
    elsewhere.export("timm", "elsewhere.safetensors")
    assert Path("elsewhere.safetensors").read_bytes() == Path("there.safetensors").read_bytes()
    assert there.max_abs_diff < 1e-4
    assert app.run(["report", "own", "--out", "r.html"]) == 0
    assert app.run(["runs", "list"]) == 0
    with pytest.raises(barlowctl.UserError, match="'torch-adamw', which own_optimizers_of_mine"):
        pretrain(elsewhere.recipe, out="again", threads=1)
    assert not Path("again").exists()
    Path("own/recipe.toml").write_text(Path("own/recipe.toml").read_text().replace("torch-adamw", "adamwe"))
    capsys.readouterr()
    assert app.run(["probe", "own"]) == 2
    assert "optimizer.name is 'adamwe'" in capsys.readouterr().err


def test_a_divided_backbone_takes_one_that_says_it_takes_every_number_by_itself() -> None:
    load.load("quickstart", ["optimizer.name=own-sgd"])
    assert {name: keys.elementwise for name, keys in REGISTERED.items()} == {
        "torch-adamw": True,
        "own-sgd": True,
        "own-function": True,
    }
