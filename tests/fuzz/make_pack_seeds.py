# Writes corpus/pack: headers of side files (engine/model/pack_file.h) behind the size of their file. The fuzzer makes
# the checksums right, so that they are left zero here.
import os
import struct

folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus", "pack")


def seed(name, sizes, shift=0, layout=1):
    records, end = b"", 64 + 64 * len(sizes)
    for i, size in enumerate(sizes):
        offset = (end + 4095) // 4096 * 4096
        records += struct.pack("<QIIQQQQQQ", 1000 + i, 12, 0, 16, 256, offset + shift, size, 7, 0)
        end = offset + size
    head = struct.pack("<8sIIQQI20sQ", b"GLIMPACK", 1, layout, 42, end, len(sizes), bytes(20), 0)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(struct.pack("<Q", end) + head + records)


os.makedirs(folder, exist_ok=True)
seed("three", [2304, 4608, 64])
seed("one", [2304])
seed("none", [])
seed("shifted", [2304, 2304], shift=4096)
seed("other_layout", [2304], layout=9)
