"""What `bench` and `data preview` refuse: nothing that was typed is dropped, and the next command is another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from barlowctl.cli.app import run as barlowctl
from barlowctl.errors import UserError

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("words", "says", "leads_to"),
    [
        ("step --size 0", "--size is '0'", "bench step --size 64"),
        ("profile --size 0", "--size is '0'", "bench profile --size 64"),
        ("step --widths 4x1000000000000", "--widths is '4x1000000000000'", "bench step --widths 8192x3"),
        ("step --widths 4x2,10000000", "--widths is '4x2,10000000'", "bench step --widths 8192x3"),
        ("loss --sizes 10000001x2", "--sizes has '10000001x2'", "bench loss --sizes 256x8192"),
        (f"loss --sizes 2x{'1' * 5000}", "--sizes has '2x1111", "bench loss --sizes 256x8192"),
        ("step --rows ,", "--rows is ','", "bench step"),
        ("loader --rows ,,", "--rows is ',,'", "bench loader"),
        ("loss --rows , --rounds 1", "--rows is ','", "bench loss --rounds 1"),
        ("loss --sizes , --rounds 1", "--sizes is ','", "bench loss --rounds 1"),
        ("step --data nowhere", "nowhere is not a folder", ""),
        ("loader --data nowhere", "nowhere is not a folder", ""),
        ("step --precision fp16", "hundred times slower", "bench step --precision bf16"),
        ("profile --precision fp16", "hundred times slower", "bench profile --precision bf16"),
    ],
)
def test_what_is_typed_is_not_dropped(capsys: Captured, words: str, says: str, leads_to: str) -> None:
    assert barlowctl(["bench", *words.split()]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [says in line for line in lines if line.startswith("error: ")] == [True]
    (following,) = [line for line in lines if line.startswith("next: ")]
    assert not leads_to or following == f"next: barlowctl {leads_to}"


@pytest.mark.parametrize("loader", ["auto", "plain"])
def test_a_preview_of_images_none_of_which_can_be_read(tmp_path: Path, capsys: Captured, loader: str) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_text("no image")
    words = ["data", "preview", "--data", str(tmp_path), "--loader", loader]
    assert barlowctl(words) == 2
    assert "--set data.on_unreadable=replace" in capsys.readouterr().err
    assert barlowctl([*words, "--set", "data.on_unreadable=replace"]) == 2
    assert "next: give images that can be read" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["step", "profile"])
@pytest.mark.parametrize("emulates", [True, False])
def test_a_precision_that_the_processor_emulates_is_noted(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, command: str, emulates: bool
) -> None:
    """Before hours of steps that no run takes; what stands behind it is not measured here."""
    from barlowctl import processor
    from barlowctl.bench import step, step_profile

    monkeypatch.setattr(processor, "flags", lambda: frozenset(("avx2", *(() if emulates else ("avx512_bf16",)))))
    monkeypatch.setattr(processor, "multiplies_bf16", lambda: not emulates)

    def measured(*_: object, **options: object) -> None:
        raise UserError("measured")

    monkeypatch.setattr(step, "compare", measured)
    monkeypatch.setattr(step_profile, "profile_step", measured)
    assert barlowctl(["bench", command, "--precision", "bf16", "--recipe", "quickstart"]) == 2
    says = capsys.readouterr()
    assert "error: measured" in says.err.splitlines()
    assert (
        "emulates it, several times slower; a run of this recipe computes in fp32" in " ".join(says.out.split())
    ) == emulates
