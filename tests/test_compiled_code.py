"""Compiled code: where it goes, whom it fits, and that a later process takes it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import llvmlite.binding as llvm
import pytest
import torch

from barlowctl import compiled_code

VARIABLES = (*compiled_code.VARIABLES, compiled_code.TRITON_HOME)


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache folder of the test's own; what `keep` sets is gone afterwards."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "so that it is taken back")
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_it_lies_beside_the_data_home_and_looking_makes_nothing(tmp_path: Path) -> None:
    place = compiled_code.place()
    assert place.survives
    assert place.folder.parent == compiled_code.home() == tmp_path / "cache" / "barlowctl" / "compiled"
    assert place.folder.name.startswith(f"torch-{torch.__version__}-")
    assert str(place) == f"code is kept in {place.folder}"
    assert list(tmp_path.iterdir()) == []


def test_torch_and_triton_are_sent_there(tmp_path: Path) -> None:
    place = compiled_code.keep()
    assert os.environ[compiled_code.TORCH] == str(place.folder)
    assert os.environ[compiled_code.TRITON] == str(place.folder / "triton")
    assert place.folder.stat().st_mode & 0o077 == 0  # what is read from it is run
    assert compiled_code.keep() == place


def test_what_variables_say_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(compiled_code.TORCH, str(tmp_path / "mine"))
    monkeypatch.setenv(compiled_code.TRITON, str(tmp_path / "triton"))
    assert compiled_code.keep().folder == tmp_path / "mine"
    assert [os.environ[name] for name in compiled_code.VARIABLES] == [str(tmp_path / "mine"), str(tmp_path / "triton")]
    monkeypatch.delenv(compiled_code.TRITON)
    monkeypatch.setenv(compiled_code.TRITON_HOME, str(tmp_path))
    compiled_code.keep()
    assert compiled_code.TRITON not in os.environ


def test_what_torch_sets_as_it_is_imported_is_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    here = compiled_code.place()
    cache_dir()
    assert compiled_code.TORCH in os.environ
    assert compiled_code.named() is None
    assert compiled_code.keep() == here
    assert os.environ[compiled_code.TORCH] == str(here.folder)


def test_a_folder_that_cannot_be_written_leaves_torch_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("HOME", str(tmp_path))
    place = compiled_code.keep()
    assert not place.survives
    assert f"cannot write to {place.folder}; {compiled_code.TORCH} names another folder" in str(place)
    assert not {*compiled_code.VARIABLES} & os.environ.keys()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))  # where Triton would write: it stops then
    compiled_code.keep()
    assert compiled_code.TORCH not in os.environ
    assert Path(os.environ[compiled_code.TRITON]).is_dir()


@pytest.mark.parametrize("change", ["processor", "features", "torch", "build", "C library"])
def test_code_of_another_kind_lies_elsewhere(monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """Computers that share a home: `-march=native` code of one stops another with an illegal instruction."""
    here = compiled_code.place().folder
    match change:
        case "processor":
            monkeypatch.setattr(llvm, "get_host_cpu_name", lambda: "skylake-avx512")
        case "features":
            monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: llvm.FeatureMap({"avx2": True}))
        case "torch":
            monkeypatch.setattr(torch, "__version__", "2.99.0")
        case "build":
            monkeypatch.setattr(torch.version, "git_version", "0" * 40)
        case _:
            monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.99"))
    assert compiled_code.place().folder != here


PRODUCT = """
import torch
from torch._dynamo.utils import counters
from barlowctl import compiled_code
compiled_code.keep()
torch.compile(torch.mm)(torch.eye(3), torch.eye(3))  # of a library: no compiler is needed
print(counters["inductor"]["fxgraph_cache_hit"], counters["inductor"]["fxgraph_cache_miss"])
"""


@pytest.mark.slow
def test_a_second_process_takes_what_the_first_compiled(checkout: Path, tmp_path: Path) -> None:
    """Each has an empty folder of temporary files, as the jobs of a cluster may."""
    command = [sys.executable, "-W", "ignore", "-c", PRODUCT]
    environment = {**os.environ, "PATH": str(tmp_path)}

    def counted() -> str:
        environment["TMPDIR"] = tempfile.mkdtemp(dir=tmp_path)
        done = subprocess.run(command, check=True, cwd=checkout, env=environment, capture_output=True, text=True)
        return done.stdout.strip()

    assert [counted(), counted()] == ["0 1", "1 0"]
