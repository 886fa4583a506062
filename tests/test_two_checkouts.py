"""The script that compares a step of two checkouts: that both are measured in turns, and what it refuses."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "benchmarks" / "two_checkouts.py"
LINE = (
    r"[\d,.]+ CPU-ms there, [\d,.]+ here, ([\d.]+) times \(([\d.]+)-([\d.]+)\), n = 2; (there|here) was started first"
)


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *map(str, words)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["nowhere", "this"])
def test_what_is_no_other_checkout_is_refused(name: str, tmp_path: Path) -> None:
    place = ROOT if name == "this" else tmp_path / name
    refused = run(place)
    assert refused.returncode == 2
    assert str(place) in refused.stderr
    assert ("git worktree add" if name == "this" else "it has no folder barlowctl/bench") in refused.stderr
    assert not refused.stdout


@pytest.mark.slow
def test_both_orders_of_starting_are_measured(tmp_path: Path) -> None:
    for name in ("barlowctl", "recipes", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    compared = run(tmp_path, "--recipe", "quickstart", "--batch", 16, "--rounds", 2)
    assert compared.returncode == 0, compared.stderr
    *orders, mean = compared.stdout.splitlines()
    lines = [re.fullmatch(LINE, line) for line in orders]
    assert [match and match[4] for match in lines] == ["there", "here"]
    for match in lines:
        assert match is not None
        middle, least, most = (float(match[group]) for group in (1, 2, 3))
        assert least <= middle <= most
    one, other = (float(match[1]) for match in lines if match)
    of_both = re.fullmatch(r"mean of both orders: ([\d.]+) times", mean)
    assert of_both is not None
    assert float(of_both[1]) == pytest.approx((one * other) ** 0.5, abs=0.001)


@pytest.mark.slow
def test_a_step_that_cannot_be_taken_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "barlowctl").symlink_to(ROOT / "barlowctl")
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    failed = run(tmp_path, "--recipe", "nothing", "--rounds", 2)
    assert failed.returncode == 1
    assert "no recipe 'nothing'" in failed.stderr
    assert f"{tmp_path} could not take a step" in failed.stderr
