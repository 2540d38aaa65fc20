"""Asks transformers the held-out cases, greedily, and compares other engines' answers with it.

  python3 tools/demo_model/measure.py --hf DIR/hf --cases models/heldout --out answers.json
  glimpse eval -m DIR/demo-f32.gguf --mmproj DIR/mmproj-demo-f32.gguf --vision-precision f32 --kv-type f32 --json > g.json
  python3 tools/demo_model/measure.py --compare answers.json g.json --hf DIR/hf      (--hf: how close differing answers were)
  python3 tools/demo_model/measure.py --llama llama-mtmd-cli --pair DIR/demo-f32.gguf DIR/mmproj-demo-f32.gguf \
      --cases models/heldout --limit 60 --compare answers.json     (first questions on one picture of a multiple of 28)
"""
import argparse
import json
import os
import re
import subprocess

import torch
from PIL import Image

from train import box_numbers, overlap


def things(text):
    text = text.strip().lower().replace(" and ", ", ").replace(" on ", ", ")
    return sorted(re.sub(r"^an? ", "", t) for t in text.split(", "))


def is_right(score, said, expected):
    if score == "list":
        return things(said) == things(expected)
    if score == "box":
        return overlap(box_numbers(said), box_numbers(expected)) >= .7
    return said.strip() == expected.strip()


def wilson(right, n, z=1.959964):
    share = right / n
    middle, scale = share + z * z / (2 * n), 1 + z * z / n
    spread = z * (share * (1 - share) / n + z * z / (4 * n * n)) ** .5
    return 0.0 if right == 0 else (middle - spread) / scale, 1.0 if right == n else (middle + spread) / scale


