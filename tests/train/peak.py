"""Peak memory of one training step in a process of its own: `python -m tests.train.peak BATCH MICRO RECOMPUTE SIDE`.

Prints MB above what the network, its gradients and the batch itself take, and CPU seconds.
"""

from __future__ import annotations

import sys
import time

import torch

from barlowctl.assemble.machine import keep_freed_memory
from barlowctl.bench.loss import peak_bytes, reset_peak
from barlowctl.distributed import ALONE
from barlowctl.methods import BarlowTwins, Targets
from barlowctl.model import build_backbone, build_projector, recompute_activations
from barlowctl.train.gradient import Gradient


def main(batch: int, micro_batch: int, recompute: bool, side: int) -> None:
    keep_freed_memory()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    backbone = build_backbone("resnet50", in_chans=3)
    if recompute:
        recompute_activations(backbone)
    method = BarlowTwins(backbone, build_projector(2048, (2048, 2048, 2048)), lambd=0.0051)
    method.to(memory_format=torch.channels_last).train()
    for p in method.parameters():
        p.grad = torch.zeros_like(p)
    gradient = Gradient(
        method,
        to_input=lambda images: images.permute(0, 3, 1, 2).float() / 255,
        device=torch.device("cpu"),
        precision="fp32",
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        ranks=ALONE,
        micro_batch=micro_batch,
        recomputes=recompute,
    )
    views = [torch.randint(0, 256, (batch, side, side, 3), dtype=torch.uint8) for _ in range(2)]
    before, start = reset_peak(), time.process_time()
    gradient(views, Targets.unlabelled(batch))
    print((peak_bytes() - before) / 1e6, time.process_time() - start)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "1", int(sys.argv[4]))
