#!/usr/bin/env python3
"""Writes the fixtures of the tokenizer tests with the tokenizers library (0.23; pip install tokenizers):

    python3 make_fixtures.py        # in this folder

small.vocab           a vocabulary of Qwen2's kind, trained on the text below:
                      "T <type> <token>" in the order of the ids, then "M <left> <right>" in the order of the ranks
cases.txt             "<mode> TAB <text> TAB <ids>"; mode: n = NFC, s = special tokens are parsed, - = neither.
                      Text: printable characters as they are, everything else (and \\) as \\xHH bytes
unicode_classes.txt   "<first> <last> <class>" (hexadecimal, inclusive) for the character classes that the library's
                      regex engine knows: L, N, S (white space), U (unassigned, private or surrogate); the rest: none
"""
import random
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

# tokenizer.json of Qwen2-VL.
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
         r"\s+(?!\S)|\s+")
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
           "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>",
           "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
USER_DEFINED = ["<tool_call>", "</tool_call>", "<think>", "</think>"]
N_MERGES = 2500
N_RANDOM = 60  # cases per kind of generated text

ENGLISH = """the a of and to in is that it was for on are with as his they be at one have this from or had by hot but
some what there we can out other were all your when up use word how said an each she which do their time if will way
about many then them would write like so these her long make thing see him two has look more day could go come did my
sound no most number who over know water than call first people may down side been now find any new work part take get
place made live where after back little only round man year came show every good me give our under name very through
just form much great think say help low line before turn cause same mean differ move right boy old too does tell
sentence set three want air well also play small end put home read hand port large spell add even land here must big
high such follow act why ask men change went light kind off need house picture try us again animal point mother world
near build self earth father head stand own page should country found answer school grow study still learn plant cover
food sun four thought let keep eye never last door between city tree cross since hard start might story saw far sea
draw left late run while press close night real life few stop image token vision describe box coordinate""".split()
OTHER = ["这张图片里有一只猫坐在窗台上。", "请描述这张图片。", "我想在苹果公司工作1314天～", "東京タワーは高さ三百三十三メートルです。", "これはペンです。",
         "안녕하세요, 만나서 반갑습니다.", "한국어 텍스트를 처리합니다.", "Привет, мир! Это проверка.", "нещо на Български", "Ελληνικά κείμενα",
         "مرحبا بالعالم", "שלום עולם", "हिन्दी में लिखा हुआ पाठ", "ภาษาไทยไม่มีช่องว่าง", "Cửa Việt và phở", "Über größere Städte, naïve façades, señor",
         "🦙🚀😶‍🌫️✅ emoji 👩‍👩‍👧‍👦 🇩🇪 👍🏽", "“quotes” — dashes… € £ ¥ ° ½ ² №", "x² + y² = z²; Ⅷ ① ٣٤٥ १२३"]
CODE = ["int main(int argc, char** argv) {\n\treturn 0;\n}\n", "for (size_t i = 0; i < n; ++i) {\n    sum += x[i] * y[i];\n}\n",
        "def f(self, x=1):\n    \"\"\"Doc.\"\"\"\n    return {'a': [x, 2.5e-3]}\n", "#include <vector>\n\n\n", "<div class=\"box\">&nbsp;</div>\r\n",
        "if x != y and not (a <= b): # comment\n        pass\n", "https://example.org/path?query=1&b=%20#top ", "{\"bbox_2d\": [12, 345, 678, 999], \"label\": \"cat\"}\n",
        "I'll say we've done it; they're sure he'd know, don't you? IT'S I'M\n", "    \t  \n\n", "======== ---- **** !!!! ...\n"]


