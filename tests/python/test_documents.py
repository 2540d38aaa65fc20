"""What documents say is what happens: their blocks of Python are run in order, and print what stands below them."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Iterator, List, Tuple

import pytest

from conftest import ROOT

PAGES = ["tools/python/README.md"]


def blocks(page: str) -> Iterator[Tuple[int, str, str, str]]:
    """(line, language, text, the output that stands directly below it or "")"""
    text = (ROOT / page).read_text(encoding="utf-8")
    found: List[Tuple[int, str, str, int]] = []
    for match in re.finditer(r"^```(\w*)[^\n]*\n(.*?)^```$", text, flags=re.M | re.S):
        found.append((text.count("\n", 0, match.start()) + 1, match[1], match[2], match.end()))
    for at, (line, language, body, end) in enumerate(found):
        output = ""
        if at + 1 < len(found) and found[at + 1][1] == "text" and text[end:].startswith("\n```text"):
            output = found[at + 1][2]
        yield line, language, body, output


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "page"}
    n_run = n_outputs = 0
    for line, language, body, output in blocks(page):
        if language != "python":
            continue
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile("\n" * line + body, str(ROOT / page), "exec"), names)
        n_run += 1
        if output:
            n_outputs += 1
            assert said.getvalue() == output, f"{page}:{line}"
    assert n_run > 0 and n_outputs > 0
