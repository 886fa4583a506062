"""The paper's studies as values: each variant is a name, recipe overrides, and the published numbers.

Published numbers are ImageNet linear evaluation after 300 epochs, (top-1, top-5) in percent; None where the
paper prints none (its figures 3, 4 and 5 show Barlow Twins as curves only).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from barlowctl.errors import UserError, did_you_mean, instead
from barlowctl.recipe.lambd import PAPER_WIDTH, lambd_of
from barlowctl.recipe.objectives import only_barlow_twins
from barlowctl.recipe.schema import Recipe
from barlowctl.study.study import Series, Study
from barlowctl.study.variant import Override, Variant

POWERS = tuple(2**power for power in range(4, 15))  # Fig. 4's axis
OWN_LAMBD = "lambd stays the recipe's"


def build(name: str, base: Recipe) -> Study:
    """The study of that name (one of `NAMES`) for a base recipe.

    Raises:
        UserError: a study of the Barlow Twins loss, and a base recipe of another method.
    """
    match name:
        case "asymmetry" if hasattr(base.objective, "stop_gradient"):  # SimSiam has it too
            return asymmetry(base.model.projector)
        case "drop-aug":
            return drop_augmentations()
        case "batch-size":
            return batch_size(base)
        case "projector":
            return projector(base.model.projector, _lambd_of_widths(base))
        case "projector-width":
            return projector_width(base.model.projector, _lambd_of_widths(base))
        case "depth":
            return depth(base.model.projector)
        case "loss" | "lambd" | "asymmetry":
            own = only_barlow_twins(base.objective, f"the study '{name}'")
            width = base.model.projector[-1]
            return loss(own.temperature) if name == "loss" else lambd(lambd_of(own.lambd, width)[0], width)
        case _:
            raise AssertionError(name)


NAMES = ("loss", "asymmetry", "drop-aug", "batch-size", "projector", "projector-width", "depth", "lambd")


def loss(temperature: float = 0.1) -> Study:
    """Table 5: the terms of the loss and its normalisations.

    The cross-entropy row has the recipe's tau and lambd 1, which the paper does not print: docs/objective.md says why.
    """
    no_norm = ("model.projector_batch_norm=false", "objective.normalization=none")
    cross_entropy = ("objective.criterion=cross-entropy", "objective.lambd=1.0")
    return Study(
        "loss",
        "Loss",
        "Table 5",
        (
            Variant("baseline", (), (71.4, 90.2)),
            Variant("only-invariance", ("objective.terms=invariance",), (57.3, 80.5)),
            Variant("only-redundancy", ("objective.terms=redundancy",), (0.1, 0.5)),
            Variant("feature-normalization", ("objective.normalization=feature",), (69.8, 88.8)),
            Variant("no-bn-in-mlp", ("model.projector_batch_norm=false",), (71.2, 89.7)),
            Variant("no-bn-no-normalization", no_norm, (53.4, 76.7)),
            Variant("cross-entropy", cross_entropy, (63.3, 85.7)),
        ),
        baseline="baseline",
        note=f"cross-entropy: tau {temperature:g} and lambd 1 are ours, the paper prints neither",
    )


def asymmetry(projector: Sequence[int]) -> Study:
    """Table 6: stop-gradient and predictor on one branch. The predictor is as wide as the projector."""
    predictor = f"model.predictor=[{projector[-1]}]"
    return Study(
        "asymmetry",
        "Asymmetric networks",
        "Table 6",
        (
            Variant("baseline", (), (71.4, 90.2)),
            Variant("stop-gradient", ("objective.stop_gradient=true",), (70.5, 89.0)),
            Variant("predictor", (predictor,), (70.2, 89.0)),
            Variant("stop-gradient-and-predictor", ("objective.stop_gradient=true", predictor), (61.3, 83.5)),
        ),
        baseline="baseline",
    )


def drop_augmentations() -> Study:
    """Figure 3: distortions removed one after another, from both views.

    "Crop and blur" drops whatever else there is: solarisation and flips, and what a recipe has beyond the paper.
    """

    def without(*names: str) -> tuple[Override, ...]:
        return tuple(f"views.{view}.{name}=0" for name in names for view in ("first", "second"))

    color, flips = ("grayscale", "jitter"), ("flip", "vertical_flip", "rotate90")
    names = ("baseline", "no-grayscale", "no-color", "crop-and-blur", "crop-only")
    return Study(
        "drop-aug",
        "Distortions removed one after another",
        "Figure 3",
        (
            Variant("baseline", (), (71.4, 90.2)),
            Variant("no-grayscale", without("grayscale")),
            Variant("no-color", without(*color)),
            Variant("crop-and-blur", without(*color, "solarize", "erase", *flips)),
            Variant("crop-only", without(*color, "solarize", "erase", *flips, "blur")),
        ),
        baseline="baseline",
        form="steps",
        series=(
            Series("BYOL", dict(zip(names, (72.5, 70.3, 63.4, 61.1, 59.4), strict=True)), "byol"),
            Series("SimCLR", dict(zip(names, (67.9, 61.9, 45.7, 41.7, 40.3), strict=True)), "simclr"),
        ),
        note="Barlow Twins itself is published as a curve only",
    )


# Figure 2: batch size -> (best learning rate L for weights, top-1). The rates are from issue 7 of the authors'
# repository, where biases have 0.024 L before the division by the number of devices W (docs/objective.md).
BATCH_SIZES = {
    128: (0.7, 69.7),
    256: (0.4, 70.7),
    512: (0.3, 71.4),
    1024: (0.25, 71.7),
    2048: (0.2, 71.4),
    4096: (0.2, 70.7),
}


def batch_size(base: Recipe) -> Study:
    """Figure 2: batch sizes with the paper's learning rates, which are those of LARS as the authors have it.

    Biases keep the recipe's share of the weights' rate: 0.024 / W in `resnet50-300ep`, as in issue 7 of the authors'
    repository. Other optimizers, and LARS with clipped trust ratios, keep the recipe's rates at the recipe's batch, and
    their peak follows the batch: in proportion for LARS and SGD, by the square root for AdamW and Muon, whose steps do
    not grow with the gradient (Malladi et al. 2022, arXiv 2205.10287, for Adam). The recipe itself is a variant.
    """
    values, own = base.optimizer, base.train.batch_size
    papers = values.name == "lars" and not values.clip_trust_ratio
    in_proportion = values.name in ("lars", "sgd")

    def rates(size: int) -> tuple[Override, ...]:
        if papers:
            if size not in BATCH_SIZES or BATCH_SIZES[size][0] == values.lr:
                return ()
            factor = BATCH_SIZES[size][0] / values.lr
        else:
            factor = (
                1.0 if in_proportion else math.sqrt(own / size)
            )  # rates are per 256 images: the peak is lr x batch / 256
        scaled = {"lr": values.lr * factor, "lr_biases": values.lr_biases * factor}
        return () if factor == 1.0 else tuple(f"optimizer.{key}={rate:.4g}" for key, rate in scaled.items())

    rows = tuple(
        Variant(str(size), (f"train.batch_size={size}", *rates(size)), (BATCH_SIZES.get(size, (0, None))[1], None),
                float(size))
        for size in sorted({*BATCH_SIZES, own})
    )  # fmt: skip
    others = (Series("BYOL, its best", {"4096": 72.5}, "byol"), Series("SimCLR, its best", {"4096": 67.1}, "simclr"))
    rule = "in proportion to the batch" if in_proportion else "by the square root of the batch"
    note: str | None = f"the peak learning rate ({values.name}'s, from the recipe) grows {rule}"
    if papers:
        rate = BATCH_SIZES.get(own, (values.lr, None))[0]
        differs = f"; the recipe's own, {values.lr:g} at {own}, is another than its row's" if rate != values.lr else ""
        note = (
            "learning rates of weights are the paper's (issue 7 of the authors' repository), of biases "
            f"{values.lr_biases / values.lr:.3g} of them as in the recipe (published: 0.024 / W){differs}"
        )
    return Study("batch-size", "Batch size", "Figure 2", rows, str(own), "curve", "batch size", others, note)


def _lambd_of_widths(base: Recipe) -> str:
    """What lambd is where the projector's width varies: with `auto` a narrower one has a larger."""
    follows = getattr(base.objective, "lambd", None) == "auto"
    return "lambd goes with the width (objective.lambd is auto)" if follows else OWN_LAMBD