def corpus(rng):
    # Invented words of common syllables: so that tokens overlap in many ways and merge order matters.
    syllables = [a + b + c for a in ("", "b", "c", "d", "f", "l", "m", "n", "p", "r", "s", "st", "t", "tr", "ch", "v") for b in "aeiou"
                 for c in ("", "n", "r", "s", "t", "l", "ng", "ck")]
    words = ENGLISH * 4 + ["".join(rng.choices(syllables, k=rng.choice([1, 2, 2, 3, 4]))) for _ in range(2500)]
    for _ in range(9000):
        words_here = rng.choices(words, k=rng.randint(3, 14))
        words_here[0] = words_here[0].capitalize()
        yield " ".join(words_here) + rng.choice([".", ".\n", "!", "?", ",", ":\n\n"])
    for _ in range(60):
        yield from OTHER
        yield from CODE
        yield " ".join(str(rng.randint(0, 10 ** rng.randint(1, 6))) for _ in range(8))


def train():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        corpus(random.Random(1)),
        trainers.BpeTrainer(vocab_size=256 + N_MERGES, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                            show_progress=False))
    tokenizer.add_tokens([AddedToken(t, special=True, normalized=False) for t in CONTROL] +
                         [AddedToken(t, special=False, normalized=False) for t in USER_DEFINED])
    return tokenizer


def write_vocabulary(tokenizer):
    import json
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    with open("small.vocab", "w", encoding="utf-8", newline="\n") as out:
        for i in range(tokenizer.get_vocab_size()):
            token = tokenizer.id_to_token(i)
            out.write(f"T {3 if token in CONTROL else 4 if token in USER_DEFINED else 1} {token}\n")
        for left, right in merges:
            out.write(f"M {left} {right}\n")


def classes():
    """One letter per code point, by asking the regex engine itself."""
    found = ["-"] * 0x110000
    everything = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    for name, pattern in (("L", r"\p{L}"), ("N", r"\p{N}"), ("S", r"\s"), ("U", r"\p{Cn}|\p{Co}")):
        split = pre_tokenizers.Split(Regex(pattern), "removed")
        for start in range(0, len(everything), 4096):
            block = "".join(everything[start:start + 4096])
            kept = set("".join(piece for piece, _ in split.pre_tokenize_str(block)))
            for c in block:
                if c not in kept:
                    found[ord(c)] = name
    for c in range(0xD800, 0xE000):
        found[c] = "U"
    return found


def write_classes(found):
    with open("unicode_classes.txt", "w", newline="\n") as out:
        start = 0
        for c in range(1, len(found) + 1):
            if c == len(found) or found[c] != found[start]:
                if found[start] != "-":
                    out.write(f"{start:X} {c - 1:X} {found[start]}\n")
                start = c


def pick(rng, alphabet, low, high):
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(low, high)))


