"""Runs a function in W processes that talk over gloo, and brings back what each returned.

Processes are forked off a server that imported torch once, so a gang costs a fraction of a second.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # the server inherits it; see `cli.app.run`
PRELOADED = ["torch", "barlowctl.cli.app", "barlowctl.assemble.launch", "zoneinfo", "tests.dist.work"]
"""Imported once by the server, with what `tests.dist.lives` needs, whoever of the two starts it. zoneinfo is pydantic's,
which wants it late, when a process that became another user finds no more."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _member(
    rank: int, size: int, port: int, limit: float, name: str, arguments: tuple[Any, ...], pipe: Connection
) -> None:
    import torch

    from barlowctl.distributed import joined

    torch.set_num_threads(1)
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size)
    )
    module, _, function = name.rpartition(".")
    try:
        with joined(cuda=torch.cuda.is_available(), time_limit=limit) as ranks:
            result = getattr(importlib.import_module(module), function)(ranks, *arguments)
        pipe.send(("result", result))
    except BaseException as error:
        pipe.send((type(error).__name__, str(error) + "\n" + traceback.format_exc()))


def start(
    function: Callable[..., Any], size: int, *arguments: Any, limit: float = 120.0
) -> list[tuple[Any, Connection]]:
    """Processes and their pipes; `function(ranks, *arguments)` is named, so it lives in a module."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    port, members = free_port(), []
    for rank in range(size):
        ours, theirs = context.Pipe()
        name = f"{function.__module__}.{function.__name__}"
        process = context.Process(target=_member, args=(rank, size, port, limit, name, arguments, theirs), daemon=True)
        process.start()
        theirs.close()
        members.append((process, ours))
    return members


def answers(members: list[tuple[Any, Connection]], timeout: float = 600.0) -> list[tuple[str, Any]]:
    """(kind, value) of every process: "result", the name of what it raised, or "died"."""
    replies = []
    for process, pipe in members:
        try:
            replies.append(pipe.recv() if pipe.poll(timeout) else ("silent", None))
        except EOFError:
            replies.append(("died", None))
        process.join(10)
        if process.is_alive():
            process.kill()
    return replies


def together(function: Callable[..., Any], size: int, *arguments: Any) -> list[Any]:
    """What `function(ranks, *arguments)` returns on each rank; fails when one of them does."""
    replies = answers(start(function, size, *arguments))
    for rank, (kind, value) in enumerate(replies):
        assert kind == "result", f"rank {rank}: {kind}: {value}"
    return [value for _, value in replies]
