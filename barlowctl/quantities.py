"""Quantities that a run records beside its method's terms, as people read them. A leaf: standard library only.

What a method's own terms say is noted by each run (`runs.history`), for two methods may have one name for two things.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

LOSS = "loss"


class Quantity(NamedTuple):
    """A quantity under its name in metrics.jsonl.

    Attributes:
        title: its name, for people. meaning: what a value says.
        label: its name where a line holds many.
        by_decades: whether it is drawn on a logarithmic axis where its values span one.
    """

    title: str
    meaning: str
    label: str
    by_decades: bool = False


QUANTITIES: Mapping[str, Quantity] = {
    LOSS: Quantity("Loss", "of each logged step", "loss", by_decades=True),
    "knn": Quantity("Online kNN", "top-1 in percent, images not trained on", "kNN"),
    "linear": Quantity("Online linear", "top-1 in percent of a classifier that learns beside the method", "linear"),
    "mean_diagonal": Quantity(
        "Mean diagonal of C",
        "share of variance that survives distortions; with Barlow Twins healthy: towards 1",
        "mean C_ii",
    ),
    "rms_off_diagonal": Quantity(
        "Off-diagonal of C",
        "root mean square; with Barlow Twins healthy: falls towards chance",
        "rms C_ij",
        by_decades=True,
    ),
    "effective_rank": Quantity(
        "Effective rank", "of the features; healthy: high and rising, collapsed: a few", "effective rank"
    ),
    "rankme": Quantity(
        "RankMe", "effective rank of the embeddings, projector included; healthy: high and rising", "RankMe"
    ),
    "lidar": Quantity(
        "LiDAR", "directions of the embeddings that tell images apart, whatever their distortions", "LiDAR"
    ),
    "feature_lidar": Quantity("LiDAR of the features", "the same of what the backbone gives", "LiDAR of features"),
    "feature_spread": Quantity(
        "Feature spread", "of the features: 1 directions spread evenly, 0 collapsed", "feature spread"
    ),
    "embedding_spread": Quantity(
        "Embedding spread", "of the embeddings: 1 directions spread evenly, 0 collapsed", "embedding spread"
    ),
    "alpha": Quantity("alpha", "decay of the features' eigenspectrum; healthy: about 1 to 2", "alpha"),
    "lr_weights": Quantity("Learning rate", "of weights", "lr"),
    "grad_norm": Quantity("Gradient norm", "of each logged step", "gradient norm", by_decades=True),
    "images_per_second": Quantity(
        "Images per second", "while training, without evaluations and checkpoints", "images/s"
    ),
    "data_wait": Quantity("Waiting for data", "share of the time that steps wait for their batch", "waiting for data"),
}
"""In the order in which a page shows them; terms come after the loss."""


def label_of(name: str) -> str:
    """What a value is called beside it; a term, which its method names, by that name."""
    return QUANTITIES[name].label if name in QUANTITIES else name.replace("_", " ")


def meanings_of(terms_of_runs: Sequence[Mapping[str, str]]) -> list[tuple[str, str]]:
    """Terms of several runs, each with one of its meanings: what methods call by one name may be two things."""
    return list(dict.fromkeys(term for terms in terms_of_runs for term in terms.items()))


def loss_meaning(terms_of_runs: Sequence[Mapping[str, str]]) -> str:
    """What the losses of runs say beside one another; other terms are another method's."""
    one = len({tuple(terms.items()) for terms in terms_of_runs}) <= 1
    return QUANTITIES[LOSS].meaning + ("" if one else "; losses of different methods are not on one scale")
