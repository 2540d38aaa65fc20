#!/usr/bin/env python3
"""What --dedup-patches saves on drawn screens, documents and noise, and which of a model's answers it changes.

    bench/dedup.py savings --glimpse build/release/glimpse -m model.gguf --mmproj mmproj.gguf [--rounds 3]
    bench/dedup.py answers --glimpse build/release/glimpse -m models/demo-Q8_0.gguf --mmproj models/mmproj-demo-f16.gguf

savings: runs with and without, in turn; give the machine nothing else to do. Needs Pillow and numpy.
"""
import argparse
import json
import random
import statistics
import subprocess
import tempfile
from pathlib import Path

import numpy
from PIL import Image, ImageDraw, ImageFont

WORDS = ("the engine reads a page of text and answers what stands on it in plain words because every line has been looked "
         "at once and what is white between the lines need not be looked at again").split()


PICTURES = ("page", "screen", "sheet", "noise", "page, JPEG 90", "page, resized")


def sentence(rng, n):
    return " ".join(rng.choice(WORDS) for _ in range(n))


def page():
    """A letter: 11 point text at 96 dots per inch, margins, a heading, paragraphs."""
    image, rng = Image.new("RGB", (812, 1148), "white"), random.Random(1)
    draw, body, head = ImageDraw.Draw(image), ImageFont.load_default(15), ImageFont.load_default(26)
    draw.text((96, 96), "Report of the year", "black", head)
    y = 170
    for _ in range(5):
        for _ in range(rng.randint(4, 9)):
            draw.text((96, y), sentence(rng, 15), "black", body)
            y += 22
        draw.text((96, y), sentence(rng, rng.randint(2, 9)), "black", body)
        y += 44
    return image


def screen():
    """A desktop: a plain ground, a bar, icons, a window with a list and a window of a terminal."""
    image, rng = Image.new("RGB", (1288, 728), (38, 70, 110)), random.Random(2)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    draw.rectangle((0, 692, 1287, 727), (24, 24, 28))
    for i in range(8):
        draw.rectangle((12 + 44 * i, 698, 42 + 44 * i, 724), tuple(rng.randint(60, 220) for _ in range(3)))
    for i in range(5):
        draw.ellipse((30, 30 + 90 * i, 70, 70 + 90 * i), tuple(rng.randint(60, 220) for _ in range(3)))
        draw.text((24, 76 + 90 * i), rng.choice(WORDS), "white", font)
    draw.rectangle((150, 60, 800, 520), "white")
    draw.rectangle((150, 60, 800, 90), (210, 214, 220))
    draw.text((160, 68), "Files", "black", font)
    for i in range(14):
        draw.text((170, 104 + 26 * i), sentence(rng, 2) + ".txt", "black", font)
        draw.text((560, 104 + 26 * i), f"{rng.randint(1, 999)} KB", "black", font)
    draw.rectangle((700, 260, 1250, 640), (16, 16, 16))
    for i in range(15):
        draw.text((710, 270 + 22 * i), "$ " + sentence(rng, rng.randint(2, 9)), (140, 230, 140), font)
    return image


