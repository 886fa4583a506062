"""From a recipe's objective to its method: the one `match` over methods, and what each asks of recipe and images."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from barlowctl.assemble import contrastive, own_method
from barlowctl.assemble.predictor import refuse_predictor
from barlowctl.assemble.sharding import check_sharding
from barlowctl.distributed import ALONE, Ranks
from barlowctl.errors import UserError
from barlowctl.methods import BYOL, PIRL, BarlowTwins, Classifier, Method, MixedBarlowTwins, SimSiam, SwAV, VICReg
from barlowctl.model import build_mlp, build_patch_head, build_predictor, build_projector, feature_width
from barlowctl.recipe import objectives
from barlowctl.recipe.keys import Own
from barlowctl.recipe.lambd import lambd_of
from barlowctl.recipe.schema import Recipe


@dataclass(frozen=True)
class Context:
    """What a method has from outside of its recipe. The defaults are those of a network whose cost alone is asked.

    Attributes:
        ranks: those that share each batch.
        images: of the source that batches are drawn from: their indices are below it. classes: of their labels.
        trained_on: int64, the indices of the images that are not held out; None: all.
    """

    ranks: Ranks = ALONE
    images: int = 65536
    classes: int = 1000
    trained_on: np.ndarray | None = field(default=None, repr=False, compare=False)

    def as_dict(self) -> dict[str, int]:
        """What a run notes, to be opened without its images. See `noted`."""
        return {"images": self.images, "classes": self.classes}

    @classmethod
    def noted(cls, values: object) -> Context:
        """What `as_dict` gave; the default one of a run that noted nothing: its method needs none."""
        return cls(images=int(values["images"]), classes=int(values["classes"])) if isinstance(values, dict) else cls()


def choose(recipe: Recipe, backbone: nn.Module, context: Context) -> Method:
    """The recipe's method on a backbone; its heads have fresh weights, from torch's current generator.

    Raises:
        UserError: heads that cannot be, or a recipe that asks for what the method does not have.
    """
    match recipe.objective:
        case objectives.BarlowTwins():
            return barlow_twins(recipe, recipe.objective, backbone, context)
        case objectives.MixedBarlowTwins():
            return mixed_barlow_twins(recipe, recipe.objective, backbone, context)
        case objectives.VICReg():
            return vicreg(recipe, recipe.objective, backbone, context)
        case objectives.Supervised():
            return supervised(recipe, backbone, context)
        case objectives.PIRL():
            return pirl(recipe, recipe.objective, backbone, context)
        case objectives.BYOL():
            return byol(recipe, recipe.objective, backbone, context)
        case objectives.SimSiam():
            return simsiam(recipe, recipe.objective, backbone, context)
        case objectives.SwAV():
            return swav(recipe, recipe.objective, backbone, context)
        case objectives.SimCLR():
            return contrastive.simclr(recipe, recipe.objective, backbone, context.ranks)
        case objectives.MoCo() | objectives.MoCoV2():
            return contrastive.moco(recipe, recipe.objective, backbone, context.ranks)
        case Own():
            keys, own = recipe.objective, context
            return own_method.build(recipe, keys, backbone, own.ranks, own.images, own.classes)


def barlow_twins(recipe: Recipe, keys: objectives.BarlowTwins, backbone: nn.Module, context: Context) -> Method:
    """Projector of the recipe's widths, and the predictor of Table 6 where it has one."""
    model = recipe.model
    lambd, rule = lambd_of(keys.lambd, model.projector[-1])
    projector = build_projector(feature_width(backbone), model.projector, batch_norm=model.projector_batch_norm)
    predictor = build_predictor(model.projector[-1], model.predictor) if model.predictor else None
    return BarlowTwins(
        backbone,
        projector,
        predictor=predictor,
        small=recipe.views.small.count,
        stop_gradient=keys.stop_gradient,
        scale=keys.scale,
        lambd=lambd,
        lambd_rule=rule,
        form=keys.form,
        terms=keys.terms,
        normalization=keys.normalization,
        criterion=keys.criterion,
        temperature=keys.temperature,
        ranks=context.ranks,
    )


def mixed_barlow_twins(
    recipe: Recipe, keys: objectives.MixedBarlowTwins, backbone: nn.Module, context: Context
) -> Method:
    """The projector of Barlow Twins. The bias that the small published head ends with cancels in the loss."""
    refuse_predictor(recipe)
    model = recipe.model
    lambd, rule = lambd_of(keys.lambd, model.projector[-1])
    return MixedBarlowTwins(
        backbone,
        build_projector(feature_width(backbone), model.projector, batch_norm=model.projector_batch_norm),
        seed=recipe.seed,
        lambd=lambd,
        lambd_rule=rule,
        lambd_reg=keys.lambd_reg,
        reg_warmup=keys.reg_warmup,
        scale=keys.scale,
        form=keys.form,
        ranks=context.ranks,
    )


def vicreg(recipe: Recipe, keys: objectives.VICReg, backbone: nn.Module, context: Context) -> Method:
    """The expander: hidden layers with biases, a last one without (`main_vicreg.py`)."""
    refuse_predictor(recipe)
    model = recipe.model
    projector = build_mlp(
        feature_width(backbone),
        model.projector,
        batch_norm=model.projector_batch_norm,
        hidden_bias=True,
        last_bias=False,
    )
    return VICReg(
        backbone,
        projector,
        invariance=keys.invariance,
        variance=keys.variance,
        covariance=keys.covariance,
        scale=keys.scale,
        form=keys.form,
        ranks=context.ranks,
    )


