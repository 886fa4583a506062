"""How much each choice of an evaluation protocol moves its number, on generated pictures (docs/evaluation.md).

    python benchmarks/evaluation_deviations.py voc --count 200
    python benchmarks/evaluation_deviations.py linear --count 300

`voc` makes pictures in VOC 2007's layout (several objects each, real proportions, difficult marks), extracts features
of a network and changes one choice of the SVM protocol at a time. `linear` makes pictures of one object each and
changes one choice of the linear and semi-supervised protocols at a time. The default network has random weights: what
this measures is the size of differences, not levels. One thread; a few minutes each.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.model_selection import cross_val_score
from sklearn.svm import LinearSVC
from torch.nn import functional as F

from barlowctl.assemble.evaluation import extract
from barlowctl.assemble.labelled import open_labelled
from barlowctl.assemble.machine import Runtime
from barlowctl.assemble.model import normalization
from barlowctl.data.loaders.plain import Pictures
from barlowctl.data.sources.benchmarks import Voc, open_voc07
from barlowctl.data.views.spec import CenterSpec, SquashSpec, UndistortedSpec
from barlowctl.datasets import VOC07
from barlowctl.eval import svm
from barlowctl.eval.knn import accuracy
from barlowctl.eval.subsets import balanced_draw
from barlowctl.measure.classification import fit
from barlowctl.measure.subjects import Subject, open_subject
from barlowctl.model import QuarterPooling
from barlowctl.recipe import load
from barlowctl.recipe.protocol import PROTOCOLS, override

RUNTIME = Runtime("cpu", 1, None, "auto")
SHAPES = ((375, 500), (500, 375), (333, 500), (281, 500))  # VOC's usual (height, width), with their frequency below
OFTEN = (0.6, 0.2, 0.15, 0.05)


def paint(pixels: np.ndarray, label: int, size: int, random: np.random.Generator) -> None:
    """One object: a patch of stripes whose colours, direction and width are the class's, a little varied."""
    kind = np.random.default_rng(1000 + label)
    colors, angle, width = kind.uniform(20, 235, (2, 3)), kind.uniform(0, np.pi), kind.uniform(4, 16)
    height, breadth = pixels.shape[:2]
    top, left = random.integers(0, height - size + 1), random.integers(0, breadth - size + 1)
    y, x = np.mgrid[:size, :size]
    turned = x * np.cos(angle + random.normal(0, 0.15)) + y * np.sin(angle)
    share = (np.sin(2 * np.pi * turned / width) > 0)[..., None]
    inside = ((x - size / 2) ** 2 + (y - size / 2) ** 2 < size**2 / 4)[..., None]
    object_ = np.where(share, colors[0], colors[1]) + random.normal(0, 25, 3)
    pixels[top : top + size, left : left + size] = np.where(
        inside, object_, pixels[top : top + size, left : left + size]
    )


def background(height: int, width: int, random: np.random.Generator) -> np.ndarray:
    """Smooth colours with noise on them, float (H, W, 3)."""
    coarse = torch.from_numpy(random.uniform(40, 215, (1, 3, 4, 5)))
    smooth = F.interpolate(coarse, (height, width), mode="bicubic")[0].permute(1, 2, 0).numpy()
    return np.asarray(smooth + random.normal(0, 18, (height, width, 3)))


def save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=92)


def make_voc(root: Path, count: int) -> None:
    """`count` trainval and as many test pictures in the layout of VOCdevkit."""
    main = root / "VOC2007" / "ImageSets" / "Main"
    main.mkdir(parents=True)
    for split, seed in (("trainval", 1), ("test", 2)):
        random = np.random.default_rng(seed)
        lists: list[list[str]] = [[] for _ in VOC07.class_names]
        for index in range(count):
            name = f"{seed}{index:05d}"
            pixels = background(*SHAPES[random.choice(len(SHAPES), p=OFTEN)], random)
            marks = dict.fromkeys(range(len(VOC07.class_names)), -1)
            for number in range(random.integers(1, 4)):
                label = index % 20 if number == 0 else int(random.integers(20))
                size = int(min(pixels.shape[:2]) * random.uniform(0.12, 0.6))
                paint(pixels, label, size, random)
                marks[label] = 0 if size < 75 and marks[label] != 1 else 1  # small: difficult
            save(pixels, root / "VOC2007" / "JPEGImages" / f"{name}.jpg")
            for label, mark in marks.items():
                lists[label].append(f"{name} {mark:2d}")
        for name, lines in zip(VOC07.class_names, lists, strict=True):
            (main / f"{name}_{split}.txt").write_text("\n".join(lines) + "\n")


