"""An optimizer that somebody has registered: made over parameter groups, checked, and tried on copies of a few of them.

A trial takes some steps on copies of parameters, with random gradients. It sees what no signature says: that a step
raises, changes nothing, keeps a state that a checkpoint has not, has a rate of its own; and how much it keeps.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from barlowctl import own_code
from barlowctl.amounts import counted
from barlowctl.errors import UserError, kind_of
from barlowctl.generators import own_generator
from barlowctl.train.tensor_files import flatten, unflatten

Groups = list[dict[str, Any]]
STEPS = 4
"""Of a trial; a checkpoint is made of its state half-way."""
ENOUGH, MOST = 64, 2**10
"""Numbers of a parameter that is copied: the smallest that has so many, and a corner of it with no more than these.

A step may take the square of them: timm's Kron multiplies its factors out, where opt_einsum is not installed.
"""


@dataclass(frozen=True)
class Own:
    """What makes somebody's optimizer of parameter groups.

    Attributes:
        name: that it is registered under. make, arguments: see `recipe.optimizers.OwnOptimizer`.
        elementwise: its step takes every number by itself, as its class says.
        file: of what registers it; empty: a notebook's cell.
    """

    name: str
    make: Callable[..., Any]
    arguments: Mapping[str, Any]
    elementwise: bool = False
    file: str = ""

    def refusal(self, what: str, allowed: str) -> UserError:
        """The error that names it and its file."""
        return UserError(f"the optimizer {self.name!r} {what}", allowed=allowed, next=self.mend)

    @property
    def mend(self) -> str:
        line = own_code.line_of(self.make)
        if self.file and self.file not in line:  # a class of torch's or timm's
            return f"register another one, {self.file}"
        return f"mend it{line}"

    def over(self, groups: Groups) -> torch.optim.Optimizer:
        """The optimizer of these parameter groups.

        Raises:
            UserError: it raises an error, or makes what does not train all of them, each in the group where it is.
        """
        expected = {p: group["name"] for group in groups for p in group["params"]}
        try:
            with own_code.exits_are_errors():
                made = self.make(groups, **self.arguments)
        except UserError:
            raise
        except Exception as error:
            raise self.refusal(
                f"cannot be made: {own_code.reason_of(error)}",
                "a class or function that takes parameter groups, as barlowctl.register_optimizer says",
            ) from error
        if not isinstance(made, torch.optim.Optimizer):
            raise self.refusal(
                f"is {'None' if made is None else kind_of(made)}, and no optimizer", "a torch.optim.Optimizer"
            )
        refuse_closure(type(made), f"the optimizer {self.name!r}", own_code.line_of(self.make))
        self._check_groups(made, expected)
        return made

    def _check_groups(self, made: torch.optim.Optimizer, expected: Mapping[Tensor, str]) -> None:
        given = "the groups as they are given, with all that is in them: super().__init__(params, defaults)"
        trained = [p for group in made.param_groups for p in group["params"]]
        missing, strange = len(expected.keys() - set(trained)), len(set(trained) - expected.keys())
        if missing:
            raise self.refusal(f"leaves out {counted(missing, 'parameter')} of {len(expected)}", given)
        if strange or len(trained) > len(expected):
            many = counted(strange or len(trained) - len(expected), "parameter")
            raise self.refusal(f"trains {many} that {'it was not given' if strange else 'it has already'}", given)
        for group in made.param_groups:
            lacking = [key for key in ("name", "lr", "peak_lr", "weight_decay") if key not in group]
            if lacking:
                raise self.refusal(f"has a group of parameters without {', '.join(lacking)}", given)
            if any(expected[p] != group["name"] for p in group["params"]):
                raise self.refusal(f"moves parameters into the group {group['name']!r}, with other rates", given)


def refuse_closure(of_class: type[torch.optim.Optimizer], what: str, place: str) -> None:
    """Refuse an optimizer whose step computes the loss again, as L-BFGS does.

    Raises:
        UserError: names it.
    """
    try:
        inspect.signature(of_class.step).bind(None)
    except TypeError:
        raise UserError(
            f"{what} has a step that needs a closure, which computes the loss again{place}",
            allowed="an optimizer whose step() takes the gradient as it is: a batch has it once",
            next="register another one",
        ) from None
    except ValueError:  # of C, and says nothing of itself
        return


@dataclass(frozen=True)
class Trial:
    """What a trial has seen.

    Attributes:
        slots: numbers of state for each number that is trained.
        heeds_rate: its steps depend on the groups' rate.
    """

    slots: float
    heeds_rate: bool


def try_out(own: Own, groups: Groups) -> Trial:
    """Take steps on copies of a few of the parameters, of each group and kind; nothing outside changes.

    Raises:
        UserError: a step raises an error, leaves a parameter as it is, or would not go on alike from a checkpoint; or
            it says that it takes every number by itself, and does not.
    """
    copies = _copies(groups)
    gradients = _gradients(copies)
    begun, at_half = _Steps(own, copies), None
    for number in range(STEPS):
        if number == STEPS // 2:
            at_half = begun.weights(), _through_a_file(own, begun.optimizer)
        begun.take(gradients, number)
    assert at_half is not None
    _refuse_unmoved(own, copies, begun)
    resumed = _Steps(own, copies, weights=at_half[0])
    resumed.restore(at_half[1])
    for number in range(STEPS // 2, STEPS):
        resumed.take(gradients, number)
    if not all(map(torch.equal, begun.weights(), resumed.weights())):
        raise own.refusal(
            "would go on otherwise when a run is resumed: it keeps something outside of its state",
            "what steps leave to later ones in self.state[parameter] or in the groups, as tensors or numbers; not in "
            "attributes of the optimizer",
        )
    if own.elementwise:
        _refuse_whole(own, copies, gradients, begun.weights())
    halved = _Steps(own, copies, factor=0.5)
    for number in range(STEPS):
        halved.take(gradients, number)
    return Trial(begun.slots(), not all(map(torch.equal, begun.weights(), halved.weights())))


class _Steps:
    """An optimizer over copies of parameters, and steps of it."""

    def __init__(
        self, own: Own, copies: Groups, *, weights: Sequence[Tensor] | None = None, factor: float = 1.0
    ) -> None:
        self.own = own
        groups = [{**group, "params": [nn.Parameter(p.clone()) for p in group["params"]]} for group in copies]
        self.parameters = [p for group in groups for p in group["params"]]
        with torch.no_grad():
            for p, value in zip(self.parameters, weights or [], strict=weights is not None):
                p.copy_(value)
        with own_generator(seed=0, device=self.parameters[0].device):
            self.optimizer = own.over(groups)
        self.factor = factor

    def take(self, gradients: Sequence[Sequence[Tensor]], number: int) -> None:
        for p, gradient in zip(self.parameters, gradients[number], strict=True):
            p.grad = gradient.clone()
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * self.factor
        try:
            with own_code.exits_are_errors(), own_generator(seed=number, device=self.parameters[0].device):
                self.optimizer.step()
        except UserError:
            raise
        except Exception as error:
            raise self.own.refusal(
                f"cannot take a step: {own_code.reason_of(error)}",
                "a step that takes gradients of every shape there is",
            ) from error

    def restore(self, state: dict[str, Any]) -> None:
        try:
            self.optimizer.load_state_dict(state)
        except Exception as error:
            raise self.own.refusal(
                f"does not take back its state: {own_code.reason_of(error)}", "load_state_dict as torch's have it"
            ) from error

    def weights(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.parameters]

    def slots(self) -> float:
        state = [value for own in self.optimizer.state.values() for value in own.values() if isinstance(value, Tensor)]
        state_bytes = sum(value.numel() * value.element_size() for value in state if value.numel() > 1)
        return state_bytes / sum(p.numel() * p.element_size() for p in self.parameters)


def _copies(groups: Groups) -> Groups:
    """Groups of a few parameters with weights that are random: of each group the smallest of each number of axes."""
    generator = torch.Generator().manual_seed(0)
    return [{**group, "params": [_random(p, generator, 0.05) for p in _few(group["params"])]} for group in groups]


def _few(parameters: Sequence[Tensor]) -> list[Tensor]:
    by_axes: dict[int, list[Tensor]] = {}
    for p in parameters:
        by_axes.setdefault(p.ndim, []).append(p)
    large = {axes: [p for p in alike if p.numel() >= ENOUGH] for axes, alike in by_axes.items()}
    chosen = [
        min(large[axes], key=Tensor.numel) if large[axes] else max(alike, key=Tensor.numel)
        for axes, alike in sorted(by_axes.items())
    ]
    return [_corner(p) for p in chosen]


def _corner(tensor: Tensor) -> Tensor:
    """The first numbers along each axis, whose longest is halved until there are few."""
    while tensor.numel() > MOST:
        axis = max(range(tensor.ndim), key=lambda number: tensor.shape[number])
        tensor = tensor.narrow(axis, 0, (tensor.shape[axis] + 1) // 2)
    return tensor


def _gradients(copies: Groups) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [[_random(p, generator, 1.0) for group in copies for p in group["params"]] for _ in range(STEPS)]


def _random(like: Tensor, generator: torch.Generator, scale: float) -> Tensor:
    return (scale * torch.randn(like.shape, generator=generator)).to(like.device, like.dtype)


def _through_a_file(own: Own, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimizer's state as a checkpoint gives it back."""
    tensors: dict[str, Tensor] = {}
    try:
        plain = flatten(optimizer.state_dict(), "", tensors)
    except TypeError as error:
        raise own.refusal(
            f"has a state that is not saved: {error}", "tensors, numbers, text, and lists and dictionaries of these"
        ) from error
    state: dict[str, Any] = unflatten(plain, {name: value.clone() for name, value in tensors.items()})
    return state


