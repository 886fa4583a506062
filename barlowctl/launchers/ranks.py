"""Several processes on this machine, one per rank: the command line again, under torchrun's agent."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import elastic_launch
from torch.distributed.run import config_from_args, parse_args

from barlowctl import program, starting
from barlowctl.cores import THREADS, threads_of_environment, usable_cores
from barlowctl.distributed import EXIT_CODES_FOLDER, RankLost, lost_at_start
from barlowctl.errors import EXIT_RANK_LOST, UserError
from barlowctl.signals import ENDS_WITH, handlers_put_back, signals_to_handle

# What `torchrun --standalone` means.
STANDALONE = (
    "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "--local-addr", "localhost",
)  # fmt: skip
COMMAND = ("-m", "barlowctl")


def run_ranks(arguments: Sequence[str], count: int) -> int:
    """Run `python -m barlowctl <arguments>` in `count` processes as `torchrun --standalone` does.

    Signals are passed on to the ranks, which save and leave.

    Returns:
        The exit code of the run: 0, or that of the rank which failed by itself.

    Raises:
        UserError: torchrun's variable PYTHON_EXEC names another Python than this one.
        RankLost: a rank died before any of them could say why, and the others were ended.
    """
    if (other := os.environ.get("PYTHON_EXEC", sys.executable)) != sys.executable:  # torchrun's variable
        raise UserError(f"PYTHON_EXEC is '{other}'; ranks run in {sys.executable}", next="unset PYTHON_EXEC")
    starting.erase()
    passed_on = ",".join(number.name for number in (*signals_to_handle(), signal.SIGQUIT))
    words = program.own_words()
    begun = ["--no-python", sys.executable, "-u", *words] if words else COMMAND
    command = [*begun, *program.import_words()]
    torchrun = [*STANDALONE, "--signals-to-handle", passed_on, "--nproc-per-node", str(count), *command, *arguments]
    with tempfile.TemporaryDirectory() as folder:
        otherwise, failed = EXIT_RANK_LOST, None
        try:
            with handlers_put_back(), _surroundings(folder, count):
                config, entry, entry_arguments = config_from_args(parse_args(torchrun))
                elastic_launch(config, entry)(*entry_arguments)
            return 0
        except ChildFailedError as error:
            failed = error
        except SignalException as signaled:
            otherwise = 128 + signaled.sigval  # as a shell says it: before training began there is no state to save
        codes = [int(file.read_text() or otherwise) for file in sorted(Path(folder).iterdir())]
    if failed is not None and not codes:
        raise _died(failed, count)
    own = [code for code in codes if code not in (0, EXIT_RANK_LOST)]  # not only because another one was lost
    return own[0] if own else otherwise


def _died(failed: ChildFailedError, count: int) -> RankLost:
    """What the launcher says where no rank came so far that it says anything."""
    rank, process = failed.get_first_failure()
    how = f"was killed by {process.signal_name()}" if process.exitcode < 0 else f"ended with code {process.exitcode}"
    others = "the other was" if count == 2 else "the others were"
    return lost_at_start(
        f"rank {rank} of {count} is gone: its process {process.pid} {how}; {others} ended before anything was trained"
    )


@contextmanager
def _surroundings(folder: str, count: int) -> Iterator[None]:
    """What the ranks find in their environment; this process has its own again after the block."""
    before = dict(os.environ)
    os.environ[EXIT_CODES_FOLDER] = folder
    os.environ[ENDS_WITH] = str(os.getpid())  # the agent is in this process
    variable, threads = threads_of_environment() or ("", usable_cores())
    os.environ[THREADS[0]] = str(threads if variable in THREADS else max(1, threads // count))  # torchrun would set 1
    logging.disable(logging.CRITICAL)  # the ranks say what went wrong
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        os.environ.clear()
        os.environ.update(before)
