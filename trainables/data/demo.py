"""Demo data: short made-up posts, each paired with several everyday well-being criteria.

A post is a few first-person sentences. Some show a criterion. Some mention a criterion that does not hold for the
writer: it has passed, or it is somebody else's. The rest is small talk. Every row pairs a post with one criterion. A
model has to find the sentence about that criterion, and see whose it is and whether it still holds. With sensible
hyperparameters a tiny encoder from scratch soon learns what holds for the writer and which criteria are common.
Learning which sentence belongs to which criterion is the hard rest.
"""

import random
import re
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class _Topic:
    """One criterion and the phrases that express it.

    `signs` and `well` are verb phrases that follow "I". In `signs`, `a|b` reads `a` after "I" and `b` after somebody
    else. A name in braces is a slot: a word list of `_SLOTS`, or `their` (somebody else's pronoun). Both are
    affirmative, so that "I no longer", "I used to" and the like negate them. `frequency` is the relative number of
    posts that show the criterion.
    """

    criterion: str
    frequency: int
    signs: tuple[str, ...]
    well: tuple[str, ...]


@dataclass(frozen=True)
class _Sentence:
    """A sentence in three parts; `evidence` is empty if the sentence shows no criterion."""

    before: str
    evidence: str = ""
    after: str = ""


_TOPICS = (
    _Topic(
        "Sleeps badly.",
        14,
        (
            "lie|lies awake until {hour}",
            "wake|wakes up at {hour} and stay|stays awake",
            "toss|tosses and turn|turns for half the night",
            "get|gets by on {few} hours of sleep",
            "stare|stares at the bedroom ceiling until {hour}",
            "need|needs two hours to fall asleep",
        ),
        (
            "sleep through the night",
            "fall asleep within minutes",
            "sleep like a log",
            "get eight full hours of sleep",
            "stay asleep until the alarm",
        ),
    ),
    _Topic(
        "Has little appetite.",
        1,
        (
            "leave|leaves most of {meal} on the plate",
            "push|pushes the food around the plate",
            "skip|skips {meal} for lack of appetite",
            "feel|feels full after {few} bites",
            "have|has to force {meal} down",
            "find|finds even {dish} tasteless",
        ),
        (
            "look forward to {meal}",
            "ask for a second helping of {dish}",
            "eat with a good appetite",
            "enjoy a big plate of {dish}",
            "eat three proper meals a day",
        ),
    ),
    _Topic(
        "Feels low on energy.",
        6,
        (
            "feel|feels worn out by noon",
            "run|runs out of steam after {chore}",
            "drag|drags my|{their} feet all day",
            "need|needs a long rest after {chore}",
            "lack|lacks the strength for {chore}",
            "feel|feels as heavy as lead all day",
        ),
        (
            "have plenty of energy for {chore}",
            "get through {chore} without a break",
            "feel fresh until the evening",
            "run up the stairs with ease",
            "have the strength for {chore}",
        ),
    ),
    _Topic(
        "Loses interest in hobbies.",
        1,
        (
            "let|lets {gear} gather dust",
            "find|finds {hobby} pointless",
            "get|gets bored with {hobby} at once",
            "see|sees little point in {hobby}",
            "care|cares little for {hobby}",
            "feel|feels indifferent about {hobby}",
        ),
        (
            "spend happy hours on {hobby}",
            "look forward to {hobby} all week",
            "enjoy {hobby}",
            "get excited about {hobby}",
            "take out {gear} with pleasure",
        ),
    ),
    _Topic(
        "Cannot concentrate.",
        3,
        (
            "read|reads the same page of {reading} over and over",
            "lose|loses the thread in {meeting}",
            "drift|drifts off in the middle of {meeting}",
            "forget|forgets what the last paragraph said",
            "struggle|struggles to follow {meeting}",
            "need|needs three attempts to take in {reading}",
        ),
        (
            "follow {meeting} without effort",
            "read {reading} without looking up",
            "stay focused on {task}",
            "finish {task} in one go",
            "keep my mind on {task}",
        ),
    ),
    _Topic(
        "Worries a lot.",
        9,
        (
            "worry|worries about {concern} all day",
            "picture|pictures everything going wrong with {concern}",
            "fret|frets over {concern}",
            "get|gets a knot in the stomach over {concern}",
            "expect|expects the worst about {concern}",
            "brood|broods over {concern} for hours",
        ),
        (
            "feel calm about {concern}",
            "take {concern} in my stride",
            "think about {concern} with an easy mind",
            "feel hopeful about {concern}",
            "stay cheerful about {concern}",
        ),
    ),
    _Topic(
        "Is restless.",
        2,
        (
            "pace|paces up and down {room}",
            "fidget|fidgets all through {meeting}",
            "jump|jumps up from the chair every {few} minutes",
            "drum|drums my|{their} fingers on every table",
            "jiggle|jiggles one leg under the desk",
            "shift|shifts around in the seat during {meeting}",
        ),
        (
            "sit still through {meeting}",
            "stay in the chair for a whole film",
            "sit quietly in {room}",
            "relax in the armchair",
            "keep my hands and feet still",
        ),
    ),
    _Topic(
        "Avoids other people.",
        1,
        (
            "turn|turns down every invitation to {event}",
            "let|lets calls from {people} ring out",
            "cancel|cancels plans with {people} at the last minute",
            "hide|hides upstairs when {people} visit",
            "make|makes excuses to miss {event}",
            "leave|leaves messages from {people} unread",
        ),
        (
            "meet {people} every week",
            "say yes to {event}",
            "call {people} for a long chat",
            "enjoy {event} with {people}",
            "answer every message from {people}",
        ),
    ),
)

