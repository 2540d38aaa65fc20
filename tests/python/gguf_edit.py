"""GGUF files with other words in their heads: what a model says of itself decides what it is."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Dict, List, Mapping, Union

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_U32, _STRING, _ARRAY = 4, 8, 9


class _Head:
    """The head of a file (version 3) where `at` stands."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 24
        self.n_tensors, self.n_keys = struct.unpack_from("<QQ", data, 8)

    def string(self) -> bytes:
        n = struct.unpack_from("<Q", self.data, self.at)[0]
        self.at += 8 + n
        return self.data[self.at - n : self.at]

    def skip_value(self) -> None:
        kind = struct.unpack_from("<I", self.data, self.at)[0]
        self.at += 4
        if kind == _STRING:
            self.string()
        elif kind != _ARRAY:
            self.at += _SIZES[kind]
        else:
            self.array()

    def array(self) -> List[bytes]:
        """Its elements as they stand there."""
        self.kind, n = struct.unpack_from("<IQ", self.data, self.at)
        self.at += 12
        found = []
        for _ in range(n):
            begin = self.at
            if self.kind == _STRING:
                self.string()
            else:
                self.at += _SIZES[self.kind]
            found.append(self.data[begin : self.at])
        return found


def _said(value: Union[int, str]) -> bytes:
    if isinstance(value, int):
        return struct.pack("<i", value)
    return struct.pack("<Q", len(value.encode())) + value.encode()


def with_keys(source: Path, target: Path, keys: Mapping[str, Union[int, str, Dict[int, Union[int, str]]]]) -> str:
    """Copies a file whose data are aligned to 32 bytes. Keys are added or take the place of those there are; a dictionary
    is what some elements of an array become.
    """
    head = _Head(source.read_bytes())
    kept = []
    for _ in range(head.n_keys):
        begin = head.at
        key = head.string().decode()
        patches = keys.get(key)
        if isinstance(patches, dict):
            head.at += 4
            array = head.array()
            for index, value in patches.items():
                array[index] = _said(value)
            name = struct.pack("<Q", len(key)) + key.encode()
            kept.append(name + struct.pack("<IIQ", _ARRAY, head.kind, len(array)) + b"".join(array))
            continue
        head.skip_value()
        if key not in keys:
            kept.append(head.data[begin : head.at])
    for key, value in keys.items():
        if not isinstance(value, dict):
            kind = struct.pack("<I", _U32 if isinstance(value, int) else _STRING)
            kept.append(struct.pack("<Q", len(key)) + key.encode() + kind + _said(value))
    tensors = head.at
    for _ in range(head.n_tensors):
        head.string()
        head.at += 4 + 8 * struct.unpack_from("<I", head.data, head.at)[0] + 12
    made = head.data[:16] + struct.pack("<Q", len(kept)) + b"".join(kept) + head.data[tensors : head.at]
    target.write_bytes(made + bytes(-len(made) % 32) + head.data[head.at + -head.at % 32 :])
    return str(target)
