"""What a source passed over: counts, a few names, and the lines made of them."""

from __future__ import annotations

from barlowctl.data.tree.account import Account, lines_of, total


def test_counts_and_the_first_names_whatever_the_order_they_come_in():
    account = Account()
    for number in (5, 2, 9, 1, 7, 3):
        account.pass_over("HEIC images", f"{number}.heic", next="install it")
    account.pass_over("hidden files", ".x\n")
    account.note("the first column was taken")
    account.note("the first column was taken")
    kept = account.as_dict()
    assert kept["passed_over"]["HEIC images"] == {
        "count": 6, "examples": ["1.heic", "2.heic", "3.heic"], "next": "install it",
    }  # fmt: skip
    assert total(kept) == 7
    assert lines_of(kept) == account.lines() == [
        "passed over: HEIC images: 6 (1.heic, 2.heic, 3.heic, ...); install it",
        "passed over: hidden files: 1 (.x\\n)",
        "note: the first column was taken",
    ]  # fmt: skip
    assert lines_of({}) == []
    assert total({}) == 0


def test_what_is_read_after_all_is_taken_back():
    account = Account()
    for name in ("a.txt", "b.txt", "README.txt"):
        account.pass_over(".txt files", name)
    account.take_back(".txt files", 2)
    account.take_back(".json files", 2)
    assert account.lines() == ["passed over: .txt files: 1"]
    account.take_back(".txt files", 1)
    assert account.as_dict() == {"passed_over": {}, "notes": []}
