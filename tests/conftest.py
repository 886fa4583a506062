"""What holds for every test: offline, few threads, fixed seeds, and nothing of the user's is touched."""

from __future__ import annotations

import gc
import importlib
import os
import random
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

# Before torch and numba are imported, here and in the processes that tests start: one thread each (the suite
# shares a small machine), no terminal features, no reaching for a model hub.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "WANDB_MODE": "disabled",
    "NO_COLOR": "1",
    "TERM": "dumb",
    "COLUMNS": "120",
}
os.environ.update(ENVIRONMENT)
for variable in ("FORCE_COLOR", "BARLOWCTL_DEBUG", "BARLOWCTL_DATA", "BARLOWCTL_RUNS"):
    os.environ.pop(variable, None)
# Bytecode is kept, also where a container's setting forbids it: pytest rewrites each `assert` as it compiles a file of
# tests, a third of what collecting takes, and each process that a test starts would compile the package.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def _asked_for_gpu(words: list[str]) -> bool:
    """Whether pytest was called with `-m gpu`: what else there is expects a CPU's numbers, whatever the machine has."""
    return "-mgpu" in words or any(pair == ("-m", "gpu") for pair in pairwise(words))


if not _asked_for_gpu(sys.argv) and "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

# A suite that nohup, a service or a shell's background starts ignores SIGHUP or SIGINT, and so would the runs in it:
# they are tested as on a terminal.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import numpy as np  # noqa: E402
import pytest  # noqa: E402

from barlowctl.garbage import collect_seldom, set_aside  # noqa: E402

TESTS = Path(__file__).resolve().parent
LOCAL = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::")


@pytest.fixture(autouse=True)
def _own_homes(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data home and a runs home of the test's own; made by the code that writes there, if at all."""
    home = tmp_path_factory.getbasetemp() / "homes" / str(random.SystemRandom().getrandbits(64))
    monkeypatch.setenv("BARLOWCTL_DATA", str(home / "data"))
    monkeypatch.setenv("BARLOWCTL_RUNS", str(home / "runs"))


@pytest.fixture(autouse=True)
def _seeds() -> None:
    """The same random numbers in every test, whichever ran before; one torch thread."""
    import torch

    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - for libraries that draw from the global state
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        torch.default_generator.manual_seed(0)  # the CPU's: torch.manual_seed notes the stack for GPUs that may come
    else:
        torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to anywhere but this machine fails the test that makes it."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: object) -> object:
        if isinstance(address, tuple) and address[0] not in LOCAL:
            _refuse(address)
        return connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", local_only)


def _refuse(address: tuple[object, ...]) -> NoReturn:
    raise AssertionError(f"a test tried to connect to {address[0]}: tests run offline")


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    """Methods that a test has registered are of that test alone."""
    yield
    if objectives := sys.modules.get("barlowctl.recipe.objectives"):
        for name in set(objectives.METHODS) - set(objectives.OURS):
            del objectives.METHODS[name]


_resident = {"MiB": 0}  # of this process, when memory was given back last


@pytest.fixture(autouse=True)
def _memory() -> Iterator[None]:
    """What a large test has freed goes back to the machine: runs keep it for their next step (`keep_freed_memory`)."""
    yield
    if sys.platform == "linux" and _in_memory() > _resident["MiB"] + 512:
        from barlowctl.assemble.machine import return_freed_memory

        return_freed_memory()
        _resident["MiB"] = _in_memory()


def _in_memory() -> int:
    """MiB of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The repository's root."""
    return TESTS.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked gpu are skipped where there is no CUDA device."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device in sight; with one: pytest -m gpu"))


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """Collecting makes a million objects that stay: no search for garbage meanwhile."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.hookimpl(tryfirst=True, specname="pytest_collection")
def compile_from_the_end(session: pytest.Session) -> None:
    """Every other worker imports all files of tests from the last to the first: each compiles half and reads half.

    In a fresh clone all of them would rewrite the same file at the same time.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    if int(worker) % 2 and session.config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        for path in sorted(TESTS.rglob("test_*.py"), reverse=True):
            with suppress(Exception):  # pytest says so, when it collects the file
                importlib.import_module(".".join(path.relative_to(TESTS.parent).with_suffix("").parts))


_until_the_end = ExitStack()


def pytest_collection_finish() -> None:
    """What is there before the first test stays until the end: no search for garbage looks at it again.

    Others are as seldom as in a command: at Python's own thresholds they take a twentieth of the tests' time.
    """
    _until_the_end.enter_context(set_aside())
    collect_seldom()


def pytest_unconfigure() -> None:
    """As it was: what a library looks for at the end of the process can go."""
    _until_the_end.close()
