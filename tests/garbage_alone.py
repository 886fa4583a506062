"""Run by test_garbage.py in a process without torch, whose objects are few: a search for garbage takes no time there.

python -m tests.garbage_alone FUNCTION
"""

from __future__ import annotations

import gc
import sys
import weakref

from barlowctl.garbage import set_aside


class Circle:
    def __init__(self) -> None:
        self.itself = self


def garbage() -> weakref.ref[Circle]:
    """A circle of references that nobody holds."""
    return weakref.ref(Circle())


def what_was_there_is_set_aside_and_new_garbage_is_freed() -> None:
    with set_aside():
        assert gc.get_freeze_count() > 1000
        left = garbage()
        assert left() is not None
        gc.collect()
        assert left() is None
    assert gc.get_freeze_count() == 0


def garbage_from_before_is_freed_first() -> None:
    left = garbage()
    gc.collect(0)  # which makes it old, were it not garbage
    left, held = garbage(), [Circle()]
    with set_aside():
        assert left() is None
        assert held[0].itself is held[0]


def what_somebody_else_set_aside_stays_there() -> None:
    gc.freeze()
    with set_aside():
        assert gc.get_freeze_count() > 1000
    assert gc.get_freeze_count() > 1000


def a_block_in_a_block_ends_nothing() -> None:
    with set_aside():
        with set_aside():
            pass
        assert gc.get_freeze_count() > 1000
    assert gc.get_freeze_count() == 0


def an_error_ends_it_too() -> None:
    try:
        with set_aside():
            raise ValueError("of the block")
    except ValueError as error:
        assert str(error) == "of the block"  # noqa: PT017 - pytest is not imported here
    assert gc.get_freeze_count() == 0


if __name__ == "__main__":
    gc.disable()  # no search but those that are meant
    globals()[sys.argv[1]]()
    print("held")
