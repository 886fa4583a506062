"""What a recipe comes to on a machine is resolved once a command, and is the same wherever it is shown or used."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from barlowctl.assemble import data, job, plan, resolve
from barlowctl.assemble.precision import Precision
from barlowctl.cli.app import run as barlowctl
from barlowctl.data.loaders import fast
from barlowctl.study import estimate
from barlowctl.train import engine

CHANGES = ("train.precision=bf16", "train.epochs=1", "eval.every_epochs=0", "train.batch_size=64", "data.holdout=50")
SETS = [word for change in CHANGES for word in ("--set", change)]
RESOLVED = {
    "device_of_rank": [job],
    "choose_device": [plan, estimate],
    "set_threads": [job, plan, estimate],
    "of_run": [job, plan, estimate],
    "choose_loader": [data, job, plan, estimate],
    "learning_rates": [resolve],
    "steps_per_epoch": [resolve],
}
"""What resolves, and the modules that call it."""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each was called; precision is not measured."""
    counts: Counter[str] = Counter()

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def count(*arguments: Any, **options: Any) -> Any:
            counts[name] += 1
            return call(*arguments, **options)

        return count

    for name, modules in RESOLVED.items():
        for module in modules:
            call = getattr(module, name)
            if name == "of_run":
                call = lambda *_, **__: Precision("bf16", "fp32", "by decree")  # noqa: E731
            monkeypatch.setattr(module, name, counted(name, call))
    return counts


def test_a_run_and_its_dry_run_resolve_once_and_say_the_same(
    recipe: Path, calls: Counter[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["pretrain", "--recipe", str(recipe), *SETS, "--threads", "1", "--json"]
    assert barlowctl([*command, "--dry-run"]) == 0
    dry = json.loads(capsys.readouterr().out)
    once = {"set_threads", "of_run", "choose_loader", "learning_rates", "steps_per_epoch"}
    assert dict(calls) == dict.fromkeys({*once, "choose_device"}, 1)
    calls.clear()

    used: dict[str, Any] = {}
    train = engine.train

    def spy(method: Any, batches: Any, optimizer: Any, settings: Any, **options: Any) -> Any:
        used.update(loader=batches, settings=settings, device=options["device"])
        used["rates"] = {group["name"]: group["peak_lr"] for group in optimizer.param_groups}
        return train(method, batches, optimizer, settings, **options)

    monkeypatch.setattr("barlowctl.assemble.job.engine.train", spy)
    assert barlowctl([*command, "--out", "a-run"]) == 0
    assert dict(calls) == dict.fromkeys({*once, "device_of_rank"}, 1)
    about = json.loads(Path("a-run", "run.json").read_text())

    assert dry["facts"] == about["facts"]
    assert "1,350 images, 50 held out" in dry["facts"]["data"]
    steps = 1350 // 64  # the recipe drops the last, smaller batch
    settings = used["settings"]
    assert (dry["steps_per_epoch"], settings.steps_per_epoch, about["length"]["steps_per_epoch"]) == (steps,) * 3
    assert f"1 epoch of {steps} steps" in dry["facts"]["length"]
    assert (settings.precision, about["precision"]["used"]) == ("fp32", "fp32")
    assert dry["facts"]["device"] == "cpu, 1 thread, fp32 by decree"
    assert isinstance(used["loader"], fast.FastLoader)
    assert dry["facts"]["loader"].startswith("fast (")
    assert dry["peak_learning_rates"] == {"weights": 2e-3 * 64 / 256, "biases": 2e-3 * 64 / 256}
    assert set(used["rates"].values()) == {2e-3 * 64 / 256}
    assert "weights 0.0005, biases 0.0005" in dry["facts"]["optimizer"]
    assert about["preprocessing"]["channels"] == 1
    assert (about["preprocessing"]["resize"], about["preprocessing"]["crop"]) == (16, 16)


def test_a_study_resolves_each_variant_once(
    recipe: Path, calls: Counter[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its estimate counts the steps that its runs will take, with one device, number of threads, loader, precision."""
    command = [
        "ablate",
        "--loss",
        "--recipe",
        str(recipe),
        *SETS,
        "--threads",
        "1",
        "--dry-run",
        "--json",
        "--out",
        "s",
    ]
    without = "only-invariance,only-redundancy,feature-normalization,no-bn-in-mlp"
    assert barlowctl([*command, "--seeds", "2", "--without", without]) == 0
    capsys.readouterr()
    variants = calls.pop("steps_per_epoch")
    assert calls.pop("learning_rates") == variants
    assert variants == 1 + 3  # the base recipe, and those that are left of seven
    assert dict(calls) == dict.fromkeys({"choose_device", "set_threads", "of_run", "choose_loader"}, 1)
