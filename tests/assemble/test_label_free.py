"""RankMe and LiDAR of a method: of which images, views and outputs they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from barlowctl.assemble.data import open_recipe_images, training_loader, view_specs
from barlowctl.assemble.evaluation import OnlineEvaluation, extract
from barlowctl.assemble.label_free import lidar_sample, measure_lidar, rankme
from barlowctl.assemble.machine import Runtime
from barlowctl.assemble.model import build_method, preprocessing_of
from barlowctl.methods import BarlowTwins, Classifier
from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe
from tests.cli.conftest import RECIPE, digits
from tests.oracles import label_free as oracle

__all__ = ["digits"]
CPU, RUNTIME = torch.device("cpu"), Runtime("cpu", 1, None, "auto")


@pytest.fixture
def recipe(digits: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setenv("BARLOWCTL_DATA", str(digits))
    return load.parse(RECIPE)


def test_the_images_are_counted_where_they_are_few() -> None:
    assert [lidar_sample(count) for count in (1, 301, 60_000)] == [
        "10 views of 1 image",
        "10 views of 301 images",
        "10 views of 1,000 images",
    ]


def drawn_by_training(recipe: Recipe, positions: np.ndarray, epochs: int) -> torch.Tensor:
    """(images, views, C, S, S) as the first epochs draw them, one image at a time."""
    source, to_input = open_recipe_images(recipe, "train"), preprocessing_of(recipe).normalization()
    options = {"batch_size": 1, "shuffle": False, "specs": view_specs(recipe)[:2], "subset": positions}
    views: list[list[torch.Tensor]] = [[] for _ in positions]
    with training_loader(source, recipe, RUNTIME, CPU, **options) as loader:
        for epoch in range(epochs):
            for number, batch in enumerate(loader.epoch(epoch)):
                views[number] += [to_input(view)[0].clone() for view in batch.views]
    return torch.stack([torch.stack(own) for own in views])


def test_lidar_is_of_the_views_that_training_draws(recipe: Recipe) -> None:
    method, source = build_method(recipe), open_recipe_images(recipe, "train")
    assert isinstance(method, BarlowTwins)
    method.train()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    measured = measure_lidar(method, source, recipe, RUNTIME, CPU, np.arange(100, 400), images=20, views=3)
    assert method.training
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    views = drawn_by_training(recipe, np.linspace(100, 399, 20).round().astype(int), epochs=2)[:, :3]  # 3 of the 4
    method.eval()
    with torch.inference_mode():
        features = method.backbone(views.flatten(0, 1))
        embeddings = method.projector(features)
    assert measured["lidar"] == pytest.approx(oracle.lidar(embeddings.view(20, 3, -1).numpy()), rel=1e-3)
    assert measured["feature_lidar"] == pytest.approx(oracle.lidar(features.view(20, 3, -1).numpy()), rel=1e-3)


def test_rankme_is_of_the_embeddings_of_undistorted_images(recipe: Recipe) -> None:
    method, source = build_method(recipe), open_recipe_images(recipe, "train")
    features, _ = extract(method.backbone, source, preprocessing_of(recipe), RUNTIME, CPU, np.arange(50))
    method.eval()
    with torch.inference_mode():
        embeddings = method.project(torch.zeros(2, 1, 16, 16))
        assert embeddings is not None
        expected = oracle.rankme(method.heads()["projector"](features).numpy())
    assert rankme(method.train(), features, CPU) == pytest.approx(expected, rel=1e-5)


def test_a_method_without_a_projector_has_lidar_of_its_features(recipe: Recipe) -> None:
    classifier = Classifier(build_method(recipe).backbone, width=32, num_classes=10, frozen=False)
    assert rankme(classifier, torch.randn(5, 32), CPU) is None
    source = open_recipe_images(recipe, "train")
    measured = measure_lidar(classifier, source, recipe, RUNTIME, CPU, images=20, views=2)
    assert list(measured) == ["feature_lidar"]


def test_a_run_measures_lidar_where_its_recipe_asks(recipe: Recipe) -> None:
    source = open_recipe_images(recipe, "train")
    for images in (0, 15):
        with_lidar = load.override(recipe, [f"eval.lidar_images={images}", "eval.lidar_views=2", "eval.bank=60"])
        split = (np.arange(1300), np.arange(1300, 1400))
        evaluation = OnlineEvaluation(
            build_method(recipe), source, split, with_lidar, RUNTIME, CPU, None, notify=lambda text: None
        )
        values = evaluation()
        assert ("lidar" in values) == ("feature_lidar" in values) == bool(images)
        assert values["rankme"] > 1.0
