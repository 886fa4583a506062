"""What a recipe comes to on this machine and these images: resolved once, and read by all that shows or uses it.

The first lines of a run, its dry run, the engine's settings and the estimate of a study read one `Resolved`. Two things
are resolved beside it, once as well: the precision, which is measured on a CPU and so comes when all that can be
refused was refused (`precision.of_run`), and the form of the loss, which the method knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from barlowctl.amounts import counted
from barlowctl.assemble.data import LoaderChoice
from barlowctl.assemble.holdout import check_holdout
from barlowctl.assemble.methods import check_ranks, check_views
from barlowctl.assemble.model import preprocessing_of
from barlowctl.errors import UserError
from barlowctl.model import Preprocessing
from barlowctl.recipe.schema import Recipe
from barlowctl.train import engine
from barlowctl.train.settings import steps_of


@dataclass(frozen=True)
class Resolved:
    """A recipe on a device, for images of which there are so many.

    Attributes:
        device, threads: of this rank; threads are those of the mathematics on a CPU.
        ranks: that share each batch.
        images: trained on. held_out: beside them.
        loader: of the training images; None: they are not here yet.
        steps_per_epoch: optimizer steps, one batch of all ranks each.
        rates: peak learning rate of each of the two parameter groups.
        preprocessing: of evaluation images; its channels and statistics are those of the views, too.
    """

    recipe: Recipe
    device: torch.device
    threads: int
    ranks: int
    images: int
    held_out: int
    loader: LoaderChoice | None
    steps_per_epoch: int
    rates: Mapping[str, float]
    preprocessing: Preprocessing

    @property
    def shards(self) -> bool:
        """Whether the backbone is divided: one process has nothing to divide it among."""
        return self.recipe.train.shard and self.ranks > 1

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return steps_of(self.recipe.train.epochs, self.steps_per_epoch)

    @property
    def batch(self) -> int:
        """Images of a whole batch, over all ranks: all there are, where the recipe's batch is more."""
        return min(self.recipe.train.batch_size, self.images)

    @property
    def images_seen(self) -> float:
        """Images of the whole run, each as often as it is trained on."""
        return self.total_steps / self.steps_per_epoch * min(self.images, self.steps_per_epoch * self.batch)

    def settings(self, precision: str) -> engine.Settings:
        """How the engine trains, computing in `precision`."""
        train = self.recipe.train
        return engine.Settings(
            epochs=train.epochs,
            steps_per_epoch=self.steps_per_epoch,
            warmup_epochs=train.warmup_epochs,
            final_lr_scale=train.final_lr_scale,
            schedule=train.schedule,
            schedule_every=train.schedule_every,
            warmup_start_scale=train.warmup_start_scale,
            milestones=train.milestones,
            milestone_factor=train.milestone_factor,
            precision=precision,
            log_every_steps=train.log_every_steps,
            checkpoint_every_epochs=train.checkpoint_every_epochs,
            keep_checkpoints=train.keep_checkpoints,
            evaluate_every_epochs=self.recipe.eval.every_epochs,
            evaluate_start=bool(self.recipe.init.weights),
            checkpoint_every_steps=train.checkpoint_every_steps,
            micro_batch=train.micro_batch,
            activation_checkpointing=train.activation_checkpointing,
            gradient_scale=train.gradient_scale,
            shard=self.shards,
            cuda_graph=train.cuda_graph,
            clip_grad_norm=self.recipe.optimizer.clip_grad_norm,
            keep_best=train.keep_best,
            stop=train.stop,
            stop_after=train.stop_after,
        )


