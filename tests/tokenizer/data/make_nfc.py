#!/usr/bin/env python3
"""Writes nfc.txt with Python's unicodedata (any version; the file names it):

    python3 make_nfc.py        # in this folder

U <version>
R <first> <last>             assigned code points (hexadecimal, inclusive), without surrogates: of these, normalisation
                             never changes between versions of Unicode
C <n> <text>                 context n: %s stands for the code point; the rest is escaped as in Python
H <n> <block> <hash>         FNV-1a (64 bits) of the UTF-8 of NFC(context n) and a line feed, for every assigned code
                             point from block * 0x1000 on
"""
import unicodedata

CONTEXTS = ["%s", "a%s", "%s\u0301", "\uac00%s", "\uac01%s", "\u1100%s", "\u1100\u1161%s\u11a8", "%s%s", "e\u0323%s\u0301",
            "\uac00%s\u11a8"]

assigned = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000 and unicodedata.category(chr(c)) != "Cn"]
with open("nfc.txt", "w") as out:
    out.write("U %s\n" % unicodedata.unidata_version)
    first = last = assigned[0]
    for c in assigned[1:] + [0x110001]:
        if c != last + 1:
            out.write("R %X %X\n" % (first, last))
            first = c
        last = c
    for n, context in enumerate(CONTEXTS):
        out.write("C %d %s\n" % (n, context.encode("unicode_escape").decode()))
        hashes = {}
        for c in assigned:
            value = hashes.get(c >> 12, 0xCBF29CE484222325)
            text = unicodedata.normalize("NFC", context.replace("%s", chr(c)))
            for byte in text.encode() + b"\n":
                value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
            hashes[c >> 12] = value
        for block, value in sorted(hashes.items()):
            out.write("H %d %X %016X\n" % (n, block, value))
