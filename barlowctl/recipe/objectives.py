"""The methods that a recipe can choose: each one's own keys, told apart by `objective.name`.

A method's networks and loss are chosen from these by the `match` in `assemble/methods.py`. Widths of the heads are in
`[model]`; what else a head is made of is the method's own, as published, and no key. A method that somebody has
registered (`own_methods`) has its keys below `objective.args`.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, SerializeAsAny, Tag, WrapValidator, model_validator

from barlowctl.errors import UserError
from barlowctl.recipe.keys import OWN, Keys, Large, Own
from barlowctl.recipe.lambd import LAMBD, LAMBD_IS
from barlowctl.recipe.section import (
    MOST,
    Count,
    CountOrZero,
    Divisor,
    DoesNotFit,
    EpochsWithin,
    NonNegative,
    Positive,
    Probability,
)

DEFAULT = "barlow-twins"
"""The method of a recipe without `objective.name`: all were, before there was another."""


Weight = Annotated[
    Annotated[NonNegative, Tag("0")] | Annotated[Literal["auto"], Tag("1")],  # digits: an error's text leaves them out
    Discriminator(lambda value: "1" if isinstance(value, str) else "0"),
]
"""lambd: a number, or by the width of the projector (`lambd_of`)."""
Form = Literal["auto", "primal", "gram"]


class BarlowTwins(Keys):
    """The Barlow Twins loss and its ablations; with small views its multi-crop."""

    title: ClassVar[str] = "Barlow Twins"
    small_views: ClassVar[bool] = True
    decorrelates: ClassVar[bool] = True

    name: Literal["barlow-twins"] = "barlow-twins"
    lambd: Weight = Field(LAMBD, description=LAMBD_IS)
    scale: Positive = Field(1.0, description="factor on the whole loss")
    form: Form = Field("auto", description="D x D matrix, or two N x N ones")
    terms: Literal["both", "invariance", "redundancy"] = Field("both", description="Table 5, rows 2 and 3")
    normalization: Literal["batch", "feature", "none"] = Field("batch", description="Table 5, rows 4 and 6")
    criterion: Literal["cross-correlation", "cross-entropy"] = Field("cross-correlation", description="Table 5, row 7")
    temperature: Divisor = Field(0.1, description="tau of the cross-entropy criterion")
    stop_gradient: bool = Field(False, description="no gradient through the second branch (Table 6)")

    @model_validator(mode="after")
    def _form_expresses_the_criterion(self) -> BarlowTwins:
        if self.criterion == "cross-entropy" and self.form == "gram":
            message = "objective.form 'gram' cannot express the cross-entropy criterion: use 'auto'"
            raise DoesNotFit(message, ("objective.form=auto",))
        return self


class MixedBarlowTwins(Keys):
    """Barlow Twins, and a third view that is mixed of both and must embed as the mixture (arXiv 2312.02151)."""

    title: ClassVar[str] = "Mixed Barlow Twins"
    decorrelates: ClassVar[bool] = True

    name: Literal["mixed-barlow-twins"] = "mixed-barlow-twins"
    lambd: Weight = Field(LAMBD, description=LAMBD_IS)
    lambd_reg: NonNegative = Field(1.0, description="weight of the mixing term, as a multiple of lambd")
    reg_warmup: Probability = Field(0.0, description="share of the training in which that weight rises from 0")
    scale: Positive = Field(1.0, description="factor on the whole loss")
    form: Form = Field("auto", description="D x D matrices, or N x N ones")


class VICReg(Keys):
    """VICReg: its three terms (arXiv 2105.04906)."""

    title: ClassVar[str] = "VICReg"
    decorrelates: ClassVar[bool] = True

    name: Literal["vicreg"] = "vicreg"
    invariance: NonNegative = Field(25.0, description="weight of the distance between the two views' embeddings")
    variance: NonNegative = Field(25.0, description="weight of the hinge on each dimension's standard deviation")
    covariance: NonNegative = Field(1.0, description="weight of the squared covariances between dimensions")
    scale: Positive = Field(1.0, description="factor on the whole loss")
    form: Form = Field("auto", description="of the covariance term: D x D matrices, or N x N ones")


class PIRL(Keys):
    """PIRL with the jigsaw: an image and its shuffled patches against a memory bank (arXiv 1912.01991)."""

    title: ClassVar[str] = "PIRL"
    full_views: ClassVar[Literal[1, 2]] = 1
    patches: ClassVar[bool] = True

    name: Literal["pirl"] = "pirl"
    criterion: Literal["nce", "cross_entropy"] = Field("nce", description="noise-contrastive estimation, or InfoNCE")
    temperature: Divisor = Field(0.07, description="tau")
    negatives: Annotated[int, Field(ge=1, le=2**20)] = Field(32000, description="rows that a step draws of the bank")
    momentum: Probability = Field(0.5, description="share of a row of the bank that stays when its image was seen")

    def large(self, batch: int) -> list[Large]:
        """See `Keys`."""
        usual = PIRL.model_fields["negatives"].default
        return [Large("negatives", self.negatives, usual, usual)]

    def working_bytes(self, batch: int, width: int) -> int:
        """See `Keys`: the rows that are drawn of the bank, in float32, and their numbers."""
        return self.negatives * (4 * width + 8)


class BYOL(Keys):
    """BYOL. Its heads, projector and predictor, are in `[model]`: published are [4096, 256] and [4096]."""

    title: ClassVar[str] = "BYOL"
    averages: ClassVar[bool] = True

    name: Literal["byol"] = "byol"
    momentum: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.996, description="of the target network; of a cosine what it begins with"
    )
    momentum_schedule: Literal["cosine", "constant"] = Field("cosine", description="cosine: it rises to 1")


class SimSiam(Keys):
    """SimSiam and its ablations. Its heads are in `[model]`: published are [2048, 2048, 2048] and [512]."""

    title: ClassVar[str] = "SimSiam"

    name: Literal["simsiam"] = "simsiam"
    stop_gradient: bool = Field(True, description="no gradient through the projection that is predicted (section 4.1)")
    predictor: bool = Field(True, description="false: projections are compared with each other (section 4.2)")
    fixed_predictor_rate: bool = Field(True, description="the predictor's learning rate stays at its peak")


class SwAV(Keys):
    """SwAV. Its projector is in `[model]`: published is [2048, 128]."""

    title: ClassVar[str] = "SwAV"
    small_views: ClassVar[bool] = True

    name: Literal["swav"] = "swav"
    prototypes: Annotated[int, Field(ge=2, le=MOST)] = Field(3000, description="how many")
    temperature: Divisor = Field(0.1, description="tau of the predictions")
    epsilon: Divisor = Field(0.05, description="of the codes: the smaller, the more they decide")
    sinkhorn_iterations: Annotated[int, Field(ge=1, le=1000)] = Field(
        3, description="that balance the codes over the batch"
    )
    freeze_prototypes_epochs: EpochsWithin = Field(1.0, description="how long prototypes stay as they are drawn")
    queue: CountOrZero = Field(
        0, description="earlier images that the codes are computed with too, for small batches; 0: none"
    )
    queue_from_epoch: EpochsWithin = Field(15.0, description="epochs before images go into the queue")

    def large(self, batch: int) -> list[Large]:
        """See `Keys`. The authors' recipe for small batches has a queue of 3,840."""
        most = SwAV.model_fields["prototypes"].default
        return [Large("prototypes", self.prototypes, most, most), Large("queue", self.queue, 3840, 0)]

    def working_bytes(self, batch: int, width: int) -> int:
        """See `Keys`: scores of both anchors in float64, three times, while codes are balanced."""
        return 3 * 8 * 2 * (batch + self.queue) * self.prototypes


