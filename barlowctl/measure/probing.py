"""A network measured on labelled images: kNN, linear evaluation in two protocols, fine-tuning, diagnostics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from barlowctl.amounts import counted
from barlowctl.assemble import label_free
from barlowctl.assemble.data import ImageSet
from barlowctl.assemble.diagnosis import diagnose, pictures, save_pictures, save_spectra
from barlowctl.assemble.evaluation import extract_readable
from barlowctl.assemble.finished import FinishedRun
from barlowctl.assemble.labelled import Labelled, image_names
from barlowctl.assemble.machine import Runtime, choose_device, memory_explained, set_threads
from barlowctl.data.beton.reader import Beton
from barlowctl.data.images.unreadable import OnMeasuring
from barlowctl.eval import diagnostics, features, knn, linear, meaning, subsets
from barlowctl.measure.accuracy import at_chance, by_class, over_seeds, percent, without_certain_top5
from barlowctl.measure.baselines import Pixels, baseline
from barlowctl.measure.classification import fit
from barlowctl.measure.context import ProbeContext
from barlowctl.measure.layers import measure_layers
from barlowctl.measure.protocol import check_trainable
from barlowctl.measure.subjects import Subject, of_run
from barlowctl.measure.tasks import Tasks
from barlowctl.model import Preprocessing
from barlowctl.recipe.protocol import Protocol
from barlowctl.train.events import Measuring, Sink

KS = (20, 200)  # neighbours; the first is reported as top1
LABEL_FREE = ("rankme", "lidar", "feature_lidar", "alpha")  # a run has them, and without a projector the last two
MEASURED = {"knn": "kNN", "linear": "linear accuracy"}  # keys of a result that may have a reason instead of numbers
LINEAR_PROTOCOL = "logistic regression on features extracted once, settings chosen on a tenth of the training set"
KNN_PROTOCOL = "cosine similarity, votes weighted by exp(similarity / 0.07)"
RANK_SAMPLES = 25_600  # of RankMe, as its authors take


def probe_run(
    run: FinishedRun, data: Labelled, runtime: Runtime, *, baselines: tuple[str, ...] = ()
) -> Iterator[tuple[str, dict[str, Any]]]:
    """kNN and fast linear evaluation of a run's backbone, then of each of `baselines`, writing nothing."""
    return probe(of_run(run), data, runtime, baselines=baselines)