def resolve(
    recipe: Recipe,
    device: torch.device,
    threads: int,
    images: int,
    loader: LoaderChoice | None = None,
    *,
    ranks: int = 1,
    held: int | None = None,
) -> Resolved:
    """Resolve a recipe for a training split of `images` images, those that are held out included.

    Args:
        held: how many these are; None: as many as the recipe says, which whole groups need not be.

    Raises:
        UserError: what does not fit together: see `check_views`, `check_holdout`, `steps_per_epoch` and
            `check_warm_up`.
    """
    check_views(recipe)
    check_holdout(images, recipe, held)
    held = recipe.data.holdout if held is None else held
    trained_on = images - held
    steps = steps_per_epoch(recipe, trained_on, ranks)
    check_warm_up(recipe, steps)
    return Resolved(
        recipe=recipe,
        device=device,
        threads=threads,
        ranks=ranks,
        images=trained_on,
        held_out=held,
        loader=loader,
        steps_per_epoch=steps,
        rates=learning_rates(recipe),
        preprocessing=preprocessing_of(recipe),
    )


def steps_per_epoch(recipe: Recipe, images: int, ranks: int = 1) -> int:
    """Steps of an epoch of `images` images, each batch shared by `ranks`.

    Raises:
        UserError: not one batch of them, a batch that cannot be shared equally, or a last batch with less than
            two images for each rank (batch norm and the loss need two).
    """
    train = recipe.train
    whole, rest = divmod(images, train.batch_size)
    steps = whole + (1 if rest and not recipe.data.drop_last else 0)
    if images < 2 * ranks:
        each = f", on each of {ranks} ranks" if ranks > 1 else ""
        raise UserError(
            f"the data has {_images(images)}, and the loss compares at least two{each}",
            next="name a folder with more images, or a data set of the data home, with --data",
        )
    if steps == 0:
        raise UserError(
            f"the data has {_images(images)}, not one batch of {train.batch_size:,}",
            next=f"--set train.batch_size={max(2, images // 2 // ranks) * ranks}",
        )
    check_share(recipe, ranks)
    if 0 < rest < 2 * ranks and not recipe.data.drop_last:
        each = f"each of {ranks} ranks needs two" if ranks > 1 else "the loss needs two"
        count = "one image" if rest == 1 else f"{rest} images"
        raise UserError(
            f"the last batch of an epoch would have {count} ({_images(images)}, batch {train.batch_size:,}), and "
            f"{each}",
            next="--set data.drop_last=true",
        )
    return steps


def check_warm_up(recipe: Recipe, steps: int) -> None:
    """Refuse a warm-up that ends after a run's last step: of epochs in parts, the steps are whole ones.

    Args:
        steps: of an epoch.

    Raises:
        UserError: with a shorter one.
    """
    train, total = recipe.train, steps_of(recipe.train.epochs, steps)
    if train.warmup_epochs * steps > total:
        raise UserError(
            f"a warm-up of {counted(train.warmup_epochs, 'epoch')} is {train.warmup_epochs * steps:g} steps, and "
            f"{counted(train.epochs, 'epoch')} of {counted(steps, 'step')} are {total}",
            allowed=f"train.warmup_epochs up to {total / steps:g}",
            next=f"--set train.warmup_epochs={train.epochs / 10:g}",
        )


def check_share(recipe: Recipe, ranks: int) -> None:
    """Refuse a batch that `ranks` cannot share equally, with at least two images each.

    Raises:
        UserError: with the nearest batch that they can share.
    """
    batch = recipe.train.batch_size
    if batch % ranks or batch < 2 * ranks:
        raise UserError(
            f"a batch of {batch} images cannot be shared equally by {ranks} ranks",
            allowed="a multiple of the number of ranks, at least two images each, or another number of ranks",
            next=f"--set train.batch_size={max(2, batch // ranks) * ranks}",
        )
    check_ranks(recipe, ranks)


def learning_rates(recipe: Recipe) -> dict[str, float]:
    """Peaks of the two parameter groups."""
    share = recipe.train.batch_size / 256
    return {"weights": recipe.optimizer.lr * share, "biases": recipe.optimizer.lr_biases * share}


def whole_set(recipe: Recipe, images: int) -> str:
    """In words, that a batch is all images, which are fewer than the recipe's batch; else empty."""
    batch = recipe.train.batch_size
    if images >= batch:
        return ""
    return f"a step has all {_images(images)}, fewer than train.batch_size, {batch:,}, which the learning rates are for"


def _images(count: int) -> str:
    return "one image" if count == 1 else f"{count:,} images"
