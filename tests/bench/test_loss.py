"""`bench loss`: every implementation computes the same loss; memory and bytes are what they are said to be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from barlowctl.bench import loss
from barlowctl.cli.app import run as barlowctl
from barlowctl.errors import UserError
from tests.dist import gang, work
from tests.oracles import loss as oracle

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize("name", [name for name in loss.NAMES if name not in loss.PACKAGES])
def test_implementations_compute_the_same_loss(name: str) -> None:
    z1, z2 = work.embeddings(16, 24, torch.float32)
    expected = oracle.loss(z1.numpy(), z2.numpy(), lambd=loss.LAMBD)
    assert loss.loss_named(name)(z1, z2).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", list(loss.PACKAGES))
def test_other_implementations_compute_the_same_loss_where_installed(name: str) -> None:
    if loss.installed([name])[1]:
        pytest.skip(f"{name} is not installed")
    z1, z2 = work.embeddings(16, 24, torch.float32)
    expected = oracle.loss(z1.numpy(), z2.numpy(), lambd=loss.LAMBD)
    assert loss.loss_named(name)(z1, z2).item() == pytest.approx(expected, rel=1e-3)


def test_a_library_that_is_broken_is_left_out_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lightly").mkdir()
    (tmp_path / "lightly" / "__init__.py").write_text("import a_module_that_is_gone\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    here, left_out = loss.installed(["ours", "lightly"])
    assert here == ["ours"]
    assert left_out == {
        "lightly": "lightly cannot be used: ModuleNotFoundError: No module named 'a_module_that_is_gone'"
    }


def test_rows_as_json(capsys: Captured) -> None:
    """A size at which the D x D matrix is 16 MB: the Gram form needs far less, the authors' several of it."""
    code = barlowctl(["bench", "loss", "--sizes", "32x2048", "--rows", "ours,ours-primal", "--rounds", "2", "--json"])
    assert code == 0
    found = json.loads(capsys.readouterr().out)
    rows: dict[str, dict[str, Any]] = {row["name"]: row for row in found["rows"]}
    assert set(rows) == {"authors", "ours", "ours-primal"}
    keys = {"name", "n", "d", "ms", "peak_mb", "ratio_time", "ratio_memory"}
    assert all(keys <= set(row) for row in rows.values())
    assert rows["ours"]["form"] == "gram"
    assert rows["ours"]["value"] == pytest.approx(rows["authors"]["value"], rel=1e-4)
    assert rows["authors"]["peak_mb"] > 2 * 2048**2 * 4 / 1e6
    assert rows["ours"]["peak_mb"] < 2048**2 * 4 / 1e6
    assert rows["ours"]["ratio_memory"] > 3
    assert rows["ours"]["ratio_time"] > 2
    assert {row["w"] for row in found["wire"]} == set(loss.RANKS)


def test_an_implementation_that_fails_is_named_with_the_size() -> None:
    with pytest.raises(UserError, match=r"at N = 4, D = 8 the pipeline 'nobody' failed: AssertionError") as raised:
        loss._measure(4, 8, ["nobody"], 1, 1, "cpu")
    assert raised.value.next == "leave it out with --rows"


@pytest.mark.parametrize("arguments", [["--sizes", "256by8192"], ["--sizes", "1x8"], ["--rows", "our"]])
def test_wrong_input_is_refused(capsys: Captured, arguments: list[str]) -> None:
    assert barlowctl(["bench", "loss", *arguments]) == 2
    assert "allowed: " in capsys.readouterr().err


@pytest.mark.dist
@pytest.mark.parametrize("form", ["gram", "primal"])
def test_bytes_on_the_wire_are_those_of_the_collectives(form: str) -> None:
    """Counted where they are sent, forward and backward, with the ring's share of each."""
    n, d, ranks = 16, 24, 2
    sent = gang.together(work.bytes_sent, ranks, n, d, form)
    row = loss.wire(n, d, ranks)
    assert sent[0] == sent[1]
    assert sent[0] == row[f"{form}_bytes"]
