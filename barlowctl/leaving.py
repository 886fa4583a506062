"""The end of a command's process, without taking torch's modules apart one by one, which is a second. A leaf."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading


def leave(code: int) -> None:
    """End the process as Python does, up to where it would free each object: the system does that at once.

    Threads that are no daemons are waited for, functions of `atexit` are called (temporary folders, child processes,
    loggers), streams are flushed. Returns where a debugger or profiler watches, which has something to say at the end.
    """
    if _is_watched():
        return
    threading._shutdown()  # type: ignore[attr-defined]  # as the standard library's multiprocessing ends its processes
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # None, a reader that went away, or closed
            stream.flush()
    os._exit(code)


def _is_watched() -> bool:
    """Whether a debugger, a profiler or `python -i` waits for the end."""
    monitoring = getattr(sys, "monitoring", None)  # since Python 3.12
    if monitoring is not None and any(monitoring.get_tool(number) for number in range(6)):
        return True
    return bool(sys.gettrace() or sys.getprofile() or sys.flags.inspect)
