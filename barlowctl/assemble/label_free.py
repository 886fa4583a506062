"""What a method's embeddings say without labels: RankMe and LiDAR."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from barlowctl.amounts import counted
from barlowctl.assemble.data import ImageSet
from barlowctl.assemble.machine import Runtime
from barlowctl.assemble.model import preprocessing_of
from barlowctl.assemble.sample_views import sample_views
from barlowctl.data.images.unreadable import OnMeasuring
from barlowctl.eval import diagnostics
from barlowctl.eval.lidar import lidar
from barlowctl.methods import Method
from barlowctl.modes import in_mode
from barlowctl.recipe.schema import Recipe

LIDAR_IMAGES, LIDAR_VIEWS = 1000, 10
"""Of `probe` and `ablate`: as many images as the paper takes at least, and the views it takes of these methods."""
_BATCH = 250


def rankme(method: Method, features: Tensor, device: torch.device) -> float | None:
    """RankMe of the embeddings: the effective rank of what the projector makes of features `(N, F)`.

    As its authors measure it: of the network that is trained, projector included, on images that are not distorted.
    The `effective_rank` of the features is the same formula one storey below. None: the method has no projector.
    """
    projector = method.heads().get("projector")
    if projector is None:
        return None
    with in_mode(method, training=False), torch.inference_mode():
        embeddings = (projector(rows.to(device)).to(torch.float32) for rows in features.split(1024))
        return diagnostics.effective_rank_in_parts(embeddings, len(features))


def lidar_sample(available: int) -> str:
    """What LiDAR is measured on, of so many images: `10 views of 1,000 images`."""
    return f"{LIDAR_VIEWS} views of {counted(min(LIDAR_IMAGES, available), 'image')}"


def measure_lidar(
    method: Method,
    source: ImageSet,
    recipe: Recipe,
    runtime: Runtime,
    device: torch.device,
    members: np.ndarray | None = None,
    *,
    images: int,
    views: int,
    on_unreadable: OnMeasuring | None = None,
) -> dict[str, float]:
    """LiDAR of the embeddings (`lidar`) and of the backbone's features (`feature_lidar`) of the recipe's views.

    The views are those that training draws of the images in its first epochs: always the same. A method without a
    projector has the second alone. Runs in evaluation mode; the method's state and modes are left as they were.

    Args:
        members: positions of the images to draw from; None: all. images, views: how many, and of each.
        on_unreadable: None: leave such images out where the recipe goes on past them.
    """
    loader, full_views = sample_views(
        source, recipe, runtime, device, members, images=images, batch_size=_BATCH, on_unreadable=on_unreadable
    )
    to_input = preprocessing_of(recipe).normalization().to(device)
    projector = method.heads().get("projector")
    of_each_view: dict[str, list[Tensor]] = {"lidar": [], "feature_lidar": []}
    with loader, in_mode(method, training=False), torch.inference_mode():
        for epoch in range(-(-views // full_views)):
            outputs: dict[str, list[list[Tensor]]] = {key: [[] for _ in range(full_views)] for key in of_each_view}
            for batch in loader.epoch(epoch):
                if not len(batch.indices):
                    continue
                for number, view in enumerate(batch.views):
                    features = method.backbone(to_input(view.to(device)))
                    outputs["feature_lidar"][number].append(_copied(features))
                    if projector is not None:
                        outputs["lidar"][number].append(_copied(projector(features)))
            for key, rows_of in outputs.items():
                of_each_view[key] += [torch.cat(rows) for rows in rows_of if rows]
    return {key: lidar(torch.stack(rows[:views], dim=1)) for key, rows in of_each_view.items() if rows}


def while_training(
    method: Method,
    features: Tensor,
    source: ImageSet,
    recipe: Recipe,
    runtime: Runtime,
    device: torch.device,
    members: np.ndarray,
) -> dict[str, float]:
    """What an online evaluation measures of the bank: RankMe, and LiDAR where the recipe asks for it.

    Args:
        features: `(N, F)` of the bank's undistorted images. members: the bank, by positions in `source`.
    """
    rank, sizes = rankme(method, features, device), recipe.eval
    values = {} if rank is None else {"rankme": rank}
    if sizes.lidar_images:
        images, views = sizes.lidar_images, sizes.lidar_views
        values |= measure_lidar(method, source, recipe, runtime, device, members, images=images, views=views)
    return values


def _copied(output: Tensor) -> Tensor:
    return output.detach().to("cpu", torch.float32, copy=True)
