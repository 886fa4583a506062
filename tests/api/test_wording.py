"""Errors as they read in Python."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import barlowctl
from barlowctl.api.wording import advice, in_python, reworded
from barlowctl.errors import UserError


@pytest.mark.parametrize(
    ("flags", "arguments"),
    [
        ("--device is 'tpu'", "device is 'tpu'"),
        ("--set train.epochs=x: 'x' is no number", "overrides={'train.epochs': 'x'}: 'x' is no number"),
        ("--set 'objective.name=\"byoll\"': no method", "overrides={'objective.name': 'byoll'}: no method"),
        ("no measure --on-unreadable has", "no measure on_unreadable has"),
        ("a-b -- c --", "a-b -- c --"),
        (
            "set the range (--range of data pack, data.range of a recipe), or --device",
            "set the range (--range of data pack, data.range of a recipe), or device",
        ),
        ("--bands 4,3,2 of data pack, --split train", "--bands 4,3,2 of data pack, split train"),
        ("--range LOW:HIGH of data pack", "--range LOW:HIGH of data pack"),
        ("a test split made by data pack --hold-out", "a test split made by data pack --hold-out"),
        ("`barlowctl data pack F x.beton --overwrite`", "`barlowctl data pack F x.beton --overwrite`"),
        ("of other networks --knn, --linear", "of other networks 'knn', 'linear'"),
    ],
)
def test_a_flag_is_an_argument(flags: str, arguments: str) -> None:
    assert in_python(flags) == arguments


@pytest.mark.parametrize(
    ("line", "said_in_python"),
    [
        ("--device auto", "device='auto'"),
        ("--set train.epochs=5 --set data.holdout=0.5", "overrides={'train.epochs': 5, 'data.holdout': 0.5}"),
        ("--set train.compile=false --knn", "measures=['knn'], overrides={'train.compile': False}"),
        ("--knn --linear without --lidar", "measures=['knn', 'linear'], without 'lidar' in measures"),
        ("--linear --protocol paper", "trained=['linear']"),
        ("--set data.range=int32=-100:2998", "overrides={'data.range': 'int32=-100:2998'}"),
        ("barlowctl pretrain --resume 'my runs/a'", "barlowctl.pretrain(resume='my runs/a')"),
        (
            "barlowctl pretrain --resume a --device cuda:1 --threads 2 --wandb",
            "barlowctl.pretrain(resume='a', device='cuda:1', threads=2, wandb=True)",
        ),
        (
            "barlowctl pretrain --resume a --processes 2",
            "on the command line: barlowctl pretrain --resume a --processes 2",
        ),
        (
            "torchrun --standalone --nproc-per-node 2 -m barlowctl pretrain --resume a",
            "on the command line: torchrun --standalone --nproc-per-node 2 -m barlowctl pretrain --resume a",
        ),
        ("barlowctl data get cifar10", "on the command line: barlowctl data get cifar10"),
        ("xcode-select --install", "on the command line: xcode-select --install"),
        ("without --init", "without init"),
        ("say which it is, e.g. --backbone resnet18", "say which it is, e.g. overrides={'model.backbone': 'resnet18'}"),
        ("name another one with --backbone", "name another one with overrides model.backbone"),
        ("with --backbone and --set model.stem", "with overrides model.backbone and overrides model.stem"),
        (
            "--set model.backbone=resnet18 without --backbone",
            "overrides={'model.backbone': 'resnet18'}, without 'model.backbone' in overrides",
        ),
        ("without --gpus --processes", "without gpus and processes"),
        ("without '--set=model.projector=[0]'", "without 'model.projector' in overrides"),
        ("without $'--set=name=a\\x0a'", "without 'name' in overrides"),
        (
            "--set train.epochs=20 without --set=train.epoch=20",
            "overrides={'train.epochs': 20}, without 'train.epoch' in overrides",
        ),
        ("without labels", "without labels"),
        ("name another place with --out", "name another place with out"),
        ("don't", "don't"),
        ("--set 'model.projector=[64, 32]'", "overrides={'model.projector': [64, 32]}"),
    ],
)
def test_advice_is_a_call_or_a_command_line(line: str, said_in_python: str) -> None:
    assert advice(line) == said_in_python


def test_a_traceback_says_what_is_allowed_and_what_to_do() -> None:
    with pytest.raises(barlowctl.UserError) as raised:
        barlowctl.pretrain("quickstart", overrides={"train": {"batch_size": 1}}, data="nothing of that name")
    assert str(raised.value).startswith("overrides={'train.batch_size': 1}")
    with pytest.raises(barlowctl.UserError) as raised:
        barlowctl.pretrain("quickstart", data="nothing of that name")
    assert raised.value.__notes__[-1].startswith("next: on the command line: barlowctl data info")


def test_the_error_of_a_loss_or_a_method_in_a_loop_of_ones_own_explains_itself_too() -> None:
    z = torch.zeros(4, 2)
    method = barlowctl.methods.VICReg(torch.nn.Flatten(), torch.nn.Identity())
    for call, notes in (
        (lambda: barlowctl.losses.BarlowTwins(form="dual"), ["allowed: auto, primal, gram", "next: form='auto'"]),
        (lambda: barlowctl.losses.VICReg()(z, z[:, 1:]), ["allowed: equal shapes"]),
        (
            lambda: barlowctl.losses.BYOL()(z, z, z, z[:2]),
            ["allowed: four matrices (samples, dimensions) of one shape"],
        ),
        (lambda: method([z]), ["allowed: 2"]),
        (lambda: method(z), ["allowed: a list of tensors, one for each view"]),
    ):
        with pytest.raises(UserError) as raised:
            call()
        assert raised.value.__notes__ == notes


def test_words_of_the_command_line_become_pythons_once() -> None:
    error = UserError("--device is 'x'", allowed="--device cpu", next="--device cpu\nbarlowctl doctor")
    error.explain()
    for _ in range(2):
        with pytest.raises(UserError, match=r"^device is 'x'") as raised, reworded():
            raise error
        assert raised.value.__notes__ == [
            "allowed: device cpu", "next: device='cpu'", "next: on the command line: barlowctl doctor",
        ]  # fmt: skip


def test_what_is_offered_is_listed_for_readers_for_checkers_and_for_imports(checkout: Path) -> None:
    tree = ast.parse((checkout / "barlowctl" / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    modules = {
        name.name: node.module if node.module == "barlowctl" else str(node.module).removeprefix("barlowctl.")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    own = {name for name, module in barlowctl._MODULES.items() if module.rpartition(".")[2] == name}
    assert own == {"events", "losses", "methods"}
    assert {name: modules[name] for name in modules.keys() - own} == {
        name: module for name, module in barlowctl._MODULES.items() if name not in own
    }
    assert sorted(modules) == barlowctl.__all__ == sorted(barlowctl._MODULES)


def test_importing_is_cheap_and_names_are_there(checkout: Path) -> None:
    script = (
        "import sys, barlowctl; assert not {'torch', 'numba', 'pydantic', 'numpy', 'typer'} & sys.modules.keys();"
        "assert [name for name in dir(barlowctl) if not name.startswith('__')] == barlowctl.__all__;"
        "barlowctl.UserError, barlowctl.events.StepDone; assert not {'torch', 'numba', 'typer'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=checkout)
    assert done.returncode == 0, done.stderr
    values = {name: getattr(barlowctl, name) for name in barlowctl.__all__}
    assert all(callable(value) for name, value in values.items() if name not in ("events", "losses", "methods"))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        barlowctl.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            RuntimeError("operator torchvision::nms does not exist"),
            "torchvision's operators do not fit the torch that is installed",
        ),
        (ModuleNotFoundError("No module named 'timm'", name="timm"), "package timm cannot be imported: Module"),
    ],
)
def test_a_package_that_is_missing_or_broken_is_named_as_in_a_command(
    monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def broken(name: str) -> None:
        raise error

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(UserError) as refused:
        barlowctl.__getattr__("pretrain")
    assert str(refused.value).startswith(message)
    assert refused.value.__notes__ == ["next: on the command line: barlowctl doctor"]
    assert refused.value.__cause__ is error


def test_a_fault_of_ours_keeps_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ImportError("cannot import name 'x'", name=name)

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(ImportError, match="cannot import name 'x'"):
        barlowctl.__getattr__("pretrain")


def test_images_whose_range_is_not_known_are_answered_with_an_argument(tmp_path: Path) -> None:
    """Of arrays and of files; what would set it on the command line stays a flag, of the command that has it."""
    ramp = np.linspace(-100, 3000, 32 * 32).astype(np.int32).reshape(32, 32)
    Image.fromarray(ramp).save(tmp_path / "a.tif")
    for images in ([ramp], tmp_path):
        with pytest.raises(barlowctl.UserError, match=r"\(--range of data pack, data\.range of a recipe\)") as raised:
            barlowctl.features("resnet10t", images)
        advised, skipping = raised.value.__notes__
        assert skipping == "next: on_unreadable='skip'"
        assert advised == "next: barlowctl.open_network('resnet10t', overrides={'data.range': '-100:3000'})"
    network = barlowctl.open_network("resnet10t", overrides={"data.range": "-100:3000"})
    assert network.features([ramp]).features.shape == (1, 512)


def test_what_was_set_when_a_network_was_opened_is_not_advised_for_the_call() -> None:
    assert advice("--set data.range=0:1", "'a b'") == "barlowctl.open_network('a b', overrides={'data.range': '0:1'})"
    assert advice("--set epochs=3", "a") == "overrides={'epochs': 3}"
    assert advice("--on-unreadable skip", "a") == "on_unreadable='skip'"
