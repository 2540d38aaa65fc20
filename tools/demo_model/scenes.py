"""Scenes of coloured shapes and what can be asked about them. A question is (turns, task): turns is a list of
(question, answer), task the name under which it is scored."""
import math

from canvas import Canvas, contrast, jitter
from words import COLOUR_NAMES, COLOURS, SHAPES

PICTURE = ["picture", "image"]
UNKNOWN_QUESTIONS = [
    "What is the capital of France?", "Who painted this?", "What is the name of this person?", "What time is it?",
    "How old is the man?", "Which city is this?", "What is the weather like?", "How much does it cost?",
    "Who is the president?", "When was this photo taken?", "What is the dog doing?", "What is the woman wearing?",
    "How is he feeling?", "What brand is the car?", "What song is playing?", "Why is the child happy?",
    "How do I cook rice?", "What does it smell like?", "Where does she live?", "Is the cat asleep?",
    "What is two plus two?", "Who won the game?", "Tell me a joke.", "Write a poem.", "What is your favorite food?",
    "How many people are there in China?", "What year is it?", "Which language do they speak?", "Who are you?",
    "What is the phone number?", "How tall is the tower?", "What animal is this?", "Translate this to German."]
UNKNOWN_HELD_OUT = ["Who wrote this book?", "What is the name of the dog?", "How far is the moon?",
                    "What is the man eating?", "Where was this photo taken?", "How much is the car?"]
UNKNOWN_ANSWER = "I do not know."


def name(o):
    return f"{o['colour']} {o['shape']}"


def cap(text):
    return text[0].upper() + text[1:]


def pick_background(rng):
    colour = rng.choice(["white"] * 4 + ["black", "gray", "yellow", "blue", "green", "pink"])
    return colour, jitter(rng, colour, 10)


def place(rng, width, height, count, background, big=False):
    """`count` shapes that do not touch, each unlike the background; gives up on those that find no room."""
    objects = []
    limit = min(width, height)
    pool = rng.sample(COLOUR_NAMES, rng.randint(2, 5)) if rng.random() < .5 else COLOUR_NAMES
    shapes = rng.sample(SHAPES, rng.randint(1, 3)) if rng.random() < .4 else SHAPES
    for _ in range(count):
        for _ in range(40):
            colour, shape = rng.choice(pool), rng.choice(shapes)
            fill = jitter(rng, colour)
            if colour == background[0] or contrast(fill, background[1]) < 85:
                pool = COLOUR_NAMES
                continue
            top = .34 if count <= 2 else .25 if count <= 4 else .2
            r = rng.uniform(max(8, .085 * limit), top * limit)
            cx, cy = rng.uniform(r + 2, width - r - 2), rng.uniform(r + 2, height - r - 2)
            if all(math.hypot(cx - o["x"], cy - o["y"]) > (r + o["r"]) * 1.12 + 3 for o in objects):
                angle = rng.uniform(-.25, .25)
                if shape in ("triangle", "star", "heart", "cross") and rng.random() < .2:
                    angle = rng.uniform(-.6, .6)
                objects.append({"shape": shape, "colour": colour, "fill": fill, "x": cx, "y": cy, "r": r,
                                "angle": angle})
                break
    return objects


def draw(rng, width, height, background, objects):
    canvas = Canvas(width, height, background)
    if rng.random() < .15:  # a faint gradient
        step = [rng.uniform(-.12, .12) for _ in range(3)]
        for y in range(height * 2):
            canvas.draw.line([(0, y), (width * 2, y)], fill=tuple(
                max(0, min(255, int(c + s * y / 2))) for c, s in zip(background[1], step)))
    for o in objects:
        o["box"] = canvas.shape(o["shape"], o["colour"], o["fill"], o["x"], o["y"], o["r"], o["angle"])
    return canvas


def box_text(label, boxes, width, height):
    """Qwen2-VL's grounding format; coordinates in thousandths, rounded to tens: finer is below a pixel here."""
    def thousandth(v, size):
        return max(0, min(990, int(round(v / size * 100)) * 10))
    text = f"<|object_ref_start|>{label}<|object_ref_end|>"
    for x1, y1, x2, y2 in boxes:
        text += (f"<|box_start|>({thousandth(x1, width)},{thousandth(y1, height)}),"
                 f"({thousandth(x2, width)},{thousandth(y2, height)})<|box_end|>")
    return text


def listing(objects):
    """Left to right, as one reads."""
    parts = [("an " if o["colour"][0] in "o" else "a ") + name(o) for o in sorted(objects, key=lambda o: o["x"])]
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


