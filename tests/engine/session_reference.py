"""Writes session_reference.inc: a conversation of two turns about two pictures, as transformers continues it greedily.

Needs what tests/golden/make_golden.py needs; the model and the pictures are those of tests/golden/tied (case-images).
Run: python3 session_reference.py > session_reference.inc
"""
import os
import sys

import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))
import make_golden as golden  # noqa: E402

N = 12
torch.set_num_threads(1)
tokenizer = golden.make_tokenizer(320)
model = golden.make_model(
    320, tokenizer, dict(hidden_size=64, intermediate_size=92, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2),
    dict(depth=2, embed_dim=48, num_heads=4, ffn=111, patch_size=14), True, golden.SEEDS[0], False, True)
processor = golden.Qwen2VLImageProcessorPil(patch_size=14, merge_size=2, size={"shortest_edge": 784, "longest_edge": 1 << 20})
pictures = [golden.pixel_values(processor, golden.picture(112, 28, 2)), golden.pixel_values(processor, golden.picture(56, 84, 3))]
grids = torch.tensor([g for _, g in pictures])
values = torch.cat([torch.from_numpy(v) for v, _ in pictures])
pads = ["<|vision_start|>" + "<|image_pad|>" * (g[1] * g[2] // 4) + "<|vision_end|>" for _, g in pictures]


def greedy(ids):
    out = []
    for _ in range(N):
        current = torch.tensor([ids + out])
        kinds = (current == model.config.image_token_id).int()
        where, _ = model.model.get_rope_index(current, kinds, grids, None, torch.ones_like(current))
        with torch.no_grad():
            last = model(input_ids=current, position_ids=where, mm_token_type_ids=kinds, use_cache=False, pixel_values=values,
                         image_grid_thw=grids).logits[0, -1]
        top = last.topk(2).values
        assert top[0] - top[1] > 2e-3, f"the two best logits differ by {top[0] - top[1]}"
        out.append(int(last.argmax()))
        assert tokenizer[1][out[-1]] not in ("<|im_end|>", "<|endoftext|>"), "the answer ends early"
    return out


def encode(text):
    return tokenizer[0].encode(text, add_special_tokens=False).ids


def cpp(name, ids):
    print(f"inline const std::vector<TokenId> {name} = {{{', '.join(map(str, ids))}}};")


first = encode("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nthe " + pads[0] + " and " + pads[1] +
               "what is it?<|im_end|>\n<|im_start|>assistant\n")
answer = greedy(first)
second = first + answer + encode("<|im_end|>\n<|im_start|>user\nthe dog?<|im_end|>\n<|im_start|>assistant\n")
print("// Written by session_reference.py.")
cpp("kFirstPrompt", first)
cpp("kFirstAnswer", answer)
cpp("kSecondPrompt", second)
cpp("kSecondAnswer", greedy(second))
