#!/usr/bin/env python3
"""Writes the picture files of this folder and expected.txt: what Pillow makes of each.

Needs: Python 3.9+, Pillow (made with 13.0.0), pillow-heif, numpy. Run: python3 make_fixtures.py (in any folder).
expected.txt: one line per file: name, width, height, FNV-1a 64 of the RGB bytes. Expected pixels are Pillow's, alpha
pasted over white, EXIF orientation applied; for 16-bit grey PNG, which Pillow clips, they are the high bytes.
Files that Pillow cannot write (most kinds of PNG and BMP, plain PPM, odd JPEG) are put together here.
"""
import io
import pathlib
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

from containers import (
    bmp, bmp_rows, chunk, gif, heif_grid, jpeg_scans, jpeg_with_adobe, jpeg_with_sampling, le24,
    lzw, many_scans, packed_rows, png, png_unfiltered, riff, scan_parameters, segment, tiff,
    tiff_block, tiff_entry, tiff_tags)

HERE = pathlib.Path(__file__).resolve().parent
expected = {}


def fnv1a64(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def to_rgb(image):
    """What image.h promises, with Pillow's own operations."""
    image = ImageOps.exif_transpose(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(rgba, mask=rgba.getchannel("A"))
        return np.asarray(white)
    return np.asarray(image.convert("RGB"))


def add(name, data, pixels=None):
    """pixels: (h, w, 3) uint8; None: ask Pillow."""
    if pixels is None:
        pixels = to_rgb(Image.open(io.BytesIO(data)))
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3, (name, pixels.shape, pixels.dtype)
    (HERE / name).write_bytes(data)
    expected[name] = (pixels.shape[1], pixels.shape[0], fnv1a64(pixels.tobytes()))


def picture(width, height, channels=3, seed=1):
    """Smooth shapes and some noise: (height, width, channels) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    planes = [127 + 90 * np.sin(x / (3.0 + c) + y / (7.0 - c) + c) + rng.normal(0, 12, (height, width))
              for c in range(channels)]
    return np.clip(np.stack(planes, axis=-1), 0, 255).astype(np.uint8)


def saved(image, **options):
    out = io.BytesIO()
    image.save(out, **options)
    return out.getvalue()


# ---------------------------------------------------------------- JPEG

def make_jpeg():
    rgb = Image.fromarray(picture(53, 37))
    for name, sampling in (("444", 0), ("422", 1), ("420", 2)):
        add(f"jpeg_{name}.jpg", saved(rgb, format="JPEG", quality=80, subsampling=sampling))
        add(f"jpeg_{name}_progressive.jpg",
            saved(rgb, format="JPEG", quality=60, subsampling=sampling, progressive=True))
    add("jpeg_411.jpg", saved(rgb, format="JPEG", quality=80, subsampling="4:1:1"))
    # 16x16 is 2x1 + 1 + 1 blocks per unit, in either direction.
    square = saved(Image.fromarray(picture(48, 48)), format="JPEG", quality=80, subsampling=1)
    add("jpeg_440.jpg", jpeg_with_sampling(square, (0x12, 0x11, 0x11)))
    add("jpeg_quality1.jpg", saved(rgb, format="JPEG", quality=1))
    add("jpeg_quality100.jpg", saved(rgb, format="JPEG", quality=100, subsampling=0))
    add("jpeg_restart.jpg", saved(rgb, format="JPEG", quality=80, restart_marker_blocks=2))
    add("jpeg_optimized.jpg", saved(rgb, format="JPEG", quality=80, optimize=True))
    add("jpeg_1x1.jpg", saved(Image.fromarray(picture(1, 1)), format="JPEG"))
    add("jpeg_1x40.jpg", saved(Image.fromarray(picture(1, 40)), format="JPEG"))
    grey = Image.fromarray(picture(31, 17, 1)[:, :, 0])
    add("jpeg_grey.jpg", saved(grey, format="JPEG", quality=80))
    add("jpeg_grey_progressive.jpg", saved(grey, format="JPEG", quality=80, progressive=True))
    add("jpeg_rgb.jpg", saved(rgb, format="JPEG", quality=80, keep_rgb=True))
    cmyk = saved(Image.fromarray(picture(29, 19, 4), mode="CMYK"), format="JPEG", quality=90)
    add("jpeg_cmyk.jpg", cmyk)
    add("jpeg_ycck.jpg", jpeg_with_adobe(cmyk, 2))
    add("jpeg_cmyk_unmarked.jpg", jpeg_with_adobe(cmyk, None))
    plain = saved(rgb, format="JPEG", quality=80)
    add("jpeg_trailing_bytes.jpg", plain + b"after the end")
    add("jpeg_padding_before_end.jpg", plain[:-2] + b"\0" + plain[-2:])
    add("jpeg_64_scans.jpg", many_scans(0))
    (HERE / "bad_jpeg_128_scans.jpg").write_bytes(many_scans(1))


# ---------------------------------------------------------------- PNG

def over_white(rgb, alpha):
    t = rgb.astype(np.int64) * alpha + 255 * (255 - alpha.astype(np.int64)) + 128
    return ((t + (t >> 8)) >> 8).astype(np.uint8)


def make_png():
    rng = np.random.default_rng(7)
    w, h = 21, 13
    for interlaced in (False, True):
        tag = "_interlaced" if interlaced else ""
        for depth in (1, 2, 4, 8):
            grey = picture(w, h, 1) >> (8 - depth)
            add(f"png_grey{depth}{tag}.png", png(grey, 0, depth, interlaced))
            colors = min(1 << depth, 200)
            palette = chunk(b"PLTE", rng.integers(0, 256, (colors, 3), dtype=np.uint8).tobytes())
            indices = rng.integers(0, colors, (h, w, 1))
            add(f"png_palette{depth}{tag}.png", png(indices, 3, depth, interlaced, [palette]))
            alphas = chunk(b"tRNS", rng.integers(0, 256, max(1, colors // 2), dtype=np.uint8).tobytes())
            add(f"png_palette{depth}_trns{tag}.png", png(indices, 3, depth, interlaced, [palette, alphas]))
            key = chunk(b"tRNS", struct.pack(">H", int(grey[2, 3, 0])))
            level = (grey * (255 // ((1 << depth) - 1))).astype(np.uint8)
            add(f"png_grey{depth}_trns{tag}.png", png(grey, 0, depth, interlaced, [key]),
                np.repeat(np.where(grey == grey[2, 3, 0], np.uint8(255), level), 3, axis=2))
        grey16 = rng.integers(0, 65536, (h, w, 1))
        high = (grey16 >> 8).astype(np.uint8)
        add(f"png_grey16{tag}.png", png(grey16, 0, 16, interlaced), np.repeat(high, 3, axis=2))
        # The key is one 16-bit value: another with the same high byte stays opaque.
        grey16[0, 0], grey16[0, 1] = 0x1234, 0x1235
        high = (grey16 >> 8).astype(np.uint8)
        add(f"png_grey16_trns{tag}.png", png(grey16, 0, 16, interlaced, [chunk(b"tRNS", struct.pack(">H", 0x1234))]),
            np.repeat(np.where(grey16 == 0x1234, np.uint8(255), high), 3, axis=2))
        rgb = picture(w, h)
        add(f"png_rgb8{tag}.png", png(rgb, 2, 8, interlaced))
        key = chunk(b"tRNS", struct.pack(">HHH", *(int(v) for v in rgb[4, 5])))
        add(f"png_rgb8_trns{tag}.png", png(rgb, 2, 8, interlaced, [key]))
        rgb16 = rng.integers(0, 65536, (h, w, 3))
        add(f"png_rgb16{tag}.png", png(rgb16, 2, 16, interlaced))
        grey_alpha = picture(w, h, 2, seed=3)
        add(f"png_grey_alpha8{tag}.png", png(grey_alpha, 4, 8, interlaced))
        add(f"png_grey_alpha16{tag}.png", png(rng.integers(0, 65536, (h, w, 2)), 4, 16, interlaced))
        rgba = rng.integers(0, 256, (h, w, 4))
        add(f"png_rgba8{tag}.png", png(rgba, 6, 8, interlaced), over_white(rgba[:, :, :3], rgba[:, :, 3:]))
        assert (over_white(rgba[:, :, :3], rgba[:, :, 3:]) ==
                to_rgb(Image.open(HERE / f"png_rgba8{tag}.png"))).all()
        add(f"png_rgba16{tag}.png", png(rng.integers(0, 65536, (h, w, 4)), 6, 16, interlaced))
        add(f"png_1x1{tag}.png", png(picture(1, 1), 2, 8, interlaced))
        add(f"png_3x1{tag}.png", png(picture(3, 1), 2, 8, interlaced))
    every = np.stack(np.meshgrid(np.arange(256), np.arange(0, 256, 5)), axis=-1)  # every grey, many alphas
    add("png_grey_alpha_all.png", png(every, 4, 8))
    rgb = picture(w, h)
    bombs = [chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(8 << 20), 9)),
             chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(8 << 20), 9)),
             chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(b"a" * (8 << 20), 9))]
    pixels = to_rgb(Image.open(io.BytesIO(png(rgb, 2, 8))))
    add("png_text_bombs.png", png(rgb, 2, 8, extra=bombs), pixels)
    add("png_gamma_profile.png", png(rgb, 2, 8, extra=[chunk(b"gAMA", struct.pack(">I", 100000)),
                                                       chunk(b"sBIT", b"\5\5\5")]), pixels)
    add("png_many_chunks.png", png(rgb, 2, 8, extra=[chunk(b"tEXt", b"k\0v")] * 300), pixels)
    bad_crc = bytearray(png(rgb, 2, 8))
    bad_crc[-16] ^= 1  # the checksum of the last IDAT
    (HERE / "bad_png_checksum.png").write_bytes(bad_crc)
    (HERE / "bad_png_no_palette.png").write_bytes(png(np.zeros((4, 4, 1), int), 3, 8))
    few_rows = png(rgb, 2, 8)
    (HERE / "bad_png_few_rows.png").write_bytes(
        few_rows[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h + 5, 8, 2, 0, 0, 0)) + few_rows[33:])
    # 40000 x 4000 pixels that 100 bytes of deflate cannot hold.
    (HERE / "bad_png_promises.png").write_bytes(
        few_rows[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 40000, 4000, 8, 2, 0, 0, 0)) + few_rows[33:])


# ---------------------------------------------------------------- BMP

def make_bmp():
    rng = np.random.default_rng(11)
    w, h = 19, 11
    for bits in (1, 4, 8):
        colors = 1 << bits
        rgb = rng.integers(0, 256, (colors, 3), dtype=np.uint8)
        palette = b"".join(bytes(c) + b"\0" for c in rgb)
        indices = rng.integers(0, colors, (h, w))
        add(f"bmp_palette{bits}.bmp", bmp(w, h, bits, bmp_rows(indices, bits), palette))
        add(f"bmp_palette{bits}_top_down.bmp", bmp(w, -h, bits, bmp_rows(indices, bits), palette))
        add(f"bmp_palette{bits}_os2.bmp",
            bmp(w, h, bits, bmp_rows(indices, bits), b"".join(bytes(c) for c in rgb), header_size=12))
    few = b"".join(bytes(c) + b"\0" for c in rng.integers(0, 256, (5, 3), dtype=np.uint8))
    indices = rng.integers(0, 5, (h, w))
    add("bmp_palette8_five_colors.bmp", bmp(w, h, 8, bmp_rows(indices, 8), few, colors=5))
    add("bmp_os2_v2.bmp", bmp(w, h, 8, bmp_rows(indices, 8), few, colors=5, header_size=64))

    rgb = picture(w, h)
    bgr = rgb[:, :, 0].astype(int) << 16 | rgb[:, :, 1].astype(int) << 8 | rgb[:, :, 2]
    add("bmp_rgb24.bmp", bmp(w, h, 24, bmp_rows(bgr, 24)))
    add("bmp_rgb24_top_down.bmp", bmp(w, -h, 24, bmp_rows(bgr, 24)))
    add("bmp_rgb24_os2.bmp", bmp(w, h, 24, bmp_rows(bgr, 24), header_size=12))
    add("bmp_rgb24_v5.bmp", bmp(w, h, 24, bmp_rows(bgr, 24), header_size=124))
    add("bmp_rgb32.bmp", bmp(w, h, 32, bmp_rows(bgr | 0x7F000000, 32)))
    pixel16 = rng.integers(0, 65536, (h, w))
    add("bmp_rgb16.bmp", bmp(w, h, 16, bmp_rows(pixel16, 16)))
    add("bmp_565.bmp", bmp(w, h, 16, bmp_rows(pixel16, 16), compression=3, masks=(0xF800, 0x7E0, 0x1F)))
    add("bmp_555.bmp", bmp(w, h, 16, bmp_rows(pixel16, 16), compression=3, masks=(0x7C00, 0x3E0, 0x1F)))
    add("bmp_32_fields.bmp", bmp(w, h, 32, bmp_rows(bgr << 8 | 0x55, 32), compression=3,
                                 masks=(0xFF000000, 0xFF0000, 0xFF00)))
    alpha = rng.integers(0, 256, (h, w)) << 24
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    add("bmp_alpha_v4.bmp", bmp(w, h, 32, bmp_rows(bgr | alpha, 32), compression=3, header_size=108, masks=masks))
    add("bmp_alpha_v3.bmp", bmp(w, h, 32, bmp_rows(bgr | alpha, 32), compression=3, header_size=56, masks=masks))
    # An alpha channel of zeros alone means that the writer did not care: opaque (Pillow: all transparent).
    add("bmp_alpha_zero.bmp", bmp(w, h, 32, bmp_rows(bgr, 32), compression=3, header_size=108, masks=masks), rgb[::-1])
    # Ten bits a channel: Pillow refuses, the value is v * 255 / 1023, truncated.
    tens = rng.integers(0, 1024, (h, w, 3))
    add("bmp_10_bits.bmp", bmp(w, h, 32, bmp_rows(tens[:, :, 0] << 20 | tens[:, :, 1] << 10 | tens[:, :, 2], 32),
                               compression=3, masks=(0x3FF00000, 0xFFC00, 0x3FF)),
        (tens[::-1] * 255 // 1023).astype(np.uint8))

    colors = rng.integers(0, 256, (256, 3), dtype=np.uint8)
    palette = b"".join(bytes(c) + b"\0" for c in colors)
    # Encoded, verbatim (odd length: padded), end of line, a move, a run past the end of the row; then the other rows.
    rle8 = bytes([5, 7, 0, 5, 1, 2, 3, 4, 5, 0, 9, 200, 0, 0, 3, 17, 0, 2, 4, 2, 12, 99, 0, 0, 30, 8, 0, 0])
    rle4 = bytes([5, 0x71, 0, 5, 0x12, 0x34, 0x50, 0, 9, 0x2C, 0, 0, 3, 0x1F, 0, 2, 4, 2, 12, 0x99, 0, 0, 30, 0x8A, 0, 0])
    for name, data, bits, compression in (("rle8", rle8, 8, 1), ("rle4", rle4, 4, 2)):
        colors = palette[:4 << bits]
        end = bytes([0, 1])
        add(f"bmp_{name}.bmp", bmp(w, h, bits, data + bytes([w, 0x53, 0, 0]) * 6 + end, colors, compression=compression))
        # Nothing is said about the last rows: color 0 (Pillow refuses; it takes the same rows written out).
        blank = bmp(w, h, bits, data + bytes([w, 0, 0, 0]) * 6 + end, colors, compression=compression)
        add(f"bmp_{name}_early_end.bmp", bmp(w, h, bits, data + end, colors, compression=compression),
            to_rgb(Image.open(io.BytesIO(blank))))
    for name, data in (("verbatim_past_row", bytes([10, 1, 0, 12]) + bytes(range(12)) + b"\0\0"),
                       ("move_past_row", bytes([10, 1, 0, 2, 12, 0, 3, 3, 0, 0])),
                       ("move_past_top", bytes([10, 1, 0, 2, 0, 12, 3, 3, 0, 0]))):
        damaged = data + bytes([w, 7, 0, 0]) * 10 + bytes([0, 1])
        (HERE / f"bad_bmp_{name}.bmp").write_bytes(bmp(w, h, 8, damaged, palette, compression=1))
    rows = b"".join(bytes([w, 10 + y, 0, 0]) for y in range(h))
    add("bmp_rle8_no_end_mark.bmp", bmp(w, h, 8, rows, palette, compression=1))


# ---------------------------------------------------------------- PPM

def make_ppm():
    rgb = picture(9, 7)
    grey = rgb[:, :, :1]
    head = b"%d %d\n"
    add("ppm_p6.ppm", b"P6\n9 7\n255\n" + rgb.tobytes())
    add("ppm_p6_comments.ppm", b"P6 # one\n# two\r9#three\n 7 \t\n# four\n255\n" + rgb.tobytes())
    add("ppm_p6_max100.ppm", b"P6 9 7 100 " + (rgb % 101).tobytes())
    add("ppm_p6_max2.ppm", b"P6 9 7 2 " + (rgb % 3).tobytes())
    rgb16 = np.random.default_rng(5).integers(0, 65536, (7, 9, 3))
    add("ppm_p6_16bit.ppm", b"P6 9 7 65535 " + rgb16.astype(">u2").tobytes())
    add("ppm_p6_max1000.ppm", b"P6 9 7 1000 " + (rgb16 % 1001).astype(">u2").tobytes())
    add("ppm_p5.pgm", b"P5\n9 7\n255\n" + grey.tobytes())
    add("ppm_p5_max15.pgm", b"P5\n9 7\n15\n" + (grey % 16).tobytes())
    add("ppm_p3.ppm", b"P3\n9 7\n255\n" + b"\n".join(b" ".join(b"%d" % v for v in row.reshape(-1)) for row in rgb) + b"\n")
    add("ppm_p2.pgm", b"P2\n9 7\n255\n" + b"\n".join(b" ".join(b"%d" % v for v in row.reshape(-1)) for row in grey) + b"\n")
    add("ppm_p3_max1000.ppm", b"P3 9 7 1000\n" + b" ".join(b"%d" % v for v in (rgb16 % 1001).reshape(-1)) + b"\n")


# ---------------------------------------------------------------- WebP

def make_webp():
    rgb = Image.fromarray(picture(37, 23))
    rgba = Image.fromarray(picture(37, 23, 4))
    add("webp_lossy.webp", saved(rgb, format="WEBP", quality=70))
    add("webp_lossless.webp", saved(rgb, format="WEBP", lossless=True))
    add("webp_lossy_alpha.webp", saved(rgba, format="WEBP", quality=70))
    add("webp_lossless_alpha.webp", saved(rgba, format="WEBP", lossless=True))
    add("webp_1x1.webp", saved(Image.fromarray(picture(1, 1)), format="WEBP"))
    add("webp_profile.webp", saved(rgb, format="WEBP", quality=70, icc_profile=b"not a profile"))
    frames = [Image.fromarray(picture(37, 23, 4, seed=s)) for s in (1, 2, 3)]
    add("webp_animated.webp",
        saved(frames[0], format="WEBP", save_all=True, append_images=frames[1:], duration=50, quality=50))
    # A first frame that fills a part of the canvas.
    still = saved(Image.fromarray(picture(10, 8)), format="WEBP", quality=70)
    frame = le24(4 // 2) + le24(6 // 2) + le24(10 - 1) + le24(8 - 1) + le24(50) + b"\0" + still[12:]
    add("webp_animated_part.webp", riff([(b"VP8X", struct.pack("<I", 0x12) + le24(24 - 1) + le24(20 - 1)),
                                         (b"ANIM", bytes(6)), (b"ANMF", frame)]))


# ---------------------------------------------------------------- GIF

def make_gif():
    rng = np.random.default_rng(13)
    palette, other = (rng.integers(0, 256, (256, 3), dtype=np.uint8) for _ in range(2))
    indices = rng.integers(0, 256, (23, 31))
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    full = (31, 23)
    add("gif_palette.gif", gif(full, palette, [(0, 0, indices, None, False, None)]))
    add("gif_87a.gif", gif(full, palette, [(0, 0, indices, None, False, None)], version=b"87a"))
    add("gif_local_palette.gif", gif(full, palette, [(0, 0, indices, other, False, None)]))
    add("gif_no_palette.gif", gif(full, None, [(0, 0, indices, None, False, None)]))
    add("gif_ramp.gif", gif(full, ramp, [(0, 0, indices, None, False, 9)]))
    add("gif_interlaced.gif", gif(full, palette, [(0, 0, indices, None, True, None)]))
    add("gif_transparent.gif", gif(full, palette, [(0, 0, indices, None, False, int(indices[3, 4]))]))
    add("gif_part.gif", gif((40, 30), palette, [(5, 4, indices, None, False, None)]))
    add("gif_part_transparent.gif", gif((40, 30), palette, [(5, 4, indices, None, True, 7)]))
    add("gif_outside.gif", gif((20, 10), palette, [(5, 4, indices, other, False, None)]))
    add("gif_animated.gif", gif(full, palette, [(0, 0, indices, None, False, None), (3, 3, indices[:9, :9], other, False, 2)]))
    add("gif_no_end.gif", gif(full, palette, [(0, 0, indices, None, False, None)], trailer=b""))
    add("gif_1x1.gif", gif((1, 1), palette, [(0, 0, indices[:1, :1], None, False, None)]))
    # Packed by a real encoder, after a comment; a few colours.
    few = Image.fromarray(picture(50, 40)).quantize(11)
    add("gif_few_colours.gif", saved(few, format="GIF", comment=b"words before the picture"))
    (HERE / "bad_gif_no_frame.gif").write_bytes(gif(full, palette, []))
    (HERE / "bad_gif_few_pixels.gif").write_bytes(
        gif(full, palette, [(0, 0, indices, None, False, None)]).replace(struct.pack("<HH", 31, 23) + b"\0\x08", struct.pack("<HH", 31, 99) + b"\0\x08"))
    (HERE / "bad_gif_empty_frame.gif").write_bytes(gif(full, palette, [(0, 0, indices[:0], None, False, None)]))


# ---------------------------------------------------------------- TIFF

def make_tiff():
    rng = np.random.default_rng(17)
    w, h = 37, 29
    rgb, rgba = picture(w, h), picture(w, h, 4)
    image, grey = Image.fromarray(rgb), Image.fromarray(rgb[:, :, 0])
    add("tiff_rgb.tif", saved(image, format="TIFF"))
    for name in ("lzw", "adobe_deflate", "deflate"):
        add(f"tiff_{name}.tif", saved(image, format="TIFF", compression=f"tiff_{name}"))
    add("tiff_packbits.tif", saved(image, format="TIFF", compression="packbits"))
    add("tiff_jpeg.tif", saved(image, format="TIFF", compression="jpeg", quality=90))
    add("tiff_predictor.tif", saved(image, format="TIFF", compression="tiff_lzw", tiffinfo={317: 2}))
    add("tiff_grey.tif", saved(grey, format="TIFF"))
    add("tiff_bilevel.tif", saved(grey.convert("1"), format="TIFF"))
    add("tiff_group4.tif", saved(grey.convert("1"), format="TIFF", compression="group4"))
    add("tiff_palette.tif", saved(image.quantize(200), format="TIFF"))
    add("tiff_cmyk.tif", saved(image.convert("CMYK"), format="TIFF"))
    add("tiff_rgba.tif", saved(Image.fromarray(rgba), format="TIFF"))
    add("tiff_two_pages.tif", saved(image, format="TIFF", save_all=True, append_images=[Image.fromarray(rgb[::-1].copy())]))
    for orientation in range(2, 9):
        add(f"tiff_turned_{orientation}.tif", saved(image, format="TIFF", tiffinfo={274: orientation}))
    add("tiff_big_endian.tif", tiff(tiff_tags(w, h, [8, 8, 8], 2), [rgb.tobytes()], ">"))
    strips = [rgb[y:y + 7].tobytes() for y in range(0, h, 7)]
    add("tiff_strips.tif", tiff(tiff_tags(w, h, [8, 8, 8], 2, 7), strips))
    add("tiff_white_is_zero.tif", tiff(tiff_tags(w, h, [8], 0), [rgb[:, :, 0].tobytes()]))
    for bits in (2, 4):
        packed = packed_rows(rgb[:, :, :1] >> (8 - bits), bits)
        step = (w * bits + 7) // 8 + 1  # PNG rows: a filter byte each
        raw = png_unfiltered(packed, step)
        add(f"tiff_grey{bits}.tif", tiff(tiff_tags(w, h, [bits], 1), [raw]))
        colours = [int(v) for v in rng.integers(0, 65536, 3 << bits)]
        add(f"tiff_palette{bits}.tif", tiff(tiff_tags(w, h, [bits], 3, colours=colours), [raw]))
    wide = rng.integers(0, 65536, (h, w, 3))
    add("tiff_rgb16.tif", tiff(tiff_tags(w, h, [16] * 3, 2), [wide.astype("<u2").tobytes()]))
    add("tiff_rgb16_big_endian.tif", tiff(tiff_tags(w, h, [16] * 3, 2), [wide.astype(">u2").tobytes()], ">"))
    high = (wide[:, :, :1] >> 8).astype(np.uint8).repeat(3, axis=2)  # Pillow clips
    add("tiff_grey16.tif", tiff(tiff_tags(w, h, [16], 1), [wide[:, :, 0].astype("<u2").tobytes()]), high)
    add("tiff_rgbx.tif", tiff(tiff_tags(w, h, [8] * 4, 2, extra=0), [rgba.tobytes()]))
    add("tiff_premultiplied.tif", tiff(tiff_tags(w, h, [8] * 4, 2, extra=1), [rgba.tobytes()]))
    add("tiff_grey_alpha.tif", tiff(tiff_tags(w, h, [8] * 2, 1, extra=2), [rgba[:, :, :2].tobytes()]))
    padded = np.zeros((32, 48, 3), np.uint8)
    padded[:h, :w] = rgb
    tiles = [padded[y:y + 16, x:x + 16].tobytes() for y in range(0, 32, 16) for x in range(0, 48, 16)]
    add("tiff_tiles.tif", tiff(tiff_tags(w, h, [8] * 3, 2, tile_width=16, tile_height=16), tiles))
    raw = rgb.tobytes()
    for name, data in (("planes", tiff(tiff_tags(w, h, [8] * 3, 2, planar=2), [rgb[:, :, c].tobytes() for c in range(3)])),
                       ("floats", tiff(tiff_tags(w, h, [32], 1, format=3), [bytes(4 * w * h)])),
                       ("compression", tiff(tiff_tags(w, h, [8] * 3, 2, compression=50001), [raw])),
                       ("strip_outside", tiff(tiff_tags(w, h, [8] * 3, 2), [raw])[:-100]),
                       ("short_strip", tiff(tiff_tags(w, h, [8] * 3, 2), [raw[:-100]])),
                       ("no_photometric", tiff({k: v for k, v in tiff_tags(w, h, [8] * 3, 2).items() if k != 262}, [raw])),
                       ("no_colours", tiff(tiff_tags(w, h, [8], 3), [raw[:w * h]])),
                       ("tiles_of_zero", tiff(tiff_tags(w, h, [8] * 3, 2, tile_width=0, tile_height=16), tiles))):
        (HERE / f"bad_tiff_{name}.tif").write_bytes(data)


# ---------------------------------------------------------------- HEIC, AVIF

def make_heif():
    """HEIC by pillow-heif (made with 1.8.1), AVIF by Pillow. Their conversions from YCbCr differ from libheif's by a few
    levels: what they make of a file is beside it as PNG."""
    import pillow_heif
    pillow_heif.register_heif_opener()
    folder = HERE / "heif"
    folder.mkdir(exist_ok=True)

    def add_heif(name, data):
        (folder / name).write_bytes(data)
        Image.fromarray(to_rgb(Image.open(io.BytesIO(data)))).save(folder / (name + ".png"), optimize=True)

    y, x = np.mgrid[0:80, 0:112]
    smooth = np.stack([x * 2, 40 + y * 2, 255 - x - y, 30 + (x + y)], axis=-1).clip(0, 255).astype(np.uint8)
    image, alpha = Image.fromarray(smooth[:, :, :3].copy()), Image.fromarray(smooth)
    for kind in ("heic", "avif"):
        options = {"format": "HEIF" if kind == "heic" else "AVIF", "quality": 90}
        add_heif(f"rgb.{kind}", saved(image, **options))
        add_heif(f"odd.{kind}", saved(image.crop((0, 0, 75, 53)), **options))
        add_heif(f"alpha.{kind}", saved(alpha, **options))
        for orientation in (3, 5, 6, 7, 8):
            exif = Image.Exif()
            exif[0x0112] = orientation
            add_heif(f"turned_{orientation}.{kind}", saved(image, exif=exif.tobytes(), **options))
    add_heif("rgb_444.heic", saved(image, format="HEIF", quality=90, chroma=444))
    add_heif("rgb_444.avif", saved(image, format="AVIF", quality=90, subsampling="4:4:4"))
    add_heif("grey.avif", saved(image.convert("L"), format="AVIF", quality=90))
    deep = pillow_heif.from_bytes(mode="RGB;16", size=(112, 80), data=(smooth[:, :, :3].astype("<u2") * 257).tobytes())
    out = io.BytesIO()
    deep.save(out, quality=90)
    add_heif("rgb_10.heic", out.getvalue())
    tiles = [saved(image.crop((x, y, x + 64, y + 64)).resize((64, 64)), format="HEIF", quality=90)
             for y in (0, 16) for x in (0, 48)]
    add_heif("grid.heic", heif_grid(tiles, 64, 2, 2, 120, 100))


# ---------------------------------------------------------------- EXIF orientation

def make_orientations():
    image = Image.fromarray(picture(11, 6, seed=9))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        exif[0x010E] = "a description before the orientation"
        for kind, options in (("jpg", dict(format="JPEG", quality=95, subsampling=0)), ("png", dict(format="PNG")),
                              ("webp", dict(format="WEBP", lossless=True))):
            add(f"exif_{orientation}.{kind}", saved(image, exif=exif.tobytes(), **options))
    # The other byte order, and an orientation that does not exist.
    for name, value in (("exif_big_endian", 6), ("exif_out_of_range", 9)):
        block = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, value, 0, 0)
        add(f"{name}.jpg", saved(image, format="JPEG", exif=block))
    # eXIf after the pixels.
    block = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, 8, 0, 0)
    add("exif_late.png", png(np.asarray(image), 2, 8, after=[chunk(b"eXIf", block)]),
        np.rot90(np.asarray(image), 1).copy())


# ---------------------------------------------------------------- harmless irregularities

def make_irregular_jpeg():
    rgb = Image.fromarray(picture(53, 37))
    plain = saved(rgb, format="JPEG", quality=80)
    start = jpeg_scans(plain)[0][0]
    patched = bytearray(plain)
    patched[start + 5 + 2 * plain[start + 4] + 1] = 0  # Se, which a sequential scan has no use for
    add("odd_jpeg_sos_se0.jpg", bytes(patched))

    progressive = saved(rgb, format="JPEG", quality=60, progressive=True)
    scans = jpeg_scans(progressive)
    kinds = [scan_parameters(progressive, start) for start, _ in scans]
    first_ac = next(i for i, (ss, _, ah, al) in enumerate(kinds) if ss > 0 and ah == 0 and al > 0)
    refinement = next(i for i, (ss, _, ah, _) in enumerate(kinds) if ss > 0 and ah > 0)

    def repeated(i):
        start, end = scans[i]
        return progressive[:end] + progressive[start:end] + progressive[end:]

    add("odd_jpeg_repeated_scan.jpg", repeated(first_ac))
    (HERE / "bad_jpeg_repeated_refinement.jpg").write_bytes(repeated(refinement))
    grey = saved(Image.fromarray(picture(53, 37, 1)[:, :, 0]), format="JPEG", quality=60, progressive=True)
    parts = [grey[start:end] for start, end in jpeg_scans(grey)]
    head, tail = grey[:jpeg_scans(grey)[0][0]], b"\xff\xd9"
    # Tables that a scan needs stand at the end of the part before it: part 0 ends with those of part 1.
    split = parts[0].index(b"\xff\xc4")
    dc, ac_tables = parts[0][:split], parts[0][split:]
    add("odd_jpeg_ac_before_dc.jpg", head + ac_tables + parts[1][:parts[1].index(b"\xff\xc4")] + head[head.index(b"\xff\xc4"):] + dc +
        parts[1][parts[1].index(b"\xff\xc4"):] + b"".join(parts[2:]) + tail)
    (HERE / "bad_jpeg_no_dc.jpg").write_bytes(head + ac_tables + b"".join(parts[1:2]) + tail)


def make_irregular_png():
    rgb = picture(60, 44)
    good = png(rgb, 2, 8)
    header = good[:33]
    repeated = np.concatenate([rgb[:22]] * 2)  # the lower half repeats the upper: distances of thousands of bytes
    flat = b"".join(b"\0" + row.tobytes() for row in repeated)
    deflated = zlib.compress(flat, 9)

    def with_stream(stream, tail=b""):
        return header + chunk(b"IDAT", stream) + tail

    end = chunk(b"IEND", b"")
    cmf = 0x08  # a window of 256 bytes
    flags = (31 - cmf * 256 % 31) % 31
    add("odd_png_small_window.png", with_stream(bytes([cmf, flags]) + deflated[2:], end))
    add("odd_png_no_end.png", with_stream(deflated))
    add("odd_png_cut_after_pixels.png", with_stream(deflated, chunk(b"tEXt", b"Comment\0words") + end[:6]))
    (HERE / "bad_png_cut_in_text.png").write_bytes(with_stream(deflated, chunk(b"tEXt", b"Comment\0words")[:11]))
    add("odd_png_bytes_after_stream.png", with_stream(deflated + b"more", end))
    add("odd_png_more_rows.png", with_stream(zlib.compress(flat + flat[:1000]), end))
    add("odd_png_text_checksum_after_pixels.png", with_stream(deflated, chunk(b"tEXt", b"a\0b")[:-1] + b"?" + end))
    text = chunk(b"tEXt", b"a\0b")
    (HERE / "bad_png_text_checksum.png").write_bytes(header + text[:-1] + b"?" + chunk(b"IDAT", deflated) + end)
    wrong = deflated[:-1] + bytes([deflated[-1] ^ 1])
    (HERE / "bad_png_stream_checksum.png").write_bytes(with_stream(wrong, end))
    indices = np.arange(60 * 44).reshape(44, 60, 1) % 16
    few = chunk(b"PLTE", bytes(range(0, 240, 8)))  # 10 of 16 colours: the others are black
    add("odd_png_few_colours.png", png(indices, 3, 4, extra=[few]))
    long_alpha = chunk(b"tRNS", bytes(range(0, 240, 16)))
    add("odd_png_more_alphas_than_colours.png", png(indices, 3, 4, extra=[few, long_alpha]))


# ---------------------------------------------------------------- orientation elsewhere

def make_more_orientations():
    image = Image.fromarray(picture(11, 6, seed=9))
    plain = saved(image, format="JPEG", quality=95, subsampling=0)

    def jpeg(*bodies):
        return plain[:2] + b"".join(segment(0xE1, body) for body in bodies) + plain[2:]

    six = tiff_block([tiff_entry(3, 1, b"\6\0")])
    one = tiff_block([tiff_entry(3, 1, b"\1\0")])
    exif = b"Exif\0\0"
    attribute = b'<x:xmpmeta><rdf:Description tiff:Orientation="6" tiff:Make="m"/></x:xmpmeta>'
    element = b"<x:xmpmeta><tiff:Make>m</tiff:Make><tiff:Orientation>6</tiff:Orientation></x:xmpmeta>"
    xmp = b"http://ns.adobe.com/xap/1.0/\0"
    at = 8 + 2 + 12 + 4  # where the bytes after the only entry begin
    blocks = {
        "twice": (exif + exif + six,),
        "count2": (exif + tiff_block([tiff_entry(3, 2, b"\6\0\1\0")]),),
        "long": (exif + tiff_block([tiff_entry(4, 1, b"\6\0\0\0")]),),
        "longs": (exif + tiff_block([tiff_entry(4, 2, struct.pack("<I", at))], struct.pack("<II", 6, 1)),),
        "rational": (exif + tiff_block([tiff_entry(5, 1, struct.pack("<I", at))], struct.pack("<II", 12, 2)),),
        "double": (exif + tiff_block([tiff_entry(12, 1, struct.pack("<I", at))], struct.pack("<d", 6)),),
        "float": (exif + tiff_block([tiff_entry(11, 1, struct.pack("<f", 6))]),),
        "byte": (exif + tiff_block([tiff_entry(1, 1, b"\6")]),),  # bytes are no number to Pillow
        "swapped_head": (exif + tiff_block([tiff_entry(3, 1, b"\0\6", ">")], order=">", head=b"MM*\0"),),
        "first_of_two": (exif + tiff_block([tiff_entry(3, 1, b"\6\0"), tiff_entry(3, 1, b"\1\0")]),),
        "unknown_kind_first": (exif + tiff_block([tiff_entry(99, 1, b"\1\0"), tiff_entry(3, 1, b"\6\0")]),),
        "outside_first": (exif + tiff_block([tiff_entry(3, 9, b"\0\x90"), tiff_entry(3, 1, b"\6\0")]),),
        "in_parts": (exif + six[:14], exif + six[14:]),
        "xmp_attribute": (xmp + attribute,),
        "xmp_element": (xmp + element,),
        "xmp_last_of_two": (xmp + attribute.replace(b"6", b"1"), xmp + attribute),
        "xmp_other_quotes": (xmp + attribute.replace(b'"6"', b"'6'"),),
        "xmp_after_exif_without": (exif + tiff_block([]), xmp + attribute),
        "xmp_against_exif": (exif + one, xmp + attribute),
        "xmp_against_bad_exif": (exif + tiff_block([tiff_entry(3, 1, b"\x09\0")]), xmp + attribute),
    }
    for name, bodies in blocks.items():
        add(f"turned_{name}.jpg", jpeg(*bodies))

    pixels = np.asarray(image)

    def png_with(*chunks, after=()):
        return png(pixels, 2, 8, extra=chunks, after=after)

    key = b"XML:com.adobe.xmp"
    hexed = six.hex()
    profile = (f"\nexif\n{len(six):8}\n" +
               "\n".join(hexed[i:i + 72] for i in range(0, len(hexed), 72)) + "\n").encode()
    raw_key = b"Raw profile type exif"
    files = {
        "xmp": (chunk(b"iTXt", key + b"\0\0\0\0\0" + attribute),),
        "xmp_deflated": (chunk(b"iTXt", key + b"\0\1\0en\0key\0" + zlib.compress(element)),),
        "xmp_ztxt": (chunk(b"zTXt", key + b"\0\0" + zlib.compress(attribute)),),
        "raw_profile": (chunk(b"zTXt", raw_key + b"\0\0" + zlib.compress(profile)),),
        "raw_profile_plain": (chunk(b"tEXt", raw_key + b"\0" + profile),),
        "raw_profile_against_exif": (chunk(b"tEXt", raw_key + b"\0" + profile), chunk(b"eXIf", one)),
        "text_exif": (chunk(b"tEXt", b"exif\0" + six),),
        "exif_twice": (chunk(b"eXIf", exif + six),),
    }
    for name, chunks in files.items():
        add(f"turned_{name}.png", png_with(*chunks))
    add("turned_xmp_late.png", png_with(after=[chunk(b"iTXt", key + b"\0\0\0\0\0" + attribute)]))
    # A packet of megabytes is not looked at (Pillow refuses the picture).
    bomb = chunk(b"iTXt", key + b"\0\1\0\0\0" + zlib.compress(attribute + bytes(8 << 20), 9))
    add("turned_not_xmp_bomb.png", png_with(bomb), pixels)
    for name, body in (("attribute", attribute), ("element", element)):
        add(f"turned_xmp_{name}.webp", saved(image, format="WEBP", lossless=True, xmp=body))


if __name__ == "__main__":
    make_jpeg()
    make_irregular_jpeg()
    make_irregular_png()
    make_more_orientations()
    make_png()
    make_bmp()
    make_ppm()
    make_webp()
    make_gif()
    make_tiff()
    make_heif()
    make_orientations()
    lines = [f"{name} {w} {h} {digest:016x}" for name, (w, h, digest) in sorted(expected.items())]
    (HERE / "expected.txt").write_text("\n".join(lines) + "\n")
    print(len(lines), "files")
