"""The C library through ctypes.

glimpse.h comes with the library and is read when this module is imported: structs, numbers and prototypes have no other
home. Of C it takes what that header uses: enums, structs of numbers and pointers, callbacks, functions.
"""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple, Type

from ._errors import error_of

_NUMBERS: Dict[str, Any] = {
    "int": ctypes.c_int,
    "int32_t": ctypes.c_int32,
    "uint32_t": ctypes.c_uint32,
    "int64_t": ctypes.c_int64,
    "uint64_t": ctypes.c_uint64,
    "size_t": ctypes.c_size_t,
    "float": ctypes.c_float,
    "double": ctypes.c_double,
    "uint8_t": ctypes.c_uint8,
}


class Declarations:
    """What a header declares: `numbers` (enumerators by name), `structs`, `callbacks`, `functions` (result, arguments)."""

    def __init__(self, header: str) -> None:
        self.numbers: Dict[str, int] = {}
        self.structs: Dict[str, Type[ctypes.Structure]] = {}
        self.callbacks: Dict[str, Any] = {}
        self.functions: Dict[str, Tuple[Any, List[Any]]] = {}
        self._enums: List[str] = []
        text = re.sub(r"/\*.*?\*/", " ", header, flags=re.S)
        # Without the lines of the preprocessor, of which those with a backslash at their end go on.
        text = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*$", "", text, flags=re.M)
        text = re.sub(r'extern "C" \{', "", text)
        for item in re.finditer(
            r"typedef enum (?P<enum>\w+)\s*\{(?P<values>[^}]*)\}"
            r"|typedef struct (?P<struct>\w+)\s*\{(?P<fields>[^}]*)\}"
            r"|typedef (?P<result>[\w* ]+?)\(\*(?P<callback>\w+)\)\((?P<given>[^)]*)\)"
            r"|GLIMPSE_API\s+(?P<returns>[\w* ]+?[ *])(?P<function>\w+)\((?P<arguments>[^)]*)\)",
            text,
        ):
            self._declare(item.groupdict())

    def _declare(self, item: Dict[str, str]) -> None:
        if item["enum"]:
            self._enums.append(item["enum"])
            value = -1
            for name in filter(None, (part.strip() for part in item["values"].split(","))):
                name, _, given = name.partition("=")
                value = int(given, 0) if given else value + 1
                self.numbers[name.strip()] = value
        elif item["struct"]:
            fields = [self._field(part) for part in item["fields"].split(";") if part.strip()]
            self.structs[item["struct"]] = type(
                item["struct"], (ctypes.Structure,), {"_fields_": [field for group in fields for field in group]}
            )
        elif item["callback"]:
            self.callbacks[item["callback"]] = ctypes.CFUNCTYPE(
                self.type_of(item["result"]), *self._arguments(item["given"])
            )
        else:
            self.functions[item["function"]] = (self.type_of(item["returns"]), self._arguments(item["arguments"]))

    def _field(self, declaration: str) -> List[Tuple[str, Any]]:
        # "const char* path" or "double a, b"; no field is an array.
        match = re.fullmatch(r"\s*(.*?[ *])\s*(\w+(?:\s*,\s*\w+)*)\s*", declaration, flags=re.S)
        assert match is not None, declaration
        return [(name.strip(), self.type_of(match[1])) for name in match[2].split(",")]

    def _arguments(self, text: str) -> List[Any]:
        if text.strip() == "void":
            return []
        return [
            self.type_of(re.sub(r"\w+\s*$", "", part.strip()) if " " in part.strip() else part)
            for part in text.split(",")
        ]

    def type_of(self, name: str) -> Any:
        """The ctypes type of a C type. Pointers are addresses but for text, which is bytes on this side."""
        name = " ".join(re.sub(r"\b(const|volatile|struct)\b", " ", name).replace("*", " * ").split())
        if name == "void":
            return None
        if name == "char *":
            return ctypes.c_char_p
        if name.endswith("*"):
            return ctypes.c_void_p
        if name in self.callbacks:
            return self.callbacks[name]
        if name in self.structs:
            return self.structs[name]
        return ctypes.c_int if name in self._enums else _NUMBERS[name]


