"""Pictures to read: words, numbers, bar charts and tables, and what can be asked about them."""
import math

from canvas import Canvas, contrast, jitter
from scenes import PICTURE, UNKNOWN_ANSWER, UNKNOWN_QUESTIONS, cap, pick_background
from words import COLOUR_NAMES, FONT_FILES, ITEMS


def ink(rng, background, least=110):
    for _ in range(200):
        colour = rng.choice(["black"] * 4 + COLOUR_NAMES) if background[0] != "black" else rng.choice(
            ["white"] * 4 + COLOUR_NAMES)
        fill = jitter(rng, colour, 15)
        if contrast(fill, background[1]) > least and colour != background[0]:
            return colour, fill
    return ("white", (255, 255, 255)) if sum(background[1]) < 380 else ("black", (0, 0, 0))


def random_word(rng, words):
    if words[1] or rng.random() < .5:  # held out: real words only
        word = rng.choice(words[0])
    else:
        word = "".join(rng.choice("aaabcddeeeefghiijklmnnooopqrrssttuuvwxyz") for _ in range(rng.randint(2, 8)))
        if not set(word) - set("cosuvwxz"):
            word = word[:-1] + rng.choice("abdefghijklmnpqrty")
    return rng.choice([word, word, word.upper(), cap(word)])


def text_picture(rng, width, height, words, big=False):
    """One word or number, sometimes two lines. Returns (canvas, questions)."""
    background = pick_background(rng)
    canvas = Canvas(width, height, background)
    colour, fill = ink(rng, background)
    lines = []
    kind = rng.random()
    is_number = kind < .25
    if is_number:
        lines.append(str(rng.randint(0, 10 ** rng.randint(1, 6) - 1)))
    else:
        lines.append(random_word(rng, words))
        if kind > .85:
            lines.append(random_word(rng, words) if rng.random() < .6 else str(rng.randint(0, 9999)))
    face = rng.randrange(len(FONT_FILES))
    size = rng.uniform(15, 34) if not is_number or len(lines[0]) > 2 else rng.uniform(18, 60)
    while True:
        sizes = [canvas.text_size(t, face, size) for t in lines]
        total = sum(s[1] - s[2] for s in sizes) + 7 * (len(lines) - 1)
        if (max(s[0] for s in sizes) <= width - 5 and total <= height - 5) or size < 9:
            break
        size *= .93
    # A third is turned a little, where no letter would leave the picture.
    degrees = rng.uniform(-5, 5) if rng.random() < .33 else 0
    rise = abs(math.sin(math.radians(degrees))) * width / 2 + 1
    if total + 2 * rise > height - 6 or max(s[0] for s in sizes) > width - 10:
        degrees = rise = 0
    y = rng.uniform(2 + rise, max(2.1 + rise, height - total - 3 - rise))
    for row, (text, s) in enumerate(zip(lines, sizes)):
        x = rng.uniform(2, max(2.1, width - s[0] - 3))
        canvas.text(x, y, text, colour, fill, face, size, row=row)
        y += s[1] - s[2] + 7
    if degrees:
        canvas.rotate(degrees)
    whole = " ".join(lines)
    picture = rng.choice(PICTURE)
    q = rng.choice(["Read the text.", "What does it say?", "What is written here?", f"What does the {picture} say?",
                    "What text is shown?", f"Read the {'number' if is_number else 'word'}." if len(lines) == 1 else
                    "Read both lines.", f"What {'number' if is_number else 'word'} is this?" if len(lines) == 1 else
                    "Read the text."])
    questions = [([(q, whole)], "ocr")]
    extra = [([(rng.choice([f"What color is the text?", f"What colour is the text?"]), cap(colour))], "colour"),
             ([(f"What color is the background?", cap(background[0]))], "colour"),
             ([(rng.choice(["Is there text?", f"Is there any text in the {picture}?"]), "Yes")], "yesno"),
             ([("How many shapes are there?", "0")], "count"),
             ([(rng.choice([f"Describe this {picture}.", f"What is in this {picture}?", "What do you see?"]),
                f"The {'number' if is_number else 'word'} {lines[0]} in {colour} on a {background[0]} background."
                if len(lines) == 1 else f"Two lines of text: {lines[0]} and {lines[1]}.")], "describe"),
             ([(rng.choice(UNKNOWN_QUESTIONS), UNKNOWN_ANSWER)], "unknown"),
             ([("Is this a word or a number?", "Number" if is_number else "Word")] , "ocr_kind")]
    if len(lines) > 1:
        extra = extra[:-1] + [([("Read the first line.", lines[0])], "ocr"), ([("Read the second line.", lines[1])], "ocr")]
    elif not is_number:
        extra += [([("What is the first letter?", lines[0][0])], "letter"),
                  ([("What is the last letter?", lines[0][-1])], "letter"),
                  ([("How many letters are there?", str(len(lines[0])))], "letter")]
    questions += rng.sample(extra, 3)
    return canvas, questions


