"""The images of a source as they are stored, encoded by threads, in the source's order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from barlowctl.amounts import counted
from barlowctl.data.beton.encode import Stored, encode
from barlowctl.data.images.unreadable import Unreadable, reason_of
from barlowctl.data.names import written
from barlowctl.data.sources.lacking import Lacking
from barlowctl.data.sources.picture import Picture, Source

PENDING_PER_THREAD = 2
LOOK_ON = 5.0
"""Seconds in which images behind one that cannot be read are counted."""


def encoded_in_order(
    source: Source, workers: int, how: dict[str, Any]
) -> Generator[tuple[str, int, Stored | Unreadable], None, None]:
    """(name, label, what to store or why not) of every picture, in order; a bounded number ahead.

    how: `encode`'s options. Of a source of one thread (`Source.of_one_thread`) the thread that iterates begins to read.
    """

    def work(index: int, begun: Callable[[], Picture] | Unreadable | None) -> tuple[str, int, Stored | Unreadable]:
        name, label = source.describe(index)
        name = written(name)
        if isinstance(begun, Unreadable):
            return name, label, begun
        try:
            return name, label, encode(source[index] if begun is None else begun(), **how)
        except Unreadable as error:
            return name, label, error
        except OSError as error:
            return name, label, Unreadable(reason_of(error))

    pool = ThreadPoolExecutor(workers, thread_name_prefix="pack")
    pending: deque[Future[tuple[str, int, Stored | Unreadable]]] = deque()
    try:
        for index in range(len(source)):
            pending.append(pool.submit(work, index, _begun(source, index) if source.of_one_thread else None))
            if len(pending) > workers * PENDING_PER_THREAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begun(source: Source, index: int) -> Callable[[], Picture] | Unreadable:
    """A picture whose reading has begun (see `Source.begin`), or why it cannot be read."""
    try:
        return source.begin(index)
    except Unreadable as error:
        return error
    except OSError as error:
        return Unreadable(reason_of(error))


def look_on(pictures: Iterator[tuple[int, tuple[str, int, Stored | Unreadable]]], lacking: Lacking) -> str:
    """Of the pictures behind one that stops the packing, how many cannot be read either, as far as a moment goes.

    What they lack is added to `lacking`.
    """
    until, count, refused = time.monotonic() + LOOK_ON, 0, 0
    for index, (_, _, stored) in pictures:
        count += 1
        if isinstance(stored, Unreadable):
            lacking.of(stored, index)
            refused += 1
        if time.monotonic() > until:
            break
    if not count:
        return ""
    following = counted(count, "image")
    return f"; of the next {following} {refused:,} cannot either" if refused else f"; the next {following} can"
