"""The demo model, loaded once, and its picture."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

import glimpse

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def model() -> glimpse.Model:
    return glimpse.demo(n_threads=2, n_ctx=1024)


@pytest.fixture(scope="session")
def picture() -> str:
    return glimpse.demo_files()["image"]


DESCRIPTION = "An orange ring, a green square, a blue heart and a green circle on a yellow background."
QUESTION = "Describe this picture."


@pytest.fixture(autouse=True)
def ctrl_c():
    """As in a terminal: where tests run in the background of a shell, SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def no_failure_hidden(monkeypatch: pytest.MonkeyPatch):
    """What is raised where nobody can catch it (destructors, callbacks) fails the test."""
    seen: list = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    yield
    assert not seen