_SLOTS: dict[str, tuple[str, ...]] = {
    "hour": ("one", "two", "half past two", "three", "four", "half past four"),
    "few": ("two", "three", "four", "five"),
    "meal": ("breakfast", "lunch", "dinner", "supper"),
    "dish": ("pancakes", "lentil soup", "fresh bread", "pasta", "apple pie", "curry"),
    "chore": (
        "the laundry",
        "the shopping",
        "the dishes",
        "a short walk",
        "the vacuuming",
        "the garden work",
    ),
    "gear": ("the guitar", "the camera", "the sketchbook", "the sewing machine", "the chess set"),
    "hobby": (
        "painting",
        "gardening",
        "knitting",
        "photography",
        "chess",
        "baking",
        "birdwatching",
        "pottery",
    ),
    "reading": ("a novel", "the newspaper", "the manual", "a letter", "the report"),
    "meeting": ("the team meeting", "the lecture", "the evening class", "the Monday call", "the seminar"),
    "task": ("the spreadsheet", "the essay", "the tax form", "the timetable", "the invoices"),
    "concern": ("the rent", "the exam", "the new job", "the move", "the car repair", "the test results"),
    "room": ("the kitchen", "the hallway", "the office", "the living room", "the waiting room"),
    "event": ("the barbecue", "the birthday party", "the choir evening", "the picnic", "the quiz night"),
    "people": ("old friends", "the neighbours", "my cousins", "former classmates", "people from work"),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "thing": ("a lamp", "an umbrella", "a winter coat", "a kettle", "some flowers", "a bicycle bell"),
    "colour": ("green", "yellow", "pale blue", "white"),
    "place": ("the coast", "the lake", "the old town", "the market", "the library"),
}

# Sentences that show a criterion and sentences that only mention one share these, so that they give nothing away.
_OPENINGS = (
    "lately",
    "these days",
    "nowadays",
    "at the moment",
    "this month",
    "ever since the spring,",
    "since we came back,",
    "to be honest,",
    "as far as I can tell,",
    "I notice that",
    "I must say that",
    "my mother says that",
    "our landlady has noticed that",
    "my cousin has heard that",
)

_CLOSINGS = (
    ", even at weekends",
    ", week after week",
    ", just like last year",
    ", and everyone can tell",
    ", whatever the weather",
    ", and I wonder why",
)

_OTHERS = (
    ("my sister", "her"),
    ("my brother", "his"),
    ("my aunt", "her"),
    ("my father", "his"),
    ("my best friend", "her"),
    ("our neighbour", "his"),
    ("my flatmate", "her"),
    ("my colleague", "his"),
)

# Sentences that show a criterion, built around one of its signs or around its opposite.
_SHOWN = ("I {phrase}", "I {phrase}", "I {phrase}", "I still {phrase}", "I {phrase} again")
_LOST = ("I no longer {phrase}", "I rarely {phrase} any more")

# Sentences that mention a criterion that does not hold, built around its opposite or around one of its signs.
_WELL = ("I {phrase}", "I {phrase}", "{opening} I {phrase}", "I still {phrase}", "I {phrase} again")
_PAST = (
    "I no longer {phrase}",
    "I used to {phrase}, but that has passed",
    "I rarely {phrase} any more",
    "years ago I would often {phrase}, but not now",
    "gone are the days when I would {phrase}",
)

_SMALL_TALK = (
    "the bus was late on {day}",
    "it rained all {day}",
    "I bought {thing} on {day}",
    "we painted {room} {colour}",
    "the neighbours have a new dog",
    "I took the train to {place}",
    "there is a new bakery near {place}",
    "my cousin gave me {thing}",
    "we had {dish} for {meal} on {day}",
    "I met my aunt at {place}",
    "someone in the street plays the trumpet",
    "the lift in our building is broken again",
    "next {day} the clocks change",
    "I saw a film about {hobby}",
    "{meeting} has been put off until {day}",
    "I wrote down the date of {event}",
    "a parcel came for the neighbours on {day}",
    "{people} sent me a postcard",
)

_WRITER, _SOMEBODY_ELSE = 1, 2