def _find() -> Tuple[Path, Path]:
    """The library and its header: those of this package, or those that GLIMPSE_LIBRARY and GLIMPSE_HEADER name."""
    here = Path(__file__).parent
    library = Path(os.environ.get("GLIMPSE_LIBRARY") or here / "lib" / "libglimpse.so")
    header = Path(os.environ.get("GLIMPSE_HEADER") or here / "include" / "glimpse" / "glimpse.h")
    for path in (library, header):
        if not path.is_file():
            raise ImportError(f"glimpse is not whole: there is no {path}. Install it with `pip install .`")
    return library, header


def _load() -> Tuple[Declarations, ctypes.CDLL]:
    library_path, header_path = _find()
    declared = Declarations(header_path.read_text(encoding="utf-8"))
    library = ctypes.CDLL(str(library_path))
    for name, (result, arguments) in declared.functions.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    for name, struct in declared.structs.items():
        if name + "_init" not in declared.functions:
            continue
        known = getattr(library, name + "_init")(None, 0)
        if known != ctypes.sizeof(struct):
            raise ImportError(
                f"{library_path} has {name} of {known} bytes, {header_path} of {ctypes.sizeof(struct)}: "
                "they do not belong together"
            )
    return declared, library


_declared, library = _load()
numbers = _declared.numbers
structs = _declared.structs
callbacks = _declared.callbacks


def check(status: int) -> None:
    """Raises what a status says, with the message of this thread's last call."""
    if status:
        raise error_of(status, decode(library.glimpse_last_error()))


def call(name: str, *arguments: Any) -> None:
    """Calls a function that returns a status. The interpreter is free meanwhile."""
    check(getattr(library, name)(*arguments))


def decode(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def new(name: str, **values: Any) -> Any:
    """A parameter struct with its defaults, or a cleared result struct with its size, then the values."""
    struct = structs[name]()
    if hasattr(library, name + "_init"):
        getattr(library, name + "_init")(ctypes.byref(struct), ctypes.sizeof(struct))
    elif hasattr(struct, "struct_size"):
        struct.struct_size = ctypes.sizeof(struct)
    for key, value in values.items():
        setattr(struct, key, value)
    return struct


def text_field(struct: Any, text: str = "text", size: str = "n_bytes") -> bytes:
    """A text and its size in a result: what lies behind a NUL is part of it."""
    address = ctypes.c_void_p.from_buffer(struct, getattr(type(struct), text).offset).value
    n = getattr(struct, size)
    return ctypes.string_at(address, n) if address and n else b""


def sized(fill: Callable[[Any, int, Any], None]) -> bytes:
    """Bytes from a call that tells their number when given no room: fill(buffer, capacity, n)."""
    n = ctypes.c_size_t()
    fill(None, 0, ctypes.byref(n))
    buffer = ctypes.create_string_buffer(max(n.value, 1))
    fill(buffer, n.value, ctypes.byref(n))
    return buffer.raw[: n.value]


class Handle:
    """An object of the library, freed with the last reference to it. `keep`: what must live as long."""

    def __init__(self, pointer: int, free: str, keep: Any = None) -> None:
        self._as_parameter_ = ctypes.c_void_p(pointer)
        self._free = getattr(library, free)
        self.keep = keep

    def __del__(self) -> None:
        self._free(self._as_parameter_)


def create(
    make: str,
    free: str,
    *arguments: Any,
    keep: Any = None,
    call: Callable[..., None] = call,
    kind: Type[Handle] = Handle,
) -> Handle:
    """What make(*arguments, &out) creates."""
    out = ctypes.c_void_p()
    call(make, *arguments, ctypes.byref(out))
    assert out.value is not None
    return kind(out.value, free, keep)


class View:
    """Numbers of the library as NumPy sees them, without a copy; `owner` keeps them where they are."""

    def __init__(self, address: int, shape: Tuple[int, ...], owner: Any) -> None:
        self.owner = owner
        self.__array_interface__ = {"data": (address, True), "shape": shape, "typestr": "<f4", "version": 3}

    def numpy(self) -> Any:
        import numpy

        return numpy.asarray(self)
