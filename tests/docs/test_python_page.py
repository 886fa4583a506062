"""The Python of docs/python.md, block by block: it runs as it stands, and every loop comes to the same weights."""

from __future__ import annotations

import copy
import importlib.util
import re
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from timm.models import _registry

import barlowctl
from barlowctl.methods import Method
from barlowctl.recipe.objectives import METHODS
from barlowctl.recipe.optimizers import REGISTERED
from tests.cli.conftest import digits, few_images_for_lidar, pack_digits, recipe  # noqa: F401 - fixtures

IMAGES = 240
"""Of `my-photos`, to train on."""

OTHERS = ("lightning", "accelerate")
"""Libraries of the extra `dev`: their blocks are run where they are installed, as after `make setup`."""


def blocks(checkout: Path) -> list[str]:
    text = (checkout / "docs" / "python.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


def library_of(block: str) -> str | None:
    """The library that a block needs beside ours."""
    return next((name for name in OTHERS if f"import {name}\n" in block), None)


@pytest.fixture
def place(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """A folder with mine.toml, and `my-photos` in the data home."""
    (tmp_path / "home").mkdir()
    pack_digits(tmp_path / "home" / "my-photos", train=IMAGES, test=40)
    monkeypatch.setenv("BARLOWCTL_DATA", str(tmp_path / "home"))
    monkeypatch.setenv("BARLOWCTL_RUNS", str(tmp_path))
    monkeypatch.setattr("barlowctl.assemble.machine.usable_cores", lambda: 1)
    monkeypatch.setitem(sys.modules, "page", ModuleType("page"))  # where timm looks for what is registered
    for name, table in vars(_registry).items():
        if name.startswith("_mod") and isinstance(table, dict):
            monkeypatch.setattr(_registry, name, copy.copy(table))
    text = recipe.read_text().replace("epochs = 2", "epochs = 1").replace('dataset = "digits"', 'dataset = "my-photos"')
    (tmp_path / "mine.toml").write_text(text.replace("bank = 500", "bank = 200"))


def run_block(block: str) -> dict[str, Any]:
    """What a block leaves, of timm's smallest ResNet in the place of a larger one."""
    namespace: dict[str, Any] = {"__name__": "page"}
    torch.manual_seed(0)
    with warnings.catch_warnings():
        if library_of(block):  # what they warn of is theirs
            warnings.simplefilter("ignore")
        exec(compile(block.replace('"resnet10t"', '"test_resnet"'), "docs/python.md", "exec"), namespace)
    return namespace


def weights(namespace: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Of the method that a block trained."""
    method = namespace["method"] if "method" in namespace else namespace["module"].method
    assert isinstance(method, Method)
    return {name: value.cpu() for name, value in method.state_dict().items()}


@pytest.mark.usefixtures("place")
def test_every_block_runs(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    namespaces = [run_block(block) for block in blocks(checkout) if library_of(block) is None]
    first, in_hand, begun, looking, left, network, method, changed, optimizer, of_loss, own = namespaces
    assert 0 < first["probed"].knn <= 100
    assert first["embeddings"].features.shape == (IMAGES, 32)
    assert Path("my-model/model.safetensors").is_file()
    assert np.asarray(in_hand["features"]).shape == (IMAGES, 96)
    assert in_hand["network"].notes == ("its classifier of 1,000 classes is left out",)
    assert (in_hand["probed"].values["kind"], in_hand["probed"].file.parent.name) == ("module", "resnet")
    assert begun["run"].recipe.model.backbone == "test_resnet"
    assert Path(begun["run"].recipe.init.weights).parent.name == "weights"
    assert "after epoch 1" in capsys.readouterr().out
    assert looking["run"].finished
    assert left["run"].finished
    assert of_loss["z1"].grad.abs().sum() > 0
    assert own["terms"].loss.isfinite()
    assert any(record.keys() >= {"loss", "agreement"} for record in method["run"].metrics)
    assert method["run"].recipe.objective.args.temperature == 0.2
    assert optimizer["run"].recipe.optimizer.args.share == 0.5
    assert set(REGISTERED) == {"adan", "sign-momentum"}
    assert METHODS["noisy-twins"].title == changed["NoisyTwins"].title
    assert network["run"].backbone().num_features == 48
    assert Path("my-small.safetensors").is_file()
    with pytest.raises(barlowctl.UserError, match="transformers calls forward_features, which my_small has not"):
        network["run"].export("transformers", "mine")
    with pytest.raises(barlowctl.UserError, match="yours does not read them, as timm"):
        network["run"].export("hub", "mine")
    assert "transformers" in network["run"].export_all("all").left_out


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("library", OTHERS)
def test_loops_of_other_libraries_come_to_the_weights_of_the_plain_one(checkout: Path, library: str) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    plain = weights(
        run_block(next(block for block in blocks(checkout) if "for step, views in enumerate(batches)" in block))
    )
    other = weights(run_block(next(block for block in blocks(checkout) if library_of(block) == library)))
    assert plain.keys() == other.keys()
    for name, value in plain.items():
        assert torch.equal(other[name], value), name


def test_the_table_names_what_there_is(checkout: Path) -> None:
    text = (checkout / "docs" / "python.md").read_text(encoding="utf-8")
    for name in set(barlowctl.__all__) - {"RunStopped"}:
        assert re.search(rf"\b{name}\b", text), name
