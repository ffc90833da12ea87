"""Exact match and token F1: computed by hand, and by an independent implementation on hundreds of answers."""

import random

import pytest
from torchmetrics.functional.text import squad

from trainables.tasks.squad import exact_match, normalised, token_f1

WORDS = [
    "the",
    "The",
    "a",
    "an",
    "cat",
    "Cat,",
    "sat.",
    "on",
    "naïve",
    "café",
    "漢字",
    "😴",
    "100%",
    "don't",
    "a.",
    "…",
    "«x»",
]
WORDS += ["\u00a0", "\u2003the", "theatre", "İ", "ß", "e\u0301", "\n", "!!!", "A-B"]


def made_up_answer(draw: random.Random) -> str:
    """Return random words, or an empty answer in one of four cases."""
    if draw.random() < 0.25:
        return ""
    return "".join(draw.choice(WORDS) + draw.choice([" ", "  ", "", "\t"]) for _ in range(draw.randint(1, 6)))


def pairs() -> list[tuple[str, str]]:
    draw = random.Random(4)
    made = [(made_up_answer(draw), made_up_answer(draw)) for _ in range(350)]
    # Random pairs are seldom equal or different in a single word.
    made += [(truth, truth.upper()) for _, truth in made[:75]]
    return made + [(truth + " cat", truth) for _, truth in made[75:150]]


def theirs(predicted: str, truth: str) -> tuple[float, float]:
    answer = {"answers": {"answer_start": [0], "text": [truth]}, "id": "0"}
    scores = squad({"prediction_text": predicted, "id": "0"}, answer)
    return float(scores["exact_match"]) / 100, float(scores["f1"]) / 100


def test_the_scores_are_those_of_another_implementation() -> None:
    made = pairs()
    assert len(made) == 500
    ours = [(exact_match(*pair), token_f1(*pair)) for pair in made]
    expected = [theirs(*pair) for pair in made]
    assert [match for match, _ in ours] == [match for match, _ in expected]
    assert [f1 for _, f1 in ours] == pytest.approx([f1 for _, f1 in expected], abs=1e-6)
    assert {0.0, 1.0} < {f1 for _, f1 in ours}, "some are right, some wrong, some in between"


def test_case_punctuation_and_articles_do_not_count() -> None:
    assert normalised("The  Cat, an a-Cat!") == ["cat", "acat"]
    assert exact_match("the cat.", "A Cat") == 1.0
    assert exact_match("theatre", "atre") == 0.0


def test_token_f1_by_hand() -> None:
    # One common word of two predicted and three true: P 1/2, R 1/3.
    assert token_f1("black cat", "white fat cat") == pytest.approx(2 / 5)
    assert token_f1("cat cat", "cat") == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("predicted", "truth", "value"), [("", "", 1.0), ("cat", "", 0.0), ("", "cat", 0.0), ("the", "", 1.0)]
)
def test_no_answer_is_right_where_there_is_none(predicted: str, truth: str, value: float) -> None:
    assert exact_match(predicted, truth) == token_f1(predicted, truth) == value
