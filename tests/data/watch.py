"""A limit on how long one damaged file may take, that also ends what never comes back.

A hang inside compiled code, with Python's lock held, can be ended by nothing in Python: `faulthandler`'s own thread
prints where it hangs and ends the process, so a whole test run fails instead of waiting for ever. What was being read
lies in the test's temporary folder, which stays.
"""

from __future__ import annotations

import faulthandler
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

CPU_SECONDS, SECONDS = 5.0, 120.0  # of one damaged file, on a machine that does other work too


@contextmanager
def watch(
    which: str, terminal: IO[str], *, cpu_seconds: float = CPU_SECONDS, seconds: float = SECONDS
) -> Iterator[None]:
    """Fail where the block takes too long; where it takes twice that, show every thread's traceback and end."""
    cpu, wall = time.process_time(), time.monotonic()
    faulthandler.dump_traceback_later(2 * seconds, exit=True, file=terminal)
    try:
        yield
    except Exception as error:
        error.add_note(which)
        raise
    finally:
        faulthandler.cancel_dump_traceback_later()
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    assert cpu < cpu_seconds, f"{which} took {cpu:.1f} CPU-seconds"
    assert wall < seconds, f"{which} took {wall:.1f} seconds"
