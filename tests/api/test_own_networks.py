"""A network of somebody's, registered with timm: trained, opened again, and what is said of each mistake in it."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from timm.models import _registry

import barlowctl
from barlowctl.api.training import pretrain
from barlowctl.cli import app

SOURCE = """
import sys
from timm.models import register_model
from torch import nn


calls = []


class Small(nn.Module):
    num_features = 12

    def __init__(self, channels, mistake):
        super().__init__()
        self.body, self.mistake = nn.Conv2d(channels, 12, 3, stride=2), mistake
        self.requires_grad_(mistake != "frozen")
        self.spare = {"spare": nn.Linear(2, 2), "lazy": nn.LazyLinear(2)}.get(mistake)

    def forward(self, images):
        maps = self.body(images)
        if self.mistake == "word":
            return maps.meen((2, 3))
        assert self.mistake != "assert"
        if self.mistake == "exit" or (self.mistake == "later" and self.training and len(calls) > 30):
            raise SystemExit(7)
        calls.append(self.training)
        vectors = maps.mean((2, 3))
        given = {"map": maps, "list": [vectors], "wide": vectors.repeat(1, 2), "detached": vectors.detach(),
                 "double": vectors.double(), "rows": vectors.repeat(3, 1)}
        return given.get(self.mistake, vectors)


@register_model
def own_small(pretrained=False, in_chans=3, mistake="", **_):
    return Small(in_chans, mistake)


