"""The loss against the authors' formulation, forward and backward, in turns (A B A B ...), one process.

    python benchmarks/loss.py [--rounds 5] [--threads 1]

The alternative is written from the paper and the authors' code: batch norm without affine parameters,
C = z1^T z2 / N, the sum over C with its diagonal, then over its off-diagonal entries.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import Tensor

from barlowctl.objective import barlow_twins_loss, choose_form

SIZES = ((256, 512), (256, 2048), (256, 8192), (512, 8192), (1024, 8192), (2048, 8192))
LAMBD = 0.0051


def authors(z1: Tensor, z2: Tensor) -> Tensor:
    """The published formulation."""
    norm = torch.nn.BatchNorm1d(z1.shape[1], affine=False)
    c = norm(z1).T @ norm(z2) / len(z1)
    on_diagonal = torch.diagonal(c).add(-1).pow(2).sum()
    d = len(c)
    off_diagonal = c.flatten()[:-1].view(d - 1, d + 1)[:, 1:].flatten().pow(2).sum()
    return on_diagonal + LAMBD * off_diagonal


def ours(z1: Tensor, z2: Tensor) -> Tensor:
    """This package's, its form chosen from N and D."""
    return barlow_twins_loss(z1, z2, lambd=LAMBD).loss


def main() -> None:
    """Print a Markdown table: median CPU milliseconds, the ratio round by round, the difference of values."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} thread(s), n = {arguments.rounds}, CPU milliseconds")
    print("| N | D | form | authors | ours | ratio, median (min-max) | relative difference |")
    print("|---|---|---|---|---|---|---|")
    for n, d in SIZES:
        torch.manual_seed(0)
        z1, z2 = (torch.randn(n, d, requires_grad=True) for _ in range(2))
        values: dict[str, float] = {}
        seconds: dict[str, list[float]] = {"authors": [], "ours": []}
        for number in range(arguments.rounds + 1):
            for name, function in (("authors", authors), ("ours", ours)):
                start = time.process_time()
                loss = function(z1, z2)
                loss.backward()
                if number:  # the first round warms up
                    seconds[name].append(time.process_time() - start)
                values[name] = loss.item()
        ratios = [a / b for a, b in zip(seconds["authors"], seconds["ours"], strict=True)]
        difference = abs(values["ours"] / values["authors"] - 1)
        medians = {name: 1e3 * statistics.median(times) for name, times in seconds.items()}
        print(
            f"| {n} | {d} | {choose_form(n, d)} | {medians['authors']:.1f} | {medians['ours']:.1f} | "
            f"{statistics.median(ratios):.1f} ({min(ratios):.1f}-{max(ratios):.1f}) | {difference:.0e} |"
        )


if __name__ == "__main__":
    main()
