"""The lines of metrics.jsonl after a crash of the machine, a full disk or an editor: what is read, what is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from barlowctl.runs import records

WHOLE = [json.dumps({"event": "step", "step": step, "loss": 1.0}).encode() for step in (1, 2, 4, 6)]
BROKEN = [b"", b"12", b"[]", b'{"event": "step", "step": 3, "lo', b'{"event": "step"}', b'{"step": 3}', b"\xff\x00",
          b'{"event": "step", "step": null}', b"\0" * 40]  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def test_a_whole_file_has_lost_nothing(file: Path) -> None:
    assert records.read(file) == []
    assert records.damage(file) == ""
    file.write_bytes(b"\n".join(WHOLE) + b"\n")
    assert [record["step"] for record in records.read(file)] == [1, 2, 4, 6]
    assert records.damage(file, made=7, log_every=2) == ""


@pytest.mark.parametrize("line", BROKEN)
def test_a_line_that_is_no_record_is_left_out_and_named(file: Path, line: bytes) -> None:
    file.write_bytes(b"\n".join([*WHOLE[:2], line, *WHOLE[2:]]) + b"\n")
    assert [record["step"] for record in records.read(file)] == [1, 2, 4, 6]
    text = "metrics.jsonl lost records: line 3 of 5 cannot be read"
    assert records.damage(file) == records.damage(file, running=True) == text


def test_of_many_lines_the_first_are_named(file: Path) -> None:
    file.write_bytes(b"\n".join([WHOLE[0], *BROKEN, WHOLE[1]]))
    assert records.damage(file) == "metrics.jsonl lost records: lines 2, 3, 4 and 6 more of 11 cannot be read"


def test_the_last_line_may_be_half_written_while_a_process_writes_it(file: Path) -> None:
    file.write_bytes(b"\n".join([*WHOLE, b'{"event": "st']))
    assert records.damage(file, running=True) == ""
    assert records.damage(file) == "metrics.jsonl lost records: line 5 of 5 cannot be read"


def test_an_end_that_was_cut_off_is_known_by_the_steps_that_were_made(file: Path) -> None:
    file.write_bytes(b"\n".join([*WHOLE, b'{"event": "st']))
    text = "metrics.jsonl lost records: line 5 of 5 cannot be read; steps 7 to 1,200, which were made, have no record"
    assert records.damage(file, made=1200, log_every=2) == text
    assert records.damage(file, made=1200) == "metrics.jsonl lost records: line 5 of 5 cannot be read"
