"""What documents say is what happens: their blocks run in order, page by page, and print what stands below them.

```python: run in one namespace; a ```text block directly below is what they print. ```console: lines that begin with "$ " are
commands of a shell, the lines below what they print on standard output ("..." for anything, "[exit status 1]" for failures). Comments
above a block: <!-- file: NAME --> writes it to a file, <!-- excerpt: PATH --> demands it in a file of the tree,
<!-- needs: PROGRAM --> and <!-- built: PATH --> skip it where there is none (of the build), <!-- server: COMMAND --> runs beside the block.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Tuple

import pytest

import glimpse
from conftest import ROOT

PAGES = ["README.md", "tools/python/README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tools/docs").glob("*.md"))]
PORT = "8089"  # of the pages; another one here


class Block(NamedTuple):
    line: int
    language: str
    text: str
    marks: Dict[str, str]
    output: str  # the ```text block that stands directly below


def blocks(page: str) -> List[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    found: List[Tuple[Block, str]] = []
    for match in re.finditer(r"((?:^<!-- \w+: .*? -->\n)*)^```(\w*)[^\n]*\n(.*?)^```$", text, flags=re.M | re.S):
        marks = dict(re.findall(r"<!-- (\w+): (.*?) -->", match[1]))
        line = text.count("\n", 0, match.start(2)) + 1
        found.append((Block(line, match[2], match[3], marks, ""), text[match.end() :]))
    return [
        block._replace(output=after.text) if rest.startswith("\n```text\n") else block
        for (block, rest), (after, _) in zip(found, [*found[1:], (Block(0, "", "", {}, ""), "")])
    ]


@pytest.fixture()
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where pages are at home."""
    files = glimpse.demo_files()
    for name, source in (
        ("model.gguf", files["model"]),
        ("mmproj.gguf", files["mmproj"]),
        ("picture.png", files["image"]),
    ):
        (tmp_path / name).symlink_to(source)
    (tmp_path / "pictures").mkdir()
    for path in sorted((ROOT / "models/heldout").glob("scene00[0-3]*")):
        shutil.copy(path, tmp_path / "pictures")
    (tmp_path / "text.txt").write_text((ROOT / "LICENSE").read_text()[:3000])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLIMPSE_DEMO", str(Path(files["model"]).parent))
    if "GLIMPSE_COMMAND" in os.environ:
        build = Path(os.environ["GLIMPSE_COMMAND"]).parent
        monkeypatch.setenv("GLIMPSE_BUILD", str(build))
        monkeypatch.setenv("PATH", f"{build}:{os.environ['PATH']}")
        monkeypatch.setenv("CPATH", str(ROOT / "engine/include"))
        monkeypatch.setenv("LIBRARY_PATH", str(Path(os.environ["GLIMPSE_LIBRARY"]).parent))
        monkeypatch.setenv("LD_LIBRARY_PATH", str(Path(os.environ["GLIMPSE_LIBRARY"]).parent))
    return tmp_path


def matches(said: List[str], wanted: List[str]) -> bool:
    if not wanted:
        return not said
    if wanted[0] == "...":
        return any(matches(said[at:], wanted[1:]) for at in range(len(said) + 1))
    pattern = ".*".join(map(re.escape, wanted[0].split("...")))
    return bool(said) and re.fullmatch(pattern, said[0]) is not None and matches(said[1:], wanted[1:])


def run_console(text: str, where: str) -> None:
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        command, *wanted = part.rstrip("\n").split("\n")
        status = 0
        if wanted and (failed := re.fullmatch(r"\[exit status (\d+)\]", wanted[-1])):
            status, wanted = int(failed[1]), wanted[:-1]
        said = subprocess.run(["bash", "-c", command], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert said.returncode == status, f"{where}: {command}\n{said.stdout}{said.stderr}"
        lines = said.stdout.rstrip("\n").split("\n") if said.stdout.strip() else []
        assert matches(lines, wanted), f"{where}: {command}\nprinted\n{said.stdout}\nthe page has\n" + "\n".join(wanted)


@contextlib.contextmanager
def server(command: str, port: str) -> Iterator[None]:
    process = subprocess.Popen(
        shlex.split(command.replace(PORT, port)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            assert process.poll() is None, command
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(port)), 1):
                break
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.mark.parametrize("page", PAGES)
def test_blocks_run(page: str, folder: Path) -> None:
    names: dict = {"__name__": "page"}
    port = free_port()
    for block in blocks(page):
        where = f"{page}:{block.line}"
        if "needs" in block.marks and any(shutil.which(need) is None for need in block.marks["needs"].split()):
            print(f"{where} needs {block.marks['needs']}")
            continue
        if "built" in block.marks and not (Path(os.environ.get("GLIMPSE_BUILD", "/")) / block.marks["built"]).exists():
            print(f"{where} needs {block.marks['built']} of the build")
            continue
        if "file" in block.marks:
            (folder / block.marks["file"]).write_text(block.text)
        elif "excerpt" in block.marks:
            assert block.text in (ROOT / block.marks["excerpt"]).read_text(), where
        elif block.language == "python":
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                exec(compile("\n" * block.line + block.text, str(ROOT / page), "exec"), names)
            assert not block.output or said.getvalue() == block.output, where
        elif block.language == "console":
            if "GLIMPSE_COMMAND" not in os.environ:
                pytest.skip("GLIMPSE_COMMAND is not set")
            beside = server(block.marks["server"], port) if "server" in block.marks else contextlib.nullcontext()
            with beside:
                run_console(block.text.replace(PORT, port), where)
        else:
            assert (
                block.language in ("text", "") or page == "README.md"
            ), f"{where}: a block of {block.language!r} that nothing runs"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", re.sub(r"```.*?```", "", text, flags=re.S)):
        assert target.startswith("http") or ((ROOT / page).parent / target).exists(), f"{page}: {target}"


def test_outputs_are_compared() -> None:
    assert matches(["a", "b", "c"], ["...", "c"]) and matches(["ab"], ["a..."]) and not matches(["a"], ["b"])
    assert not matches(["a", "b"], ["a"]) and matches([], ["..."]) and not matches([], ["a"])


@pytest.mark.parametrize(
    "command, said",
    [
        ("peers.py -m x --peer llama", "NAME=FILE"),
        ("peers.py -m x --peer glimpse=y", "another name than glimpse"),
        ("peers.py -m x --peer a=y --peer a=z", "two peers"),
        ("drafts.py --glimpse x -m x -md x --prompts code,poem", "'poem'"),
        ("dedup.py savings --glimpse x -m x --mmproj x --only page;letter", "letter"),
    ],
)
def test_yardsticks_refuse_what_they_cannot_report(command: str, said: str) -> None:
    name, *rest = command.split()
    done = subprocess.run([sys.executable, str(ROOT / "bench" / name), *rest], capture_output=True, text=True)
    assert done.returncode == 2 and said in done.stderr
