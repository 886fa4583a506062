"""What only a CUDA device can show, in one go: tests, training steps beside the others', loading, memory.

    python benchmarks/gpu_check.py                        all sections, under 25 minutes on one GPU and 16 cores
    python benchmarks/gpu_check.py --only tests,ladder    some of them
    python benchmarks/gpu_check.py --rehearse             the same commands in small, on a CPU

It needs this checkout, torch and what `make gpu-wheels` has gathered, and no network. Every section is a process of its
own with a limit of its own; what it prints goes into one page, `--out`, which is written again after each section, so
that a machine that is taken away leaves what was found until then. Exit code 1 where a section failed.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
PYTHON = sys.executable
BARLOWCTL = (PYTHON, "-m", "barlowctl")
BATCHES = {256: (), 512: (), 2048: ("--set", "train.activation_checkpointing=true")}
"""Of ResNet-50 on 80 GB: 512 images fit as they are, 2048 with their activations computed again."""


@dataclass(frozen=True)
class Section:
    """Commands, one after another, and what they are to show. minutes: the limit of all of them."""

    name: str
    shows: str
    minutes: float
    commands: tuple[tuple[str, ...], ...]


def sections(rehearse: bool) -> list[Section]:
    """What is run; `rehearse`: on a CPU, in sizes that take seconds."""
    device = "cpu" if rehearse else "cuda"
    bench = (*BARLOWCTL, "bench", "step", "--device", device)
    small = ("--recipe", "cifar10-resnet18", "--backbone", "resnet10t", "--widths", "64x3", "--size", "32")
    resnet = (*small, "--batch", "16") if rehearse else ("--recipe", "resnet50", "--batch", "256")
    vit = (*small, "--batch", "16") if rehearse else ("--backbone", "vit_small_patch16_224", "--batch", "256")
    times = ("--rounds", "1", "--steps", "1", "--warmup", "0") if rehearse else ("--rounds", "5", "--steps", "6")
    half = ("--precision", "fp32" if rehearse else "bf16")
    fastest = () if rehearse else ("--set", "train.compile=true")
    loaded = (*bench, *small) if rehearse else (*bench, "--recipe", "resnet50")
    batches: dict[int, tuple[str, ...]] = {16: ()} if rehearse else BATCHES
    tests = (PYTHON, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "-p", "no:benchmark", "tests/gpu")
    rivals = ("ours,authors",) if rehearse else ("ours,authors,authors-same", "ours,lightly-same,solo-learn")

    ladder = ("--ladder", "--minutes", "4")

    def rounds(batch: int) -> tuple[str, ...]:
        each = ("1", "1") if rehearse else ("5", str(max(2, 4096 // batch)))
        return ("--rounds", each[0], "--steps", each[1], "--warmup", "2")

    return [
        Section("tests", "what must hold on a CUDA device as on a CPU", 4, (tests,)),
        Section("ladder", "what each of our settings is worth", 6, ((*bench, *resnet, *half, *times, *ladder),)),
        Section(
            "others",
            "a step beside the others', as they come and at our precision and memory format",
            6,
            tuple(
                (*bench, *resnet, *half, *times, *fastest, "--rows", rows)
                for rows in rivals
            ),
        ),
        Section("vit", "a transformer", 3, ((*bench, *vit, *half, *times, *fastest, "--rows", "ours,authors-same"),)),
        Section(
            "loading",
            "our loader against pixels that lie ready, by batch size, and memory",
            6,
            tuple(
                (*loaded, *half, "--rows", "ours", "--batch", str(batch), *extra, *rounds(batch), *way)
                for batch, extra in batches.items()
                for way in ((), *([] if extra else [("--loading", "--samples", str(8 * batch))]))
            ),
        ),
    ]  # fmt: skip


def machine() -> list[str]:
    """What it runs on."""
    import torch

    from barlowctl.cores import usable_cores

    lines = [f"- Python {platform.python_version()}, torch {torch.__version__}, {usable_cores()} cores"]
    if torch.cuda.is_available():
        of = torch.cuda.get_device_properties(0)
        lines.append(f"- {of.name}, {of.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}")
    else:
        lines.append("- no CUDA device: a rehearsal, whose numbers say nothing")
    commit = subprocess.run(("git", "rev-parse", "--short", "HEAD"), cwd=CHECKOUT, capture_output=True, text=True)
    if commit.returncode == 0:
        lines.append(f"- commit {commit.stdout.strip()}")
    return lines


def run(section: Section) -> tuple[bool, list[str]]:
    """Whether all commands of a section ended well within its limit, and its part of the page."""
    until = time.monotonic() + 60 * section.minutes
    lines, good = [f"## {section.name}: {section.shows}", ""], True
    for command in section.commands:
        start = time.monotonic()
        ours = command[:3] == BARLOWCTL
        command_line = " ".join(("barlowctl", *command[3:]) if ours else ("python", *command[1:]))
        print(f"{section.name}: {command_line}", flush=True)
        text, code = output_of(command, max(1.0, until - start))
        good = good and code == 0
        ended = "" if code == 0 else f", exit code {code}"
        lines += [f"`{command_line}` ({time.monotonic() - start:.0f} s{ended})", "", "```", *text, "```", ""]
        print("\n".join(text[-12:]), flush=True)
    return good, lines


def output_of(command: Sequence[str], seconds: float) -> tuple[list[str], int]:
    """A command's last lines, and its exit code; 124 where it took longer."""
    path = os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "160", "NO_COLOR": "1", "PYTHONWARNINGS": "ignore"}
    try:
        done = subprocess.run(
            command, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds
        )
        text, code = done.stdout, done.returncode
    except subprocess.TimeoutExpired as error:
        text, code = error.stdout or b"", 124
    return [line.rstrip() for line in text.decode(errors="replace").strip().splitlines()[-40:]], code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rehearse", action="store_true", help="on a CPU, in small")
    parser.add_argument("--only", default="", help="sections, comma-separated")
    parser.add_argument("--out", type=Path, help="default: docs/benchmarks/DATE-gpu.md, of a rehearsal gpu-check.md")
    arguments = parser.parse_args()
    by_name = {section.name: section for section in sections(arguments.rehearse)}
    names = [name.strip() for name in arguments.only.split(",") if name.strip()] or list(by_name)
    if unknown := [name for name in names if name not in by_name]:
        parser.error(f"there is no section '{unknown[0]}'; there are {', '.join(by_name)}")
    today = datetime.date.today().isoformat()
    out = arguments.out or (
        Path("gpu-check.md") if arguments.rehearse else CHECKOUT / "docs" / "benchmarks" / f"{today}-gpu.md"
    )
    page = [f"# {'Rehearsal' if arguments.rehearse else 'GPU check'} of {today}", "", *machine(), ""]
    failed = []
    for name in names:
        good, lines = run(by_name[name])
        page += lines
        failed += [] if good else [name]
        out.write_text("\n".join(page), encoding="utf-8")
    print(f"wrote {out}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