def projector(widths: Sequence[int], lambd: str = OWN_LAMBD) -> Study:
    """Figure 4: the dimension of the projector's last layer, the others as they are; 16 to 16384, and the recipe's."""
    rows = [
        Variant(f"last-{width}", (f"model.projector={[*widths[:-1], width]}",), x=float(width))
        for width in sorted({*POWERS, widths[-1]})
    ]
    note = f"the last layer alone, as in the figure's caption; {lambd}; published as a curve only"
    return Study(
        "projector",
        "Dimension of the projector's last layer",
        "Figure 4",
        tuple(rows),
        f"last-{widths[-1]}",
        "curve",
        "dimension of the last layer",
        note=note,
    )


def projector_width(widths: Sequence[int], lambd: str = OWN_LAMBD) -> Study:
    """Beside figure 4: the width of all layers of the projector alike; 16 to 16384, and the recipe's own."""
    rows = [
        Variant(f"width-{width}", (f"model.projector={[width] * len(widths)}",), x=float(width))
        for width in sorted({*POWERS, widths[-1]})
    ]
    baseline = f"width-{widths[-1]}"
    if len(set(widths)) > 1:  # layers of several widths are none of the rows
        baseline = "recipe"
        rows.append(Variant(baseline, (), x=float(widths[-1])))
    note = f"all layers alike; not in the paper, whose figure 4 varies the last alone; {lambd}"
    return Study(
        "projector-width",
        "Projector width, all layers",
        "beside Figure 4",
        tuple(rows),
        baseline,
        "curve",
        "projector width",
        note=note,
    )


