"""The C interface as the header says it."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import glimpse
from glimpse import _c

HEADER = Path(os.environ.get("GLIMPSE_HEADER") or Path(_c.__file__).parent / "include/glimpse/glimpse.h")


def test_every_exported_function_is_declared() -> None:
    if shutil.which("nm") is None:
        pytest.skip("no nm")
    said = subprocess.run(["nm", "-D", "--defined-only", _c.library._name], check=True, capture_output=True, text=True)
    exported = set(re.findall(r" T (glimpse_\w+)", said.stdout))
    assert exported == set(_c._declared.functions)
    assert len(exported) > 50


def test_structs_are_those_of_a_c_compiler(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    lines, wanted = [], []
    for name, struct in _c.structs.items():
        lines.append(f'printf("%zu\\n", sizeof({name}));')
        wanted.append(ctypes.sizeof(struct))
        for field, _ in struct._fields_:
            lines.append(f'printf("%zu %zu\\n", offsetof({name}, {field}), sizeof((({name}*)0)->{field}));')
            wanted.append(f"{getattr(struct, field).offset} {getattr(struct, field).size}")
    for name in _c.numbers:
        lines.append(f'printf("%d\\n", {name});')
    source = tmp_path / "sizes.c"
    source.write_text(
        f'#include "{HEADER}"\n#include <stdio.h>\nint main(void) {{\n' + "\n".join(lines) + "\nreturn 0; }\n"
    )
    subprocess.run([compiler, "-o", tmp_path / "sizes", source], check=True)
    said = subprocess.run([tmp_path / "sizes"], check=True, capture_output=True, text=True).stdout.split("\n")[:-1]
    assert said == [str(value) for value in wanted] + [str(number) for number in _c.numbers.values()]


def test_statuses_are_those_of_the_header() -> None:
    prefix = "GLIMPSE_ERROR_"
    assert {name[len(prefix) :]: number for name, number in _c.numbers.items() if name.startswith(prefix)} == {
        status.name: int(status) for status in glimpse.Status
    }
    for status in glimpse.Status:
        assert type(glimpse._errors.error_of(status, "")).status is status


def test_a_library_and_a_header_that_differ_are_refused(tmp_path: Path) -> None:
    header = tmp_path / "glimpse.h"
    text = HEADER.read_text()
    assert "  int32_t n_ctx;" in text
    header.write_text(text.replace("  int32_t n_ctx;", "  int32_t n_ctx; int64_t more;", 1))
    said = subprocess.run(
        [sys.executable, "-c", "import glimpse"],
        capture_output=True,
        text=True,
        env={**os.environ, "GLIMPSE_HEADER": str(header), "GLIMPSE_LIBRARY": _c.library._name},
    )
    assert "they do not belong together" in said.stderr


def test_versions() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", glimpse.__version__)


def test_options_of_the_types_are_those_of_the_header() -> None:
    text = (Path(glimpse.__file__).parent / "_options.py").read_text()
    classes = dict(re.findall(r"    class (\w+)\(.*?\):\n(.*?)(?=\n    class |\n\n\n)", text, flags=re.S))
    fields = {name: set(re.findall(r"^        (\w+):", body, flags=re.M)) for name, body in classes.items()}
    from glimpse._options import fields_of

    assert fields["PictureOptions"] == set(fields_of("glimpse_encoder_params"))
    assert fields["PictureOptions"] | fields["SessionOptions"] == set(fields_of("glimpse_session_params"))
    assert fields["PictureOptions"] | fields["EngineOptions"] == set(fields_of("glimpse_engine_params"))
    assert fields["Sampling"] == set(fields_of("glimpse_generate_params")) | {"schema"}


def test_python_3_9_reads_every_file() -> None:
    import ast

    for path in Path(glimpse.__file__).parent.rglob("*.py"):
        ast.parse(path.read_text(), str(path), feature_version=(3, 9))
