"""Names, colours, fonts and words that the pictures and questions are made of."""
import hashlib
import os
import string

SHAPES = ["circle", "square", "triangle", "star", "cross", "ring", "heart", "diamond"]
# Name -> centre of the RGB range; every use is moved by up to +-22 per channel.
COLOURS = {
    "red": (215, 30, 35), "green": (30, 150, 50), "blue": (35, 70, 215), "yellow": (240, 220, 40),
    "orange": (245, 135, 25), "purple": (130, 40, 160), "pink": (250, 150, 190), "brown": (120, 72, 30),
    "black": (22, 22, 22), "white": (245, 245, 245), "gray": (130, 130, 130)}
COLOUR_NAMES = list(COLOURS)
# What a dense target per sample point says: 0 is background.
KINDS = ["none"] + SHAPES + ["bar", "text", "line"]
CHARS = string.ascii_lowercase + string.ascii_uppercase + string.digits

# Families of Debian's fonts-dejavu-core, fonts-liberation, fonts-freefont-ttf, fonts-lato, fonts-open-sans,
# fonts-roboto-unhinted, fonts-inconsolata. Styles that are hard to read small, such as Hairline, are left out.
FONT_FILES = [
    "DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf", "DejaVuSansMono.ttf",
    "DejaVuSansMono-Bold.ttf", "LiberationSans-Regular.ttf", "LiberationSans-Bold.ttf", "LiberationSans-Italic.ttf",
    "LiberationSerif-Regular.ttf", "LiberationSerif-Bold.ttf", "LiberationMono-Regular.ttf", "LiberationMono-Bold.ttf",
    "FreeSans.ttf", "FreeSansBold.ttf", "FreeSerif.ttf", "FreeSerifBold.ttf", "FreeMonoBold.ttf", "Lato-Regular.ttf",
    "Lato-Bold.ttf", "Lato-Heavy.ttf", "OpenSans-Regular.ttf", "OpenSans-Bold.ttf", "OpenSans-Semibold.ttf",
    "Roboto-Regular.ttf", "Roboto-Bold.ttf", "Roboto-Medium.ttf", "Inconsolata.otf"]
FONT_FOLDERS = ["/usr/share/fonts"]


def find_fonts(folders=None):
    """Paths of FONT_FILES, in that order. The folder of DEMO_FONTS goes first: it lets a machine without Debian's
    packages train with copies."""
    folders = folders or ([os.environ["DEMO_FONTS"]] if "DEMO_FONTS" in os.environ else FONT_FOLDERS)
    found = {}
    for folder in folders:
        for base, _, files in os.walk(folder):
            for name in files:
                found.setdefault(name, os.path.join(base, name))
    missing = [name for name in FONT_FILES if name not in found]
    if missing:
        raise SystemExit(f"fonts missing: {', '.join(missing)}. See the list of Debian packages in words.py, or set "
                         "DEMO_FONTS to a folder that holds them.")
    return [found[name] for name in FONT_FILES]


def held_out(word):
    """One word of ten is never shown in training."""
    return hashlib.sha256(word.lower().encode()).digest()[0] % 10 == 0


def load_words(path=None):
    """(training words, held-out words): lower-case ASCII words of 3 to 8 letters from Debian's wamerican."""
    path = path or os.environ.get("DEMO_WORDS", "/usr/share/dict/words")
    with open(path, encoding="utf-8") as file:
        words = sorted({w for w in (line.strip() for line in file)
                        if 3 <= len(w) <= 8 and w.isascii() and w.isalpha() and w.islower()})
    # Letters whose cases differ by size alone: a word of nothing else cannot be read with certainty.
    words = [w for w in words if set(w) - set("cosuvwxz")]
    return [w for w in words if not held_out(w)], [w for w in words if held_out(w)]


NUMBER_WORDS = ["Zero", "One", "Two", "Three", "Four", "Five", "Six"]
ITEMS = ["apple", "pear", "plum", "milk", "tea", "rice", "egg", "bread", "fish", "corn", "salt", "nut"]
