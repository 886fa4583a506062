"""What is seen of a method's embeddings while it trains: of every method that has any, and said where they collapse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from barlowctl.assemble import sample_views
from barlowctl.assemble.data import open_recipe_images, training_loader, view_specs
from barlowctl.assemble.diagnosis import diagnose, pictures, save_pictures, save_spectra
from barlowctl.assemble.evaluation import OnlineEvaluation
from barlowctl.assemble.machine import Runtime
from barlowctl.assemble.model import build_method
from barlowctl.data.views.spec import ViewSpec
from barlowctl.eval.diagnostics import feature_spread
from barlowctl.methods import BarlowTwins
from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe
from tests.cli.conftest import RECIPE, digits

__all__ = ["digits"]
CPU, RUNTIME = torch.device("cpu"), Runtime("cpu", 1, None, "auto")


class OneView(BarlowTwins):
    """Notes the views that it was shown, which are all of one kind here."""

    seen: list[torch.Tensor] = []  # noqa: RUF012

    def project(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(super().project(images))
        return self.seen[-1]


@pytest.fixture
def recipe(digits: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setenv("BARLOWCTL_DATA", str(digits))
    return load.parse(RECIPE)


def test_a_pair_has_c_and_one_view_its_spread_alone(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_recipe_images(recipe, "train")
    method = build_method(recipe)
    assert isinstance(method, BarlowTwins)
    both = diagnose(method, source, recipe, RUNTIME, CPU)
    assert both is not None
    assert both.correlation is not None
    assert list(both.values()) == ["embedding_spread", "mean_diagonal", "rms_off_diagonal"]
    monkeypatch.setattr(type(recipe.objective), "full_views", 1)
    assert len(view_specs(recipe)) == 1
    watched = OneView(method.backbone, method.projector)
    one = diagnose(watched, source, recipe, RUNTIME, CPU)
    assert one is not None
    assert (one.correlation, one.samples) == (None, both.samples)
    assert one.values() == {"embedding_spread": pytest.approx(feature_spread(torch.cat(watched.seen)))}
    assert one.embedding_spread == pytest.approx(both.embedding_spread)
    eigenvalues = torch.tensor([0.6, 0.4])
    save_spectra(tmp_path / "a.safetensors", one, eigenvalues)
    assert [file.name for file in save_pictures(tmp_path, one, eigenvalues, 64)] == ["spectra.png"]
    assert [file.name for file in pictures(tmp_path, both)] == ["correlation.png", "spectra.png"]
    assert not (tmp_path / "correlation.png").exists()


def test_small_views_are_not_drawn(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """C is of the two large ones: what multi-crop adds would be drawn for nothing."""
    recipe = load.override(recipe, ["views.small.count=3", "views.small.size=16"])
    sizes: list[list[int]] = []

    def watched(*arguments: Any, specs: list[ViewSpec], **settings: Any) -> Any:
        sizes.append([spec.output_size for spec in specs])
        return training_loader(*arguments, specs=specs, **settings)

    monkeypatch.setattr(sample_views, "training_loader", watched)
    diagnose(build_method(recipe), open_recipe_images(recipe, "train"), recipe, RUNTIME, CPU)
    assert sizes == [[recipe.views.size] * 2]
    assert len(view_specs(recipe)) == 5


def test_collapse_is_said_once_until_it_is_over() -> None:
    notices: list[str] = []
    evaluation = OnlineEvaluation.__new__(OnlineEvaluation)
    evaluation._collapsed, evaluation._notify = False, notices.append
    for spread in (0.5, 0.01, 0.02, 0.3, 0.04):
        evaluation._say_collapse({"embedding_spread": spread, "feature_spread": 0.3})
    assert len(notices) == 2
    assert notices[0].startswith("collapsed: the embeddings of different images point the same way (spread 0.010; ")
    evaluation._say_collapse({"feature_spread": 0.5})
    evaluation._say_collapse({"feature_spread": 0.0})
    assert "the features of different images" in notices[2]