def probe(
    subject: Subject,
    data: Labelled,
    runtime: Runtime,
    *,
    tasks: Tasks | None = None,
    baselines: tuple[str, ...] = (),
    folder: Path | None = None,
    emit: Callable[[str], Sink] = lambda task: lambda event: None,
    on_unreadable: OnMeasuring = "raise",
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Probe a subject, then each of `baselines` ("pixels", "random-init"), under one protocol.

    Args:
        folder: for tables by class, pictures, and what is trained; None: none are written.
        emit: task -> a sink of its training events.
        on_unreadable: "skip" leaves out images that cannot be read; the measurements name them in `unreadable`. A
            classifier that is trained sees another image, with that image's label, in their place.

    Yields names and measurements.

    Raises:
        UserError: before anything is measured: see `Tasks.check` and `check_trainable`.
        AssertionError: measuring changed the backbone's bytes; its measurements are not yielded.
    """
    tasks = tasks or Tasks()
    tasks.check(data)
    device = choose_device(runtime.device)
    set_threads(runtime)
    assert folder is not None or not tasks.trained, "what is trained needs a folder"
    for protocol in tasks.protocols().values():
        check_trainable(subject, protocol)
    for baseline_name in (None, *baselines):
        measured = subject if baseline_name is None else baseline(subject, baseline_name)
        own = folder if baseline_name is None or folder is None else folder / baseline_name
        context = ProbeContext(data, runtime, device, tasks, own, emit, on_unreadable=on_unreadable)
        measured.backbone.to(device).eval()
        before = features.backbone_digest(measured.backbone)
        with memory_explained("--device cpu"):
            measurements = _probe(measured, context)
        features.check_unchanged(measured.backbone, before, f"measuring '{measured.name}'")
        yield measured.name, measurements


def _probe(subject: Subject, context: ProbeContext) -> dict[str, Any]:
    start, tasks = time.process_time(), context.tasks
    is_network = not isinstance(subject.backbone, Pixels)  # the pixels have nothing to train, and no layers
    only_layers = is_network and tasks.layers and not (tasks.knn or tasks.linear or tasks.lidar or tasks.trained)
    result = subject.preprocessing.as_result() if only_layers else _of_features(subject, context)
    if is_network:
        result |= {"layers": measure_layers(subject, context)} if tasks.layers else {}
        for protocol in tasks.protocols().values():
            result[protocol.key] = without_certain_top5(_trained(subject, context, protocol), context.data.num_classes)
    result["cpu_seconds"] = time.process_time() - start
    result["files"] = context.outputs.files
    result["not_written"] = context.outputs.problems
    result["unreadable"] = [problem.as_dict() for problem in context.unreadable.values()]
    return result


def _of_features(subject: Subject, context: ProbeContext) -> dict[str, Any]:
    """What is measured of features: their spectrum, kNN, the fast linear classifier; of a run, LiDAR."""
    preprocessing, as_it_is, data, tasks = subject.preprocessing, None, context.data, context.tasks
    emit = context.emit(subject.name)
    if isinstance(subject.backbone, Pixels):
        preprocessing, as_it_is = _at_native_size(preprocessing, data), lambda images: images

    def features_of(source: ImageSet, subset: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        split = "train" if source is data.train else "test"
        count = source.num_samples if subset is None else len(subset)
        emit(Measuring(f"features of {counted(count, f'{split} image')}"))
        extracted = extract_readable(
            subject.backbone, source, preprocessing, context.runtime, context.device, subset, as_it_is,
            on_unreadable=context.on_unreadable,
        )  # fmt: skip
        context.leave_out(replace(problem, split=split) for problem in extracted.unreadable)
        return extracted.features, extracted.labels

    # What is only trained needs no features of all images, which for a large dataset would not fit in memory.
    all_features = tasks.knn or tasks.linear
    positions = None if all_features else _sample(data.train.num_samples, RANK_SAMPLES).numpy()
    bank, bank_labels = features_of(data.train, positions)
    queries, labels = features_of(data.test) if all_features else (bank, bank_labels)
    sample = bank[_sample(len(bank), RANK_SAMPLES)] if all_features else bank
    result: dict[str, Any] = {**preprocessing.as_result(), "features": bank.shape[1]}
    result |= dict.fromkeys(("feature_spread", "effective_rank", "alpha"))
    with suppress(diagnostics.NotFinite):  # kNN and linear say why they are not reported
        result["feature_spread"] = diagnostics.feature_spread(bank)
        result["effective_rank"] = diagnostics.effective_rank(sample)
        result["alpha"] = diagnostics.spectrum_decay(sample)
        result |= {} if subject.run is None else _of_run(subject.run, context, sample)
    why_not = None
    if all_features:
        why_not = meaning.of_labels(bank_labels, labels) or meaning.of_features(torch.cat([bank, queries]))
    for name, requested, of in (("knn", tasks.knn, _knn), ("linear", tasks.linear, _linear)):
        why = why_not or (meaning.of_held_out(bank_labels) if requested and name == "linear" else None)
        if requested and why is not None:
            result[name] = {"top1": None, "top5": None, "reason": why}
        elif requested:
            emit(Measuring(MEASURED[name]))
            values = of(context, subject.seed, bank, bank_labels, queries, labels)
            result[name] = without_certain_top5(values, data.num_classes)
    return result


def _of_run(run: FinishedRun, context: ProbeContext, sample: Tensor) -> dict[str, Any]:
    """RankMe of a run's embeddings of the sample's images, LiDAR of its training images, and what C looks like."""
    method = run.method.to(context.device)
    rank = label_free.rankme(method, sample, context.device)
    values: dict[str, Any] = {} if rank is None else {"rankme": rank}
    if context.tasks.lidar:
        context.emit("LiDAR")(Measuring(label_free.lidar_sample(context.data.train.num_samples)))
        values |= label_free.measure_lidar(
            method, context.data.train, run.recipe, context.runtime, context.device, images=label_free.LIDAR_IMAGES,
            views=label_free.LIDAR_VIEWS, on_unreadable=context.on_unreadable,
        )  # fmt: skip
    if context.folder is not None and (correlation := _correlation(run, context, sample)):
        values["correlation"] = correlation
    return values


def _correlation(run: FinishedRun, context: ProbeContext, sample: Tensor) -> dict[str, Any]:
    """A run's embeddings, in numbers and in pictures; no numbers where its method compares none."""
    assert context.folder is not None
    diagnosis = diagnose(
        run.method, context.data.train, run.recipe, context.runtime, context.device,
        on_unreadable=context.on_unreadable,
    )  # fmt: skip
    eigenvalues = diagnostics.eigenspectrum(sample)
    spectra = context.folder / "spectra.safetensors"
    with context.outputs.writing(spectra):
        save_spectra(spectra, diagnosis, eigenvalues)
    with context.outputs.writing(*pictures(context.folder, diagnosis)):
        save_pictures(context.folder, diagnosis, eigenvalues, run.recipe.model.projector[-1])
    return {**diagnosis.values(), "samples": diagnosis.samples} if diagnosis else {}


def _sample(count: int, at_most: int) -> Tensor:
    """Evenly spread positions: all classes are among them also where the images lie class by class."""
    return torch.linspace(0, count - 1, min(count, at_most)).round().long()


def _knn(
    context: ProbeContext, seed: int, bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor
) -> dict[str, Any]:
    votes = knn.knn_predict(bank, bank_labels, queries, k=KS, num_classes=context.data.num_classes)
    first = votes[KS[0]].scores
    return {
        "top1": percent(knn.accuracy(first, labels)),
        **{f"k{k}": percent(knn.accuracy(votes[k].scores, labels)) for k in KS},
        "top5": percent(knn.accuracy(first, labels, top=5)),
        "per_class": by_class(context, "knn", votes[KS[0]].predictions, labels),
        "protocol": KNN_PROTOCOL,
        "neighbours": {f"k{k}": votes[k].neighbours for k in KS},
        "notes": [vote.note for vote in votes.values() if vote.note],
    }


def _linear(
    context: ProbeContext, seed: int, bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor
) -> dict[str, Any]:
    fits = []
    for probe_seed in context.tasks.seeds_of(seed):
        fits.append(
            linear.linear_probe(
                bank,
                bank_labels,
                queries,
                labels,
                num_classes=context.data.num_classes,
                seed=probe_seed,
                device=context.device,
            )
        )
    first = fits[0]
    return {
        **over_seeds([(percent(fit.top1), percent(fit.top5)) for fit in fits], context.tasks.seeds_of(seed)),
        "validation_top1": percent(first.validation_top1),
        "per_class": by_class(context, "linear", first.scores.argmax(dim=1), labels),
        "protocol": LINEAR_PROTOCOL,
        "lr": first.lr,
        "weight_decay": first.weight_decay,
        "lr_at_edge": first.lr_at_edge,
        "epochs": first.epochs,
        "batch_size": first.batch_size,
    }


def _trained(subject: Subject, context: ProbeContext, protocol: Protocol) -> dict[str, Any]:
    assert context.folder is not None
    seeds, reached, first = context.tasks.seeds_of(subject.seed), [], None
    lists = []
    for seed in seeds:
        members = context.tasks.labelled_images(protocol, context.data, seed)
        if members is not None:
            lists.append(_write_labelled(context, protocol, seed, members))
        fitted = fit(
            subject,
            context.data,
            protocol,
            context.runtime,
            context.device,
            folder=context.folder,
            seed=seed,
            subset=None if members is None else members.numpy(),
            emit=context.emit(f"{protocol.name}, seed {seed}"),
            on_unreadable=context.on_unreadable,
        )
        context.leave_out(fitted.unreadable)
        first = first or fitted
        top1, top5 = (knn.accuracy(fitted.scores, fitted.labels, top=top) for top in (1, 5))
        reached.append((percent(top1), percent(top5)))
    assert first is not None
    stem = protocol.key.replace("_", "-")
    result = {
        **over_seeds(reached, seeds),
        "images": first.images,
        "per_class": by_class(context, stem, first.scores.argmax(dim=1), first.labels),
        "protocol": protocol.describe(),
        "settings": protocol.as_dict(),
        "folder": str(first.folder),
    }
    if notes := at_chance(result["top1"], first.labels, protocol):
        result["notes"] = notes
    if lists and context.tasks.subset is not None:
        result["list"] = context.tasks.subset.name
    return {**result, "lists": lists} if lists else result


def _write_labelled(context: ProbeContext, protocol: Protocol, seed: int, members: Tensor) -> str:
    """The list of a semi-supervised task's labelled images, in a file beside the result."""
    assert context.folder is not None
    names = image_names(context.data.train, "train")
    file = context.folder / f"{protocol.name}-seed{seed}.txt"
    subsets.write_list(file, [names[index] for index in members.tolist()])
    return str(file)


def _at_native_size(preprocessing: Preprocessing, data: Labelled) -> Preprocessing:
    """Evaluation without resizing where all images are squares of one size; else as they are shown to the network."""
    if not isinstance(data.train, Beton) or not isinstance(data.test, Beton):
        return preprocessing
    sides = {int(side) for source in (data.train, data.test) for side in (*source.heights, *source.widths)}
    if len(sides) > 1 or (side := sides.pop()) < 8:
        return preprocessing
    return replace(preprocessing, resize=side, crop=side)
