"""`bench loss`: every implementation computes the same loss; memory and bytes are what they are said to be."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from barlowctl.bench import loss, loss_contests, loss_formulas
from barlowctl.bench.compared import COMPARED
from barlowctl.cli import completion
from barlowctl.cli.app import run as barlowctl
from barlowctl.errors import UserError
from tests.dist import gang, work
from tests.oracles import contrastive, siamese, vicreg
from tests.oracles import loss as oracle

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def float64() -> Iterator[None]:
    """What a loss makes in itself, such as a batch norm, is float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def inputs_and_value(method: str) -> tuple[list[torch.Tensor], float]:
    """What a method's loss takes, float64, with the value of the formula's loops."""
    first, second = work.embeddings(7, 6, torch.float64)
    third, fourth = (z.flip(0) * 0.5 + 0.1 for z in (first, second))
    queue = torch.nn.functional.normalize(torch.cat([third, fourth]), dim=1)
    scores = [torch.tanh(z) for z in (first, second)]
    z1, z2, z3, z4 = (z.numpy() for z in (first, second, third, fourth))
    match method:
        case "barlow-twins":
            return [first, second], oracle.loss(z1, z2, lambd=loss_formulas.LAMBD)
        case "vicreg":
            return [first, second], vicreg.loss(z1, z2)
        case "simclr":
            return [first, second], contrastive.nt_xent(z1, z2, 0.1)[0]
        case "moco" | "moco-v2":
            temperature = {"moco": 0.07, "moco-v2": 0.2}[method]
            return [first, second, queue], contrastive.info_nce(z1, z2, queue.numpy(), temperature)[0]
        case "byol":
            return [first, second, third, fourth], siamese.byol(z1, z2, z3, z4)
        case "simsiam":
            return [first, second, third, fourth], siamese.simsiam(z1, z2, z3, z4)
    assert method == "swav"
    return scores, siamese.swav([s.numpy() for s in scores])


ROWS = [(method, name) for method, contest in loss_contests.CONTESTS.items() for name in contest.rows]


@pytest.mark.parametrize(("method", "name"), [row for row in ROWS if row[1] not in loss.PACKAGES])
def test_implementations_compute_the_same_loss(method: str, name: str, float64: None) -> None:
    inputs, expected = inputs_and_value(method)
    assert loss.loss_named(name, method)(*inputs).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("method", "name"), [row for row in ROWS if row[1] in loss.PACKAGES])
def test_other_implementations_compute_the_same_loss_where_installed(method: str, name: str, float64: None) -> None:
    contest = loss_contests.contest_of(method)
    try:
        theirs = loss.loss_named(name, method)
    except ImportError:
        pytest.skip(f"{name} is not installed")
    inputs, expected = inputs_and_value(method)
    actual = theirs(*inputs).item()
    assert contest.as_authors(name, actual) == pytest.approx(expected, rel=1e-6)


def test_every_compared_method_has_a_contest() -> None:
    assert tuple(loss_contests.CONTESTS) == COMPARED
    assert completion.compared("mo") == ["moco", "moco-v2"]


LIGHTLY = """
import torch
class NegativeCosineSimilarity:
    def __call__(self, x, y):
        return -torch.nn.functional.cosine_similarity(x, y).mean()
class NTXentLoss:
    def __init__(self, temperature):
        self.temperature = temperature
    def __call__(self, x, y):
        return 2 * (x * y).sum()
"""