def pirl(recipe: Recipe, keys: objectives.PIRL, backbone: nn.Module, context: Context) -> Method:
    """A head for the image and one for its patches, both of the projector's widths, with biases and no batch norm."""
    refuse_predictor(recipe)
    features, widths, patches = feature_width(backbone), recipe.model.projector, recipe.views.patches.count
    return PIRL(
        backbone,
        build_mlp(features, widths, batch_norm=False, hidden_bias=True, last_bias=True),
        build_patch_head(features, widths, patches=patches),
        images=context.images,
        width=widths[-1],
        patches=patches,
        seed=recipe.seed,
        criterion=keys.criterion,
        temperature=keys.temperature,
        negatives=keys.negatives,
        momentum=keys.momentum,
        trained_on=None if context.trained_on is None else torch.from_numpy(context.trained_on),
        ranks=context.ranks,
    )


def supervised(recipe: Recipe, backbone: nn.Module, context: Context) -> Method:
    """A linear classifier; the recipe's projector is not built."""
    refuse_predictor(recipe)
    return Classifier(
        backbone, width=feature_width(backbone), num_classes=context.classes, frozen=False, ranks=context.ranks
    )


def byol(recipe: Recipe, keys: objectives.BYOL, backbone: nn.Module, context: Context) -> Method:
    """Hidden Linears with bias, last ones without, no batch norm at the end (`networks.py` of the authors' code).

    Without model.predictor its hidden layer is as wide as the projector's first one, as published.
    """
    widths, batch_norm = recipe.model.projector, recipe.model.projector_batch_norm
    projector = build_mlp(feature_width(backbone), widths, batch_norm=batch_norm, hidden_bias=True, last_bias=False)
    predictor = build_mlp(
        widths[-1],
        (*(recipe.model.predictor or widths[:1]), widths[-1]),
        batch_norm=batch_norm,
        hidden_bias=True,
        last_bias=False,
    )
    return BYOL(
        backbone,
        projector,
        predictor,
        momentum=keys.momentum,
        schedule=keys.momentum_schedule,
        ranks=context.ranks,
    )


def simsiam(recipe: Recipe, keys: objectives.SimSiam, backbone: nn.Module, context: Context) -> Method:
    """As `simsiam/builder.py` of the authors' code has it.

    Projector: Linears without bias, a bare batch norm at the end; the last Linear has a bias that is not trained,
    since the batch norm behind it takes it away. Predictor: a bias and no batch norm at the end; without
    model.predictor its hidden layer has a fourth of the embedding's width, as published.
    """
    widths, batch_norm = recipe.model.projector, recipe.model.projector_batch_norm
    projector = build_mlp(
        feature_width(backbone),
        widths,
        batch_norm=batch_norm,
        hidden_bias=False,
        last_bias=True,
        last_norm="plain" if batch_norm else "none",
    )
    if batch_norm:
        last = [layer for layer in projector if isinstance(layer, nn.Linear)][-1]
        last.bias.requires_grad_(False)
    predictor = None
    if keys.predictor:
        predictor = build_mlp(
            widths[-1],
            (*(recipe.model.predictor or [max(widths[-1] // 4, 1)]), widths[-1]),
            batch_norm=batch_norm,
            hidden_bias=False,
            last_bias=True,
        )
    return SimSiam(
        backbone,
        projector,
        predictor,
        stop_gradient=keys.stop_gradient,
        fixed_predictor_rate=keys.fixed_predictor_rate,
        ranks=context.ranks,
    )


def swav(recipe: Recipe, keys: objectives.SwAV, backbone: nn.Module, context: Context) -> Method:
    """Linears with bias, no batch norm at the end (`src/resnet50.py` of the authors' code); prototypes without bias."""
    refuse_predictor(recipe)
    model, epochs = recipe.model, recipe.train.epochs
    projector = build_mlp(
        feature_width(backbone),
        model.projector,
        batch_norm=model.projector_batch_norm,
        hidden_bias=True,
        last_bias=True,
    )
    return SwAV(
        backbone,
        projector,
        width=model.projector[-1],
        prototypes=keys.prototypes,
        temperature=keys.temperature,
        epsilon=keys.epsilon,
        iterations=keys.sinkhorn_iterations,
        frozen_share=keys.freeze_prototypes_epochs / epochs,
        queue=keys.queue,
        queue_from=keys.queue_from_epoch / epochs,
        ranks=context.ranks,
    )


def check_views(recipe: Recipe) -> None:
    """Refuse views that the recipe's method does not take.

    Raises:
        UserError: small views, where it has no use for them.
    """
    small, method = recipe.views.small.count, recipe.objective
    if small and not method.small_views:
        takes = "one view" if method.full_views == 1 else f"{method.full_views} views"
        raise UserError(
            f"{method.title} takes {takes} of each image, and with views.small.count = {small} there are "
            f"{len(recipe.sizes)}",
            allowed=f"{takes}: views.small.count = 0",
            next="--set views.small.count=0",
        )


def check_ranks(recipe: Recipe, ranks: int) -> None:
    """Refuse ranks that cannot share a batch as the recipe takes it.

    Raises:
        UserError: groups of ranks for batch norm that do not come out even, or see `check_sharding`.
    """
    check_sharding(recipe)
    size = recipe.train.sync_batch_norm_ranks
    if size and ranks > size and ranks % size:
        even = [number for number in range(2, ranks + 1) if ranks % number == 0]
        raise UserError(
            f"train.sync_batch_norm_ranks is {size}, and {ranks} ranks cannot be cut into groups of so many",
            allowed=f"0 (over all ranks), {', '.join(map(str, even))}",
            next=f"--set train.sync_batch_norm_ranks={max((n for n in even if n < size), default=0)}",
        )
    if isinstance(recipe.objective, objectives.QueueKeys):
        contrastive.batch_norm_groups(recipe, recipe.objective, ranks)
