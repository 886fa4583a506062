"""Ways to errors, by what they are about; each begins in a folder that `tests/cli/test_advice_followed.py` makes."""

from __future__ import annotations

from tests.advice.scenario import Scenario
from tests.advice.scenarios import data, export, flags, launch, measure, own, runs, start, study, training

TOPICS = (data, export, flags, launch, measure, own, runs, start, study, training)
SCENARIOS: dict[str, Scenario] = {name: one for topic in TOPICS for name, one in topic.SCENARIOS.items()}