def _refuse_unmoved(own: Own, copies: Groups, steps: _Steps) -> None:
    before = [(group["name"], p) for group in copies for p in group["params"]]
    for (name, p), after in zip(before, steps.weights(), strict=True):
        if torch.equal(p, after):
            raise own.refusal(
                f"leaves a parameter of shape {tuple(p.shape)} in the group {name!r} as it is, for {STEPS} steps",
                "a step that trains every parameter that has a gradient",
            )


def _refuse_whole(own: Own, copies: Groups, gradients: Sequence[Sequence[Tensor]], expected: Sequence[Tensor]) -> None:
    """Refuse that a step of halves of tensors is not that of the whole, where the class says it is."""
    halves = [{**group, "params": [half for p in group["params"] for half in _halves(p)]} for group in copies]
    steps = _Steps(own, halves)
    for number in range(STEPS):
        steps.take([[half for gradient in gradients[number] for half in _halves(gradient)]], 0)
    own_halves = iter(steps.weights())
    for whole in expected:
        parts = [next(own_halves) for _ in _halves(whole)]
        together = torch.cat(parts) if len(parts) > 1 else parts[0]
        if not torch.allclose(together, whole, rtol=1e-4, atol=1e-6):
            raise own.refusal(
                "says elementwise = True, and a step of half a tensor is another one than that of the whole",
                "elementwise = False, where a step depends on norms or shapes of tensors",
            )


def _halves(tensor: Tensor) -> list[Tensor]:
    return list(tensor.chunk(2)) if tensor.ndim and len(tensor) > 1 else [tensor]
