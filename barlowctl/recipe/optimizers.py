"""The optimizers that a recipe can choose: barlowctl's own, and those that somebody has registered. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from inspect import Parameter, signature
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    Field,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
    model_serializer,
    model_validator,
)

from barlowctl import own_code
from barlowctl.errors import UserError
from barlowctl.recipe.own_parameters import Field as TypedField
from barlowctl.recipe.own_parameters import can_be, check_name, field_of, hints_of, parameters_of, section_of
from barlowctl.recipe.section import Decay, Decline, DoesNotFit, NonNegative, Positive, Section

NAMED = ("lr", "momentum", "betas", "eta", "nesterov", "weight_decay")
"""Parameters of a registered optimizer that are keys of `optimizer`; others are keys of `optimizer.args`."""
FIRST = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


class Optimizer(Section):
    """Learning rates are per 256 images: the peak is lr x batch_size / 256."""

    name: Literal["lars", "sgd", "adamw", "muon"] = Field("lars", description="which optimizer")
    lr: Positive = Field(0.2, description="of weights, per 256 images")
    lr_biases: Positive = Field(0.0048, description="of biases and norm parameters, per 256 images")
    momentum: Decay = Field(0.9, description="LARS, SGD and Muon")
    betas: tuple[Decay, Decay] = Field((0.9, 0.999), description="AdamW, and Muon's biases")
    eta: Positive = Field(0.001, description="trust coefficient of LARS")
    clip_trust_ratio: bool = Field(
        False, description="LARS steps are at most lr times the gradient (LARC); small benchmarks use it"
    )
    lars_variant: Literal["barlow-twins", "simclr", "larc"] = Field(
        "barlow-twins",
        description="barlow-twins (BYOL, VICReg): the rate multiplies the momentum; simclr: the rate goes into it; "
        "larc (SwAV): as barlow-twins, the trust ratio from |gradient| + weight_decay |weights|",
    )
    weight_decay: NonNegative = Field(1e-6, description="of weights; see exclude_biases")
    nesterov: bool = Field(False, description="SGD with Nesterov's momentum")
    exclude_biases: bool = Field(
        True,
        description="no weight decay and no LARS trust ratio on biases and norm parameters; false (MoCo, SimSiam, "
        "SwAV): on all parameters",
    )
    layer_decay: Decline = Field(
        1.0,
        description="rates of the backbone fall by this factor from layer to layer, from the heads down to the images "
        "(timm's rule); 1: one rate for all",
    )
    clip_grad_norm: NonNegative = Field(
        0.0, description="a gradient whose norm over all parameters is larger is scaled down to this; 0: never"
    )

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Optimizer:
        if self.nesterov and self.name == "sgd" and self.momentum == 0.0:
            message = "nesterov is true but momentum is 0: Nesterov's is a form of momentum, e.g. 0.9"
            raise DoesNotFit(message, (".momentum=0.9",), (".nesterov=false",))
        return self


class OwnOptimizer(Optimizer):
    """Keys of an optimizer that somebody has registered in this process; each has a subclass of this (`register`).

    Attributes:
        make: the class or function that makes the optimizer of parameter groups.
        given: the parameters of it that are keys of this section.
        plain: the parameters of it that `args` has a value for.
        elementwise: it says that its step takes every number by itself.
        source: what a run notes of it: module, file and sha256 of that.
    """

    make: ClassVar[Callable[..., Any]]
    given: ClassVar[tuple[str, ...]] = ()
    plain: ClassVar[tuple[str, ...]] = ()
    elementwise: ClassVar[bool] = False
    source: ClassVar[Mapping[str, str]] = {}

    name: str  # type: ignore[assignment]
    args: Section = Field(Section(), description="arguments of a registered optimizer, by their names")

    @model_validator(mode="before")
    @classmethod
    def _args_can_be_left_out(cls, values: Any) -> Any:
        """So that one without a default is missed by its own name."""
        return {"args": {}, **values} if isinstance(values, Mapping) else values

    @model_serializer(mode="wrap")
    def _without_none(self, values: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A default of None, of betas as Adafactor's, is not written: TOML has none."""
        return {key: value for key, value in values(self).items() if value is not None}


