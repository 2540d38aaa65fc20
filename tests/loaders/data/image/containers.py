"""The containers of picture files, byte by byte, for what Pillow cannot write: used by make_fixtures.py."""
import struct
import zlib

import numpy as np


def jpeg_segments(data):
    """(marker, start, end) of each segment before the first scan; end of the last is where the scan header begins."""
    at, segments = 2, []
    while data[at + 1] != 0xDA:
        length = struct.unpack(">H", data[at + 2:at + 4])[0] + 2
        segments.append((data[at + 1], at, at + length))
        at += length
    return segments


def jpeg_with_adobe(data, transform):
    """Sets the transform byte of the APP14 marker, or removes the marker (None)."""
    for marker, start, end in jpeg_segments(data):
        if marker == 0xEE:
            if transform is None:
                return data[:start] + data[end:]
            return data[:end - 1] + bytes([transform]) + data[end:]
    raise ValueError("no APP14")


def jpeg_with_sampling(data, sampling):
    """Replaces the sampling factor byte of each component in a frame header (the scan stays as it is)."""
    for marker, start, _ in jpeg_segments(data):
        if marker in (0xC0, 0xC2):
            patched = bytearray(data)
            for i, factor in enumerate(sampling):
                patched[start + 11 + i * 3] = factor
            return bytes(patched)
    raise ValueError("no frame header")


def segment(marker, body):
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def many_scans(n_refinements):
    """An 8x8 grey progressive JPEG with one scan per coefficient, then one more per coefficient and refinement."""
    out = b"\xff\xd8" + segment(0xDB, b"\0" + bytes([1] * 64))
    out += segment(0xC2, bytes([8, 0, 8, 0, 8, 1, 1, 0x11, 0]))
    one_symbol = bytes([1] + [0] * 15 + [0])  # the code '0' means 0: no difference, or end of block
    out += segment(0xC4, b"\x00" + one_symbol) + segment(0xC4, b"\x10" + one_symbol)
    for step in range(n_refinements + 1):
        low = n_refinements - step
        high = 0 if step == 0 else low + 1
        for k in range(64):
            out += segment(0xDA, bytes([1, 1, 0, k, k, high << 4 | low])) + b"\x7f"
    return out + b"\xff\xd9"


PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def packed_rows(samples, depth):
    """samples: (h, w, channels). Filter type y % 5 would need real filtering; Sub is enough beside None."""
    h, w, channels = samples.shape
    out = bytearray()
    for y in range(h):
        row = samples[y].reshape(-1)
        if depth == 16:
            data = row.astype(">u2").tobytes()
        elif depth == 8:
            data = row.astype(np.uint8).tobytes()
        else:
            bits = "".join(format(int(v), f"0{depth}b") for v in row)
            bits += "0" * (-len(bits) % 8)
            data = bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits), 8))
        step = max(1, channels * depth // 8)
        if y % 2 == 0:
            out += b"\0" + data
        else:
            out += b"\1" + bytes((data[i] - (data[i - step] if i >= step else 0)) & 255 for i in range(len(data)))
    return bytes(out)


def png(samples, color_type, depth, interlaced=False, extra=(), after=()):
    """extra: chunks between IHDR and IDAT; after: between IDAT and IEND."""
    h, w, channels = samples.shape
    assert channels == PNG_CHANNELS[color_type]
    if interlaced:
        raw = b"".join(packed_rows(samples[y0::dy, x0::dx], depth) for x0, y0, dx, dy in ADAM7
                       if samples[y0::dy, x0::dx].size)
    else:
        raw = packed_rows(samples, depth)
    header = struct.pack(">IIBBBBB", w, h, depth, color_type, 0, 0, int(interlaced))
    compressed = zlib.compress(raw, 9)
    middle = len(compressed) // 2  # two IDAT chunks
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(extra) + chunk(b"IDAT", compressed[:middle]) +
            chunk(b"IDAT", compressed[middle:]) + b"".join(after) + chunk(b"IEND", b""))