class Asker:
    """Questions about one scene, drawn at random."""

    def __init__(self, rng, width, height, background, objects):
        self.rng, self.width, self.height, self.background, self.objects = rng, width, height, background, objects
        self.names = [name(o) for o in objects]
        self.unique = [o for o in objects if self.names.count(name(o)) == 1]
        self.one_shape = [o for o in objects if sum(p["shape"] == o["shape"] for p in objects) == 1]
        self.one_colour = [o for o in objects if sum(p["colour"] == o["colour"] for p in objects) == 1]

    def describe(self):
        r = self.rng
        if not 1 <= len(self.objects) <= 4:
            return None
        q = r.choice([f"Describe this {r.choice(PICTURE)}.", f"What is in this {r.choice(PICTURE)}?", "What do you see?",
                      f"Describe the {r.choice(PICTURE)}.", "What is this?", "What can you see here?"])
        return [(q, cap(listing(self.objects)) + f" on a {self.background[0]} background.")], "describe"

    def colour(self):
        r = self.rng
        spelling = r.choice(["color", "color", "colour"])
        if r.random() < .15:
            return [(r.choice([f"What {spelling} is the background?", f"What is the {spelling} of the background?"]),
                     cap(self.background[0]))], "colour"
        if not self.one_shape:
            return None
        o = r.choice(self.one_shape)
        q = r.choice([f"What {spelling} is the {o['shape']}?", f"Which {spelling} is the {o['shape']}?",
                      f"What is the {spelling} of the {o['shape']}?", f"Tell me the {spelling} of the {o['shape']}.",
                      f"The {o['shape']} has which {spelling}?"])
        return [(q, cap(o["colour"]))], "colour"

    def shape(self):
        r = self.rng
        if not self.one_colour:
            return None
        o = r.choice(self.one_colour)
        q = r.choice([f"What shape is {o['colour']}?", f"Which shape is {o['colour']}?", f"What is {o['colour']}?",
                      f"What is the {o['colour']} shape?", f"What is the shape of the {o['colour']} object?"])
        return [(q, cap(o["shape"]))], "shape"

    def count(self):
        r = self.rng
        kind = r.random()
        if kind < .4:
            n, noun = len(self.objects), r.choice(["shapes", "objects", "things"])
        elif kind < .7:
            shape = r.choice(self.objects)["shape"] if self.objects and r.random() < .85 else r.choice(SHAPES)
            n = sum(o["shape"] == shape for o in self.objects)
            noun = shape + ("es" if shape == "cross" else "s")
        else:
            colour = r.choice(self.objects)["colour"] if self.objects and r.random() < .85 else r.choice(COLOUR_NAMES)
            n = sum(o["colour"] == colour for o in self.objects)
            noun = f"{colour} {r.choice(['shapes', 'objects'])}"
        q = r.choice([f"How many {noun} are there?", f"How many {noun} are in the {r.choice(PICTURE)}?",
                      f"Count the {noun}.", f"How many {noun} do you see?", f"What is the number of {noun}?"])
        return [(q, str(n))], "count"

    def yes_no(self):
        r = self.rng
        if not self.objects:
            return None
        kind = r.random()
        if kind < .4:
            yes = r.random() < .5
            if yes:
                n = r.choice(self.names)
            else:  # half of them almost right
                o = r.choice(self.objects)
                n = r.choice([f"{o['colour']} {r.choice(SHAPES)}", f"{r.choice(COLOUR_NAMES)} {o['shape']}",
                              f"{r.choice(COLOUR_NAMES)} {r.choice(SHAPES)}"])
                yes = n in self.names
            article = "an" if n[0] == "o" else "a"
            q = r.choice([f"Is there {article} {n}?", f"Do you see {article} {n}?", f"Is there {article} {n} here?",
                          f"Can you see {article} {n} in the {r.choice(PICTURE)}?"])
        elif kind < .55:
            shape = r.choice([r.choice(self.objects)["shape"], r.choice(SHAPES)])
            yes = any(o["shape"] == shape for o in self.objects)
            q = r.choice([f"Is there a {shape}?", f"Do you see a {shape}?"])
        elif kind < .75 and self.one_shape:
            o = r.choice(self.one_shape)
            colour = r.choice([o["colour"], r.choice(COLOUR_NAMES)])
            yes, q = colour == o["colour"], f"Is the {o['shape']} {colour}?"
        else:
            pair = self.pair()
            if not pair:
                return None
            a, b, words = pair
            word = r.choice(words if r.random() < .5 else [opposite(w) for w in words])
            yes, q = word in words, f"Is the {name(a)} {relation(word)} the {name(b)}?"
        return [(q, "Yes" if yes else "No")], "yesno"

    def pair(self):
        """Two nameable objects and where the first lies from the second: of left, right, above, below those that hold
        clearly."""
        if len(self.unique) < 2:
            return None
        a, b = self.rng.sample(self.unique, 2)
        dx, dy = (a["x"] - b["x"]) / self.width, (a["y"] - b["y"]) / self.height
        words = ([] if abs(dx) < .12 else ["left" if dx < 0 else "right"]) + (
            [] if abs(dy) < .12 else ["above" if dy < 0 else "below"])
        return (a, b, words) if words else None

    def position(self):
        r = self.rng
        kind = r.random()
        if kind < .35:
            pair = self.pair()
            if not pair:
                return None
            a, b, words = pair
            word = r.choice(words)
            if word in ("left", "right"):
                q = r.choice([f"Is the {name(a)} left or right of the {name(b)}?",
                              f"Is the {name(a)} to the left or to the right of the {name(b)}?"])
            else:
                q = f"Is the {name(a)} above or below the {name(b)}?"
            return [(q, cap(word))], "position"
        if kind < .7 and self.unique:
            o = r.choice(self.unique)
            x, y = o["x"] / self.width, o["y"] / self.height
            place = None
            if abs(x - .5) > .13 and abs(y - .5) > .13:
                place = ("Top" if y < .5 else "Bottom") + (" left" if x < .5 else " right")
            elif abs(x - .5) < .07 and abs(y - .5) < .07:
                place = "Center"
            if not place:
                return None
            return [(r.choice([f"Where is the {name(o)}?", f"In which part of the {r.choice(PICTURE)} is the {name(o)}?",
                               f"Which corner is the {name(o)} in?" if place != "Center" else
                               f"Where is the {name(o)}?"]), place)], "position"
        if len(self.objects) < 2:
            return None
        axis, word, q = r.choice([("x", -1, "farthest to the left"), ("x", 1, "farthest to the right"),
                                  ("y", -1, "at the top"), ("y", 1, "at the bottom")])
        order = sorted(self.objects, key=lambda o: word * o[axis])
        size = self.width if axis == "x" else self.height
        if abs(order[-1][axis] - order[-2][axis]) / size < .1:
            return None
        return [(f"Which {r.choice(['shape', 'object'])} is {q}?", cap(name(order[-1])))], "position"

    def size(self):
        r = self.rng
        if r.random() < .5 and len(self.unique) >= 2:
            a, b = r.sample(self.unique, 2)
            if max(a["r"], b["r"]) / min(a["r"], b["r"]) < 1.3:
                return None
            bigger = r.random() < .5
            best = max(a, b, key=lambda o: o["r"] if bigger else -o["r"])
            return [(f"Which is {'bigger' if bigger else 'smaller'}, the {name(a)} or the {name(b)}?",
                     cap(name(best)))], "size"
        if len(self.objects) < 2:
            return None
        biggest = r.random() < .5
        order = sorted(self.objects, key=lambda o: o["r"] if biggest else -o["r"])
        ratio = order[-1]["r"] / order[-2]["r"]
        if max(ratio, 1 / ratio) < 1.2:
            return None
        return [(f"Which {r.choice(['shape', 'object'])} is the {'biggest' if biggest else 'smallest'}?",
                 cap(name(order[-1])))], "size"

    def box(self):
        r = self.rng
        label = None
        if r.random() < .12:
            label = f"{r.choice(COLOUR_NAMES)} {r.choice(SHAPES)}"
            if label in self.names:
                label = None
            else:
                answer = f"There is no {label}."
        if label is None:
            if not self.unique:
                return None
            o = r.choice(self.unique)
            label = name(o)
            if o in self.one_shape and r.random() < .3:
                label = o["shape"]
            answer = box_text(label, [o["box"]], self.width, self.height)
        return [(r.choice([f"Find the {label}.", f"Give the box of the {label}.", f"Detect the {label}.",
                           f"Locate the {label}.", f"Mark the {label} with a box.",
                           f"Find the {label} and give its box."]), answer)], "box"

    def followup(self):
        r = self.rng
        spelling = r.choice(["color", "color", "colour"])
        if r.random() < .6 and len(self.one_shape) >= 2:
            a, b = r.sample(self.one_shape, 2)
            return [(f"What {spelling} is the {a['shape']}?", cap(a["colour"])),
                    (r.choice([f"And the {b['shape']}?", f"What about the {b['shape']}?"]), cap(b["colour"]))], "followup"
        if len(self.one_colour) >= 2:
            a, b = r.sample(self.one_colour, 2)
            return [(f"What shape is {a['colour']}?", cap(a["shape"])),
                    (r.choice([f"And what is {b['colour']}?", f"Which one is {b['colour']}?"]), cap(b["shape"]))], "followup"
        return None

    def unknown(self):
        r = self.rng
        absent = [s for s in SHAPES if all(o["shape"] != s for o in self.objects)]
        if r.random() < .4 and absent:
            s = r.choice(absent)
            return [(f"What {r.choice(['color', 'colour'])} is the {s}?", f"There is no {s}.")], "unknown"
        return [(r.choice(UNKNOWN_QUESTIONS), UNKNOWN_ANSWER)], "unknown"


def opposite(word):
    return {"left": "right", "right": "left", "above": "below", "below": "above"}[word]


def relation(word):
    return {"left": "to the left of", "right": "to the right of"}.get(word, word)


assert set(COLOURS) == set(COLOUR_NAMES)
