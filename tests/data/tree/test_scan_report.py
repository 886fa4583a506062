"""What a source skipped: counts, a few names, and the lines made of them."""

from __future__ import annotations

from barlowctl.data.tree.scan_report import MOST_KINDS, OTHERS, ScanReport, lines_of, total


def test_counts_and_the_first_names_whatever_the_order_they_come_in():
    report = ScanReport()
    for number in (5, 2, 9, 1, 7, 3):
        report.skip("HEIC images", f"{number}.heic", next="install it")
    report.skip("hidden files", ".x\n")
    report.note("the first column was taken")
    report.note("the first column was taken")
    stored = report.as_dict()
    assert stored["passed_over"]["HEIC images"] == {
        "count": 6, "examples": ["1.heic", "2.heic", "3.heic"], "next": "install it",
    }  # fmt: skip
    assert total(stored) == 7
    assert lines_of(stored) == report.lines() == [
        "passed over: HEIC images: 6 (1.heic, 2.heic, 3.heic, ...); install it",
        "passed over: hidden files: 1 (.x\\n)",
        "note: the first column was taken",
    ]  # fmt: skip
    assert lines_of({}) == []
    assert total({}) == 0


def test_kinds_beyond_many_are_one():
    """Files with random endings: nobody would read a line for each, and a packed file has no room for them."""
    report = ScanReport()
    for number in range(20_000):
        report.skip(f".a{number:05}x files", f"scan.a{number:05}x")
    for name in ("a.txt", "b.txt"):
        report.skip(".txt files", name)
    report.skip("HEIC images", "1.heic", next="install it")
    stored = report.as_dict()
    kinds = stored["passed_over"]
    assert total(stored) == 20_003
    assert len(kinds) == MOST_KINDS
    assert kinds["HEIC images"]["next"] == "install it"
    assert kinds[".txt files"]["count"] == 2
    assert kinds[OTHERS] == {
        "count": 20_000 - (MOST_KINDS - 3),
        "examples": [f"scan.a{number:05}x" for number in range(MOST_KINDS - 3, MOST_KINDS)],
    }


def test_what_is_read_after_all_is_taken_back():
    report = ScanReport()
    for name in ("a.txt", "b.txt", "README.txt"):
        report.skip(".txt files", name)
    report.take_back(".txt files", 2)
    report.take_back(".json files", 2)
    assert report.lines() == ["passed over: .txt files: 1"]
    report.take_back(".txt files", 1)
    assert report.as_dict() == {"passed_over": {}, "notes": []}