class Supervised(Keys):
    """Cross-entropy of a linear classifier on the backbone, trained together: the first row of Table 1."""

    title: ClassVar[str] = "Supervised"
    full_views: ClassVar[Literal[1, 2]] = 1
    labels: ClassVar[bool] = True

    name: Literal["supervised"] = "supervised"


class SimCLR(Keys):
    """NT-Xent: every other view in the batch is a negative."""

    title: ClassVar[str] = "SimCLR"

    name: Literal["simclr"] = "simclr"
    temperature: Divisor = Field(0.1, description="tau, which divides cosines")
    scale: Positive = Field(
        1.0, description="factor on the whole loss; 2: the sum over both views, as in the authors' code"
    )


class QueueKeys(Keys):
    """Keys of both versions of MoCo."""

    averages: ClassVar[bool] = True

    queue: Count = Field(65536, description="keys of earlier steps that are negatives: a multiple of train.batch_size")
    momentum: Probability = Field(0.999, description="of the key encoder: m of p <- m p + (1 - m) q")
    symmetric: bool = Field(False, description="both views are queries, at twice the cost; the queue takes both's keys")
    batch_norm_groups: CountOrZero = Field(
        0,
        description="parts of a batch that batch norm sees by themselves, over all devices, between which keys are "
        "shuffled; 0: one on each device",
    )

    def large(self, batch: int) -> list[Large]:
        """See `Keys`."""
        usual = max(QueueKeys.model_fields["queue"].default // batch, 1) * batch
        return [Large("queue", self.queue, usual, usual)]


class MoCo(QueueKeys):
    """InfoNCE of queries against the keys of a momentum encoder and a queue of earlier ones."""

    title: ClassVar[str] = "MoCo"

    name: Literal["moco"] = "moco"
    temperature: Divisor = Field(0.07, description="tau, which divides cosines")


class MoCoV2(QueueKeys):
    """As MoCo, with another temperature; its recipes have a deeper head, more distortions and a cosine."""

    title: ClassVar[str] = "MoCo v2"

    name: Literal["moco-v2"] = "moco-v2"
    temperature: Divisor = Field(0.2, description="tau, which divides cosines")


def _name_of(value: Any) -> str:
    """The method that is named, or the default one; the check of what it names is pydantic's."""
    name = value.get("name", DEFAULT) if isinstance(value, Mapping) else getattr(value, "name", DEFAULT)
    return name if isinstance(name, str) else repr(name)


def _tag_of(value: Any) -> str:
    """Of the member of `Objective` that values are of."""
    name = _name_of(value)
    return OWN if issubclass(METHODS.get(name, Keys), Own) else name


def _of_its_class(value: Any, _: object) -> Any:
    """Values of a registered method, read as the keys of that one."""
    return value if isinstance(value, Own) else METHODS[_name_of(value)].model_validate(value)


Objective = Annotated[
    Annotated[BarlowTwins, Tag("barlow-twins")]
    | Annotated[MixedBarlowTwins, Tag("mixed-barlow-twins")]
    | Annotated[VICReg, Tag("vicreg")]
    | Annotated[Supervised, Tag("supervised")]
    | Annotated[PIRL, Tag("pirl")]
    | Annotated[BYOL, Tag("byol")]
    | Annotated[SimSiam, Tag("simsiam")]
    | Annotated[SwAV, Tag("swav")]
    | Annotated[SimCLR, Tag("simclr")]
    | Annotated[MoCo, Tag("moco")]
    | Annotated[MoCoV2, Tag("moco-v2")]
    | Annotated[SerializeAsAny[Own], WrapValidator(_of_its_class), Tag(OWN)],
    Discriminator(_tag_of),
]

METHODS: dict[str, type[Keys]] = {
    typing.get_args(method)[1].tag: typing.get_args(method)[0]
    for method in typing.get_args(typing.get_args(Objective)[0])[:-1]
}
"""Every method's keys by its name, in the order of `Objective`; then those that are registered."""
OURS = tuple(METHODS)
"""The names of barlowctl's own methods."""
TAGS = (*OURS, OWN)
"""What pydantic says which member of the union it was."""


def named(values: Any) -> type[Keys]:
    """The keys of the method that a recipe's plain `objective` names; the default's where that is none."""
    return METHODS.get(_name_of(values), BarlowTwins)


def unknown(values: Any) -> str | None:
    """The name of a method in a recipe's plain `objective` that nobody has registered; None: there is none such."""
    name = _name_of(values)
    return None if name in METHODS else name


def only_barlow_twins(objective: Keys, what: str) -> BarlowTwins:
    """A recipe's objective, for what is of the Barlow Twins loss alone.

    Raises:
        UserError: it is another method's; `what` is not of it.
    """
    if not isinstance(objective, BarlowTwins):
        raise UserError(
            f"{what} is of the Barlow Twins loss, and the recipe's objective is {objective.title}",
            allowed="a recipe with objective.name 'barlow-twins'",
            next="--set objective.name=barlow-twins",
        )
    return objective