def load_cases(folder, limit):
    with open(os.path.join(folder, "cases.json"), encoding="utf-8") as file:
        cases = json.load(file)["cases"]
    return cases if not limit else cases[::max(1, len(cases) // limit)][:limit]


class Transformers:
    """The model of export.py's hf/, in float32 and greedy."""

    def __init__(self, folder):
        from transformers import AutoTokenizer, Qwen2VLForConditionalGeneration, Qwen2VLImageProcessorPil
        self.model = Qwen2VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.processor = Qwen2VLImageProcessorPil.from_pretrained(folder)
        self.end = self.tokenizer.convert_tokens_to_ids("<|im_end|>")

    def see(self, cases_folder, case):
        """(the pictures' tensors, the prompt up to the first question)"""
        images = [Image.open(os.path.join(cases_folder, name)).convert("RGB") for name in case["pictures"]]
        seen = self.processor(images=images, return_tensors="pt")
        counts = [int(t * h * w // 4) for t, h, w in seen["image_grid_thw"].tolist()]
        text = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        return seen, text + "".join("<|vision_start|>" + "<|image_pad|>" * n + "<|vision_end|>" for n in counts)

    def inputs(self, seen, text):
        ids = torch.tensor([self.tokenizer.encode(text, add_special_tokens=False)])
        return dict(input_ids=ids, attention_mask=torch.ones_like(ids), **seen,
                    mm_token_type_ids=(ids == self.model.config.image_token_id).int())

    @torch.no_grad()
    def answers(self, cases_folder, case):
        """The answer of each turn; a later question follows the answers given before."""
        seen, text = self.see(cases_folder, case)
        out = []
        for i, (question, _) in enumerate(case["turns"]):
            text += ("" if i == 0 else "<|im_end|>\n<|im_start|>user\n") + question + "<|im_end|>\n<|im_start|>assistant\n"
            inputs = self.inputs(seen, text)
            said = self.model.generate(**inputs, do_sample=False, max_new_tokens=96, eos_token_id=self.end,
                                       pad_token_id=self.end)[0, inputs["input_ids"].shape[1]:].tolist()
            said = said[:said.index(self.end)] if self.end in said else said
            out.append(self.tokenizer.decode(said, skip_special_tokens=False))
            text += out[-1]
        return out

    @torch.no_grad()
    def margin(self, cases_folder, case, answer, other):
        """By how much `answer` beats `other` in the logits where they part. Only for cases of one turn."""
        seen, text = self.see(cases_folder, case)
        text += case["turns"][0][0] + "<|im_end|>\n<|im_start|>assistant\n"
        a, b = (self.tokenizer.encode(x + "<|im_end|>", add_special_tokens=False) for x in (answer, other))
        n = next(i for i, (x, y) in enumerate(zip(a, b)) if x != y)
        logits = self.model(**self.inputs(seen, text + self.tokenizer.decode(a[:n], skip_special_tokens=False))).logits[0, -1]
        return float(logits[a[n]] - logits[b[n]])


def ask_llama(program, pair, cases_folder, cases):
    """{case number: answer} for the single questions on one picture that llama.cpp does not resize."""
    answers = {}
    for i, case in enumerate(cases):
        path = os.path.join(cases_folder, case["pictures"][0])
        width, height = Image.open(path).size
        # Below 8 merged tokens llama.cpp enlarges the picture, transformers does not.
        if len(case["pictures"]) > 1 or len(case["turns"]) > 1 or width % 28 or height % 28 or width * height < 8 * 784:
            continue
        for _ in range(10):  # what its thread for printing has not printed at its end is lost, three newlines being the last
            run = subprocess.run([program, "-m", pair[0], "--mmproj", pair[1], "--image", path, "-p", case["turns"][0][0],
                                  "--temp", "0", "-n", "96", "--jinja", "-sys", "You are a helpful assistant.", "-t", "2"],
                                 capture_output=True, text=True, check=True)
            answers[i] = run.stdout.strip().removesuffix("<|im_end|>").strip()
            if run.stdout.endswith("\n\n\n"):
                break
        else:
            raise SystemExit(f"{program}: never printed the whole answer to case {i}")
    return answers


def table(cases, answers):
    tasks = {}
    for case, said in zip(cases, answers):
        right, n = tasks.get(case["task"], (0, 0))
        tasks[case["task"]] = (right + is_right(case["score"], said, case["turns"][-1][1]), n + 1)
    return {t: {"right": r, "cases": n, "accuracy": r / n, "interval": wilson(r, n)} for t, (r, n) in sorted(tasks.items())}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--hf")
    p.add_argument("--cases", default="models/heldout")
    p.add_argument("--limit", type=int, default=0)
    p.add_argument("--out")
    p.add_argument("--compare", nargs="+")
    p.add_argument("--llama")
    p.add_argument("--pair", nargs=2)
    args = p.parse_args()
    torch.set_num_threads(2)
    if args.hf and not args.compare:
        cases = load_cases(args.cases, args.limit)
        model = Transformers(args.hf)
        answers = [model.answers(args.cases, case)[-1] for case in cases]
        result = table(cases, answers)
        for task, row in result.items():
            print(f"{task:10} {row['right']:4} / {row['cases']:<4} {100 * row['accuracy']:.1f}%")
        with open(args.out, "w", encoding="utf-8") as file:
            json.dump({"tasks": result, "answers": answers, "right": [
                is_right(c["score"], a, c["turns"][-1][1]) for c, a in zip(cases, answers)]}, file, indent=1)
        return
    with open(args.compare[0], encoding="utf-8") as file:
        reference = json.load(file)["answers"]
    if args.llama:
        cases = load_cases(args.cases, 0)
        step = max(1, len(cases) // (args.limit or len(cases)))
        chosen = list(range(0, len(cases), step))
        found = ask_llama(args.llama, args.pair, args.cases, [cases[i] for i in chosen])
        pairs = [(chosen[i], said) for i, said in found.items()]
    else:
        with open(args.compare[1], encoding="utf-8") as file:
            pairs = [(i, c["answer"]) for i, c in enumerate(json.load(file)["cases"])]
    different = [(i, said) for i, said in pairs if said != reference[i]]
    print(f"{len(pairs) - len(different)} of {len(pairs)} answers are the same")
    model = Transformers(args.hf) if args.hf and different else None
    cases = load_cases(args.cases, 0)
    for i, said in different[:20]:
        margin = ""
        if model and len(cases[i]["turns"]) == 1:
            margin = f" (logits apart by {model.margin(args.cases, cases[i], reference[i], said):.2g})"
        print(f"  case {i}: {reference[i]!r} became {said!r}{margin}")


if __name__ == "__main__":
    main()