def demo_rows(posts: int = 800, seed: int = 0) -> pd.DataFrame:
    """Return three to five rows for each of `posts` posts; equal arguments give equal rows.

    Columns: `text`, `criterion`, `label` (1 where the post shows the criterion, a third of the rows),
    `group_id` (one per post, for splits that keep a post's rows together), `evidence_start` and
    `evidence_end` (`text[start:end]` shows the criterion; `<NA>` where `label` is 0).
    """
    rng = random.Random(seed)
    rows: list[tuple[str, str, int, str, int | None, int | None]] = []
    for number in range(posts):
        group_id = f"post-{number:05d}"
        text, spans, asked = _post(rng)
        for topic in asked:
            start, end = spans.get(topic.criterion, (None, None))
            rows.append((text, topic.criterion, int(start is not None), group_id, start, end))
    columns = ["text", "criterion", "label", "group_id", "evidence_start", "evidence_end"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype({"label": "int64", "evidence_start": "Int64", "evidence_end": "Int64"})


def _post(rng: random.Random) -> tuple[str, dict[str, tuple[int, int]], list[_Topic]]:
    """Return a post's text, the evidence span of each criterion it shows, and the topics to ask about."""
    by_chance = sorted(_TOPICS, key=lambda topic: rng.random() ** (1 / topic.frequency), reverse=True)
    # More than half the posts show nothing, so that positives are a minority.
    count = rng.choices((0, 1, 2, 3, 4), (54, 7, 18, 18, 3))[0]
    shown, others = by_chance[:count], rng.sample(by_chance[count:], len(_TOPICS) - count)
    mentioned = others[: int(rng.random() < 0.2) if shown else rng.randint(1, 2)]
    informative = len(shown) + len(mentioned)
    small_talk = rng.sample(_SMALL_TALK, max(0, rng.choices((2, 3), (70, 30))[0] - informative))

    openings = rng.sample(_OPENINGS, len(_OPENINGS))
    sentences: list[tuple[_Topic | None, _Sentence]] = []
    sentences += [(topic, _showing(topic, openings.pop(), rng)) for topic in shown]
    sentences += [(topic, _mentioning(topic, openings.pop(), rng)) for topic in mentioned]
    sentences += [(None, _Sentence(_fill(pattern, rng))) for pattern in small_talk]
    rng.shuffle(sentences)

    text = ""
    spans: dict[str, tuple[int, int]] = {}
    for about, sentence in sentences:
        text += " " if text else ""
        if about is not None and sentence.evidence:
            start = len(text) + len(sentence.before)
            spans[about.criterion] = (start, start + len(sentence.evidence))
        whole = f"{sentence.before}{sentence.evidence}{sentence.after}."
        text += whole[0].upper() + whole[1:]

    # Every mentioned topic becomes a row: telling those negatives apart takes reading. Posts that show a criterion get
    # few other rows. A model from scratch learns whether a sentence holds much sooner than which criterion it belongs
    # to.
    asked = (shown + others)[: max(informative, 3 if shown else rng.randint(3, 4))]
    return text, spans, rng.sample(asked, len(asked))


def _showing(topic: _Topic, opening: str, rng: random.Random) -> _Sentence:
    """Return a sentence in which the writer shows the topic's criterion."""
    before = f"{opening} " if rng.random() < 0.1 else ""
    after = rng.choice(_CLOSINGS) if rng.random() < 0.05 else ""
    pattern, phrases = (rng.choice(_LOST), topic.well) if rng.random() < 0.08 else (rng.choice(_SHOWN), topic.signs)
    return _Sentence(before, pattern.format(phrase=_fill(rng.choice(phrases), rng)), after)


def _mentioning(topic: _Topic, opening: str, rng: random.Random) -> _Sentence:
    """Return a sentence that mentions the topic although its criterion does not hold for the writer."""
    kind = rng.random()
    if kind < 0.5:
        pattern, phrase = rng.choice(_WELL), rng.choice(topic.well)
        return _Sentence(pattern.format(phrase=_fill(phrase, rng), opening=opening))
    if kind < 0.75:
        return _Sentence(rng.choice(_PAST).format(phrase=_fill(rng.choice(topic.signs), rng)))
    other, their = rng.choice(_OTHERS)
    before = f"{opening} " if rng.random() < 0.1 else ""
    after = rng.choice(_CLOSINGS) if rng.random() < 0.05 else ""
    phrase = _fill(rng.choice(topic.signs), rng, form=_SOMEBODY_ELSE, their=their)
    return _Sentence(f"{before}{other} {phrase}{after}")


def _fill(pattern: str, rng: random.Random, form: int = _WRITER, their: str = "") -> str:
    """Return `pattern` with one form of each `a|b` kept and its slots filled."""
    chosen = re.sub(r"([\w{}]+)\|([\w{}]+)", rf"\{form}", pattern)
    return re.sub(r"{(\w+)}", lambda slot: their if slot[1] == "their" else rng.choice(_SLOTS[slot[1]]), chosen)
