"""From a recipe's keys to SimCLR and MoCo: their heads, and the parts of a batch that MoCo's batch norm sees."""

from __future__ import annotations

from torch import nn

from barlowctl.amounts import counted
from barlowctl.assemble.predictor import refuse_predictor
from barlowctl.distributed import Ranks
from barlowctl.errors import UserError
from barlowctl.methods import Method, MoCo, SimCLR
from barlowctl.model import build_mlp, feature_width, split_batch_norm
from barlowctl.recipe import objectives
from barlowctl.recipe.schema import Recipe


def simclr(recipe: Recipe, keys: objectives.SimCLR, backbone: nn.Module, ranks: Ranks) -> Method:
    """No biases; behind the last layer a batch norm without shift (`model_util.py` of google-research/simclr)."""
    refuse_predictor(recipe)
    model, norm = recipe.model, recipe.model.projector_batch_norm
    projector = build_mlp(
        feature_width(backbone),
        model.projector,
        batch_norm=norm,
        hidden_bias=False,
        last_bias=False,
        last_norm="scale" if norm else "none",
    )
    return SimCLR(backbone, projector, temperature=keys.temperature, scale=keys.scale, ranks=ranks)


def moco(recipe: Recipe, keys: objectives.MoCo | objectives.MoCoV2, backbone: nn.Module, ranks: Ranks) -> Method:
    """Biases, and no batch norm in the projector (`moco/builder.py` of facebookresearch/moco)."""
    refuse_predictor(recipe)
    if not recipe.data.drop_last:
        raise UserError(
            f"{keys.title}'s queue takes whole batches, and the last one of an epoch may be smaller",
            allowed="data.drop_last = true",
            next="--set data.drop_last=true",
        )
    groups = batch_norm_groups(recipe, keys, ranks.size)
    split_batch_norm(backbone, groups)
    model, train = recipe.model, recipe.train
    over_all = train.sync_batch_norm and train.batch_norm_ranks(ranks.size) == ranks.size
    projector = build_mlp(feature_width(backbone), model.projector, batch_norm=False, hidden_bias=True, last_bias=True)
    return MoCo(
        backbone,
        projector,
        width=model.projector[-1],
        batch=recipe.train.batch_size,
        queue=keys.queue,
        momentum=keys.momentum,
        temperature=keys.temperature,
        symmetric=keys.symmetric,
        shuffles=groups * ranks.size > 1 and not over_all,
        ranks=ranks,
    )


def batch_norm_groups(recipe: Recipe, keys: objectives.QueueKeys, ranks: int) -> int:
    """Parts that batch norm sees of a rank's rows.

    Raises:
        UserError: groups that ranks cannot share, that have no two images each, or beside `train.sync_batch_norm`.
    """
    groups, train = keys.batch_norm_groups or ranks, recipe.train
    smallest = min(train.batch_size, train.micro_batch * ranks or train.batch_size)
    if groups % ranks or smallest < 2 * groups:
        raise UserError(
            f"objective.batch_norm_groups is {groups:,}, and {counted(smallest, 'image')} at a time on "
            f"{counted(ranks, 'device')} cannot be cut into so many parts",
            allowed="0 (one on each device), or a multiple of the number of devices, at least two images each",
            next="--set objective.batch_norm_groups=0",
        )
    if keys.batch_norm_groups and train.sync_batch_norm:
        raise UserError(
            f"objective.batch_norm_groups is {groups}, and train.sync_batch_norm is true",
            allowed="one of the two: batch norm sees parts of a batch, or all of it",
            next="--set train.sync_batch_norm=false",
        )
    return groups // ranks
