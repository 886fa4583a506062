"""Two views of each image with stock FFCV, and our torch kernels for the distortions that it lacks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from barlowctl.bench.loader_task import LoaderTask, Round

PIECE = 16  # images that torch distorts together on a CPU


def ffcv_stock(task: LoaderTask) -> Round:
    """Its Loader with two RandomResizedCrop decoders, which decode each image twice; uint8 out.

    FFCV has none of the paper's photometric distortions: both views go through a chain batched in torch
    (`views.batched`, parameters per image), in pieces that stay in cache. Its crops are area-averaged, not bicubic.
    """
    from ffcv.fields.decoders import RandomResizedCropRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.pipeline.pipeline_spec import PipelineSpec
    from ffcv.transforms import RandomHorizontalFlip, ToTensor, ToTorchImage

    from barlowctl.data.views import batched
    from barlowctl.data.views.parameters import draw_parameters

    def view() -> Any:
        decoder = RandomResizedCropRGBImageDecoder((task.size, task.size))
        transforms = [RandomHorizontalFlip(), ToTensor(), ToTorchImage(channels_last=False)]
        return PipelineSpec("image", decoder, transforms)

    loader = Loader(
        str(task.packed),
        batch_size=task.batch,
        num_workers=task.workers,
        order=OrderOption.RANDOM,
        indices=np.arange(task.images),
        os_cache=True,
        drop_last=False,
        pipelines={"image": view(), "second": view(), "label": None},
    )
    count, specs = loader.reader.num_samples, task.views()
    generator = np.random.default_rng(0)

    def run(number: int) -> int:
        loader.indices = generator.permutation(count)[: task.images]
        made = 0
        for views in loader:
            for position, (pixels, spec) in enumerate(zip(views, specs, strict=True)):
                for low in range(0, len(pixels), PIECE):
                    piece = pixels[low : low + PIECE].to(torch.float32)
                    keys = np.arange(made + low, made + low + len(piece))
                    parameters = draw_parameters(spec, 0, number, keys, position)
                    pixels[low : low + PIECE] = batched.distort(piece, parameters).add_(0.5)
            made += len(views[0])
        return made

    return run
