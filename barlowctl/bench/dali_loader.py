"""Two views of each image with NVIDIA's DALI on the CPU."""

from __future__ import annotations

import math
from typing import Any

from barlowctl.bench.loader_task import LoaderTask, Round

IN_FLIGHT = 2  # batches that DALI works on at a time, its default


def dali(task: LoaderTask) -> Round:
    """Its CPU operators: decode once, two crops, colour twist (one order of jitter), blur; uint8 out.

    What a draw does not need is skipped: its conditional execution runs an operator on the images it concerns.
    """
    from nvidia.dali import fn, pipeline_def, types

    def chance(probability: float) -> Any:
        return fn.random.coin_flip(probability=probability, dtype=types.BOOL)

    def around(centre: float, width: float) -> Any:
        return fn.random.uniform(range=[centre - width, centre + width])

    def view(images: Any, blur: float, solarize: float) -> Any:
        crop = fn.random_resized_crop(
            images, size=[task.size, task.size], random_area=[0.08, 1.0], interp_type=types.INTERP_CUBIC, antialias=True
        )
        crop = fn.flip(crop, horizontal=fn.random.coin_flip(probability=0.5))
        if chance(0.8):
            crop = fn.color_twist(
                crop,
                brightness=around(1.0, 0.4),
                contrast=around(1.0, 0.4),
                saturation=around(1.0, 0.2),
                hue=around(0.0, 36.0),
            )
        if chance(0.2):
            crop = fn.saturation(crop, saturation=0.0)
        if chance(blur):
            crop = fn.gaussian_blur(crop, sigma=around(1.05, 0.95), window_size=13)
        if chance(solarize):
            inverted = fn.cast(crop >= 128, dtype=types.UINT8)
            crop = fn.cast(crop * (1 - inverted) + (255 - crop) * inverted, dtype=types.UINT8)
        return crop

    @pipeline_def(
        batch_size=task.batch,
        num_threads=task.workers,
        device_id=None,
        seed=0,
        enable_conditionals=True,
        prefetch_queue_depth=IN_FLIGHT,
    )
    def build() -> Any:
        encoded, _ = fn.readers.file(file_root=str(task.folder), random_shuffle=True, name="files")
        images = fn.decoders.image(encoded, device="cpu")
        return view(images, 1.0, 0.0), view(images, 0.1, 0.2)

    pipeline = build()
    pipeline.build()
    return _rounds(pipeline, task)


def _rounds(pipeline: Any, task: LoaderTask) -> Round:
    def run(number: int) -> int:
        """Ends with no batch in the making: those that `pipeline.run()` starts ahead would fall outside the round."""
        left, made = math.ceil(task.images / task.batch), 0
        waiting = min(left, IN_FLIGHT)
        for _ in range(waiting):
            pipeline.schedule_run()
        while waiting:
            made += len(pipeline.share_outputs()[0])
            pipeline.release_outputs()
            left, waiting = left - 1, waiting - 1
            if left > waiting:
                pipeline.schedule_run()
                waiting += 1
        return made

    return run
