"""What tests of packed and damaged files need."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import IO

import pytest

from barlowctl.data.beton import decoders


@pytest.fixture
def terminal(request: pytest.FixtureRequest) -> Iterator[IO[str]]:
    """Standard error as it was before pytest captured it: what is written while the process ends is seen."""
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        duplicate = os.dup(2)
    with os.fdopen(duplicate, "w") as file:
        yield file


@pytest.fixture(params=["ffcv", "simplejpeg"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> decoders.Decoder:
    """Each decoder of JPEGs that is installed, as if it were the only one."""
    there, lacking = decoders.by_package()
    if request.param not in there:
        pytest.skip(lacking)
    one = {request.param: there[request.param]}
    monkeypatch.setattr(decoders, "by_package", lambda: (one, ""))
    return there[request.param]


@pytest.fixture
def no_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a decoder of JPEGs but Pillow."""
    monkeypatch.setattr(decoders, "by_package", lambda: ({}, "simplejpeg is not installed"))