def page_picture(rng, width, height, words):
    """Full of words and numbers of many fonts, sizes and colours, for the dense targets alone: ten times the letters of a
    text_picture, and most of them small. Returns (canvas, no questions)."""
    background = pick_background(rng)
    canvas = Canvas(width, height, background)
    largest = rng.choice([14, 18, 24, 30])
    y, row = rng.uniform(1, 5), 0
    while y < height - 9:
        size, face = rng.uniform(8.5, largest), rng.randrange(len(FONT_FILES))
        x, lowest = rng.uniform(1, 6), 0
        while True:
            text = str(rng.randint(0, 10 ** rng.randint(1, 6) - 1)) if rng.random() < .2 else random_word(rng, words)
            right, bottom, top = canvas.text_size(text, face, size)
            if x + right > width - 2 or y + bottom - top > height - 2:
                break
            colour, fill = ink(rng, background)
            canvas.text(x, y, text, colour, fill, face, size, row=row)
            x += right + size * rng.uniform(.35, .8)
            lowest = max(lowest, bottom - top)
        y += (lowest or size * .4) + rng.uniform(1.5, 6)
        row += lowest > 0
    if rng.random() < .33:
        canvas.rotate(rng.uniform(-5, 5))
    return canvas, []


def chart_picture(rng, width, height, words, big=False):
    """Two to five bars of values 1 to 10, labelled A, B, ..., with the values on the bars or on an axis with lines."""
    background = ("white", jitter(rng, "white", 8))
    canvas = Canvas(width, height, background)
    n = rng.randint(2, 5)
    values = [rng.randint(1, 10) for _ in range(n)]
    colours = rng.sample([c for c in COLOUR_NAMES if c not in ("white", "yellow")], n)
    if rng.random() < .35:
        colours = [colours[0]] * n
    labels = [chr(65 + i) for i in range(n)]
    face = rng.randrange(len(FONT_FILES))
    size = rng.uniform(11, 14)
    axis = rng.random() < .35
    left, top, bottom = (22 if axis else 6), 18, height - 18
    dark = (30, 30, 30)
    unit = (bottom - top) / 10
    if axis:
        for v in (0, 2, 4, 6, 8, 10):
            y = bottom - v * unit
            canvas.line([(left, y), (width - 4, y)], (190, 190, 190), .5)
            if v % 5 == 0 or height > 120:
                s = canvas.text_size(str(v), face, size - 2)
                canvas.text(left - s[0] - 4, y - (s[1] - s[2]) / 2, str(v), "black", dark, face, size - 2)
    slot = (width - left - 4) / n
    for i in range(n):
        x1 = left + slot * (i + .18)
        x2 = left + slot * (i + .82)
        canvas.rectangle("bar", colours[i], jitter(rng, colours[i], 15), (x1, bottom - values[i] * unit, x2, bottom),
                         line=labels[i], link=str(values[i]))
        s = canvas.text_size(labels[i], face, size)
        canvas.text((x1 + x2 - s[0]) / 2, bottom + 4, labels[i], "black", dark, face, size, link=str(values[i]))
        if not axis:
            s = canvas.text_size(str(values[i]), face, size)
            canvas.text((x1 + x2 - s[0]) / 2, bottom - values[i] * unit - (s[1] - s[2]) - 3, str(values[i]), "black", dark,
                        face, size, link=labels[i])
    canvas.line([(left, top - 6), (left, bottom), (width - 3, bottom)], dark)
    questions = []
    for i in rng.sample(range(n), min(n, 3)):
        questions.append(([(rng.choice([f"What is the value of {labels[i]}?", f"How high is bar {labels[i]}?",
                                        f"Read the value of {labels[i]} from the chart."]), str(values[i]))], "chart"))
    if len(set(colours)) == n:
        i = rng.randrange(n)
        questions.append(([(f"What is the value of the {colours[i]} bar?", str(values[i]))], "chart"))
        questions.append(([(f"What color is bar {labels[i]}?", cap(colours[i]))], "colour"))
    order = sorted(range(n), key=lambda i: values[i])
    if values[order[-1]] > values[order[-2]]:
        questions.append(([(rng.choice(["Which bar is the highest?", "Which bar is the tallest?"]), labels[order[-1]])],
                          "chart"))
    if values[order[0]] < values[order[1]]:
        questions.append(([(rng.choice(["Which bar is the lowest?", "Which bar is the shortest?"]), labels[order[0]])],
                          "chart"))
    questions.append(([("How many bars are there?", str(n))], "count"))
    questions.append(([(rng.choice(["Describe this picture.", "What is this?", "What do you see?"]),
                        f"A bar chart with {n} bars.")], "describe"))
    rng.shuffle(questions)
    return canvas, questions[:6]


