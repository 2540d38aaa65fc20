"""Writes the held-out set: pictures and questions from seeds that training never uses, words that it never shows.

  python3 tools/demo_model/heldout.py [--out models/heldout] [--scale 0.1]

cases.json: {"cases": [{"task", "pictures": [file], "turns": [[question, answer], ...], "score"}]}; the last turn is scored.
score: "exact"; "list": the same things in any order; "box": IoU of at least 0.7 with the box given."""
import argparse
import io
import json
import os
import random

import samples

PICTURES = {"scene": 110, "text": 70, "compare": 20, "chart": 24, "table": 24}
MOST = {"scene": 5, "text": 2, "compare": 2, "chart": 2, "table": 2}  # questions about one picture


def encoded(picture):
    """(bytes, ending): PNG where it is small, JPEG where the picture went through JPEG or PNG is large."""
    out = io.BytesIO()
    picture.image.save(out, "PNG", optimize=True)
    if len(out.getvalue()) <= 9000:
        return out.getvalue(), "png"
    return samples.jpeg_bytes(picture.image, 90), "jpg"


def choose(rng, questions, most, counts):
    """Rare tasks first, so that each gets enough cases."""
    questions = list(questions)
    rng.shuffle(questions)
    picked = []
    while questions and len(picked) < most:
        i = min(range(len(questions)), key=lambda i: counts.get(questions[i][1], 0) + 3 * sum(
            q[1] == questions[i][1] for q in picked))
        picked.append(questions.pop(i))
        counts[picked[-1][1]] = counts.get(picked[-1][1], 0) + 1
    return picked


def score_of(task, answer):
    if "<|box_start|>" in answer:
        return "box"
    return "list" if task == "describe" and " background." in answer and not answer.startswith("The ") else "exact"


def write(out, scale):
    os.makedirs(out, exist_ok=True)
    for old in os.listdir(out):
        if old.endswith((".png", ".jpg")):
            os.remove(os.path.join(out, old))
    rng = random.Random("held-out set")
    cases, counts = [], {}
    for kind, number in PICTURES.items():
        for i in range(max(1, round(number * scale))):
            grids = samples.GRIDS[kind]
            pictures, questions = samples.make("heldout", kind, grids[i % len(grids)], 10 ** 6 + i)
            files = []
            for j, picture in enumerate(pictures):
                data, ending = encoded(picture)
                files.append(f"{kind}{i:03}{'ab'[j] if len(pictures) > 1 else ''}.{ending}")
                with open(os.path.join(out, files[-1]), "wb") as file:
                    file.write(data)
            for turns, task in choose(rng, questions, MOST[kind], counts):
                cases.append({"task": task, "pictures": files, "turns": [list(t) for t in turns],
                              "score": score_of(task, turns[-1][1])})
            if kind == "scene" and i % 4 == 0:  # words that training never asks with
                cases.append({"task": "unknown", "pictures": files, "score": "exact", "turns": [
                    [rng.choice(samples.scenes.UNKNOWN_HELD_OUT), samples.scenes.UNKNOWN_ANSWER]]})
                counts["unknown"] = counts.get("unknown", 0) + 1
    with open(os.path.join(out, "cases.json"), "w", encoding="utf-8") as file:
        file.write('{"cases": [\n' + ",\n".join(json.dumps(c) for c in cases) + "\n]}\n")
    print(len(cases), "cases", counts)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", default="models/heldout")
    p.add_argument("--scale", type=float, default=1, help="that many times as many pictures")
    args = p.parse_args()
    write(args.out, args.scale)
