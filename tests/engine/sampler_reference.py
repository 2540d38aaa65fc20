"""Writes sampler_reference.inc: distributions that transformers' logits processors make of small logits vectors.

Needs: torch, transformers. Run: python sampler_reference.py > sampler_reference.inc (version used: transformers 5.23).
"""
import torch
from transformers.generation import logits_process as lp

torch.manual_seed(20)
LOGITS = [
    [round(v, 3) for v in (torch.randn(16) * 3).tolist()],
    [round(v, 3) for v in (torch.randn(16) * 0.5 - 4).tolist()],
]
PROMPT = [3, 3, 5, 11, 0, 3]
CASES = [  # temperature, top_k, top_p, min_p, repetition_penalty, bias
    (1.0, 0, 1.0, 0.0, 1.0, {}),
    (0.7, 0, 1.0, 0.0, 1.0, {}),
    (2.5, 0, 1.0, 0.0, 1.0, {}),
    (1.0, 5, 1.0, 0.0, 1.0, {}),
    (1.0, 0, 0.8, 0.0, 1.0, {}),
    (1.0, 0, 1.0, 0.1, 1.0, {}),
    (1.0, 0, 1.0, 0.0, 1.3, {}),
    (1.0, 0, 1.0, 0.0, 0.8, {}),
    (1.0, 0, 1.0, 0.0, 1.0, {2: 4.5, 3: float("-inf")}),
    (0.7, 8, 0.9, 0.0, 1.0, {}),
    (0.7, 8, 1.0, 0.2, 1.0, {}),
    (1.3, 0, 0.95, 0.05, 1.1, {}),
    (0.6, 6, 0.85, 0.1, 1.2, {0: 2.0, 7: float("-inf"), 11: -1.0}),
]


def distribution(logits, case):
    temperature, top_k, top_p, min_p, penalty, bias = case
    ids = torch.tensor([PROMPT])
    scores = torch.tensor([logits])
    if bias:
        scores = lp.SequenceBiasLogitsProcessor({(i,): b for i, b in bias.items()})(ids, scores)
    scores = lp.RepetitionPenaltyLogitsProcessor(penalty)(ids, scores)
    scores = lp.TemperatureLogitsWarper(temperature)(ids, scores)
    if top_k:
        scores = lp.TopKLogitsWarper(top_k)(ids, scores)
    if top_p < 1:
        scores = lp.TopPLogitsWarper(top_p)(ids, scores)
    if min_p:
        scores = lp.MinPLogitsWarper(min_p)(ids, scores)
    return torch.softmax(scores[0].double(), 0).tolist()


def cpp(values):
    return "{" + ", ".join(values) + "}"


def number(x):
    return "-INFINITY" if x == float("-inf") else f"{float(x)}f"


print("// Written by sampler_reference.py.")
for logits in LOGITS:
    for case in CASES:
        bias = cpp(cpp((str(i), number(b))) for i, b in case[5].items())
        options = [number(case[0]), str(case[1]), *map(number, case[2:5])]
        probabilities = cpp(f"{p:.9g}" for p in distribution(logits, case))
        print(cpp((cpp(map(number, logits)), *options, bias, probabilities)) + ",")
