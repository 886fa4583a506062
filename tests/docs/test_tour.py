"""README's tour, line by line, as a newcomer types it: only the sizes are smaller, and the data home holds stand-ins.

A line that is added to the tour must be added to `TOUR` here.
"""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from barlowctl.assemble import machine
from barlowctl.cli.app import run as barlowctl
from barlowctl.data.beton.layout import RAW
from barlowctl.data.beton.writer import BetonWriter
from tests.docs.newcomer import NARROW, SMALL, interrupt_the_next_run, newest, pictures, sets

Captured = pytest.CaptureFixture[str]
# The beginning of each line -> what is added to it to make it small; None: run as it is.
TOUR: dict[str, list[str]] = {
    "doctor": [],
    "recipes list": [],
    "recipes show": [],
    "pretrain --recipe resnet50 --dry-run": sets(
        "train.batch_size=4", *NARROW, "model.projector=[8,8]", "views.size=32"
    ),
    "data pack": [],
    "data preview": [],
    "recipes copy": [],
    "pretrain --recipe mine.toml": sets(*SMALL, *NARROW, "train.epochs=20", "eval.every_epochs=0"),
    "pretrain --recipe fashion-mnist-simclr": ["--dry-run"],
    "pretrain --recipe adapt": [
        "--dry-run",
        *sets("train.batch_size=8", "model.projector=[8,8]", "views.size=16", "eval.resize=16", "eval.crop=16"),
    ],
    "pretrain --resume": [],
    "pretrain --recipe resnet50 --gpus": [],
    "probe": sets("eval.resize=16", "eval.crop=16"),
    "transfer": sets("eval.resize=16", "eval.crop=16"),
    "embed": [],
    "report": [],
    "export": [],
    "ablate": ["--dry-run"],
}


def tour(checkout: Path) -> list[list[str]]:
    """The arguments of the tour's lines."""
    text = (checkout / "README.md").read_text(encoding="utf-8")
    block = text.partition("## Five-minute tour")[2].partition("```\n")[2].partition("```")[0]
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    return [line[1:] for line in lines if line[:1] == ["barlowctl"]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> Path:
    """A home with photos and flowers, and stand-ins of fashion-mnist and cifar10 in the data home."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("BARLOWCTL_RUNS")
    monkeypatch.setattr(machine, "usable_cores", lambda: 1)  # the suite shares a small machine
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    pictures(tmp_path / "home" / "photos", 24, 1)
    for split, count in (("train", 12), ("test", 4)):
        for label, name in enumerate(("rose", "tulip")):
            pictures(tmp_path / "home" / "flowers" / split / name, count, 1 + label)
            for dataset in ("fashion-mnist", "cifar10"):
                pictures(tmp_path / dataset / split / name, 2 * count, 1 + label)
    for dataset in ("fashion-mnist", "cifar10"):
        for split in ("train", "test"):
            arguments = [str(tmp_path / dataset), dataset, "--split", split, "--quiet"]
            assert barlowctl(["data", "pack", *arguments]) == 0, capsys.readouterr().err
    return tmp_path / "home"


def fill(path: Path, count: int) -> None:
    """A packed file of `count` grey squares, as many as the quickstart recipe needs."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 28 * 28 * 3), dtype=np.uint8)
    with BetonWriter(path, capacity=count, class_names=["rose", "tulip"]) as writer:
        for index, one in enumerate(pixels):
            writer.append(one.tobytes(), mode=RAW, width=28, height=28, label=index % 2)
        writer.finish(channels=1)


def typed(arguments: list[str], home: Path) -> list[str]:
    """What a reader puts in place of the placeholders."""
    filled = []
    for argument in arguments:
        if argument.startswith("~/"):
            argument = str(home / argument[2:])
        elif argument == "runs/NAME":
            argument = newest()
        elif argument.startswith("runs/") and argument.endswith("-..."):
            argument = newest(argument[5:-4])
        filled.append(argument)
    return filled


def pasted(lines: str) -> Any:
    namespace: dict[str, Any] = {}
    exec(lines, namespace)
    return namespace["model"]


@pytest.mark.slow
def test_every_line_of_the_tour(checkout: Path, home: Path, capsys: Captured) -> None:
    lines, met = tour(checkout), set()
    train = Path(os.environ["BARLOWCTL_DATA"]) / "fashion-mnist" / "train.beton"
    train.unlink()
    fill(train, 8200)
    assert len(lines) >= 15
    for arguments in lines:
        text = " ".join(arguments)
        key = max((key for key in TOUR if text.startswith(key)), key=len, default=None)
        assert key is not None, f"README's line 'barlowctl {text}' is not run by this test"
        met.add(key)
        if stopped := key == "pretrain --recipe mine.toml":  # the next line resumes it
            interrupt_the_next_run()
        code = barlowctl([*typed(arguments, home), *TOUR[key]])
        out, err = capsys.readouterr()
        if "--gpus" in arguments and not torch.cuda.is_available():
            assert code == 2
            assert "GPU" in err
        else:
            assert code == (3 if stopped else 0), f"barlowctl {text}: {err}"
        if key == "export":
            snippet = out.partition("load it in Python with:\n")[2]
            assert pasted(snippet)(torch.zeros(1, 3, 16, 16)).ndim == 2
            call = 'timm.create_model("local-dir:my-model", pretrained=True)'
            assert call in (checkout / "README.md").read_text(encoding="utf-8")
            assert pasted(f"import timm; model = {call}.eval()")(torch.zeros(1, 3, 16, 16)).ndim == 2
    assert met == TOUR.keys()
    assert {"views.png", "mine.toml", "map.html", "my-model"} <= set(os.listdir())


@pytest.mark.parametrize(
    "recipe", ["quickstart", "cifar10-resnet18", pytest.param("fashion-mnist", marks=pytest.mark.slow)]
)
def test_export_of_the_shipped_small_recipes_as_the_tour_has_it(home: Path, capsys: Captured, recipe: str) -> None:
    """After the quickstart its run is the newest one: the same line exports it, and what is printed loads it."""
    narrow = ["model.backbone_args={channels=[8,8,8,8]}"] if recipe != "quickstart" else []
    assert barlowctl(["pretrain", "--recipe", recipe, *sets(*SMALL, *narrow), "--threads", "1"]) == 0
    capsys.readouterr()
    assert barlowctl(["export", "--format", "hub", "--out", "my-model"]) == 0
    out = capsys.readouterr().out
    snippet = out.partition("load it in Python with:\n")[2]
    model = pasted(snippet)
    channels = 3 if recipe == "cifar10-resnet18" else 1
    assert model(torch.zeros(1, channels, 16, 16)).ndim == 2
    new = snippet.partition("# to fine-tune it on 10 classes: ")[2]
    assert pasted(f"{snippet}\n{new}")(torch.zeros(1, channels, 16, 16)).shape == (1, 10)
    assert (
        barlowctl(
            [
                "probe",
                "my-model",
                "--data",
                recipe.partition("-resnet")[0].replace("quickstart", "fashion-mnist"),
                "--json",
            ]
        )
        == 0
    )
    probed = json.loads(capsys.readouterr().out)
    assert barlowctl(["probe", newest(recipe), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["knn"] == probed["knn"]
