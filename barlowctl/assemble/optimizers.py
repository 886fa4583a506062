"""The optimizer that a recipe names, over a method's parameters; and what it keeps of each of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from barlowctl import own_code
from barlowctl.assemble.resolve import Resolved
from barlowctl.errors import UserError
from barlowctl.generators import own_generator
from barlowctl.methods import Method
from barlowctl.recipe.optimizers import Optimizer, OwnOptimizer, Unregistered
from barlowctl.recipe.schema import Recipe
from barlowctl.train.deferred import heeds
from barlowctl.train.layer_decay import layer_scales
from barlowctl.train.optim import build_optimizer, trained_groups
from barlowctl.train.own_optimizer import Own, try_out


def optimizer_of(recipe: Recipe, method: Method, rates: Mapping[str, float]) -> torch.optim.Optimizer:
    """The recipe's optimizer over the method's parameters, with the peak `rates` of its two groups.

    With `optimizer.layer_decay` the layers of the backbone have a share of them; heads have them whole.
    """
    values = recipe.optimizer
    if isinstance(values, OwnOptimizer):
        return _own(values, rates).over(_own_groups(recipe, method, rates))
    return build_optimizer(
        method,
        values.name,
        momentum=values.momentum,
        betas=values.betas,
        eta=values.eta,
        clip_trust_ratio=values.clip_trust_ratio,
        lars_variant=values.lars_variant,
        nesterov=values.nesterov,
        **_of_groups(recipe, method, rates),
    )


def _of_groups(recipe: Recipe, method: Method, rates: Mapping[str, float]) -> dict[str, Any]:
    """What `trained_groups` takes beside the method."""
    values, backbone = recipe.optimizer, method.backbone
    shares = layer_scales(backbone, values.layer_decay) if values.layer_decay < 1.0 else {}
    return {
        "lr": rates["weights"],
        "lr_biases": rates["biases"],
        "weight_decay": values.weight_decay,
        "exclude_biases": values.exclude_biases,
        "fixed": [method.heads()[name] for name in method.fixed_rates],
        "lr_scales": {p: shares[name] for name, p in backbone.named_parameters() if name in shares},
    }


def _own_groups(recipe: Recipe, method: Method, rates: Mapping[str, float]) -> list[dict[str, Any]]:
    groups = trained_groups(method, **_of_groups(recipe, method, rates))
    return [{key: value for key, value in group.items() if key != "adapt"} for group in groups]


def _own(values: OwnOptimizer, rates: Mapping[str, float]) -> Own:
    of_class = type(values)
    refuse_unregistered(values)
    named = {"lr": rates["weights"], **{key: getattr(values, key) for key in of_class.given if key != "lr"}}
    of_args = {key: getattr(values.args, key) for key in of_class.plain}
    arguments = {key: named[key] for key in of_class.given}
    arguments |= {key: value for key, value in of_args.items() if value is not None}  # which is a default, or none
    return Own(values.name, of_class.make, arguments, of_class.elementwise, of_class.source["file"])


def refuse_unregistered(values: Optimizer) -> None:
    """Refuse to train with an optimizer that somebody had registered when a run began, and nobody has now.

    Raises:
        UserError: with what registers it.
    """
    if isinstance(values, Unregistered):
        about = own_code.registered_then("optimizer", values.name)
        raise UserError(
            f"the optimizer {values.name!r} is one that {own_code.who(about)} registered when the run of this recipe "
            "began, and nobody has in this process",
            allowed=own_code.FIRST,
            next=own_code.first_step(about),
        )


def note_own(recipe: Recipe, method: Method, resolved: Resolved) -> tuple[str, ...]:
    """What is to be said of an optimizer that somebody has registered, tried on a few parameters.

    Raises:
        UserError: see `try_out`; or what is made of all parameters cannot train them.
    """
    values = recipe.optimizer
    if not isinstance(values, OwnOptimizer):
        return ()
    own, groups = _own(values, resolved.rates), _own_groups(recipe, method, resolved.rates)
    trial = try_out(own, groups)
    with own_generator():
        optimizer = own.over(groups)
    notes = []
    if not trial.heeds_rate:
        notes.append(
            f"the optimizer {values.name!r} takes the same steps at half the rate: neither optimizer.lr nor the "
            "schedule changes them"
        )
    if resolved.device.type == "cuda" and recipe.train.cuda_graph and not heeds(optimizer):
        notes.append(
            f"steps are not captured as a CUDA graph: the optimizer {values.name!r} does not say that it heeds "
            "found_inf"
        )
    return tuple(notes)


def state_slots(recipe: Recipe, method: Method, rates: Mapping[str, float]) -> float:
    """Numbers that the optimizer keeps for each number that is trained; of somebody's own as a trial has it."""
    values = recipe.optimizer
    if isinstance(values, OwnOptimizer):
        return try_out(_own(values, rates), _own_groups(recipe, method, rates)).slots
    return 2 if values.name == "adamw" else 1  # Muon: 1, except for its few biases


def checkpoint_bytes(recipe: Recipe, method: Method, rates: Mapping[str, float]) -> int:
    """What a checkpoint takes at least: the networks' state, and what the optimizer keeps of what is trained."""
    state = sum(tensor.numel() * tensor.element_size() for tensor in method.state_dict().values())
    trained = sum(p.numel() * p.element_size() for p in method.parameters() if p.requires_grad)
    return state + round(trained * state_slots(recipe, method, rates))
