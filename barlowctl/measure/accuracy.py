"""Accuracies as results have them: in percent, over seeds, by class."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from barlowctl.eval import classes
from barlowctl.measure.context import ProbeContext
from barlowctl.plots.images import save_image
from barlowctl.plots.matrix import confusion
from barlowctl.recipe.protocol import Protocol


def percent(share: float) -> float:
    return round(100.0 * share, 4)


def over_seeds(reached: Sequence[tuple[float, float]], seeds: Sequence[int]) -> dict[str, Any]:
    """Mean and sample standard deviation over seeds, or the one value."""
    if len(reached) == 1:
        return {"top1": reached[0][0], "top5": reached[0][1]}
    columns = {"top1": [top1 for top1, _ in reached], "top5": [top5 for _, top5 in reached]}
    return {
        **{name: round(statistics.fmean(values), 4) for name, values in columns.items()},
        **{f"{name}_sd": round(statistics.stdev(values), 4) for name, values in columns.items()},
        "seeds": [
            {"seed": seed, "top1": top1, "top5": top5} for seed, (top1, top5) in zip(seeds, reached, strict=True)
        ],
    }


def without_certain_top5(values: dict[str, Any], classes: int) -> dict[str, Any]:
    """A measurement without its top-5 accuracy where that is 100 % by definition."""
    if classes > 5:
        return values
    without_top5 = {key: value for key, value in values.items() if key != "top5_sd"}
    if "seeds" in without_top5:
        without_top5["seeds"] = [{**seed_values, "top5": None} for seed_values in without_top5["seeds"]]
    return {
        **without_top5,
        "top5": None,
        "top5_reason": f"there are {classes} classes: five guesses have the right one",
    }


def at_chance(reached: float, labels: Tensor, protocol: Protocol) -> list[str]:
    """A note where a classifier is no better than the most frequent class of the test images, named for all of them.

    Args:
        reached: its top-1 accuracy in percent. labels: `(N,)`, of the test images. protocol: how it was trained.
    """
    most = percent(labels.bincount().max().item() / len(labels))
    if reached > most:
        return []
    fewer_images = "; with few labelled images: --set batch_size=32 --set lr_head=0.01, or --finetune-protocol modern"
    what_helps = fewer_images if protocol.lr_backbone and protocol.optimizer == "sgd" else ""
    return [f"{reached:.2f} is no better than naming the most frequent class for every image, {most:.2f}{what_helps}"]


def by_class(context: ProbeContext, stem: str, predictions: Tensor, labels: Tensor) -> list[float | None]:
    """Accuracy of every class, in percent; tables and a picture of the confusion go into the folder."""
    matrix = classes.confusion_matrix(predictions, labels, context.data.num_classes)
    if context.folder is not None:
        with context.outputs.writing(*classes.table_files(context.folder, stem)):
            classes.write_tables(context.folder, stem, matrix, context.data.class_names)
        picture = context.folder / f"{stem}-confusion.png"
        title = f"{stem}: percent of each true class (row) that was given each class (column)"
        with context.outputs.writing(picture):
            save_image(confusion(matrix.numpy(), context.data.class_names, title), picture)
    return [None if share is None else percent(share) for share in classes.per_class(matrix)]