@register_model
def own_unsaid(pretrained=False, in_chans=3, **_):
    return nn.Sequential(nn.Conv2d(in_chans, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@register_model
def own_nothing(pretrained=False, **_):
    pass


@register_model
def own_closed(width):
    return Small(3, "")


@register_model
def own_exact(pretrained=False, pretrained_cfg=None, pretrained_cfg_overlay=None, cache_dir=None, num_classes=0,
              in_chans=3, width=12):
    return Small(in_chans, "")


@register_model
def own_broken(pretrained=False, **_):
    raise RuntimeError("no such file")


@register_model
def own_exits(pretrained=False, **_):
    sys.exit()
"""
OWN = ("own_small", "own_unsaid", "own_nothing", "own_closed", "own_exact", "own_broken", "own_exits")


def forget() -> None:
    """As in a process that has not imported the module."""
    for name in OWN:
        _registry._model_entrypoints.pop(name, None)
        _registry._model_to_module.pop(name, None)
    _registry._module_to_models.pop("own_parts", None)
    sys.modules.pop("own_parts", None)


def timms_own(**_: Any) -> None:
    pass


timms_own.__name__, timms_own.__module__ = "own_small", "timm.models.resnet"


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a module that registers networks, imported."""
    file = tmp_path / "own_parts.py"
    file.write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("own_parts")
    yield file
    forget()


def overrides(name: str, **arguments: str) -> dict[str, Any]:
    own = {"backbone": name, "stem": "default", "backbone_args": arguments, "projector": [16, 16]}
    return {"model": own, "train": {"epochs": 1, "precision": "fp32"}}


def test_a_run_notes_who_registers_its_network(
    parts: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody has, the error says what to import; where that has changed, a note says so."""
    monkeypatch.chdir(tmp_path)
    run = pretrain(recipe, overrides=overrides("own_small"), out="own")
    about = json.loads((run.path / "run.json").read_text())["network"]
    assert (about["name"], about["module"], about["file"]) == ("own_small", "own_parts", str(parts))
    forget()
    with pytest.raises(barlowctl.UserError, match=rf"'own_small', which own_parts \({parts}\) registered") as refused:
        barlowctl.load("own").backbone()
    assert refused.value.__notes__[-1] == "next: import own_parts first"
    (run.path / "result.json").rename(run.path / "aside.json")
    with pytest.raises(barlowctl.UserError, match="'own_small', which own_parts"):
        pretrain(resume="own")
    (run.path / "aside.json").rename(run.path / "result.json")
    _registry.register_model(timms_own)  # timm has one of that name now
    with pytest.raises(barlowctl.UserError, match="'own_small', which own_parts"):
        barlowctl.load("own").backbone()
    forget()
    importlib.import_module("own_parts")
    assert barlowctl.load("own").notes == ()
    parts.write_text(SOURCE + "\n")
    changed = f"the network is built by {parts}, which is not as it was when the run began"
    assert changed in barlowctl.load("own").notes


@pytest.mark.slow
def test_commands_know_it_in_a_process_that_imports_it(
    parts: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/python.md says."""
    monkeypatch.chdir(tmp_path)
    pretrain(recipe, overrides=overrides("own_small"), out="own")
    page = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
    line = next(line for line in page.splitlines() if line.startswith("barlowctl --import my_networks probe"))
    words = line.replace("my_networks", "own_parts").split()
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    export = [*words[:3], "export", "own", "--out", "own.safetensors"]
    subprocess.run([sys.executable, "-m", *export], check=True)
    assert Path("own.safetensors").is_file()
    lines = barlowctl.load("own").export("timm", "again.safetensors").python_line
    assert lines.startswith("import own_parts  # registers 'own_small' with timm\n")
    subprocess.run([sys.executable, "-c", lines], check=True)  # a process that has imported nothing


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize(
    ("name", "mistake", "message", "advice"),
    [
        ("own_small", "word", r"'meen', at `return maps\.meen\(\(2, 3\)\)` in own_parts\.py, line 22", "its forward"),
        ("own_small", "assert", r"AssertionError at `assert .*` in own_parts\.py, line 23", "its forward"),
        ("own_small", "exit", r"SystemExit\(7\), .* at `raise .*` in own_parts\.py, line 25", "its forward"),
        ("own_exits", "", "SystemExit.None., .* at `sys.exit.*` in own_parts.py, line 66", "own_parts.py, line 64"),
        (
            "own_small",
            "rows",
            "returns 3 vectors for one image: a tensor of shape .3, 12.",
            "one vector for each image",
        ),
        ("own_small", "map", r"returns a tensor of shape \(1, 12, \d, \d\) per image", r"maps.mean((2, 3))"),
        ("own_small", "list", "Small returns a list per image, and no tensor", "the features alone"),
        ("own_small", "wide", "vectors of 24 numbers, and its num_features is 12", "num_features = 24"),
        ("own_small", "detached", "no gradient reaches a parameter of Small", "train.freeze=backbone"),
        ("own_small", "frozen", "no gradient reaches a parameter of Small", "train.freeze=backbone"),
        ("own_small", "double", r"Small gives torch\.float64 features", "let forward return features.float()"),
        ("own_small", "lazy", r"Small has parameters without a shape: spare\.weight, spare\.bias", None),
        ("own_unsaid", "", "Sequential does not say how wide its features are", "num_features = WIDTH"),
        ("own_nothing", "", "'own_nothing' builds no network: it returns None", "own_parts.py, line 43"),
        (
            "own_closed",
            "",
            "builds no network: own_closed.. got an unexpected keyword argument",
            "mend that function, /",
        ),
        (
            "own_broken",
            "",
            "RuntimeError: no such file, at `raise .* in own_parts.py, line 61",
            "own_parts.py, line 59",
        ),
    ],
)
def test_a_mistake_in_it_is_named(recipe: Path, name: str, mistake: str, message: str, advice: str | None) -> None:
    with pytest.raises(barlowctl.UserError, match=message) as refused:
        pretrain(recipe, overrides=overrides(name, **({"mistake": mistake} if mistake else {})))
    assert advice is None or advice in str(refused.value.next)
    assert advice is not None or "network(torch.zeros(" in str(refused.value.allowed)


def test_an_exit_in_it_is_an_error_and_the_state_is_saved(
    parts: Path, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would end the process without a word, with the code that it names."""
    settings = ["model.backbone=own_small", 'model.backbone_args={mistake="later"}', "model.projector=[16, 16]"]
    settings += ["model.stem=default", "train.precision=fp32", "train.epochs=50"]
    words = [word for value in settings for word in ("--set", value)]
    assert app.run(["pretrain", "--recipe", str(recipe), *words, "--threads", "1", "--out", "own"]) == 1
    error = capsys.readouterr().err.partition("error: ")[2]
    assert error.startswith(f"{parts}, line 25: RuntimeError: SystemExit(7), which would end the whole process; the ")
    assert "is saved" in error
    assert list(Path("own", "checkpoints").iterdir())


@pytest.mark.usefixtures("parts")
def test_parameters_that_no_gradient_reaches_are_named(recipe: Path) -> None:
    run = pretrain(recipe, overrides=overrides("own_small", mistake="spare"), out="own")
    note = "no gradient reaches 2 of the 4 parameters of Small: spare.weight, spare.bias"
    assert note in run.notices
    assert note not in pretrain(recipe, overrides=overrides("own_small"), out="whole").notices


@pytest.mark.usefixtures("parts")
def test_a_mistyped_argument_is_refused_where_the_function_swallows_none(recipe: Path) -> None:
    """As the example of docs/python.md is written: it names what timm gives."""
    with pytest.raises(barlowctl.UserError) as refused:
        pretrain(recipe, overrides=overrides("own_exact", widht=48))
    assert str(refused.value) == (
        "model.backbone_args has 'widht', which the function registered as 'own_exact' does not take, did you mean "
        "'width'?"
    )
    assert refused.value.allowed == "width"
    assert not Path("run").exists()
    page = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
    assert "**_" not in page
