"""Features of undistorted images, and what is measured on them while a run trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from barlowctl.amounts import counted
from barlowctl.assemble import label_free
from barlowctl.assemble.data import ImageSet, build_loader, evaluation_spec, open_recipe_images
from barlowctl.assemble.diagnosis import Diagnosis, diagnose, save_spectra
from barlowctl.assemble.gain import ANSWERS, file_of
from barlowctl.assemble.labelled import check_comparable, check_distinct
from barlowctl.assemble.machine import Runtime
from barlowctl.assemble.model import preprocessing_of
from barlowctl.data.images.unreadable import OnMeasuring, Problem, UnreadableImage
from barlowctl.data.loaders.base import ViewLoader
from barlowctl.data.loaders.batch import ViewBatch
from barlowctl.errors import UserError
from barlowctl.eval import diagnostics, features, knn, meaning
from barlowctl.eval.diagnostics import read_spread
from barlowctl.methods import Method
from barlowctl.model import Preprocessing
from barlowctl.recipe.schema import Recipe
from barlowctl.train.events import Evaluated, Event, Sink
from barlowctl.train.online_probe import OnlineProbe

EVALUATION_BATCH = 500
ONLINE_K = 20


@dataclass(frozen=True)
class Extracted:
    """What was measured of a source's images, in its order.

    Attributes:
        features: (N, F) float32. labels: (N,) int64. positions: (N,) int64, of each row's image in the source.
        unreadable: the images that have no row.
    """

    features: Tensor
    labels: Tensor
    positions: np.ndarray
    unreadable: list[Problem]


def extract(
    backbone: nn.Module,
    source: ImageSet,
    preprocessing: Preprocessing,
    runtime: Runtime,
    device: torch.device,
    subset: np.ndarray | None = None,
    to_input: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Features (N, F) float32 and labels (N,) int64 of undistorted images, one row for each, in the source's order.

    `to_input` takes the place of the normalisation of uint8 images (N, S, S, C).

    Raises:
        UnreadableImage: the first image that cannot be read, whatever a recipe does while training.
    """
    extracted = extract_readable(
        backbone, source, preprocessing, runtime, device, subset, to_input, on_unreadable="raise"
    )
    return extracted.features, extracted.labels


def extract_readable(
    backbone: nn.Module,
    source: ImageSet,
    preprocessing: Preprocessing,
    runtime: Runtime,
    device: torch.device,
    subset: np.ndarray | None = None,
    to_input: Callable[[Tensor], Tensor] | None = None,
    *,
    on_unreadable: OnMeasuring,
    advance: Callable[[int], None] = lambda images: None,
) -> Extracted:
    """As `extract`; with "skip", images that cannot be read are left out and named.

    `advance` is told after each batch how many images it had.

    Another image never stands in for one that is measured: `data.on_unreadable` is of training alone.

    Raises:
        UnreadableImage: with "raise"; with "skip" when nothing can be read.
    """
    count = source.num_samples if subset is None else len(subset)
    positions: list[np.ndarray] = []

    def batches(loader: ViewLoader) -> Iterator[ViewBatch]:
        for batch in loader.epoch(0):
            positions.append(batch.indices.numpy().copy())
            yield batch
            advance(len(positions[-1]))
        if loader.problems and not sum(map(len, positions)):
            first = loader.problems[min(loader.problems)]
            reason = f"{first.reason}; no other one of the {count} images can be read either"
            raise UnreadableImage(source.path, first.name, reason, next="give images that can be read")

    loader = build_loader(
        source,
        [evaluation_spec(preprocessing)],
        preprocessing.channels,
        runtime,
        device,
        batch_size=min(EVALUATION_BATCH, count),
        shuffle=False,
        subset=subset,
        on_unreadable=on_unreadable,
    )
    with loader:
        features_and_labels = features.extract(
            backbone, batches(loader), to_input or preprocessing.normalization().to(device), device
        )
    problems = [loader.problems[index] for index in loader.unreadable]
    return Extracted(*features_and_labels, np.concatenate(positions), problems)