def bmp_rows(samples, bits):
    """samples: (h, w) numbers of `bits` bits, little-endian bytes, rows padded to 4 bytes."""
    out = bytearray()
    for row in samples:
        if bits >= 16:
            data = b"".join(int(v).to_bytes(bits // 8, "little") for v in row)
        else:
            text = "".join(format(int(v), f"0{bits}b") for v in row)
            text += "0" * (-len(text) % 8)
            data = bytes(int(text[i:i + 8], 2) for i in range(0, len(text), 8))
        out += data + bytes(-len(data) % 4)
    return bytes(out)


def bmp(width, height, bits, data, palette=b"", compression=0, header_size=40, masks=(), colors=0):
    if header_size == 12:
        dib = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        dib = struct.pack("<IiiHHIIiiII", header_size, width, height, 1, bits, compression, len(data), 0, 0, colors, 0)
        dib += b"".join(struct.pack("<I", m) for m in masks)
        dib += bytes(max(0, header_size - len(dib)))
    offset = 14 + len(dib) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(data), 0, 0, offset) + dib + palette + data


def riff(chunks):
    body = b"WEBP" + b"".join(kind + struct.pack("<I", len(data)) + data + bytes(len(data) & 1) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def le24(value):
    return struct.pack("<I", value)[:3]


def lzw(indices, code_size=8):
    """Codes that stand for one index each: cleared before the dictionary would need longer ones."""
    clear, end = 1 << code_size, (1 << code_size) + 1
    codes, bits, n_bits, out = [clear], 0, 0, bytearray()
    for i, index in enumerate(indices):
        if i > 0 and i % ((1 << code_size) - 2) == 0:
            codes.append(clear)
        codes.append(int(index))
    for code in codes + [end]:
        bits |= code << n_bits
        n_bits += code_size + 1
        while n_bits >= 8:
            out.append(bits & 255)
            bits >>= 8
            n_bits -= 8
    if n_bits:
        out.append(bits)
    return bytes([code_size]) + b"".join(bytes([len(out[i:i + 255])]) + bytes(out[i:i + 255])
                                         for i in range(0, len(out), 255)) + b"\0"


def gif(screen, palette, frames, trailer=b";", version=b"89a"):
    """frames: (left, top, indices (h, w), local palette, interlaced, transparent). Palettes: (256, 3) or None."""
    out = b"GIF" + version + struct.pack("<HHBBB", *screen, 0xF7 if palette is not None else 0x70, 3, 0)
    out += palette.tobytes() if palette is not None else b""
    for left, top, indices, local, interlaced, transparent in frames:
        if transparent is not None:
            out += b"!\xf9\4\1\0\0" + bytes([transparent]) + b"\0"
        h, w = indices.shape
        order = [y for first, step in ((0, 8), (4, 8), (2, 4), (1, 2)) for y in range(first, h, step)]
        rows = indices[order] if interlaced else indices
        out += b"," + struct.pack("<HHHHB", left, top, w, h, (0x87 if local is not None else 0) | (64 if interlaced else 0))
        out += (local.tobytes() if local is not None else b"") + lzw(rows.reshape(-1))
    return out + trailer


def tiff(tags, blobs, order="<"):
    """tags: {number: (type, values)}; blobs: strips or tiles, whose offsets and sizes are filled in (273 or 324)."""
    offsets, counts = (324, 325) if 322 in tags else (273, 279)
    sizes = {1: 1, 3: 2, 4: 4, 7: 1}
    tags = dict(tags)
    tags[offsets], tags[counts] = (4, [0] * len(blobs)), (4, [len(b) for b in blobs])
    at = 8 + 2 + 12 * len(tags) + 4
    places = {}
    for number, (kind, values) in sorted(tags.items()):
        if sizes[kind] * len(values) > 4:
            places[number] = at
            at += (sizes[kind] * len(values) + 1) // 2 * 2
    starts = []
    for blob in blobs:
        starts.append(at)
        at += len(blob)
    tags[offsets] = (4, starts)
    codes = {1: "B", 3: "H", 4: "I", 7: "B"}
    entries, tail = b"", b""
    for number, (kind, values) in sorted(tags.items()):
        data = struct.pack(f"{order}{len(values)}{codes[kind]}", *values)
        entries += struct.pack(order + "HHI", number, kind, len(values))
        if number in places:
            entries += struct.pack(order + "I", places[number])
            tail += data + bytes(len(data) & 1)
        else:
            entries += data.ljust(4, b"\0")
    head = b"II*\0" if order == "<" else b"MM\0*"
    return head + struct.pack(order + "IH", 8, len(tags)) + entries + bytes(4) + tail + b"".join(blobs)


def tiff_tags(width, height, bits, photometric, rows_per_strip=None, **more):
    names = {"compression": (259, 3), "orientation": (274, 3), "extra": (338, 3), "colours": (320, 3),
             "tile_width": (322, 3), "tile_height": (323, 3), "xmp": (700, 1), "planar": (284, 3), "format": (339, 3)}
    tags = {256: (4, [width]), 257: (4, [height]), 258: (3, bits), 262: (3, [photometric]), 277: (3, [len(bits)])}
    if rows_per_strip:
        tags[278] = (3, [rows_per_strip])
    for name, values in more.items():
        number, kind = names[name]
        tags[number] = (kind, values if isinstance(values, (list, bytes)) else [values])
    return tags


def png_unfiltered(rows, step):
    """Rows that packed_rows() filtered, without their filters."""
    out = bytearray()
    for at in range(0, len(rows), step):
        row = bytearray(rows[at + 1:at + step])
        if rows[at] == 1:
            for i in range(1, len(row)):
                row[i] = (row[i] + row[i - 1]) & 255
        out += row
    return bytes(out)


def box(kind, body):
    return struct.pack(">I", 8 + len(body)) + kind + body


def boxes(data, kind):
    """Bodies of the boxes of that kind, wherever they lie."""
    found, at = [], 0
    while at + 8 <= len(data):
        size, name = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + size]
        if name == kind:
            found.append(body)
        if name in (b"iprp", b"ipco"):
            found += boxes(body, kind)
        if name == b"meta":
            found += boxes(body[4:], kind)
        at += size
    return found


def heif_grid(streams, side, rows, columns, width, height):
    """A picture put together from tiles, as phones write it. streams: HEIC files of (side, side) with one decoder
    configuration; (width, height): what is shown of them."""
    configuration = boxes(streams[0], b"hvcC")[0]
    tiles = [boxes(s, b"mdat")[0] for s in streams]
    n = len(tiles)
    infe = lambda item, kind: box(b"infe", struct.pack(">BxxxHH4sx", 2, item, 0, kind))
    iinf = box(b"iinf", struct.pack(">IH", 0, n + 1) + b"".join(infe(i + 1, b"hvc1") for i in range(n)) + infe(n + 1, b"grid"))
    iref = box(b"iref", struct.pack(">I", 0) + box(b"dimg", struct.pack(f">HH{n}H", n + 1, n, *range(1, n + 1))))
    ispe = lambda w, h: box(b"ispe", struct.pack(">III", 0, w, h))
    ipco = box(b"ipco", box(b"hvcC", configuration) + ispe(side, side) + ispe(width, height))
    ipma = struct.pack(">II", 0, n + 1) + b"".join(struct.pack(">HBBB", i + 1, 2, 0x81, 2) for i in range(n))
    ipma += struct.pack(">HBB", n + 1, 1, 3)
    grid = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width, height)
    hdlr = box(b"hdlr", struct.pack(">II4s12xx", 0, 0, b"pict"))
    pitm = box(b"pitm", struct.pack(">IH", 0, n + 1))
    ftyp = box(b"ftyp", b"heic\0\0\0\0mif1heic")

    def whole(first):
        entries, at = b"", first
        for i, data in enumerate(tiles + [grid]):
            entries += struct.pack(">HHHII", i + 1, 0, 1, at, len(data))
            at += len(data)
        iloc = box(b"iloc", struct.pack(">IBBH", 0, 0x44, 0, n + 1) + entries)
        return ftyp + box(b"meta", bytes(4) + hdlr + pitm + iloc + iinf + iref + box(b"iprp", ipco + box(b"ipma", ipma)))

    head = whole(0)
    return whole(len(head) + 8) + box(b"mdat", b"".join(tiles) + grid)


def jpeg_scans(data):
    """(start, end) of each scan: its header, its entropy-coded data and the tables that follow it before the next."""
    starts = [i for i in range(len(data) - 1) if data[i] == 0xFF and data[i + 1] == 0xDA]
    return list(zip(starts, starts[1:] + [data.rindex(b"\xff\xd9")]))


def scan_parameters(data, start):
    """Ss, Se, Ah, Al of a scan."""
    at = start + 5 + 2 * data[start + 4]
    return data[at], data[at + 1], data[at + 2] >> 4, data[at + 2] & 15


def tiff_entry(kind, count, data, order="<"):
    return struct.pack(order + "HHI", 0x0112, kind, count) + data.ljust(4, b"\0")


def tiff_block(entries, extra=b"", order="<", head=None):
    head = head or (b"II*\0" if order == "<" else b"MM\0*")
    return (head + struct.pack(order + "I", 8) + struct.pack(order + "H", len(entries)) + b"".join(entries) +
            struct.pack(order + "I", 0) + extra)
