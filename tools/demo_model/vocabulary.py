"""The demo model's own byte-level BPE, with the splitting rules and special tokens of Qwen2.

Every merge extends a word from its left end, and only words that follow a space or begin with a capital: a lower-case word
read from a picture is therefore spelled letter by letter, which a tiny model learns far sooner than a pairing of arbitrary
pieces, while the words of questions and answers take one token each."""
import json
import os

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
           "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
           "<|image_pad|>", "<|video_pad|>"]
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
         r"\s+(?!\S)|\s+")
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' or 'image' in content or 'image_url' in "
    "content %}<|vision_start|><|image_pad|><|vision_end|>{% elif content['type'] == 'video' or 'video' in content %}"
    "<|vision_start|><|video_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
PUNCTUATION = [("<", "|"), ("|", ">"), (")", ","), ("),", "(")]
# Words that questions about pictures may use and the training questions do not.
OTHER_WORDS = """ about after all also am animal any anything at be been before behind below between big blank body book both but by
called car cat chair come contain cost day dark depicted detail did different do dog door down draw drawn each empty every
everything explain eye face far few first for from front full get girl give go good had half hand has have he head her here
high him his hot house i if inside it its just kind know large last less light like line list little long look made make man
many map may me mean men middle more most my near next no none not now of off old on one only onto or other our out outside
over own page part people person photo place play please point read room same say scene see seen she short show shown side
sign since size sky small so some something still street sum sun take tall tell text than that their them then these they
thing third this those time to total tree two type under up upper us use very view was we were what when where which while
who why will with without woman word work would write year yes you your""".split()
SINGLE = set("system user assistant".split())  # follow a control token: no space before them


def pieces_of(texts):
    """Distinct words of the texts: with their leading space, or capitalised at the beginning."""
    splitter = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    out = set()
    for text in texts:
        for piece, _ in splitter.pre_tokenize_str(text):
            if piece[:1] == " " and piece[1:].isalpha() or piece in SINGLE or piece.isalpha() and piece[0].isupper() and piece[1:].islower():
                out.add(piece)
    return out


def build(texts):
    """(tokens, types, merges) of a vocabulary for these texts; its size is a multiple of 64."""
    pieces = pieces_of(texts) | {" " + w for w in OTHER_WORDS}
    merges, known = [tuple(m) for m in PUNCTUATION], {a + b for a, b in PUNCTUATION}
    level = 1
    words = ["Ġ" + p[1:] if p[0] == " " else p for p in sorted(pieces)]
    while any(len(w) > level for w in words):  # shorter prefixes first, so that a longer one is never out of reach
        for w in words:
            if len(w) > level and w[:level + 1] not in known:
                known.add(w[:level + 1])
                merges.append((w[:level], w[level]))
        level += 1
    tokens = sorted(pre_tokenizers.ByteLevel.alphabet()) + [a + b for a, b in merges]
    assert len(set(tokens)) == len(tokens)
    types = [1] * len(tokens) + [3] * len(SPECIAL)
    tokens += SPECIAL
    while len(tokens) % 64:
        tokens.append(f"[PAD{len(tokens)}]")
        types.append(5)
    return tokens, types, [" ".join(m) for m in merges]


def save(path, texts):
    tokens, types, merges = build(texts)
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"tokens": tokens, "types": types, "merges": merges}, file, ensure_ascii=False, indent=0)


class Vocabulary:
    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        self.tokens, self.types, self.merges = data["tokens"], data["types"], data["merges"]
        self.id = {t: i for i, t in enumerate(self.tokens)}
        t = Tokenizer(models.BPE(vocab={t: i for t, i in self.id.items() if self.types[i] == 1},
                                 merges=[tuple(m.split(" ")) for m in self.merges], fuse_unk=False, byte_fallback=False))
        t.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        t.decoder = decoders.ByteLevel()
        t.add_special_tokens([AddedToken(n, special=True, normalized=False) for n in SPECIAL])
        assert all(t.token_to_id(n) == self.id[n] for n in SPECIAL)
        self.tokenizer = t
        self.pad, self.start, self.end = (self.id[n] for n in SPECIAL[:3])
        self.image = self.id["<|image_pad|>"]

    def encode(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def encode_with_offsets(self, text):
        """(ids, [(start, end)] of their characters)"""
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def decode(self, ids):
        return self.tokenizer.decode(ids, skip_special_tokens=False)

    def save_pretrained(self, folder):
        fast = PreTrainedTokenizerFast(tokenizer_object=self.tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
        fast.chat_template = CHAT_TEMPLATE
        fast.save_pretrained(folder)


if __name__ == "__main__":
    import samples
    here = os.path.dirname(os.path.abspath(__file__))
    texts = ["You are a helpful assistant.", "system", "user", "assistant"] + [
        t for x in samples.scenes.UNKNOWN_QUESTIONS + samples.scenes.UNKNOWN_HELD_OUT for t in (x,)]
    for kind, grids in samples.GRIDS.items():
        if kind == "text":
            continue
        for seed in range(4000):
            _, questions = samples.make("vocabulary", kind, grids[seed % len(grids)], seed)
            texts += [t for turns, _ in questions for turn in turns for t in turn]
    texts += ["Read the text.", "What does it say?", "What is written here?", "What text is shown?", "Read the number.",
              "Read the word.", "Read both lines.", "What number is this?", "What word is this?", "What does the image say?",
              "What is the first letter?", "What is the last letter?", "How many letters are there?", "Is there any text?",
              "Read the first line.", "Read the second line.", "Is this a word or a number?", "Number", "Word",
              "The word in red on a white background.", "Two lines of text: a and b.", "What color is the text?",
              "What colour is the text?"]
    path = os.path.join(here, "vocabulary.json")
    save(path, texts)
    v = Vocabulary(path)
    print(len(v.tokens), "tokens", len(v.merges), "merges")
    for text in ("How many red shapes are there?", "castle", "<|box_start|>(120,30),(450,990)<|box_end|>", "Red circle",
                 "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"):
        print([v.tokens[i] for i in v.encode(text)])
        assert v.decode(v.encode(text)) == text
