"""What a run computes in: the recipe's precision on a GPU; on a CPU what is faster there, measured once and kept.

Deviation from a recipe in bf16 or fp16, said in the run's first lines. Which one of bf16 and fp32 is faster on a CPU
depends on the processor and on the network: instructions for bf16 do not make it faster by themselves (a small network
gains nothing), and bf16 without them is slower, which needs no measuring. fp16 is no candidate: a CPU's fp16
convolutions are about a hundred times slower backward than its fp32 ones.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from barlowctl import processor
from barlowctl.assemble.model import build_method, move_to_device, preprocessing_of
from barlowctl.assemble.synthetic_steps import SyntheticSteps, operations
from barlowctl.generators import own_generator
from barlowctl.locks import holding
from barlowctl.recipe.schema import Recipe
from barlowctl.runs import rundir
from barlowctl.threads import one_thread
from barlowctl.waits import Wait

ON_CPU = ("fp32", "bf16")
ROUNDS = 3
CLEAR = 1.5
"""A ratio of all steps from which no further round is needed."""
COSTLY = 1.5
"""CPU-seconds of the first two steps from which they count: the little that is done only once is little of them."""
OPERATIONS = 8e9
"""Forward multiply-adds of a measured step: with its backward pass about 0.3 seconds of one thread in fp32."""
_LACKING = f"no instructions for bf16 ({', '.join(sorted(processor.BF16))})"
EMULATED = {
    "bf16": f"the CPU has {_LACKING} and emulates it, several times slower",
    "fp16": f"fp16 is slow on every CPU, and this one has {_LACKING} either",
}
"""Where nothing is measured. Of systems that do not tell what their processor can do, steps do."""
BEFORE = re.compile(r"cpu, \d+ threads?, (\w+)(?: \(the recipe's (\w+) is slower on this CPU\))?")
"""How the first lines of a run told its precision before it was kept by itself."""
NOISE = 1.05
"""A ratio below this is noise, and equal runs should not differ by it: the recipe's bf16, or for fp16 fp32, stays."""


@dataclass(frozen=True)
class Precision:
    """What the recipe requests, what is computed in, and in words why they differ or how it was found."""

    requested: str
    used: str
    why: str = ""

    def __str__(self) -> str:
        return f"{self.used} {self.why}".rstrip()


def emulated(requested: str, device: torch.device) -> str | None:
    """Why a device computes in a precision many times slower than in fp32, in words; None: nothing says it does."""
    if device.type != "cpu" or not processor.flags() or processor.multiplies_bf16():
        return None
    return EMULATED.get(requested)


def choose(
    requested: str, device: torch.device, time_steps: Callable[[], Precision], earlier: Precision | None = None
) -> Precision:
    """What `requested` becomes on a device: `earlier` where it was chosen before, fp32 on a CPU that emulates bf16, or
    what `time_steps` finds (see `faster`).

    Random states and the number of threads are those of before.
    """
    if device.type != "cpu" or requested == "fp32":
        return Precision(requested, requested)
    if earlier is not None and earlier.requested == requested:
        return earlier
    if why := emulated(requested, device):
        return Precision(requested, "fp32", f"instead of the recipe's {requested}: {why}")
    with own_generator(), one_thread(), Wait("timing steps in bf16 and in fp32, to compute in the faster ..."):
        return time_steps()


