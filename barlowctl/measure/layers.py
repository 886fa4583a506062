"""Every layer of a network measured in one pass over the images: which of them has the best features?

The best layer is often not the last (Bordes et al. 2023, "Guillotine regularization", arXiv 2206.13378): what comes
before the objective fits the objective.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from barlowctl.amounts import counted
from barlowctl.assemble.data import ImageSet
from barlowctl.assemble.evaluation import extract_readable
from barlowctl.eval import diagnostics, knn, linear, meaning
from barlowctl.measure.accuracy import over_seeds, percent
from barlowctl.measure.context import ProbeContext
from barlowctl.measure.subjects import Subject
from barlowctl.model.every_layer import FEATURES, EveryLayer
from barlowctl.train.events import Measuring, Sink

K = 20
MOST_IMAGES, OF_EACH_CLASS = 10_000, 50
"""Of a split, evenly spread: as many as tell layers apart. Of a training split, as many of each class at least."""
MOST_BYTES = 2 << 30
"""Of all features of all layers, which are there twice while they are put together; of more images, as many as fit."""


def measure_layers(subject: Subject, context: ProbeContext) -> dict[str, Any]:
    """kNN and the fast linear classifier on each layer of a subject's backbone, and of its run's projector.

    Returns:
        `rows`: for each layer its name (`layer`), `features` (its width), `knn` (k 20) and `linear` on the test images
        (percent; `linear_sd` with several seeds), `validation_top1` of the linear classifier on a tenth of the training
        images, and `effective_rank`; a `reason` instead of the numbers where there are none. `best`: the layer with the
        highest `validation_top1`: nothing is chosen on test images. `images`: how many there were of both splits.

    Raises:
        UserError: a backbone that does not show its layers.
    """
    projector = None if subject.run is None else subject.run.method.heads().get("projector")
    network = EveryLayer(
        subject.backbone, projector, size=subject.preprocessing.crop, in_chans=subject.preprocessing.channels
    ).to(context.device)
    emit, splits = context.emit("layers"), {"train": context.data.train, "test": context.data.test}
    counts = _counts(context, sum(layer.width for layer in network.layers))
    (bank, bank_labels), (queries, labels) = (
        _features(network, context, subject, source, split, counts[split], emit) for split, source in splits.items()
    )
    why_not = meaning.of_labels(bank_labels, labels)
    rows: list[dict[str, Any]] = []
    for layer, of_bank, of_queries in zip(network.layers, network.split(bank), network.split(queries), strict=True):
        emit(Measuring(f"kNN and linear of {layer.name}, {len(rows) + 1} of {len(network.layers)}"))
        numbers = _measured(context, subject.seed, of_bank, bank_labels, of_queries, labels, why_not)
        rows.append({"layer": layer.name, "features": layer.width, **numbers})
    measured = [row for row in rows if "reason" not in row]
    return {
        "rows": rows,
        "best": max(measured, key=lambda row: row["validation_top1"])["layer"] if measured else None,
        "images": [len(bank), len(queries)],
        "whole": all(counts[split] == source.num_samples for split, source in splits.items()),
    }


def _counts(context: ProbeContext, width: int) -> dict[str, int]:
    """How many images of each split are measured, whose features of all layers are `width` numbers."""
    most = {"train": max(MOST_IMAGES, OF_EACH_CLASS * context.data.num_classes), "test": MOST_IMAGES}
    available = {"train": context.data.train.num_samples, "test": context.data.test.num_samples}
    counts = {split: min(available[split], most[split]) for split in most}
    share = min(1.0, MOST_BYTES / (4 * width * sum(counts.values())))
    return {split: max(1, int(count * share)) for split, count in counts.items()}


def _features(
    network: EveryLayer,
    context: ProbeContext,
    subject: Subject,
    source: ImageSet,
    split: str,
    count: int,
    emit: Sink,
) -> tuple[Tensor, Tensor]:
    """Features of all layers and labels of `count` images of a split, evenly spread."""
    emit(Measuring(f"features of {count:,} of {counted(source.num_samples, f'{split} image')}"))
    whole = count == source.num_samples
    subset = None if whole else np.linspace(0, source.num_samples - 1, count).round().astype(np.int64)
    extracted = extract_readable(
        network,
        source,
        subject.preprocessing,
        context.runtime,
        context.device,
        subset,
        on_unreadable=context.on_unreadable,
    )
    context.leave_out(replace(problem, split=split) for problem in extracted.unreadable)
    return extracted.features, extracted.labels


def _measured(
    context: ProbeContext,
    seed: int,
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    labels: Tensor,
    why_not: str | None,
) -> dict[str, Any]:
    """The numbers of one layer, or the reason why there are none."""
    bank, queries = bank.contiguous(), queries.contiguous()
    if reason := why_not or meaning.of_held_out(bank_labels) or meaning.of_features(torch.cat([bank, queries])):
        return {"reason": reason}
    classes, seeds = context.data.num_classes, context.tasks.seeds_of(seed)
    votes = knn.knn_predict(bank, bank_labels, queries, k=(K,), num_classes=classes)
    fits = [
        linear.linear_probe(
            bank, bank_labels, queries, labels, num_classes=classes, seed=probe_seed, device=context.device
        )
        for probe_seed in seeds
    ]
    reached = over_seeds([(percent(fit.top1), percent(fit.top5)) for fit in fits], seeds)
    return {
        "knn": percent(knn.accuracy(votes[K].scores, labels)),
        "linear": reached["top1"],
        **({"linear_sd": reached["top1_sd"]} if len(seeds) > 1 else {}),
        "validation_top1": round(sum(percent(fit.validation_top1) for fit in fits) / len(fits), 4),
        "effective_rank": diagnostics.effective_rank(bank),
    }


def sentences(measured: dict[str, Any]) -> list[str]:
    """What a sweep says, for people."""
    rows = {row["layer"]: row for row in measured["rows"]}
    best = measured["best"]
    result = [f"{row['layer']}: {row['reason']}" for row in measured["rows"] if "reason" in row]
    if best is not None:
        linear_top1 = f"linear {rows[best]['linear']:.2f} on the test images"
        line = f"best layer on a tenth of the training images: {best}, {linear_top1}"
        if best != FEATURES and "linear" in rows.get(FEATURES, {}):
            line += f"; the backbone's features: {rows[FEATURES]['linear']:.2f}"
        result.append(line)
    if not measured["whole"]:
        result.append("of {:,} training and {:,} test images, evenly spread".format(*measured["images"]))
    return result
