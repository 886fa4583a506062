"""Whether torch's store answers at an address: looked for until it does, or why it does not."""

from __future__ import annotations

import contextlib
import socket
import struct
import time

from torch.distributed import TCPStore  # type: ignore[attr-defined]  # a documented name

UNKNOWN_SECONDS = 10.0
"""How long a machine's name may be unknown: that of one which is just starting may come."""
OTHER_SECONDS = 10.0
"""How long another program may answer where the store is looked for: it may end, and rank 0 come."""
ANSWER_SECONDS = 30.0
"""How long something may listen without an answer: torch's store has one at once, on a machine that is busy later."""
PAUSE = 0.2
LONGEST_TRY = 5.0
_NUMBER = struct.pack("=I", 0x62617277)
_GREETING = struct.pack("=BIB", 0, 0x3C85F7CE, 13) + _NUMBER  # TCPStore.cpp: VALIDATE, its magic number, PING


class Unreachable(Exception):
    """Nothing answers there, or somebody does not come; the text says what was tried."""


def wait_until_answered(address: str, port: int, seconds: float) -> None:
    """Wait until a store of torch's answers at a port, and leave it in peace.

    Raises:
        Unreachable: none did in so many seconds, or another program does, or no machine is known by that name.
    """
    begun = time.monotonic()
    answered = 0.0  # since when another program has
    while True:
        waited = time.monotonic() - begun
        try:
            patience = max(PAUSE, min(LONGEST_TRY, seconds - waited))
            with socket.create_connection((address, port), timeout=patience) as connection:
                if _is_store(connection, max(PAUSE, min(ANSWER_SECONDS, seconds - waited))):
                    return
            answered = answered or time.monotonic()
            if time.monotonic() - answered >= min(OTHER_SECONDS, seconds):
                raise Unreachable("another program listens there: it does not answer as rank 0 does")
        except (socket.gaierror, UnicodeError) as error:
            if waited >= min(UNKNOWN_SECONDS, seconds):
                why = getattr(error, "strerror", None) or error
                raise Unreachable(f"no machine is known here by the name '{address}' ({why})") from error
        except OSError as error:
            answered = 0.0
            if waited >= seconds:
                why = error.strerror or error
                raise Unreachable(f"nothing answered in {seconds:g} s ({why})") from error
        time.sleep(PAUSE)


def _is_store(connection: socket.socket, seconds: float) -> bool:
    """Whether torch's store answers; True too where the torch that is installed greets in a way unknown here.

    Whether it does is tried as soon as no answer comes at once: ranks need not wait all of `seconds` for that.
    """
    try:
        connection.sendall(_GREETING)
    except OSError:
        return not _own_store_answers()
    at_once = min(LONGEST_TRY, seconds)
    return (
        _answers(connection, at_once) or not _own_store_answers() or _answers(connection, max(PAUSE, seconds - at_once))
    )


def _answers(connection: socket.socket, seconds: float) -> bool:
    """Whether the number that was sent comes back. Four bytes come in one piece, or they are not torch's."""
    with contextlib.suppress(OSError):
        connection.settimeout(seconds)
        return connection.recv(4) == _NUMBER
    return False


def _own_store_answers() -> bool:
    """Whether a store of the torch that is installed answers to the greeting: one of another release may not."""
    own = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    with socket.create_connection(("localhost", own.port), timeout=LONGEST_TRY) as connection:
        connection.sendall(_GREETING)
        return _answers(connection, LONGEST_TRY)
