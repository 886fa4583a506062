"""What only a CUDA device can show, in one go: tests, loading, training steps beside the others', profiles, memory.

    python benchmarks/gpu_check.py                        all sections, 25 minutes at most on one GPU and 16 cores
    python benchmarks/gpu_check.py --only tests,ladder    some of them
    python benchmarks/gpu_check.py --fashion-mnist DIR    also a whole run on the four files of Fashion-MNIST in DIR
    python benchmarks/gpu_check.py --only others,descent  beside the compiled step, one that inductor has tuned
    python benchmarks/gpu_check.py --rehearse             the same commands in small, on a CPU

It needs this checkout, torch and what `make gpu-wheels` has gathered, and no network. Every section is a process of its
own with a limit of its own; what it prints goes into one page, `--out`, which is written again after each section, so
that a machine that is taken away leaves what was measured until then. Exit code 1 where a section failed, 2 where
nothing can be run.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
PYTHON = sys.executable
BARLOWCTL = (PYTHON, "-m", "barlowctl")
LINES = 60  # of a command, the last ones, on the page
BATCHES = {256: (), 512: (), 2048: ("--set", "train.activation_checkpointing=true")}
"""Of ResNet-50 on 80 GB: 512 images fit as they are, 2048 with their activations computed again."""
TUNING = (
    ("descent", "coordinate_descent_tuning", "TORCHINDUCTOR_COORDINATE_DESCENT_TUNING"),
    ("autotune", "max_autotune", "TORCHINDUCTOR_MAX_AUTOTUNE"),
)
LADDER_BATCH = 128
"""All rows of a ladder stay on the device together, and two of them keep the memory of a captured graph."""
PROGRESS = re.compile(r": (ready|warm-up|round \d+ of \d+(, .* images/s)?)$")
"""Lines that `barlowctl bench` prints while it works: not part of the page."""


@dataclass(frozen=True)
class Section:
    """Commands, one after another, and what they are to show.

    minutes: the limit of all of them. environment: variables that they have beside this process's.
    alone: it runs only where --only names it.
    """

    name: str
    shows: str
    minutes: float
    commands: tuple[tuple[str, ...], ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    alone: bool = False


def sections(rehearse: bool, fashion_mnist: Path | None = None, runs: Path = Path("runs")) -> list[Section]:
    """What is run; what matters most comes first.

    Args:
        rehearse: on a CPU, in sizes that take seconds.
        fashion_mnist: a folder with its four files: the section `run` trains on them.
        runs: the folder that the run of that section goes into.
    """
    device = "cpu" if rehearse else "cuda"
    step, profile = ((*BARLOWCTL, "bench", name, "--device", device) for name in ("step", "profile"))
    small = ("--recipe", "cifar10-resnet18", "--backbone", "resnet10t", "--widths", "64x3", "--size", "32")
    resnet = small if rehearse else ("--recipe", "resnet50")
    vit = small if rehearse else ("--backbone", "vit_small_patch16_224")
    half = ("--precision", "fp32" if rehearse else "bf16")
    whole = ("--batch", "16") if rehearse else ("--batch", "256")
    fewer = ("--batch", "16" if rehearse else str(LADDER_BATCH))
    compiled = () if rehearse else ("--set", "train.compile=true")
    batches: dict[int, tuple[str, ...]] = {16: ()} if rehearse else BATCHES

    def rounds(steps: int) -> tuple[str, ...]:
        number, steps, warmup = (1, 1, 0) if rehearse else (5, steps, 2)
        return ("--rounds", str(number), "--steps", str(steps), "--warmup", str(warmup))

    def beside(network: tuple[str, ...], *rows: str) -> tuple[str, ...]:
        return (*step, *network, *whole, *half, *rounds(6), *compiled, "--rows", ",".join(rows))

    def loading(batch: int, *more: str) -> tuple[str, ...]:
        return (
            *step, *resnet, *half, "--rows", "ours", "--batch", str(batch), *rounds(max(2, 4096 // batch)), *more,
        )  # fmt: skip

    pytest = (PYTHON, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-p", "no:benchmark")
    quick = ("--rounds", "2", "--steps", "4") if not rehearse else rounds(1)
    profiled = ("--steps", "1", "--warmup", "1") if rehearse else ("--steps", "3", "--warmup", "6")
    listed = [
        Section("tests", "what must hold on a CUDA device as on a CPU", 5, ((*pytest, "-m", "gpu", "tests/gpu"),)),
        Section(
            "loading",
            "our loader against pixels that lie ready, by batch size, and memory",
            6,
            tuple(
                loading(batch, *more, *way, *(() if more else compiled))
                for batch, more in batches.items()
                for way in ((), *(() if more else (("--loading", "--samples", str(8 * batch)),)))
            ),
        ),
        Section(
            "others",
            "a step beside the others', as they come and at our precision and memory format",
            5,
            (
                beside(resnet, "ours", "authors")
                if rehearse
                else beside(resnet, "ours", "authors", "authors-same", "lightly-same", "solo-learn"),
                beside(vit, "ours", "authors-same"),
            ),
        ),
        Section(
            "profile",
            "where a step's time goes",
            3,
            tuple((*profile, *network, *whole, *half, *compiled, *profiled) for network in (resnet, vit)),
        ),
        Section(
            "ladder",
            "what each of our settings is worth",
            6,
            tuple(
                (*step, *network, *fewer, *half, *quick, "--ladder", "--minutes", "3")
                for network in ((resnet,) if rehearse else (resnet, vit))
            ),
        ),
    ]
    # To be told apart only beside `others` on the same machine; each kernel is tried out when it is compiled.
    listed += [
        Section(name, f"whether inductor's {option} pays", 8, (beside(resnet, "ours"),), {variable: "1"}, alone=True)
        for name, option, variable in TUNING
    ]
    if fashion_mnist is not None:
        run = (*BARLOWCTL, "pretrain", "--recipe", "quickstart", "--device", device, "--out", f"{runs}/run")
        short = ("--set", "train.epochs=1", "--set", "eval.every_epochs=0") if rehearse else ()
        listed.append(
            Section(
                "run",
                "a whole run, and what it learned",
                4,
                (
                    (*BARLOWCTL, "data", "get", "fashion-mnist", "--from", str(fashion_mnist)),
                    (*run, *short),
                    *(() if rehearse else ((*BARLOWCTL, "probe", f"{runs}/run", "--device", device),)),
                ),
            )
        )
    return listed


def missing(rehearse: bool) -> str | None:
    """Why nothing can be run here; None: it can."""
    sys.path.insert(0, str(CHECKOUT))
    try:
        import torch

        import barlowctl.cli.app  # noqa: F401
    except ImportError as error:
        return (
            f"{PYTHON} cannot import '{error.name}': name another interpreter (make gpu-check PYTHON=/path/to/python3) "
            "or install what `make gpu-wheels` has gathered"
        )
    if not rehearse and not torch.cuda.is_available():
        return "this machine has no CUDA device; on a CPU: make gpu-check GPU_CHECK=--rehearse"
    return None


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
        variables = "".join(f"{key}={value} " for key, value in section.environment.items())
        command_line = variables + " ".join(("barlowctl", *command[3:]) if ours else ("python", *command[1:]))
        print(f"{section.name}: {command_line}", flush=True)
        text, code = output_of(command, max(1.0, until - start), section.environment)
        good = good and code == 0
        ended = "" if code == 0 else f", exit code {code}"
        lines += [f"`{command_line}` ({time.monotonic() - start:.0f} s{ended})", "", "```", *text, "```", ""]
        print("\n".join(text[-12:]), flush=True)
    return good, lines


def output_of(command: Sequence[str], seconds: float, more: Mapping[str, str]) -> tuple[list[str], int]:
    """A command's last lines, and its exit code; 124 where it took longer."""
    path = os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH"))))
    environment = {
        **os.environ,
        "PYTHONPATH": path,
        "COLUMNS": "160",
        "NO_COLOR": "1",
        "PYTHONWARNINGS": "ignore",
        **more,
    }
    try:
        done = subprocess.run(
            command, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds
        )
        text, code = done.stdout, done.returncode
    except subprocess.TimeoutExpired as error:
        text, code = error.stdout or b"", 124
    lines = [line.rstrip() for line in text.decode(errors="replace").strip().splitlines()]
    return [line for line in lines if not PROGRESS.search(line)][-LINES:], code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rehearse", action="store_true", help="on a CPU, in small")
    parser.add_argument("--only", default="", help="sections, comma-separated")
    parser.add_argument("--fashion-mnist", metavar="DIR", type=Path, help="a folder with its four files: train on them")
    parser.add_argument("--out", type=Path, help="default: docs/benchmarks/DATE-gpu.md, of a rehearsal gpu-check.md")
    arguments = parser.parse_args()
    if problem := missing(arguments.rehearse):
        print(f"gpu-check: {problem}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as runs:
        return check(parser, arguments, sections(arguments.rehearse, arguments.fashion_mnist, Path(runs)))


def check(parser: argparse.ArgumentParser, arguments: argparse.Namespace, listed: Sequence[Section]) -> int:
    """Runs the sections that are asked for, and writes the page; the exit code."""
    by_name = {section.name: section for section in listed}
    names = [name.strip() for name in arguments.only.split(",") if name.strip()]
    names = names or [name for name, section in by_name.items() if not section.alone]
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