class Unregistered(OwnOptimizer):
    """Keys of an optimizer that somebody registered in another process, as a run has them: no step is taken of them."""

    momentum: Any = None
    betas: Any = None
    eta: Any = None
    nesterov: Any = None
    args: dict[str, Any] = Field(default_factory=dict)  # type: ignore[assignment]


OURS = ("lars", "sgd", "adamw", "muon")
"""The names of barlowctl's own optimizers."""
REGISTERED: dict[str, type[OwnOptimizer]] = {}
"""The keys of every optimizer that is registered in this process, by its name."""
_of_runs: ContextVar[frozenset[str]] = ContextVar("_of_runs", default=frozenset())


@contextmanager
def unregistered(*names: str) -> Iterator[None]:
    """Read optimizers of these names inside, though nobody has registered one: who opens a run takes no step of it."""
    token = _of_runs.set(_of_runs.get() | set(names))
    try:
        yield
    finally:
        _of_runs.reset(token)


def _name_of(values: Any) -> Any:
    """The optimizer that plain values name; None: none."""
    return values.get("name") if isinstance(values, Mapping) else None


def named(values: Any) -> type[Optimizer]:
    """The keys of the optimizer that a recipe's plain `optimizer` names; those of barlowctl's own where it is none."""
    name = _name_of(values)
    return REGISTERED.get(name, Optimizer) if isinstance(name, str) else Optimizer


def unknown(values: Any) -> str | None:
    """The name of an optimizer in a recipe's plain `optimizer` that nobody has registered; None: there is none such."""
    name = _name_of(values)
    return name if isinstance(name, str) and name not in OURS and name not in REGISTERED else None


def _of_its_class(values: Any, read: ValidatorFunctionWrapHandler) -> Any:
    """Values of a registered optimizer, read as the keys of that one."""
    if isinstance(values, OwnOptimizer):
        return values
    if unknown(values):
        if values["name"] in _of_runs.get():
            return Unregistered.model_validate(values)
        values = {key: value for key, value in values.items() if key != "args"}  # the name alone is wrong
    of_class = named(values)
    return read(values) if of_class is Optimizer else of_class.model_validate(values)


Chosen = Annotated[SerializeAsAny[Optimizer], WrapValidator(_of_its_class)]


def register(name: Any, make: Callable[..., Any], *, elementwise: bool) -> None:
    """Let recipes name an optimizer; the same class or function again takes the place of what it was.

    Args:
        make: the class, or the function that returns an optimizer; called with parameter groups in front.
        elementwise: its step takes every number by itself.

    Raises:
        UserError: a name or a parameter that cannot be, or a name of another optimizer.
    """
    before = REGISTERED.get(name) if isinstance(name, str) else None
    check_name("optimizer", name, make, OURS, None if before is None else before.make)
    what = f"the optimizer {name!r}"
    parameters = list(signature(make).parameters.values())
    others = parameters[1:]
    if not parameters or parameters[0].kind not in FIRST or parameters[0].name in NAMED:
        raise UserError(
            f"{what} takes no parameters to train{own_code.line_of(make)}",
            allowed="a first parameter for the parameter groups, as torch.optim's have it: params",
            next="let it take params first",
        )
    given, keys = parameters_of(what, make, NAMED, "optimizer.args", others)
    fields: dict[str, Any] = {"name": (Literal[name], name), "args": section_of(keys)}
    fields |= _own_defaults(make, others)
    own = create_model("OwnOptimizer", __base__=OwnOptimizer, **fields)
    own.make, own.given, own.plain, own.elementwise = make, given, tuple(keys), elementwise
    own.source = own_code.registration_of(make)
    REGISTERED[name] = own


def _own_defaults(make: Callable[..., Any], parameters: Sequence[Parameter]) -> dict[str, TypedField]:
    """Keys of the section whose default is the optimizer's own, which a recipe that says nothing means.

    Rates and weight decay are the recipe's in any case: groups have theirs.
    """
    fields: dict[str, TypedField] = {}
    for parameter in parameters:
        name, default = parameter.name, parameter.default
        if name not in ("momentum", "betas", "eta", "nesterov") or default is parameter.empty:
            continue
        info = Optimizer.model_fields[name]
        ours: Any = Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
        of_type = ours if can_be(name, (ours, default)) else field_of(parameter, hints_of(make))[0]
        fields[name] = (of_type, Field(default, description=info.description))
    return fields
