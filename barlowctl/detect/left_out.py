"""What of the annotations is not used: counted by its reason, with the names of the first."""

from __future__ import annotations

from collections import defaultdict

NAMED = 3


class LeftOut:
    """Objects that were left out or changed, gathered while annotations are read. `notices` says it in sentences."""

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = defaultdict(list)

    def add(self, reason: str, name: str) -> None:
        """One object. reason: what follows "N objects", e.g. "have no area and are left out"."""
        self._names[reason].append(name)

    def notices(self, where: object) -> list[str]:
        """One sentence for each reason."""
        return [
            f"{where}: {len(names):,} {'object' if len(names) == 1 else 'objects'} {reason}: {first(names)}"
            for reason, names in self._names.items()
        ]


def first(names: list[str]) -> str:
    """The first few of many names, and how many more there are."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more:,} more" if more > 0 else "")


NO_AREA = "without width, height or area, left out"
OUTSIDE = "outside their image, left out"
BEYOND = "reaching beyond their image, cut off at its edge when trained on"


def box_fault(box: tuple[float, float, float, float], height: int, width: int) -> str | None:
    """Why a box cannot be used: one of the reasons above; None: it can, perhaps cut off.

    Sides below a hundred-thousandth of a pixel are none, as in detectron2's `filter_empty_instances`.
    """
    left, top, right, bottom = box
    if not (right - left > 1e-5 and bottom - top > 1e-5):
        return NO_AREA
    if not (min(right, width) - max(left, 0.0) > 1e-5 and min(bottom, height) - max(top, 0.0) > 1e-5):
        return OUTSIDE
    return None


def reaches_beyond(box: tuple[float, float, float, float], height: int, width: int) -> bool:
    """Whether a box crosses the edge by more than a pixel: published annotations are rounded."""
    left, top, right, bottom = box
    return left < -1 or top < -1 or right > width + 1 or bottom > height + 1