def of_run(recipe: Recipe, device: torch.device, *, ranks: int = 1, earlier: Precision | None = None) -> Precision:
    """The precision of a run of that recipe: `earlier` from its beginning, or measured in steps of its method.

    The steps are forward and backward passes of a network of their own, on one thread, at the share of a batch that
    each of `ranks` has or as much of it as is cheap. What the optimizer does is fp32 in either.
    """

    def time_steps() -> Precision:
        each = operations(recipe) / recipe.train.batch_size
        share = max(2, recipe.train.batch_size // ranks)
        batch = min(recipe.train.micro_batch or share, share, max(2, int(OPERATIONS / each)))
        method = move_to_device(build_method(recipe), recipe, device)
        synthetic_steps = SyntheticSteps(preprocessing_of(recipe), method, device, batch, sizes=recipe.sizes)
        return faster(recipe.train.precision, synthetic_steps.cpu_seconds, f"steps of {batch} images on one thread")

    return choose(recipe.train.precision, device, time_steps, earlier)


def faster(requested: str, seconds: Callable[[str], float], of: str) -> Precision:
    """The faster of bf16 and fp32, by the medians of some steps in turns: as few as make it clear.

    Args:
        seconds: takes a step in a precision and returns what it cost. of: what the steps are, for people.
    """
    taken: dict[str, list[float]] = {precision: [] for precision in ON_CPU}

    def take_round() -> int:
        for precision in ON_CPU[::-1] if len(taken["fp32"]) % 2 else ON_CPU:
            taken[precision].append(seconds(precision))
        return len(taken["fp32"])

    take_round()  # also chooses kernels, and takes memory
    costly = sum(map(sum, taken.values())) > COSTLY
    rounds, most = (1, 2) if costly else (take_round(), 1 + ROUNDS)
    while rounds < most and not _clear(taken):
        rounds = take_round()
    counted = {precision: steps[0 if costly else 1 :] for precision, steps in taken.items()}
    ratio = statistics.median(counted["fp32"]) / statistics.median(counted["bf16"])
    default = "bf16" if requested == "bf16" else "fp32"
    used = "bf16" if ratio >= NOISE else "fp32" if ratio <= 1 / NOISE else default
    other, times = ("fp32", ratio) if used == "bf16" else ("bf16", 1 / ratio)
    reason = "as the recipe asks" if used == requested else f"instead of the recipe's {requested}"
    level = f" (a difference below {100 * (NOISE - 1):.0f} % is noise)" if 1 / NOISE < ratio < NOISE else ""
    measured = f"{times:.2f} times {other}'s speed on this CPU{level}, measured in 2 x {len(counted['fp32'])} {of}"
    return Precision(requested, used, f"{reason}: {measured}")


def _clear(taken: Mapping[str, list[float]]) -> bool:
    """Whether every step of the one was faster than every step of the other, by far."""
    fp32, bf16 = taken["fp32"], taken["bf16"]
    return min(fp32) >= CLEAR * max(bf16) or min(bf16) >= CLEAR * max(fp32)


def record(precision: Precision, device: torch.device) -> dict[str, str]:
    """What run.json keeps of a choice."""
    return {"asked": precision.requested, "used": precision.used, "why": precision.why, "device": device.type}


def recorded_by(run: Path) -> Precision | None:
    """What a run began in on a CPU; None where it began on a GPU, or there is no such run.

    Runs of before November 2026 have it in their first lines alone.
    """
    if not (run / "run.json").is_file():
        return None
    about = rundir.read_json(run / "run.json")
    if isinstance(recorded := about.get("precision"), Mapping):
        if recorded.get("device") != "cpu":
            return None
        return replace(
            _of(recorded), why=f"{recorded['why']}; chosen when the run began" if recorded.get("why") else ""
        )
    first_line = BEFORE.fullmatch(about.get("facts", {}).get("device", ""))
    return Precision(first_line[2] or first_line[1], first_line[1], "as when the run began") if first_line else None


def keep(run: Path, precision: Precision, device: torch.device) -> None:
    """Keep the choice of a run that has none yet, since it began on another kind of device."""
    if device.type == "cpu" and precision.requested != "fp32" and recorded_by(run) is None:
        about = rundir.read_json(run / "run.json")
        rundir.write_json(run / "run.json", {**about, "precision": record(precision, device)})


def shared(out: Path, recipe: Recipe, device: torch.device) -> Precision | None:
    """The one choice of all runs below a study's directory that ask for the recipe's precision; made by the first."""
    requested = recipe.train.precision
    if device.type != "cpu" or requested == "fp32":
        return None
    file = out / "precision.json"
    out.mkdir(parents=True, exist_ok=True)
    with holding(out / ".precision.lock"):
        recorded: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        if requested in recorded:
            return _of(recorded[requested])
        choices = (recorded_by(about.parent) for about in sorted(out.glob("cells/*/*/run.json")))
        chosen = next((choice for choice in choices if choice is not None and choice.requested == requested), None)
        chosen = chosen or of_run(recipe, device)
        chosen = replace(chosen, why=f"{chosen.why}, for the whole study")
        rundir.write_json(file, {**recorded, requested: record(chosen, device)})
        return chosen


def _of(values: Mapping[str, Any]) -> Precision:
    return Precision(values["asked"], values["used"], values.get("why", ""))