def sheet():
    """A spreadsheet: ruled cells, numbers in the first rows and columns."""
    image, rng = Image.new("RGB", (1120, 840), "white"), random.Random(3)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    draw.rectangle((0, 0, 1119, 23), (235, 235, 235))
    draw.rectangle((0, 0, 39, 839), (235, 235, 235))
    for x in range(40, 1120, 90):
        draw.line((x, 0, x, 839), (205, 205, 205))
        draw.text((x + 40, 5), chr(65 + x // 90), "black", font)
    for row, y in enumerate(range(24, 840, 24), 1):
        draw.line((0, y, 1119, y), (205, 205, 205))
        draw.text((10, y + 5), str(row), "black", font)
        for column in range(7 if row <= 18 else 0):
            draw.text((46 + 90 * column, y + 5), f"{rng.uniform(0, 9999):.2f}", "black", font)
    return image


def noise():
    """Like a photograph: smooth, with the sensor's noise everywhere."""
    rng = numpy.random.default_rng(4)
    smooth = Image.fromarray(rng.integers(0, 255, (9, 12, 3), dtype=numpy.uint8)).resize((1120, 840), Image.BICUBIC)
    noisy = numpy.asarray(smooth, dtype=numpy.float64) + rng.normal(0, 3, (840, 1120, 3))
    return Image.fromarray(numpy.clip(noisy.round(), 0, 255).astype(numpy.uint8))


def savings(args):
    pictures = {"page": page(), "screen": screen(), "sheet": sheet(), "noise": noise()}
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for name, image in pictures.items():
            paths[name] = Path(folder) / f"{name}.png"
            image.save(paths[name])
        paths["page, JPEG 90"] = Path(folder) / "page.jpg"
        pictures["page"].save(paths["page, JPEG 90"], quality=90)
        # Sides that are no multiples of a block: it is resized, and what was ruled is smeared.
        paths["page, resized"] = Path(folder) / "odd.png"
        pictures["page"].resize((1000, 1414), Image.BICUBIC).crop((0, 0, 997, 1411)).save(paths["page, resized"])
        if args.keep:
            for path in paths.values():
                (Path(args.keep) / path.name).write_bytes(path.read_bytes())
        wanted = {name: paths[name] for name in (args.only.split(";") if args.only else PICTURES)}
        runs = {}
        for _ in range(args.rounds):
            for name, path in wanted.items():
                for flag in ([], ["--dedup-patches"]):
                    said = subprocess.run([args.glimpse, "run", "-m", args.model, "--mmproj", args.mmproj, "--image", path,
                                           "-p", "What is it?", "-n", "1", "-t", str(args.threads), "--json", *flag],
                                          check=True, capture_output=True, text=True).stdout
                    said = json.loads(said)
                    t, seen = said["timings"], said["images"][0]
                    runs.setdefault((name, bool(flag)), []).append(
                        (t["image_encode_ms"] / 1e3, t["prefill_ms"] / 1e3, t["image_resize_ms"]))
                    print(f"{name:15} {'dedup' if flag else 'all':6} {seen['tokens']:5} tokens, {seen['tokens_left_out']} "
                          f"left out, encode {t['image_encode_ms']:.0f} ms, prefill {t['prefill_ms']:.0f} ms, "
                          f"resize {t['image_resize_ms']:.1f} ms", flush=True)
                    if flag:
                        runs[name] = (seen["tokens_left_out"], seen["tokens"] + seen["tokens_left_out"])
    print("\n| picture | tokens | left out | encode, s | prefill, s |\n|---|---|---|---|---|")
    for name in wanted:
        left_out, n = runs[name]
        whole, some = ([statistics.median(column) for column in zip(*runs[name, flag])] for flag in (False, True))
        print(f"| {name} | {n} | {left_out} ({100 * left_out / n:.0f} %) | {whole[0]:.2f} -> {some[0]:.2f} "
              f"({whole[0] / some[0]:.2f}x) | {whole[1]:.2f} -> {some[1]:.2f} ({whole[1] / some[1]:.2f}x) |")


def answers(args):
    said = []
    for flag in ([], ["--dedup-patches"]):
        command = [args.glimpse, "eval", "-m", args.model, "--mmproj", args.mmproj, "-t", str(args.threads), "--json", *flag]
        if args.cases:
            command += ["--cases", args.cases]
        said.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["cases"])
    tasks = {}
    for whole, some in zip(*said):
        assert (whole["task"], whole["question"]) == (some["task"], some["question"])
        lost = some["image_tokens"] < whole["image_tokens"]
        row = (1, lost, lost and whole["answer"] != some["answer"], whole["right"], some["right"],
               lost and whole["right"], lost and some["right"], whole["image_tokens"], some["image_tokens"])
        assert lost or whole["answer"] == some["answer"]
        for task in (whole["task"], "all"):
            tasks[task] = [a + b for a, b in zip(tasks.get(task, [0] * len(row)), row)]
    print("| task | cases | that lose blocks | answers changed | right of all | right of those | tokens |")
    print("|---|---|---|---|---|---|---|")
    for task in sorted(tasks, key=lambda name: (name == "all", name)):
        n, lost, changed, before, after, lost_before, lost_after, tokens, left = tasks[task]
        print(f"| {task} | {n} | {lost} | {changed} | {before} -> {after} | {lost_before} -> {lost_after} | "
              f"{tokens} -> {left} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("savings", "answers"))
    parser.add_argument("--glimpse", required=True)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--mmproj", required=True)
    parser.add_argument("--cases", help="folder of cases.json; default: the one of the demo model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="names of pictures, with semicolons between")
    parser.add_argument("--keep", help="folder for the pictures")
    parser.add_argument("-t", "--threads", type=int, default=2)
    args = parser.parse_args()
    for name in args.only.split(";") if args.only else ():
        if name not in PICTURES:
            parser.error(f"--only {name}: the pictures are {'; '.join(PICTURES)}")
    savings(args) if args.what == "savings" else answers(args)


if __name__ == "__main__":
    main()
