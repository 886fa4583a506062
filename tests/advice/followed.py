"""Which advice is followed by a test: written down by the tests that follow it, and checked whenever they run.

`followed.json` has for each scenario the sites and texts whose advice was printed, typed and led on. After a change of
either: RECORD_ADVICE=1 python -m pytest tests/cli/test_advice_followed.py -m 'slow or not slow'
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.advice.by_hand import NOT_TYPED
from tests.advice.sites import pattern

FILE = Path(__file__).with_name("followed.json")
RECORDS = "RECORD_ADVICE"


def not_to_be_typed(line: str) -> str | None:
    """Why a command is not typed, if it is not."""
    return next((why for text, why in NOT_TYPED.items() if pattern(text).fullmatch(line)), None)


def recorded() -> dict[str, list[list[str]]]:
    """Scenario -> pairs of a site's name and a text."""
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}


def check(scenario: str, followed: list[tuple[str, str]]) -> None:
    """That the record of a scenario says what it followed; with RECORD_ADVICE=1 it is written."""
    pairs = [list(pair) for pair in sorted(set(followed))]
    known = recorded()
    if os.environ.get(RECORDS) == "1" and known.get(scenario) != pairs:
        text = json.dumps({**known, scenario: pairs}, indent=1, sort_keys=True, ensure_ascii=False)
        FILE.write_text(text + "\n", encoding="utf-8")
    else:
        assert known.get(scenario) == pairs, f"{FILE.name} is not up to date for '{scenario}': {pairs}; see {__name__}"
