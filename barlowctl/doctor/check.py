"""One finding of the doctor, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail"]

REINSTALL = "in a checkout run `make setup`; elsewhere `pip install --upgrade barlowctl`"


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        name: what was looked at, a word or two.
        status: "ok"; "warn": works, with less; "fail": something barlowctl needs is missing or broken.
        value: what was found.
        advice: what to do; empty when there is nothing to do.
    """

    name: str
    status: Status
    value: str
    advice: str = ""
