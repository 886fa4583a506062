"""torch's own generators: drawn from and seeded for a while, and put back as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def own_generator(seed: int | None = None, device: torch.device | None = None) -> Iterator[None]:
    """What is drawn inside changes nothing outside: torch's generators are afterwards as they were.

    Args:
        seed: of the generators that are kept, inside; None: they go on from where they are.
        device: the generator of this GPU is kept beside the CPU's; None: nothing is drawn on one.
    """
    on_gpu = device is not None and device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        if seed is not None:
            torch.default_generator.manual_seed(seed)  # `torch.manual_seed` would seed every GPU, kept or not
            if on_gpu:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
        yield
