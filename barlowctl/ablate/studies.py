"""The paper's studies as values: each variant is a name, recipe overrides, and the published numbers.

Published numbers are ImageNet linear evaluation after 300 epochs, (top-1, top-5) in percent; None where the
paper prints none (its figures 3, 4 and 5 show Barlow Twins as curves only).
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from barlowctl.errors import UserError

Override = str  # key=value, as for --set


@dataclass(frozen=True)
class Variant:
    """One row of a study."""

    name: str
    overrides: tuple[Override, ...] = ()
    published: tuple[float | None, float | None] = (None, None)


@dataclass(frozen=True)
class Study:
    """Several variants of one recipe. `source` says which table or figure of the paper it is."""

    name: str
    title: str
    source: str
    variants: tuple[Variant, ...]

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"study '{self.name}' has two variants named '{name}'", next="rename one of them")


def loss() -> Study:
    """Table 5: the terms of the loss and its normalisations."""
    no_norm = ("model.projector_batch_norm=false", "objective.normalization=none")
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
            Variant("cross-entropy", ("objective.criterion=cross-entropy",), (63.3, 85.7)),
        ),
    )


def asymmetry(projector: tuple[int, ...]) -> Study:
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
    )


def drop_augmentations() -> Study:
    """Figure 3: distortions removed one after another, from both views."""

    def without(*names: str) -> tuple[Override, ...]:
        return tuple(f"views.{view}.{name}=0" for name in names for view in ("first", "second"))

    color = ("grayscale", "jitter")
    return Study(
        "drop-aug",
        "Distortions removed",
        "Figure 3",
        (
            Variant("baseline", (), (71.4, 90.2)),
            Variant("no-grayscale", without("grayscale")),
            Variant("no-color", without(*color)),
            Variant("crop-and-blur", without(*color, "solarize", "erase", "flip")),
            Variant("crop-only", without(*color, "solarize", "erase", "flip", "blur")),
        ),
    )


# Figure 2: batch size -> (best learning rate for weights, top-1)
BATCH_SIZES = {
    128: (0.7, 69.7),
    256: (0.4, 70.7),
    512: (0.3, 71.4),
    1024: (0.25, 71.7),
    2048: (0.2, 71.4),
    4096: (0.2, 70.7),
}


def batch_size(optimizer: str) -> Study:
    """Figure 2: batch sizes with the paper's learning rates (which are LARS's; others keep their own)."""

    def overrides(size: int, rate: float) -> tuple[Override, ...]:
        return (f"train.batch_size={size}", *((f"optimizer.lr={rate}",) if optimizer == "lars" else ()))

    rows = (Variant(str(size), overrides(size, rate), (top1, None)) for size, (rate, top1) in BATCH_SIZES.items())
    return Study("batch-size", "Batch size", "Figure 2", tuple(rows))


def projector(layers: int) -> Study:
    """Figure 4: the projector's width, all layers alike; and its depth at the base width's middle."""
    widths = [2**power for power in range(4, 15)]
    wide = (Variant(f"width-{width}", (f"model.projector={[width] * layers}",)) for width in widths)
    return Study("projector", "Projector width", "Figure 4", tuple(wide))


def depth(width: int) -> Study:
    """Beside figure 4: one to four projector layers of the base width."""
    rows = (Variant(f"depth-{count}", (f"model.projector={[width] * count}",)) for count in (1, 2, 3, 4))
    return Study("depth", "Projector depth", "beside Figure 4", tuple(rows))


def lambd() -> Study:
    """Figure 5: the weight of the redundancy reduction term."""
    values = (0.002, 0.0035, 0.005, 0.0075, 0.01, 0.015, 0.02)
    rows = (Variant(f"lambd-{value:g}", (f"objective.lambd={value:g}",)) for value in values)
    return Study("lambd", "Weight of the redundancy term", "Figure 5", tuple(rows))


def grid(path: Path) -> Study:
    """One's own study from a TOML file: each table is a variant, its entries are recipe overrides.

        title = "Crop size"          # optional
        [small]
        "views.first.crop_scale" = [0.08, 0.5]
        [baseline]

    Raises:
        UserError: no such file, not TOML, or no variants.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"grid file '{path}' cannot be read: {error.strerror}", next="name a TOML file") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"grid file '{path}' is not valid TOML: {error}") from error
    title = values.pop("title", path.stem)
    variants = []
    for name, settings in values.items():
        if not isinstance(settings, dict):
            raise UserError(f"{path}: '{name}' is a value, not a variant", allowed=f"a table: [{name}]")
        overrides = tuple(f"{key}={_toml(value)}" for key, value in _flat(settings))
        variants.append(Variant(name, overrides))
    if not variants:
        raise UserError(f"{path} has no variants", allowed="one table per variant, e.g. [baseline]")
    return Study(path.stem, title, str(path.name), tuple(variants))


def _flat(values: Mapping[str, object], prefix: str = "") -> list[tuple[str, object]]:
    pairs: list[tuple[str, object]] = []
    for key, value in values.items():
        pairs += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
    return pairs


def _toml(value: object) -> str:
    import tomli_w

    return tomli_w.dumps({"value": value}, multiline_strings=False).removeprefix("value = ").replace("\n", " ").strip()


SHIPPED: dict[str, Callable[..., Study]] = {
    "loss": loss,
    "asymmetry": asymmetry,
    "drop-aug": drop_augmentations,
    "batch-size": batch_size,
    "projector": projector,
    "depth": depth,
    "lambd": lambd,
}