def depth(widths: Sequence[int]) -> Study:
    """Beside figure 4: one to four projector layers of the base width, and the recipe's own."""
    rows = [
        Variant(f"depth-{count}", (f"model.projector={[widths[-1]] * count}",), x=float(count))
        for count in sorted({1, 2, 3, 4, len(widths)})
    ]
    baseline = f"depth-{len(widths)}"
    if len(set(widths)) > 1:
        baseline = "recipe"
        rows.append(Variant(baseline, (), x=float(len(widths))))
    note = "not in the paper, whose projector has three layers"
    return Study(
        "depth", "Projector depth", "beside Figure 4", tuple(rows), baseline, "curve", "projector layers", note=note
    )


def lambd(base: float, width: int) -> Study:
    """Figure 5: the weight of the redundancy reduction term.

    With the paper's projector (8192 wide) its own values, 0.002 to 0.02. With another one the same multiples of
    the recipe's value that they are of the paper's 0.005: the term has D^2 members against D, so that the values
    for another width are others.
    """
    values: tuple[float, ...] = (0.002, 0.0035, 0.005, 0.0075, 0.01, 0.015, 0.02)
    if width != PAPER_WIDTH:
        values = tuple(float(f"{base * value / 0.005:.4g}") for value in values)
    rows = tuple(Variant(f"lambd-{value:g}", (f"objective.lambd={value!r}",), x=value) for value in values)
    return Study(
        "lambd",
        "Weight of the redundancy term",
        "Figure 5",
        rows,
        rows[2].name,
        "curve",
        "lambd",
        note="published as a curve only",
    )


def select(studies: Sequence[Study], only: Sequence[str] = (), without: Sequence[str] = ()) -> list[Study]:
    """The studies with the variants of `only` (all where it is empty) less those of `without`.

    Baselines stay, and a study of which nothing but its baseline is left is left out.

    Raises:
        UserError: no study has a variant of that name, or nothing is left.
    """
    names = [variant.name for study in studies for variant in study.variants]
    for name in (*only, *without):
        if name not in names:
            raise UserError(
                f"no variant is named '{name}'{did_you_mean(name, names)}",
                allowed=", ".join(dict.fromkeys(names)),
                next=instead("--only" if name in only else "--without", name, names),
            )
    selected = []
    for study in studies:
        chosen = {variant.name for variant in study.variants if not only or variant.name in only} - set(without)
        baselines = {variant.baseline for variant in study.variants if variant.name in chosen} | {study.baseline}
        variants = tuple(variant for variant in study.variants if variant.name in chosen | baselines)
        if chosen & set(only) or chosen - {study.baseline} or (not only and not without):
            selected.append(replace(study, variants=variants))
    if not selected:
        flags = [flag for flag, named in (("--only", only), ("--without", without)) if named]
        raise UserError(
            f"{' and '.join(flags)} leave no variant to train",
            allowed=", ".join(dict.fromkeys(names)),
            next=f"without {' '.join(flags)}",
        )
    return selected
