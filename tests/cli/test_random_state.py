"""torch's global generator: only a training run seeds it, and goes on from where its weights left it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from barlowctl.assemble.finished import open_run
from barlowctl.assemble.job import prepare
from barlowctl.assemble.machine import Runtime
from barlowctl.assemble.model import begin_method, build_method
from barlowctl.assemble.plan import footprint, plan
from barlowctl.assemble.synthetic_steps import operations
from barlowctl.cli.app import run
from barlowctl.measure.baselines import baseline
from barlowctl.measure.subjects import open_subject
from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe

DROPS = ["model.backbone_args={channels = [8, 16, 16, 32], stem_width = 8, drop_rate = 0.2, drop_path_rate = 0.3}"]


@contextmanager
def unchanged() -> Iterator[None]:
    """Checks that what is drawn from torch's global generator next is what would have been drawn before."""
    torch.manual_seed(23)
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def dropping(recipe: Path) -> Recipe:
    """A recipe of a network with dropout and stochastic depth."""
    return load.load(str(recipe), DROPS)


def test_a_dry_run_leaves_the_generator(dropping: Recipe) -> None:
    with unchanged():
        plan(dropping, Runtime(threads=1), None)


def test_counting_and_the_footprint_leave_it(dropping: Recipe) -> None:
    job = prepare(dropping, Runtime(threads=1))
    method = build_method(dropping)
    with unchanged():
        assert operations(dropping) > 0
        assert footprint(job.resolved, method, "fp32").total > 0
        assert job.precision.used in ("fp32", "bf16")


def test_opening_and_exporting_leave_it(trained: Path, recipe: Path, tmp_path: Path) -> None:
    with unchanged():
        open_run(trained)
    with unchanged():
        subject = open_subject(str(trained))
        baseline(subject, "random-init")
        open_subject("resnet10t")
    with unchanged():
        assert run(["export", str(trained), "--format", "timm", "--out", str(tmp_path / "export.safetensors")]) == 0
    with unchanged():
        open_subject(str(tmp_path / "export.safetensors"))


def test_a_run_goes_on_from_where_its_weights_left_the_generator(dropping: Recipe) -> None:
    """What dropout draws first is not what the first weights were drawn from, and does not depend on the past."""
    first = prepare(dropping, Runtime(threads=1)).method
    after = torch.get_rng_state()
    torch.manual_seed(99)
    assert [*build_method(dropping).state_dict()] == [*first.state_dict()]
    second = begin_method(dropping)
    assert torch.equal(torch.get_rng_state(), after)
    third = build_method(dropping)
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key])
        assert torch.equal(value, third.state_dict()[key])
    torch.manual_seed(dropping.seed)
    assert not torch.equal(torch.get_rng_state(), after)