class BothPoolings(torch.nn.Module):
    """The four windows, and behind them the average."""

    def __init__(self, backbone: torch.nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        last = self.backbone.forward_features(images)  # type: ignore[operator]
        return torch.cat([F.avg_pool2d(last, 6, stride=1).flatten(1), last.mean(dim=(2, 3))], dim=1)


def in_two_steps(network: torch.nn.Module, source: Voc, to_input: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
    """Features by the benchmark's own resizing: shorter side to 256, then 224 x 224, bilinear and not antialiased."""
    rows, pictures = [], Pictures(source)
    for index in range(len(source)):
        image = torch.from_numpy(pictures.image(index)).permute(2, 0, 1)[None].float()
        scale = 256 / min(image.shape[2:])
        size = [int(side * scale) for side in image.shape[2:]]
        image = F.interpolate(F.interpolate(image, size, mode="bilinear"), (224, 224), mode="bilinear")
        with torch.no_grad():
            rows.append(network(to_input((image + 0.5).byte().permute(0, 2, 3, 1)))[0])
    return torch.stack(rows).numpy()


def mean_precision(
    train: np.ndarray,
    targets: np.ndarray,
    test: np.ndarray,
    test_targets: np.ndarray,
    *,
    costs: Sequence[float] = svm.COSTS,
    weight: float = 2,
    train_difficult: bool = True,
    test_difficult: bool = False,
    seed: int = 0,
    measure: Callable[[np.ndarray, np.ndarray], float] = svm.area_precision,
) -> float:
    """mAP in percent, with one choice changed; the defaults are `svm.voc_svm`'s."""
    precisions = []
    for label in range(targets.shape[1]):
        members = np.ones(len(train), bool) if train_difficult else targets[:, label] != -1
        x, y = train[members], np.where(targets[members, label] == 1, 1, -1)

        def machine(cost: float) -> LinearSVC:
            return LinearSVC(C=cost, class_weight={1: weight, -1: 1}, max_iter=2000, random_state=seed)

        reached = [
            cross_val_score(machine(cost), x, y, cv=3, scoring="average_precision").mean() for cost in sorted(costs)
        ]
        scores = machine(sorted(costs)[int(np.argmax(reached))]).fit(x, y).decision_function(test)
        counted = np.ones(len(test), bool) if test_difficult else test_targets[:, label] != -1
        precisions.append(measure(scores[counted], test_targets[counted, label] == 1))
    return 100 * float(np.mean(precisions))


def unit(features: np.ndarray) -> np.ndarray:
    wide = features.astype(np.float64)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True))