def table_picture(rng, width, height, words, big=False):
    """Two to five rows of a name and a number."""
    background = ("white", jitter(rng, "white", 10))
    canvas = Canvas(width, height, background)
    n = rng.randint(2, min(5, int(height // 22)))
    names = rng.sample(ITEMS, n)
    values = [rng.randint(0, 99) for _ in range(n)]
    face = rng.randrange(len(FONT_FILES))
    size = min(rng.uniform(12, 16), (height - 6) / n - 5)
    dark = (30, 30, 30)
    row = (height - 6) / n
    while max(canvas.text_size(t, face, size)[0] for t in names) > width * .6 and size > 9:
        size *= .95
    middle = width * .66
    if rng.random() < .7:
        for i in range(n + 1):
            canvas.line([(3, 3 + i * row), (width - 3, 3 + i * row)], (120, 120, 120), .5)
        for x in (3, middle, width - 3):
            canvas.line([(x, 3), (x, 3 + n * row)], (120, 120, 120), .5)
    for i in range(n):
        y = 3 + row * i + max(2, (row - size) / 2)
        canvas.text(7, y, names[i], "black", dark, face, size, row=i, link=str(values[i]))
        canvas.text(middle + 6, y, str(values[i]), "black", dark, face, size, row=i, link=names[i])
    questions = []
    for i in rng.sample(range(n), min(n, 3)):
        questions.append(([(rng.choice([f"What is the value of {names[i]}?", f"What number is next to {names[i]}?",
                                        f"How much is {names[i]}?", f"Read the value of {names[i]} from the table."]),
                            str(values[i]))], "table"))
    i = rng.randrange(n)
    if values.count(values[i]) == 1:
        questions.append(([(f"Which row has the value {values[i]}?", cap(names[i]))], "table"))
    questions.append(([("How many rows are there?", str(n))], "count"))
    questions.append(([(rng.choice(["Describe this picture.", "What is this?", "What do you see?"]),
                        f"A table with {n} rows.")], "describe"))
    other = rng.choice([x for x in ITEMS if x not in names])
    questions.append(([(f"What is the value of {other}?", f"There is no {other}.")], "unknown"))
    rng.shuffle(questions)
    return canvas, questions[:6]