def texts(rng, found):
    yield from ENGLISH[:5] + OTHER + CODE
    # The rules of the pre-tokenizer, one by one.
    yield from ["'s 't 're 've 'm 'll 'd", "it's IT'S It'S we'RE I'Ll you'vE he'd HE'D", "x'\u017f x'\u017ft '\u017f", "''s '' 'sx 'tx", "'r 'v 'l 'e ' s",
                " 's  'll", "a'b'c", "\u2019s it\u2019s", "_word .word (word) -word $word", "\tword \nword \r\nword", "\u0301word w\u0301ord", "1word word1 w1d",
                "1 12 123 1234 12345", "\u00b2\u00b3\u00bd \u2167 \u0663\u0664", "3.14 1,000 50%", " !?.", "  !?.", "!?.\n\n\nx", "!?.\r\n \n", "... ...\n", " \n", "\n \n  \n   x",
                "x \n y", "x  \n  y", "a   b", "a    ", "   a", "    ", " ", "\t\ta", "\u00a0a \u00a0 a", "\u3000\u3000a", "a\u2003\u2003b", "\u2028\u2029 \u0085x", "\u200b\u200bx \u180ex", "\ufeffx"]
    # Normalisation.
    yield from ["e\u0301 \u00e9 e", "A\u030a \u00c5 \u212b", "\u1e9b\u0323 q\u0307\u0323 q\u0323\u0307", "\u1100\u1161\u11a8 \uac00\u11a8 \u1100\u1161 \u11a8", "\u0301", "\u0301\u0301a\u0301\u0300\u0327",
                "\u0958 \u0928\u093c \u09c7\u09be", "\ufb01 \uf900 \U0002f800 \u2126", "\u0f73\u0f75\u0f81", "\u0344 \u0387 \u037e", "\U0001109b\U000110ba\U0001d15e", "o\u0302\u0301 o\u0301\u0302 \u01a1\u0323",
                "e<think>\u0301</think>", "e<|im_end|>\u0301", "\u304b\u3099 \u30cf\u309a", "a\u0315\u0300\u05ae\u0300b"]
    # Special tokens in text.
    yield from ["<|im_start|>user\nhi<|im_end|>\n", "<|im_end|", "<|im_end||>", "<<|im_end|>>", "<|im_end|><|im_end|>", "a <|im_end|> b", "<|im_start|><think>\n\n</think>\n\n",
                "<think><think", "</think>x</tool_call>", "<|vision_start|><|image_pad|><|vision_end|>Hi", "<tool_call>\n{\"name\": 1}\n</tool_call>", "[PAD151646] <unk>", "<|IM_END|>", "<|im_end|>" * 5 + " "]
    yield from ["👩‍👩‍👧‍👦👍🏽🇩🇪", "\u202eabc\u202c", "a" * 200, "ab" * 150, "=" * 90 + "\n", " " * 120 + "x", "的" * 70, "0" * 60]
    # Only what Unicode 9 has, which all libraries know; recognised by the classes and by the blocks of later versions.
    old = unicodedata.ucd_3_2_0
    known = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000 and old.category(chr(c)) not in ("Cn", "Co", "Cs")]
    marks = [c for c in known if unicodedata.category(c).startswith("M")]
    letters = [c for c in known if unicodedata.category(c).startswith("L") and ord(c) < 0x3000]
    decomposing = [c for c in known if unicodedata.decomposition(c) and not unicodedata.decomposition(c).startswith("<")]
    blanks = [chr(c) for c in range(0x110000) if found[c] == "S"]
    snippets = OTHER + CODE + [w for w in ENGLISH] + CONTROL + USER_DEFINED
    for _ in range(N_RANDOM):
        yield pick(rng, known, 1, 16)
        yield pick(rng, letters + [" "] * 2000, 1, 20)
        yield pick(rng, blanks + [" "] * 20 + ["\n", "\r"] * 6 + ["a", "1", "."], 1, 12)
        yield pick(rng, " \n\r\tab1.'", 1, 20)
        yield pick(rng, ["'", "'", "s", "S", "re", "VE", "m", "ll", "d", "t", "\u017f", " "], 2, 10)
        yield pick(rng, marks + ["a", "e", "o", "\u1100", "\u1161", " ", "\uac00"] * 200, 1, 10)
        yield pick(rng, decomposing, 1, 5) + unicodedata.normalize("NFD", pick(rng, decomposing, 1, 5)) + pick(rng, marks, 0, 4)
        yield pick(rng, [" ", "", ""] + snippets, 1, 5)
        yield unicodedata.normalize("NFD", rng.choice(OTHER))[:rng.randint(1, 30)]


def escaped(text):
    return "".join(c if c.isprintable() and c != "\\" else "".join(f"\\x{b:02x}" for b in c.encode()) for c in text)


def write_cases(tokenizer, found):
    rng = random.Random(2)
    seen = set()
    with open("cases.txt", "w", encoding="utf-8", newline="\n") as out:
        for text in texts(rng, found):
            if text in seen:
                continue
            seen.add(text)
            done = set()
            for mode in ("ns", "n", "s", "-"):
                tokenizer.normalizer = normalizers.NFC() if "n" in mode else normalizers.Sequence([])
                tokenizer.encode_special_tokens = "s" not in mode
                ids = tokenizer.encode(text, add_special_tokens=False).ids
                # Modes that make no difference are not repeated.
                if tuple(ids) in done and mode != "ns":
                    continue
                done.add(tuple(ids))
                out.write(f"{mode}\t{escaped(text)}\t{' '.join(map(str, ids))}\n")


if __name__ == "__main__":
    small = train()
    write_vocabulary(small)
    table = classes()
    write_classes(table)
    write_cases(small, table)
