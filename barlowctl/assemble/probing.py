"""kNN and linear evaluation of a run's frozen backbone, and of the floors it must beat."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from barlowctl.assemble.data import Source, count_classes, has_labels, open_source
from barlowctl.assemble.evaluation import extract
from barlowctl.assemble.finished import FinishedRun
from barlowctl.assemble.machine import Runtime, choose_device, set_threads
from barlowctl.assemble.model import build_recipe_backbone
from barlowctl.data.beton import Beton
from barlowctl.errors import UserError
from barlowctl.eval import diagnostics, features, knn, linear
from barlowctl.recipe import load
from barlowctl.recipe.schema import Recipe

KS = (20, 200)  # neighbours; the first is reported as top1
RANK_SAMPLES = 25_600  # of RankMe, as its authors take


class Pixels(nn.Module):
    """The pixels themselves as features, in [0, 1] and not normalised: the floor that needs no network."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1).float() / 255


@dataclass(frozen=True)
class Labelled:
    """A training and a test split with labels."""

    train: Source
    test: Source
    num_classes: int

    def facts(self) -> dict[str, Any]:
        """For the result: which images were used."""
        return {
            "train": {"path": str(self.train.path), "images": self.train.num_samples},
            "test": {"path": str(self.test.path), "images": self.test.num_samples},
            "classes": self.num_classes,
        }


def open_labelled(recipe: Recipe, data: str | None) -> Labelled:
    """The labelled splits to probe on.

    Raises:
        UserError: a split is missing, or has no labels.
    """
    train, test = open_source(recipe, "train", data), open_source(recipe, "test", data)
    for split, source in (("train", train), ("test", test)):
        if not has_labels(source):
            raise UserError(
                f"the {split} images in '{source.path}' have no labels, and a probe needs them",
                allowed="class folders, or a packed file made from them",
                next="barlowctl probe RUN --data DATASET",
            )
    if train.path == test.path:
        raise UserError(
            f"training and test images are the same, '{train.path}'",
            allowed="a dataset with a train and a test (or val) split",
            next="barlowctl probe RUN --data FOLDER   (a folder with train/ and test/)",
        )
    if train.class_names and test.class_names and train.class_names != test.class_names:
        raise UserError(
            f"'{train.path}' and '{test.path}' have different classes ({len(train.class_names)} and "
            f"{len(test.class_names)})",
            next="pack both splits from one dataset folder, so that they share its class list",
        )
    return Labelled(train, test, max(count_classes(train), count_classes(test)))


def probe(
    run: FinishedRun, data: Labelled, runtime: Runtime, *, floors: tuple[str, ...] = ()
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Measure the run's backbone, then each of `floors` ("pixels", "random-init"), under one protocol.

    Yields names and measurements. The backbone's bytes are the same afterwards (asserted).
    """
    device = choose_device(runtime.device)
    set_threads(runtime)
    subjects: list[tuple[str, Callable[[], nn.Module]]] = [(run.recipe.name, lambda: run.method.backbone)]
    for floor in floors:
        match floor:
            case "pixels":
                subjects.append(("raw pixels", Pixels))
            case "random-init":
                subjects.append(("random backbone", lambda: _random_backbone(run.recipe)))
            case _:
                raise AssertionError(floor)
    for name, build in subjects:
        backbone = build().to(device).eval()
        before = features.backbone_digest(backbone)
        yield name, _measure(backbone, data, run.recipe, runtime, device)
        assert features.backbone_digest(backbone) == before, "probing changed the backbone"


def _at_native_size(recipe: Recipe, data: Labelled) -> Recipe:
    """Evaluation without resizing where all images are squares of one size; else as the recipe has it."""
    if not isinstance(data.train, Beton) or not isinstance(data.test, Beton):
        return recipe
    sides = {int(side) for source in (data.train, data.test) for side in (*source.heights, *source.widths)}
    if len(sides) > 1 or (side := sides.pop()) < 8:
        return recipe
    return load.override(recipe, [f"eval.resize={side}", f"eval.crop={side}"])


def _random_backbone(recipe: Recipe) -> nn.Module:
    torch.manual_seed(recipe.seed)
    return build_recipe_backbone(recipe)


def _measure(
    backbone: nn.Module, data: Labelled, recipe: Recipe, runtime: Runtime, device: torch.device
) -> dict[str, Any]:
    start = time.process_time()
    as_it_is = None
    if isinstance(backbone, Pixels):
        recipe, as_it_is = _at_native_size(recipe, data), lambda images: images
    bank, bank_labels = extract(backbone, data.train, recipe, runtime, device, to_input=as_it_is)
    queries, labels = extract(backbone, data.test, recipe, runtime, device, to_input=as_it_is)
    votes = knn.knn_predict(bank, bank_labels, queries, k=KS, num_classes=data.num_classes)
    fitted = linear.linear_probe(bank, bank_labels, queries, labels, num_classes=data.num_classes, seed=recipe.seed)
    return {
        "features": bank.shape[1],
        "feature_spread": diagnostics.feature_spread(bank),
        "effective_rank": diagnostics.effective_rank(bank[:RANK_SAMPLES]),
        "knn": {
            "top1": _percent(knn.accuracy(votes[KS[0]].scores, labels)),
            **{f"k{k}": _percent(knn.accuracy(votes[k].scores, labels)) for k in KS},
            "top5": _percent(knn.accuracy(votes[KS[0]].scores, labels, top=5)),
            "notes": [vote.note for vote in votes.values() if vote.note],
        },
        "linear": {
            "top1": _percent(fitted.top1),
            "top5": _percent(fitted.top5),
            "validation_top1": _percent(fitted.validation_top1),
            "per_class": [None if share is None else _percent(share) for share in fitted.per_class],
            "lr": fitted.lr,
            "weight_decay": fitted.weight_decay,
            "lr_at_edge": fitted.lr_at_edge,
            "epochs": fitted.epochs,
            "batch_size": fitted.batch_size,
        },
        "cpu_seconds": time.process_time() - start,
    }


def _percent(share: float) -> float:
    return round(100.0 * share, 4)
