"""`python -m barlowctl.bench.pipeline`: one pipeline of the loader's benchmark in its own process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from barlowctl.bench import channel, dali_loader, ffcv_loader, torch_loaders
from barlowctl.bench.loader_task import LoaderTask, Round


def ours(task: LoaderTask) -> Round:
    """The fast loader, all distortions on the CPU; uint8 out."""
    return _fast(task, task.views())


def ours_simplejpeg(task: LoaderTask) -> Round:
    """The same where ffcv is not installed: simplejpeg decodes, between kernels; uint8 out."""
    from barlowctl.data.beton import decoders

    return _fast(task, task.views(), decoder=decoders.SimplejpegDecoder())


def ours_geometric(task: LoaderTask) -> Round:
    """The part that is left to the CPU when a GPU distorts; uint8 out."""
    from barlowctl.data.views.batched import geometric

    return _fast(task, [geometric(view) for view in task.views()])


def ours_multi_crop(task: LoaderTask) -> Round:
    """The fast loader with six small views beside the two; uint8 out."""
    return _fast(task, [*task.views(), *task.small_views()])


def _fast(task: LoaderTask, views: Any, **options: Any) -> Round:
    from barlowctl.data.beton.reader import Beton
    from barlowctl.data.loaders.fast import FastLoader

    source = Beton.open(task.packed)
    loader = FastLoader(source, views=views, batch_size=task.batch, seed=0, threads=task.workers, **options)
    batches = -(-task.images // task.batch)

    def run(number: int) -> int:
        start = max(0, loader.batches_per_epoch - batches)  # the last batches of an epoch's order: any will do
        return sum(len(batch.indices) for batch in loader.epoch(number, start_batch=start))

    return run


BUILDERS = {
    "authors": torch_loaders.authors,
    "torchvision-v2": torch_loaders.torchvision_v2,
    "ffcv-stock": ffcv_loader.ffcv_stock,
    "ours": ours,
    "ours-simplejpeg": ours_simplejpeg,
    "ours-geometric": ours_geometric,
    "ours-multi-crop": ours_multi_crop,
    "lightly": torch_loaders.lightly,
    "dali": dali_loader.dali,
}


def build(settings: dict[str, Any]) -> Round:
    """The pipeline that the settings name."""
    import torch

    torch.set_num_threads(1)
    task = LoaderTask(
        folder=Path(settings["folder"]),
        packed=Path(settings["packed"]),
        **{key: settings[key] for key in ("images", "batch", "size", "workers")},
    )
    return BUILDERS[settings["name"]](task)


if __name__ == "__main__":
    channel.serve(build)
