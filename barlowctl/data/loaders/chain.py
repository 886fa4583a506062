"""The photometric chain as a device runs it: by torch's operations, compiled or not, or by Triton kernels.

All make the same views from the same draws, except for rounding. Which one does is what the first batch finds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from barlowctl.data.views import batched
from barlowctl.data.views.parameters import Parameters

AT_ONCE = 128  # images that go through the chain together: in float32 a large batch would take gigabytes
TRIALS = 5  # of each way, when one is chosen
UNLIKE = 1e-3  # share of values that may be more than a level off: at solarisation's threshold, at ties of a hue

Distort = Callable[[Tensor, Parameters], Tensor]
"""The chain on uint8 (n, H, W, C), which it leaves alone, by the draws of these n images: uint8 of the same shape."""


def by_operations(operations: batched.Operations) -> Distort:
    """torch's operations, one after another, in float32."""

    def distort(pixels: Tensor, parameters: Parameters) -> Tensor:
        planes = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        return batched.distort(planes, parameters, operations).add_(0.5).to(torch.uint8).permute(0, 2, 3, 1)

    return distort


def by_kernels() -> Distort:
    """Triton's kernels; torch's operations for the images of which `fused.can` says no.

    Raises:
        ImportError: there is no Triton.
    """
    from barlowctl.data.views import fused

    plain = by_operations(batched.Operations())

    def distort(pixels: Tensor, parameters: Parameters) -> Tensor:
        chosen = fused.distort if fused.can(parameters, pixels.shape[-1]) else plain
        return chosen(pixels, parameters)

    return distort


def compiled() -> Distort:
    """torch's operations, compiled at their first call."""
    return by_operations(batched.compiled())


class Chain:
    """The chain on all views of a batch.

    Args:
        fuses: whether the first batch tries the kernels. They stay where they give the same views sooner; nothing is
            compiled then.
        compiles: whether it tries compiled operations, which stay where they are sooner.
        wait: returns when the device has done all that it was given.
        notify: is told what was found, and of a failure in a later batch: torch's operations go on from there.
    """

    def __init__(self, *, fuses: bool, compiles: bool, wait: Callable[[], None], notify: Callable[[str], None]) -> None:
        self._plain = self._distort = by_operations(batched.Operations())
        self._untried = [("in fused kernels", by_kernels)] * fuses + [("compiled", compiled)] * compiles
        self._wait, self._notify = wait, notify

    def __call__(self, views: Sequence[Tensor], parameters: Sequence[Parameters | None]) -> tuple[Tensor, ...]:
        """The views, uint8 (N, S, S, C) each; one without parameters is given back as it is."""
        drawn = any(parameters)  # not so for a batch of no images
        while drawn and self._untried:
            name, way = self._untried.pop(0)
            if self._stays(name, way, views, parameters):
                self._untried = []
        try:
            return _apply(self._distort, views, parameters)
        except Exception as error:
            if self._distort is self._plain:
                raise
            self._distort = self._plain  # a shape that a compiler met for the first time, say
            self._notify(f"the distortions run by torch's operations from here: {_first_line(error)}")
            return _apply(self._distort, views, parameters)

    def _stays(
        self,
        name: str,
        way: Callable[[], Distort],
        views: Sequence[Tensor],
        parameters: Sequence[Parameters | None],
    ) -> bool:
        """Whether this way makes these views sooner than torch's operations, and the same ones; it is said."""
        before = self._seconds(self._plain, views, parameters)
        try:
            distort = way()
            after = self._seconds(distort, views, parameters)
            unlike = _share_unlike(distort, self._plain, views, parameters)
        except Exception as error:  # a compiler's, of any kind: the run does without
            self._notify(f"the distortions do not run {name}: {_first_line(error)}")
            return False
        ratio = f"{before / after:.2f} times as fast as torch's operations (at {len(views[0])} images)"
        if unlike > UNLIKE:
            self._notify(f"the distortions do not run {name}: {unlike:.1%} of their values were other ones")
        elif after >= before:
            self._notify(f"the distortions do not run {name}: so they were {ratio}")
        else:
            self._distort = distort
            self._notify(f"the distortions run {name}, {ratio}")
        return self._distort is distort

    def _seconds(self, distort: Distort, views: Sequence[Tensor], parameters: Sequence[Parameters | None]) -> float:
        """The least of some runs, after one of warm-up."""
        times = []
        for _ in range(1 + TRIALS):
            start = time.perf_counter()
            _apply(distort, views, parameters)
            self._wait()
            times.append(time.perf_counter() - start)
        return min(times[1:])


def _apply(distort: Distort, views: Sequence[Tensor], parameters: Sequence[Parameters | None]) -> tuple[Tensor, ...]:
    """The chain on every view, some images at a time."""
    made = []
    for pixels, drawn in zip(views, parameters, strict=True):
        if drawn is None:
            made.append(pixels)
            continue
        done = torch.empty_like(pixels, memory_format=torch.contiguous_format)
        for low in range(0, len(pixels), AT_ONCE):
            part = pixels[low : low + AT_ONCE]
            done[low : low + len(part)] = distort(part, drawn.part(low, low + len(part)))
        made.append(done)
    return tuple(made)


def _share_unlike(
    one: Distort, other: Distort, views: Sequence[Tensor], parameters: Sequence[Parameters | None]
) -> float:
    """The share of values that are more than a level apart, of the view with the most, in its first images."""
    shares = [0.0]
    for pixels, drawn in zip(views, parameters, strict=True):
        if drawn is not None:
            part, of_part = pixels[:AT_ONCE], drawn.part(0, AT_ONCE)
            difference = one(part, of_part).to(torch.int16) - other(part, of_part).to(torch.int16)
            shares.append(float((difference.abs_() > 1).float().mean()))
    return max(shares)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
