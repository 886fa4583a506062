"""Where the processes of a run meet: torch's store, once something answers there, or why nothing does."""

from __future__ import annotations

import datetime
import os
import socket
import time
from typing import Any

from torch.distributed.rendezvous import rendezvous

from barlowctl.launcher import LaunchedProcess

UNKNOWN_SECONDS = 10.0
"""How long a machine's name may be unknown: that of one which is just starting may come."""
PAUSE = 0.2
LONGEST_TRY = 5.0


class Unreachable(Exception):
    """Nothing answers there; the text says what was tried."""


def meet(process: LaunchedProcess, time_limit: float) -> Any:
    """The store where the ranks meet. Rank 0 makes it on its own machine, unless torchrun's agent has.

    Torch prints frames of its own code where nothing answers, so it is asked only once something does. Rank 0 looks for
    its own store without its address: that the others do not reach it there is theirs to say.

    Raises:
        Unreachable: nothing answered in `time_limit` seconds, or no machine is known by that name.
        RuntimeError: torch's, as of a port that is in use, or of ranks that did not come.
    """
    makes_store = process.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    address = "localhost" if makes_store else process.address
    if not makes_store:
        wait_until_answered(address, process.port, time_limit)
    place = f"[{address}]" if ":" in address else address
    where = f"tcp://{place}:{process.port}?rank={process.rank}&world_size={process.size}"
    store, _, _ = next(rendezvous(where, timeout=datetime.timedelta(seconds=time_limit)))
    return store


def wait_until_answered(address: str, port: int, seconds: float) -> None:
    """Wait until something listens at a port, and leave it in peace.

    Raises:
        Unreachable: nothing did in so many seconds, or no machine is known by that name.
    """
    begun = time.monotonic()
    while True:
        waited = time.monotonic() - begun
        try:
            socket.create_connection((address, port), timeout=max(PAUSE, min(LONGEST_TRY, seconds - waited))).close()
            return
        except (socket.gaierror, UnicodeError) as error:
            if waited >= min(UNKNOWN_SECONDS, seconds):
                why = getattr(error, "strerror", None) or error
                raise Unreachable(f"no machine is known here by the name '{address}' ({why})") from error
        except OSError as error:
            if waited >= seconds:
                why = error.strerror or error
                raise Unreachable(f"nothing answered in {seconds:g} s ({why})") from error
        time.sleep(PAUSE)
