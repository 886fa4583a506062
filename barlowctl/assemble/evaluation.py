"""Features of undistorted images, and what is measured on them while a run trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from barlowctl.assemble.data import Source, build_loader, evaluation_spec, has_labels, open_source
from barlowctl.assemble.machine import Runtime
from barlowctl.assemble.model import normalization
from barlowctl.errors import UserError
from barlowctl.eval import diagnostics, features, knn
from barlowctl.recipe.schema import Recipe

EVALUATION_BATCH = 500
ONLINE_K = 20

Evaluate = Callable[[], Mapping[str, float]]


def extract(
    backbone: nn.Module,
    source: Source,
    recipe: Recipe,
    runtime: Runtime,
    device: torch.device,
    subset: np.ndarray | None = None,
    to_input: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Features (N, F) float32 and labels (N,) int64 of undistorted images, in the source's order.

    `to_input` takes the place of the recipe's normalisation of uint8 images (N, S, S, C).
    """
    count = source.num_samples if subset is None else len(subset)
    loader = build_loader(
        source,
        [evaluation_spec(recipe)],
        recipe,
        runtime,
        device,
        batch_size=min(EVALUATION_BATCH, count),
        shuffle=False,
        subset=subset,
    )
    with loader:
        return features.extract(backbone, loader.epoch(0), to_input or normalization(recipe).to(device), device)


def online_evaluation(
    backbone: nn.Module,
    source: Source,
    split: tuple[np.ndarray, np.ndarray],
    recipe: Recipe,
    runtime: Runtime,
    device: torch.device,
    data: str | None,
    notify: Callable[[str], None],
) -> Evaluate:
    """A function that measures kNN top-1 (percent, where labels exist) and the diagnostics, now.

    The bank is a fixed draw of the images trained on; the queries are held-out images or the val split. `notify`
    is told when there will be no kNN though the recipe asks for one.
    """
    kept, held = split
    generator = np.random.Generator(np.random.Philox(key=recipe.seed + 1))
    bank = np.sort(generator.permutation(kept)[: recipe.eval.bank])
    queries: Source | None = None
    chosen = held[: recipe.eval.max_queries]
    match recipe.eval.queries:
        case "holdout":
            queries = source
        case "val":
            try:
                queries = open_source(recipe, "val", data)
            except UserError as error:  # monitoring only: without a val split the diagnostics remain
                notify(f"no online kNN: {error}")
            if queries is not None and queries.path == source.path:
                notify(f"no online kNN: '{source.path}' is the training images, and there is no val split beside them")
                queries = None
            if queries is not None:
                chosen = np.sort(generator.permutation(queries.num_samples)[: recipe.eval.max_queries])
        case "off":
            pass
    labelled = queries is not None and has_labels(queries) and has_labels(source)
    if queries is not None and not labelled:
        notify("no online kNN: the images have no labels")

    def measure() -> dict[str, float]:
        bank_features, bank_labels = extract(backbone, source, recipe, runtime, device, bank)
        values = {
            "feature_spread": diagnostics.feature_spread(bank_features),
            "effective_rank": diagnostics.effective_rank(bank_features),
        }
        if labelled:
            assert queries is not None
            found, labels = extract(backbone, queries, recipe, runtime, device, chosen)
            values["knn"] = knn_accuracy(bank_features, bank_labels, found, labels)
        return values

    return measure


def knn_accuracy(bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor) -> float:
    """Top-1 of a kNN with k = 20, percent."""
    classes = int(torch.maximum(bank_labels.max(), labels.max())) + 1
    votes = knn.knn_predict(bank, bank_labels, queries, k=(ONLINE_K,), num_classes=classes)
    return 100.0 * knn.accuracy(votes[ONLINE_K].scores, labels)
