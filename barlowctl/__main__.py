"""`barlowctl` and `python -m barlowctl`: signals are answered while the commands are still being imported."""

from __future__ import annotations

import sys

try:
    from contextlib import nullcontext

    from barlowctl import launcher, starting
    from barlowctl.errors import EXIT_ABORTED, EXIT_BY_SIGNAL
    from barlowctl.garbage import collect_seldom
    from barlowctl.leaving import leave
    from barlowctl.signals import Ended, end_with_parent, ended_as_by_interrupt, ignore_from_now_on
except KeyboardInterrupt:
    sys.exit(130)


def main() -> None:
    """Run the command line, and leave the process with its exit code."""
    with nullcontext() if launcher.may_be_of_several() else ended_as_by_interrupt():
        try:
            end_with_parent()
            collect_seldom()
            starting.of_this_process()
            from barlowctl.cli import app

            app.main()
        except SystemExit as end:
            starting.erase()
            if isinstance(end.code, int):
                leave(end.code)
            raise
        except KeyboardInterrupt as error:  # before a command could answer it
            ignore_from_now_on()
            starting.erase()
            if sys.stderr is not None:
                sys.stderr.write("aborted: no file is left half-written\n")
            sys.exit(EXIT_BY_SIGNAL + error.number if isinstance(error, Ended) else EXIT_ABORTED)


if __name__ == "__main__":
    main()