def turned(features: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Unit-length features in the coordinates of their span: fewer numbers, the same inner products, the same SVMs."""
    scaled = [unit(one) for one in features]
    basis = np.linalg.svd(np.concatenate(scaled), full_matrices=False)[2]
    return [one @ basis.T for one in scaled]


def low_shot_on_test(features: list[np.ndarray], targets: list[np.ndarray], shots: int, draw: int) -> float:
    """The benchmark's low-shot number: the one cost with the best mean on the test pictures."""
    reached = [
        svm.low_shot(features[0], targets[0], features[1], targets[1], shots=shots, draw=draw, costs=(cost,)).mean_area
        for cost in svm.COSTS
    ]
    return 100 * max(reached)


def voc(subject: Subject, count: int, folder: Path) -> None:
    make_voc(folder, count)
    sources = [open_voc07(folder, split) for split in ("trainval", "test")]
    targets = [source.targets.astype(np.int64) for source in sources]
    backbone, device = subject.backbone.eval(), torch.device("cpu")
    windows = QuarterPooling(backbone)

    def of(network: torch.nn.Module, spec: UndistortedSpec) -> list[np.ndarray]:
        return [
            extract(network, Pictures(source), subject.recipe, RUNTIME, device, spec=spec)[0].numpy()
            for source in sources
        ]

    how = subject.recipe.views.interpolation
    both = of(BothPoolings(backbone), SquashSpec(224, how))
    channels = both[0].shape[1] // 5
    parts = (np.s_[: 4 * channels], np.s_[4 * channels :])
    quarters, average = (turned([one[:, part] for one in both]) for part in parts)

    def score(features: list[np.ndarray], **choice: object) -> float:
        return mean_precision(features[0], targets[0], features[1], targets[1], **choice)  # type: ignore[arg-type]

    base = score(quarters)
    print(f"voc: {count} trainval and {count} test pictures, {subject.name}; mAP (area) {base:.2f}", flush=True)
    own = 100 * svm.voc_svm(quarters[0], targets[0], quarters[1], targets[1]).mean_area
    print(f"| the same through `svm.voc_svm` | {own - base:+.2f} |", flush=True)
    to_input = normalization(subject.recipe)
    fewer = [*(2.0**power for power in range(-19, -3)), 0.01, 0.1]
    for name, value in (
        ("11 points instead of the area", lambda: score(quarters, measure=svm.eleven_point_precision)),
        (
            "resize 256, centre crop 224 instead of the whole picture",
            lambda: score(turned(of(windows, CenterSpec(256, 224, how)))),
        ),
        ("average pooling instead of 2 x 2 windows", lambda: score(average)),
        (
            "resized in two steps, bilinear, not antialiased",
            lambda: score(turned([in_two_steps(windows, source, to_input) for source in sources])),
        ),
        ("positives weighted once", lambda: score(quarters, weight=1)),
        ("18 costs (the code's default flag) instead of 26", lambda: score(quarters, costs=fewer)),
        ("difficult left out of training", lambda: score(quarters, train_difficult=False)),
        ("difficult counted as absent in the test", lambda: score(quarters, test_difficult=True)),
        ("another seed of liblinear", lambda: score(quarters, seed=1)),
    ):
        print(f"| {name} | {value() - base:+.2f} |", flush=True)
    for shots in (1, 4):
        ours, theirs = [], []
        for draw in range(svm.LOW_SHOT_DRAWS):
            arguments = (quarters[0], targets[0], quarters[1], targets[1])
            ours.append(100 * svm.low_shot(*arguments, shots=shots, draw=draw).mean_area)
            theirs.append(low_shot_on_test(quarters, targets, shots, draw))
        print(
            f"| {shots} positives: best cost on the test pictures | {np.mean(theirs) - np.mean(ours):+.2f} |",
            flush=True,
        )


def make_classes(root: Path, count: int, classes: int = 10) -> None:
    """`count` training and as many test pictures of 32 x 32 with one object each, in class folders."""
    for split, seed in (("train", 3), ("test", 4)):
        random = np.random.default_rng(seed)
        for index in range(count):
            pixels = background(32, 32, random)
            paint(pixels, index % classes, int(random.integers(8, 20)), random)
            save(pixels, root / split / f"class{index % classes}" / f"{index:05d}.jpg")


def over_epochs(
    features: list[torch.Tensor], labels: list[torch.Tensor], seed: int, epochs: int = 100, batch: int = 64
) -> list[float]:
    """Test accuracy after every epoch of the paper's linear classifier (lr 0.3, cosine) on features as they are."""
    torch.manual_seed(seed)
    head = torch.nn.Linear(features[0].shape[1], int(labels[0].max()) + 1)
    torch.nn.init.normal_(head.weight, std=0.01)
    torch.nn.init.zeros_(head.bias)
    optimizer = torch.optim.SGD(head.parameters(), 0.3, momentum=0.9, weight_decay=1e-6)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    reached = []
    for _ in range(epochs):
        for rows in torch.randperm(len(labels[0])).split(batch):
            optimizer.zero_grad()
            F.cross_entropy(head(features[0][rows]), labels[0][rows]).backward()
            optimizer.step()
        schedule.step()
        with torch.no_grad():
            reached.append(100 * float((head(features[1]).argmax(1) == labels[1]).float().mean()))
    return reached


def linear(subject: Subject, count: int, folder: Path) -> None:
    make_classes(folder / "pictures", count)
    recipe = load.override(subject.recipe, ["eval.resize=32", "eval.crop=32"])
    subject = replace(subject, recipe=recipe)
    labelled = open_labelled(recipe, str(folder / "pictures"))
    device = torch.device("cpu")
    read = [extract(subject.backbone, source, recipe, RUNTIME, device) for source in (labelled.train, labelled.test)]
    curves = [over_epochs([one for one, _ in read], [one for _, one in read], seed) for seed in range(5)]
    last, best = (np.array([pick(curve) for curve in curves]) for pick in (lambda one: one[-1], max))
    print(
        f"linear: {count} training and {count} test pictures, {subject.name}; last epoch {last.mean():.2f}", flush=True
    )
    print(f"| the best of 100 epochs on the test pictures | {(best - last).mean():+.2f} |", flush=True)

    def semi(*changes: str) -> np.ndarray:
        protocol = override(PROTOCOLS["semi-10"], ["batch_size=16", "lr_head=0.05", *changes])
        reached = []
        for seed in range(3):
            drawn = balanced_draw(torch.from_numpy(labelled.train.labels), 10.0, seed=seed).numpy()
            result = fit(subject, labelled, protocol, RUNTIME, device, folder=folder, seed=seed, subset=drawn)
            reached.append(100 * accuracy(result.scores, result.labels))
        return np.array(reached)

    base = semi()
    print(f"10 % of the labels, drops, three seeds: {base.mean():.2f}", flush=True)
    for name, change in (("a cosine (the authors' code)", "schedule=cosine"), ("backbone 0.005", "lr_backbone=0.005")):
        difference = semi(change) - base
        print(f"| {name} | {difference.mean():+.2f} +- {difference.std(ddof=1):.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocol", choices=["voc", "linear"])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--network", default="resnet10t", help="anything that `barlowctl probe` takes")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # fits that reach their limit of iterations
    with tempfile.TemporaryDirectory() as folder:
        (voc if given.protocol == "voc" else linear)(open_subject(given.network), given.count, Path(folder))


if __name__ == "__main__":
    main()
