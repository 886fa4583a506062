"""What a call must leave as it found it: torch's settings and generators, and who handles signals."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from barlowctl import compiled_code
from barlowctl.api.wording import reworded
from barlowctl.assemble.machine import return_freed_memory
from barlowctl.generators import own_generator
from barlowctl.signals import left_alone


@contextmanager
def as_a_command(*, handle_signals: bool = False, network: str | None = None) -> Iterator[None]:
    """What the block computes is what a command would, and the process is afterwards as it was.

    Inside: gradients are recorded, numbers are float32 by default, tensors are made on the CPU by default, and nothing
    is cast automatically, whatever the caller has set. Afterwards: threads of torch, its generators, its default types,
    the current GPU and the variables that name folders of compiled code are as before.

    Args:
        handle_signals: let SIGINT, SIGTERM, SIGUSR1 and SIGHUP ask for a stop, as they do of a command; in the main
            thread only. False: they stay whoever's they are.
        network: as of `reworded`.

    Raises:
        UserError: in Python's words (see `wording`).
    """
    with ExitStack() as stack:
        stack.enter_context(reworded(network))
        if not handle_signals:
            stack.enter_context(left_alone())
        stack.enter_context(_as_before())
        stack.enter_context(_as_in_a_new_process())
        yield


@contextmanager
def memory_returned() -> Iterator[None]:
    """What the block's trainings leave is the system's again afterwards, and not this process's for the next step."""
    try:
        yield
    finally:
        gc.collect()  # networks and their gradients, in circles of references
        return_freed_memory()


@contextmanager
def _as_before() -> Iterator[None]:
    """What is set and drawn inside changes nothing outside."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    device = torch.cuda.current_device() if torch.cuda.is_initialized() else None
    variables = {name: os.environ.get(name) for name in compiled_code.VARIABLES}
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with ExitStack() as stack:
        for generator_of in (None, *(torch.device("cuda", index) for index in gpus)):
            stack.enter_context(own_generator(device=generator_of))
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_default_dtype(dtype)
            for name, value in variables.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
            if device is not None:
                torch.cuda.set_device(device)


@contextmanager
def _as_in_a_new_process() -> Iterator[None]:
    """Torch's modes as a command finds them."""
    torch.set_default_dtype(torch.float32)
    with ExitStack() as stack:
        if torch.get_default_device().type != "cpu":  # a mode, which costs every call of torch a little
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield
