"""VOC07 classification: one linear SVM per class on fixed features, mean average precision.

Protocol (Goyal et al. 2019, arXiv 1905.01235, which the paper follows through Misra and van der Maaten 2020):
features scaled to unit length; LinearSVC with the squared hinge loss, positives weighted twice; the cost of each
class from {2^-19, ..., 2^-4} and {10^-7, ..., 10^2} by 3-fold cross-validated average precision on trainval. As in the
benchmark's code, an image where a class is only "difficult" counts as a negative in training and is left out of
the test.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from barlowctl.errors import UserError
from barlowctl.packages import required

COSTS = tuple(sorted([2.0**power for power in range(-19, -3)] + [10.0**power for power in range(-7, 3)]))
FOLDS = 3
AREA, ELEVEN_POINTS = "mAP (area under the curve)", "mAP (11 points)"
LOW_SHOTS = (1, 2, 4, 8, 16, 32, 64, 96)
LOW_SHOT_DRAWS = 5
PLAIN_COST = 1.0  # where there are too few positives to choose one


@dataclass(frozen=True)
class SvmResult:
    """Average precisions are shares in [0, 1], one per class.

    Attributes:
        area: under the interpolated precision-recall curve, which the benchmark's code and so the papers report
            (VOC 2010's measure).
        eleven_point: VOC 2007's own measure: mean of the best precision at recall >= 0, 0.1, ..., 1.
        costs: chosen per class. not_converged: fits that reached the limit of iterations.
    """

    area: tuple[float, ...]
    eleven_point: tuple[float, ...]
    costs: tuple[float, ...]
    not_converged: int

    @property
    def mean_eleven_point(self) -> float:
        """Mean over classes."""
        return float(np.mean(self.eleven_point))

    @property
    def mean_area(self) -> float:
        """Mean over classes."""
        return float(np.mean(self.area))


def voc_svm(
    features: np.ndarray,
    targets: np.ndarray,
    test_features: np.ndarray,
    test_targets: np.ndarray,
    *,
    costs: Sequence[float] = COSTS,
    threads: int = 1,
    seed: int = 0,
    begin: Callable[[int], None] = lambda label: None,
) -> SvmResult:
    """Train on all images, test on the test images.

    Args:
        begin: called with each class when its turn comes, `threads` of them at a time.
        features, test_features: `(N, F)` and `(M, F)`. targets, test_targets: `(N, K)`, `(M, K)`: 1 present, 0
            absent, -1 difficult.

    Raises:
        UserError: scikit-learn is missing, or a class has fewer than three positives in training or none in the test.
    """
    train, test = _unit(features), _unit(test_features)
    _check(train, targets, FOLDS, "training")
    _check(test, test_targets, 1, "test")

    def fit_class(label: int) -> tuple[float, float, float, int]:
        begin(label)
        truth = np.where(targets[:, label] == 1, 1, -1)
        cost, failed = _choose_cost(train, truth, costs, seed)
        scores, more = _fit(train, truth, test, cost, seed)
        return (*_precisions(scores, test_targets[:, label]), cost, failed + more)

    return _all_classes(fit_class, targets.shape[1], threads)


def low_shot(
    features: np.ndarray,
    targets: np.ndarray,
    test_features: np.ndarray,
    test_targets: np.ndarray,
    *,
    shots: int,
    draw: int,
    costs: Sequence[float] = COSTS,
    threads: int = 1,
) -> SvmResult:
    """The same from `shots` positives and `(K - 1) x shots` negatives of each class, drawn by `draw`.

    With three or more positives the cost is cross-validated among these images; with fewer it is 1. (Deviation:
    the benchmark's code reports the best cost on the test images.)

    Raises:
        UserError: a class has fewer positives than `shots`.
    """
    train, test = _unit(features), _unit(test_features)
    _check(train, targets, shots, "training")
    _check(test, test_targets, 1, "test")
    random = np.random.Generator(np.random.Philox(key=draw))
    drawn = []
    for label in range(targets.shape[1]):
        positives, negatives = (np.flatnonzero(targets[:, label] == value) for value in (1, 0))
        count = min((targets.shape[1] - 1) * shots, len(negatives))
        chosen = (random.choice(positives, shots, replace=False), random.choice(negatives, count, replace=False))
        drawn.append(np.sort(np.concatenate(chosen)))

    def fit_class(label: int) -> tuple[float, float, float, int]:
        members = drawn[label]
        truth = np.where(targets[members, label] == 1, 1, -1)
        cost, failed = _choose_cost(train[members], truth, costs, draw) if shots >= FOLDS else (PLAIN_COST, 0)
        scores, more = _fit(train[members], truth, test, cost, draw)
        return (*_precisions(scores, test_targets[:, label]), cost, failed + more)

    return _all_classes(fit_class, targets.shape[1], threads)


def precision_recall(scores: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall after each image, in descending order of score; equal scores keep their order."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(present[order])
    return hits / np.arange(1, len(order) + 1), hits / max(int(present.sum()), 1)


def eleven_point_precision(scores: np.ndarray, present: np.ndarray) -> float:
    """VOC 2007: the mean over recalls 0, 0.1, ..., 1 of the best precision at that recall or beyond.

    Args:
        scores: `(M,)`. present: `(M,)` bool.
    """
    precision, recall = precision_recall(scores, present)
    best = [precision[recall >= tenth / 10 - 1e-12].max(initial=0.0) for tenth in range(11)]
    return float(np.mean(best))


def area_precision(scores: np.ndarray, present: np.ndarray) -> float:
    """Area under the curve of the best precision at each recall or beyond (VOC 2010 and later)."""
    precision, recall = precision_recall(scores, present)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.diff(recall, prepend=0.0)
    return float((steps * best).sum())


def _all_classes(fit_class: Callable[[int], tuple[float, float, float, int]], classes: int, threads: int) -> SvmResult:
    """`fit_class` of every class, `threads` at a time: (area, 11 points, cost, fits that did not converge) of each."""
    with ThreadPoolExecutor(max(1, threads)) as pool:  # liblinear works with the interpreter lock released
        area, eleven, costs, failed = zip(*pool.map(fit_class, range(classes)), strict=True)
    return SvmResult(area, eleven, costs, sum(failed))


def _precisions(scores: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """Area and 11 points of one class on the images that count: targets `(n,)` 1, 0, or -1 for ignored."""
    counted = targets != -1
    present = targets[counted] == 1
    return area_precision(scores[counted], present), eleven_point_precision(scores[counted], present)


def _choose_cost(features: np.ndarray, truth: np.ndarray, costs: Sequence[float], seed: int) -> tuple[float, int]:
    """The cost with the best mean cross-validated average precision, the smaller one in a tie."""
    from sklearn.metrics import average_precision_score
    from sklearn.model_selection import StratifiedKFold

    if len(costs) == 1:
        return costs[0], 0
    best, failed = (-1.0, costs[0]), 0
    folds = list(StratifiedKFold(FOLDS).split(features, truth))
    for cost in sorted(costs):
        reached = []
        for fitting, validation in folds:
            scores, more = _fit(features[fitting], truth[fitting], features[validation], cost, seed)
            reached.append(average_precision_score(truth[validation] == 1, scores))
            failed += more
        mean = float(np.mean(reached))
        if mean > best[0]:
            best = (mean, cost)
    return best[1], failed


def _fit(features: np.ndarray, truth: np.ndarray, test: np.ndarray, cost: float, seed: int) -> tuple[np.ndarray, int]:
    """Scores of the test images, and 1 when the fit reached its limit of iterations."""
    from sklearn.svm import LinearSVC

    machine = LinearSVC(
        C=cost, class_weight={1: 2, -1: 1}, loss="squared_hinge", penalty="l2", dual=True, max_iter=2000,
        random_state=seed,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # counted instead
        machine.fit(features, truth)
    return machine.decision_function(test), int(machine.n_iter_ >= machine.max_iter)


def require_library() -> None:
    """Refuse at once where scikit-learn is missing or does not work.

    Raises:
        UserError: it is.
    """
    required("SVMs need the package scikit-learn", "sklearn", extra="svm")


def _unit(features: np.ndarray) -> np.ndarray:
    require_library()
    wide = np.asarray(features, dtype=np.float64)
    if not np.isfinite(wide).all():
        raise UserError("SVM: the features contain NaN or infinity")
    scaled: np.ndarray = wide / (np.linalg.norm(wide, axis=1, keepdims=True) + 1e-5)
    return scaled


def _check(features: np.ndarray, targets: np.ndarray, positives: int, which: str) -> None:
    if features.ndim != 2 or targets.ndim != 2 or len(features) != len(targets):
        raise UserError(f"{which} features {features.shape} and targets {targets.shape}", allowed="(N, F) and (N, K)")
    counts = (targets == 1).sum(axis=0)
    if counts.min() < positives:
        label = int(counts.argmin())
        raise UserError(
            f"class {label} has {counts[label]} positive {which} images", allowed=f"at least {positives} of each class"
        )
    if (targets == 0).sum(axis=0).min() < min(positives, FOLDS):
        raise UserError(f"a class has too few {which} images without it", allowed=f"at least {min(positives, FOLDS)}")
