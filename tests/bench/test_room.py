"""Benchmarks of sizes that no machine holds are refused before anything is made, with sizes that fit."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch

from barlowctl import memory
from barlowctl.bench import photographs, room
from barlowctl.bench.loss_contests import CONTESTS
from barlowctl.errors import UserError
from barlowctl.recipe import load

GIB = 2**30
CPU = torch.device("cpu")


def test_a_step_that_no_memory_holds_is_answered_with_a_batch_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load.load("quickstart", ["train.batch_size=1000000"])
    state = torch.get_rng_state()
    monkeypatch.setattr(memory, "total", lambda: 8 * GIB)
    with pytest.raises(UserError, match=r"a step of 1,000,000 images .* and this machine has 8 GiB") as error:
        room.check_step(recipe, CPU)
    assert error.value.next is not None
    flag, batch = error.value.next.split()
    assert flag == "--batch"
    assert 64 <= int(batch) < 1000000
    room.check_step(load.override(recipe, [f"train.batch_size={batch}"]), CPU)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_network_that_no_memory_holds_is_answered_with_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "total", lambda: GIB // 16)
    with pytest.raises(UserError) as error:
        room.check_step(load.load("resnet50"), CPU)
    assert error.value.next == "--backbone resnet18 --size 32 --batch 16 --widths 512x2"


@pytest.mark.parametrize("method", CONTESTS)
def test_a_loss_that_no_memory_holds_is_answered_with_sizes_of_its_method(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    contest = CONTESTS[method]
    monkeypatch.setattr(memory, "total", lambda: 16 * GIB)
    for n, d in contest.sizes:
        room.check_loss(contest, n, d)
    usual = "x".join(map(str, contest.sizes[0]))
    for n, d in ((10_000_000, 10_000_000), (4_000_000, 1024)):
        with pytest.raises(UserError, match=f"--sizes has '{n}x{d}'.* and this machine has 16 GiB") as error:
            room.check_loss(contest, n, d)
        assert error.value.next == f"--sizes {usual}"


def test_what_the_published_formulation_makes_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs of 16 x 100,000 are 13 MB, and the matrix C is 40 GB."""
    monkeypatch.setattr(memory, "total", lambda: 16 * GIB)
    with pytest.raises(UserError, match="a pass of Barlow Twins takes"):
        room.check_loss(CONTESTS["barlow-twins"], 16, 100_000)
    room.check_loss(CONTESTS["byol"], 16, 100_000)


def test_jpegs_for_which_there_is_no_room_are_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photographs, "free_bytes", lambda folder: 60_000_000)
    with pytest.raises(UserError, match=r"2,000 JPEGs take 120 MB or more, and there is room for 60 MB") as error:
        photographs.jpegs_and_packed(None, tmp_path, 2000, 1, print)
    assert error.value.next == "--samples 500"
    source = tmp_path / "source"
    photographs.write_photographs(source, 4)
    monkeypatch.setattr(photographs, "free_bytes", lambda folder: 10_000)
    parent = tmp_path / "parent"
    with pytest.raises(UserError, match=r"4 JPEGs take 0\.\d+ MB or more") as error:
        photographs.jpegs_and_packed(source, parent, 2000, 1, print)
    assert not parent.exists()


def test_empty_folders_of_killed_benchmarks_are_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    two_days_ago = time.time() - 2 * 24 * 3600
    for name in ("barlowctl-bench-old", "barlowctl-bench-new", "barlowctl-bench-full", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "barlowctl-bench-full" / "pack.beton").write_text("somebody may want it")
    for name in ("barlowctl-bench-old", "barlowctl-bench-full", "other"):
        os.utime(tmp_path / name, (two_days_ago, two_days_ago))
    with room.temporary_folder() as folder:
        assert folder.parent == tmp_path
        assert folder.is_dir()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"barlowctl-bench-new", "barlowctl-bench-full", "other"}