@pytest.fixture
def fake_lightly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A library of that name whose cosines are right, and whose NT-Xent is another loss."""
    (tmp_path / "lightly").mkdir()
    (tmp_path / "lightly" / "__init__.py").touch()
    (tmp_path / "lightly" / "loss.py").write_text(LIGHTLY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(loss, "_tried_value", loss.checked_value)  # in this process: it does not end it
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "lightly"]:
        del sys.modules[name]  # the next test has the library that is installed, or none


@pytest.mark.usefixtures("fake_lightly")
def test_a_value_that_differs_is_left_out_with_both_numbers() -> None:
    here, left_out = loss.installed(["ours", "lightly"], "simclr")
    assert here == ["ours"]
    expected = loss.checked_value("authors", "simclr")
    assert left_out["lightly"].startswith("it computes another loss than the published one: ")
    assert left_out["lightly"].endswith(f", not {expected:.8g}")


@pytest.mark.usefixtures("fake_lightly")
def test_a_value_is_compared_by_its_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    """lightly's half of each cosine is BYOL's 4 - 2 cos - 2 cos by 4 v + 4, and no other factor."""
    assert loss.installed(["lightly"], "byol") == (["lightly"], {})
    monkeypatch.setitem(loss_contests.CONTESTS, "byol", replace(loss_contests.CONTESTS["byol"], factors={}))
    reason = loss.installed(["lightly"], "byol")[1]["lightly"]
    value = (loss.checked_value("authors", "byol") - 4) / 4
    assert reason.startswith(f"it computes another loss than the published one: {value:.8g}, not ")


WITHOUT_TIMM = "import sys\nassert 'timm' not in sys.modules, 'a loss needs no networks, whose import takes seconds'\n"


def test_a_library_that_is_broken_is_left_out_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lightly").mkdir()
    (tmp_path / "lightly" / "__init__.py").write_text(WITHOUT_TIMM + "import a_module_that_is_gone\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    here, left_out = loss.installed(["ours", "lightly"])
    assert here == ["ours"]
    assert left_out == {
        "lightly": "lightly cannot be used: ModuleNotFoundError: No module named 'a_module_that_is_gone'"
    }


@pytest.mark.parametrize("rows", ["ours", pytest.param("ours,ours-primal", marks=pytest.mark.slow)])
def test_rows_as_json(capsys: Captured, rows: str) -> None:
    """A size at which the D x D matrix is 16 MB: the Gram form needs far less, the authors' several of it."""
    code = barlowctl(["bench", "loss", "--sizes", "32x2048", "--rows", rows, "--rounds", "2", "--json"])
    assert code == 0
    document = json.loads(capsys.readouterr().out)
    measured: dict[str, dict[str, Any]] = {row["name"]: row for row in document["rows"]}
    assert set(measured) == {"authors", *rows.split(",")}
    keys = {"name", "n", "d", "ms", "peak_mb", "ratio_time", "ratio_memory"}
    assert all(keys <= set(row) for row in measured.values())
    assert measured["ours"]["form"] == "gram"
    assert measured["ours"]["value"] == pytest.approx(measured["authors"]["value"], rel=1e-4)
    assert measured["authors"]["peak_mb"] > 2 * 2048**2 * 4 / 1e6
    assert measured["ours"]["peak_mb"] < 2048**2 * 4 / 1e6
    # Freed memory can be enough for the Gram form: then nothing was added, and there is no ratio.
    assert measured["ours"]["ratio_memory"] is None or measured["ours"]["ratio_memory"] > 3
    assert measured["ours"]["ratio_time"] > 2
    assert {row["w"] for row in document["wire"]} == set(loss.RANKS)


@pytest.mark.slow
def test_rows_of_another_method(capsys: Captured) -> None:
    method = "swav"
    size = ["--sizes", "16x24", "--rows", "ours", "--rounds", "1"]
    assert barlowctl(["bench", "loss", "--method", method, *size, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    rows: dict[str, dict[str, Any]] = {row["name"]: row for row in document["rows"]}
    assert (document["method"], document["wire"], set(rows)) == (method, [], {"authors", "ours"})
    assert rows["ours"]["form"] is None
    assert rows["ours"]["value"] == pytest.approx(rows["authors"]["value"], rel=1e-5)


def test_an_implementation_that_fails_is_named_with_the_size() -> None:
    with pytest.raises(UserError, match=r"at N = 4, D = 8 the pipeline 'nobody' failed: KeyError") as raised:
        loss._measure(4, 8, ["nobody"], 1, 1, "cpu")
    assert raised.value.next == "leave it out with --rows"


@pytest.mark.parametrize("arguments", [["--sizes", "256by8192"], ["--sizes", "1x8"], ["--rows", "our"]])
def test_wrong_input_is_refused(capsys: Captured, arguments: list[str]) -> None:
    assert barlowctl(["bench", "loss", *arguments]) == 2
    assert "allowed: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "simclr2"], "there is no method 'simclr2', did you mean 'simclr'?"),
        (["--method", "simclr2"], "next: barlowctl bench loss --method simclr"),
        (["--method", "pirl"], "no other library here has 'pirl' to compare with"),
        (["--method", "byol", "--rows", "ours-gram"], "allowed: authors, ours, lightly, solo-learn"),
    ],
)
def test_wrong_methods_are_refused(capsys: Captured, arguments: list[str], message: str) -> None:
    assert barlowctl(["bench", "loss", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.dist
@pytest.mark.parametrize("form", ["gram", "primal"])
def test_bytes_on_the_wire_are_those_of_the_collectives(form: str) -> None:
    """Counted where they are sent, forward and backward, with the ring's share of each."""
    n, d, ranks = 16, 24, 2
    sent = gang.together(work.bytes_sent, ranks, n, d, form)
    row = loss.wire(n, d, ranks)
    assert sent[0] == sent[1]
    assert sent[0] == row[f"{form}_bytes"]