def while_training(recipe: Recipe) -> OnMeasuring:
    """What a measurement in a run does about an unreadable image: a run that goes on past it measures the others."""
    return "skip" if recipe.data.on_unreadable == "replace" else "raise"


class OnlineEvaluation:
    """Measures kNN and linear top-1 (percent, where labels exist) and the diagnostics of a method when called.

    The bank is a fixed draw of the images trained on; the queries are held-out images or the val split. `record`
    keeps the spectra and a look at C of every evaluation in the run's folder `diagnostics`. `notify` is told when
    there will be no kNN though the recipe asks for one. `probe` learns while the method trains, and is asked here.
    """

    def __init__(
        self,
        method: Method,
        source: ImageSet,
        split: tuple[np.ndarray, np.ndarray],
        recipe: Recipe,
        runtime: Runtime,
        device: torch.device,
        data: str | None,
        notify: Callable[[str], None],
    ) -> None:
        self.method, self.source, self.recipe = method, source, recipe
        self.runtime, self.device = runtime, device
        trained_on, held_out = split
        generator = np.random.Generator(np.random.Philox(key=recipe.seed + 1))
        self.bank = np.sort(generator.permutation(trained_on)[: recipe.eval.bank])
        self.queries: ImageSet | None = None
        self.probe: OnlineProbe | None = None
        self.chosen = held_out[: recipe.eval.max_queries]
        self.why_not: str | None = None
        self._notify = notify
        self._latest: tuple[Diagnosis | None, Tensor] | None = None
        self._answers: dict[str, Tensor] = {}
        self._left_out = set[str]()
        self._collapsed = False
        if recipe.eval.queries != "off" and recipe.eval.every_epochs:
            try:
                self._find_queries(generator, data)
            except UserError as error:  # monitoring only: the diagnostics remain
                self.queries, self.why_not = None, str(error)
                notify(f"no online kNN: {error}")

    def _find_queries(self, generator: np.random.Generator, data: str | None) -> None:
        """Set the images that are asked about, and which of them.

        Raises:
            UserError: there are none, or a kNN of them would mean nothing.
        """
        self.queries = self.source
        if self.recipe.eval.queries == "val":
            self.queries = open_recipe_images(self.recipe, "val", data)
            drawn = generator.permutation(self.queries.num_samples)[: self.recipe.eval.max_queries]
            self.chosen = np.sort(drawn)
        check_comparable(self.source, self.queries)
        if self.queries is not self.source and (note := check_distinct(self.source, self.queries)):
            self._notify(f"online kNN: {note}")
        self._leave_out_unlabelled(self.queries)
        bank = torch.from_numpy(self.source.labels[self.bank])
        bank, query_labels = bank[bank >= 0], torch.from_numpy(self.queries.labels[self.chosen])
        if why := meaning.of_labels(bank, query_labels):
            raise UserError(why)
        if len(bank) < ONLINE_K:
            self._notify(
                f"online kNN: k is {ONLINE_K} but the bank holds {counted(len(bank), 'image')}: all of them vote"
            )
        in_bank = torch.isin(query_labels, bank.unique()).numpy()
        if lacking := int((~in_bank).sum()):
            self._notify(
                f"online kNN: {lacking:,} of {len(in_bank):,} queries are left out, whose classes have no image among "
                f"the {len(bank):,} of the bank"
            )
            self.chosen = self.chosen[in_bank]

    def _leave_out_unlabelled(self, queries: ImageSet) -> None:
        """Ask about images with a label only, and say how many have none; those of the bank stay in the diagnostics."""
        query_has_label, bank_has_label = queries.labels[self.chosen] >= 0, self.source.labels[self.bank] >= 0
        for has, what in ((bank_has_label, "images of the bank"), (query_has_label, "queries")):
            if lacking := int((~has).sum()):
                self._notify(f"online kNN: {lacking:,} of {len(has):,} {what} have no label and are left out")
        self.chosen = self.chosen[query_has_label]

    def __call__(self) -> dict[str, float]:
        """Measure now; the method's state and modes are left as they were."""
        bank, bank_labels = self._features(self.source, self.bank)
        values, self._answers = self._diagnostics(bank), {}
        if self.queries is not None:
            queries, labels = self._features(self.queries, self.chosen)  # without those that cannot be read
            bank, bank_labels = bank[bank_labels >= 0], bank_labels[bank_labels >= 0]
            self.why_not = meaning.of_labels(bank_labels, labels)
            self.why_not = self.why_not or meaning.of_features(torch.cat([bank, queries]))
            if self.why_not is None:
                votes = knn_votes(bank, bank_labels, queries, labels)
                values["knn"] = 100.0 * knn.accuracy(votes.scores, labels)
                self._answers = {ANSWERS: (votes.predictions == labels).to(torch.uint8)}
                if self.probe is not None and self.probe.has_learned:
                    values["linear"] = 100.0 * knn.accuracy(self.probe.predict(queries), labels)
            else:
                self._notify(f"no online kNN: {self.why_not}")
        return values

    def _diagnostics(self, bank: Tensor) -> dict[str, float]:
        """Of the bank's features and of C; none where they are not finite."""
        self._latest = None
        try:
            diagnosis = diagnose(self.method, self.source, self.recipe, self.runtime, self.device, self.bank)
            values = {
                "feature_spread": diagnostics.feature_spread(bank),
                "effective_rank": diagnostics.effective_rank(bank),
                "alpha": diagnostics.spectrum_decay(bank),
                **label_free.while_training(
                    self.method, bank, self.source, self.recipe, self.runtime, self.device, self.bank
                ),
                **(diagnosis.values() if diagnosis else {}),
            }
            self._latest = (diagnosis, diagnostics.eigenspectrum(bank))
            self._say_collapse(values)
        except diagnostics.NotFinite as error:
            self._notify(f"no {error.message}")
            return {}
        return values

    def _say_collapse(self, values: Mapping[str, float]) -> None:
        """Tell of embeddings or features that are all the same, once until they are not any more."""
        spreads = (("embeddings", "embedding_spread"), ("features", "feature_spread"))
        messages = {text for what, key in spreads if key in values and (text := read_spread(values[key], what))}
        for text in sorted(messages) if not self._collapsed else ():
            self._notify(f"{text}; a lower optimizer.lr, or a longer train.warmup_epochs, may keep them apart")
        self._collapsed = bool(messages)

    def reported(self, result: dict[str, Any]) -> dict[str, Any]:
        """A run's result, with the reason in the place of a kNN that means nothing."""
        return result if self.why_not is None else {**result, "knn": None, "knn_reason": self.why_not}

    def record(self, run: Path) -> Sink:
        """A sink that saves the spectra of an evaluation under its step; see `gain` for what else."""

        def sink(event: Event) -> None:
            if isinstance(event, Evaluated) and self._latest is not None:
                answers = self._answers if self.recipe.init.weights else {}
                save_spectra(file_of(run, event.step), *self._latest, answers)

        return sink

    def _features(self, source: ImageSet, subset: np.ndarray) -> tuple[Tensor, Tensor]:
        extracted = extract_readable(
            self.method.backbone,
            source,
            preprocessing_of(self.recipe),
            self.runtime,
            self.device,
            subset,
            on_unreadable=while_training(self.recipe),
        )
        for problem in extracted.unreadable:
            if problem.name not in self._left_out:
                self._left_out.add(problem.name)
                self._notify(f"not measured, it cannot be read: {problem.name}: {problem.reason}")
        return extracted.features, extracted.labels


def knn_votes(bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor) -> knn.Votes:
    """Of a kNN with k = 20, over the classes of bank and queries."""
    classes = int(torch.maximum(bank_labels.max(), labels.max())) + 1
    return knn.knn_predict(bank, bank_labels, queries, k=(ONLINE_K,), num_classes=classes)[ONLINE_K]
