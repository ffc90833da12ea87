"""The roles of columns: guessed where a person could tell, refused with the option to give where not."""

import string
from contextlib import suppress
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tune_app.drafting.columns import assign
from tune_app.drafting.profiles import profiles
from tune_app.errors import UserError

ROWS = 60
LONG = [f"the {n}th text has several words and ends with {n * 7}" for n in range(ROWS)]
SHORT = [f"is it {word} here" for word in ("sad", "tired", "calm")] * 20
NAMES = ["no", "yes", "maybe"] * 20
NUMBERS = [1, 2, 3, 4, 5] * 12
IDS = list(range(ROWS))
GROUPS = [f"u{n // 4}" for n in range(ROWS)]
SHARES = [n / 100 for n in range(ROWS)]
START, END = [4 if n % 2 else None for n in range(ROWS)], [8 if n % 2 else None for n in range(ROWS)]
NOTHING = [None] * ROWS
ONE = ["same"] * ROWS


def roles(columns: dict[str, list[Any]], **given: str) -> dict[str, str | None]:
    return {role: chosen.column for role, chosen in assign(profiles(pd.DataFrame(columns)), given).items()}


def found(text: str, label: str, criterion: str | None = None, group_id: str | None = None) -> dict[str, str | None]:
    return {"text": text, "criterion": criterion, "label": label, "group_id": group_id}


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"text": LONG, "label": NUMBERS}, found("text", "label")),
        ({"tweet": LONG, "sentiment": NAMES, "id": IDS}, found("tweet", "sentiment")),
        ({"Review Text": LONG, "Stars": NUMBERS, "helpful": IDS}, found("Review Text", "Stars")),
        (
            {"sentence1": LONG, "sentence2": SHORT, "gold_label": NAMES, "pairID": IDS},
            found("sentence1", "gold_label", "sentence2"),
        ),
        ({"question": LONG, "category": NAMES}, found("question", "category")),
        ({"question": SHORT, "passage": LONG, "answer": [True, False] * 30}, found("passage", "answer", "question")),
        ({"claim": SHORT, "evidence": LONG, "label": NAMES}, found("evidence", "label", "claim")),
        ({"Tweet": LONG, "Target": SHORT, "Stance": NAMES}, found("Tweet", "Stance", "Target")),
        (
            {"post_id": GROUPS, "post": LONG, "criterion": SHORT, "label": NUMBERS},
            found("post", "label", "criterion", "post_id"),
        ),
        ({"keyword": NAMES, "text": LONG, "target": [0, 1] * 30}, found("text", "target")),
        ({"text": LONG, "label": NUMBERS, "label_text": list("abcde") * 12}, found("text", "label_text")),
        (
            {
                "airline_sentiment": NAMES,
                "airline_sentiment_confidence": SHARES,
                "airline": list("ab") * 30,
                "text": LONG,
            },
            found("text", "airline_sentiment"),
        ),
        # Names that say nothing: the content decides.
        ({"v1": NAMES, "v2": LONG, "v3": NOTHING, "v4": ONE}, found("v2", "v1")),
        (
            {"文章": ["今天天气很好我们去公园散步然后回家" + "很" * n for n in range(ROWS)], "标签": NAMES},
            found("文章", "标签"),
        ),
        ({"word": [f"w{n}" for n in range(ROWS)], "lang": NAMES}, found("word", "lang")),
        ({"url": [f"https://a.b/{n}?x=very-long-address" for n in IDS], "t": LONG, "c": NAMES}, found("t", "c")),
        ({"text": LONG, "label": NAMES, "tokens": [[1, 2]] * ROWS}, found("text", "label")),
        # An id of rows, a few values and texts are no groups.
        ({"text": LONG, "label": NAMES, "group": ["a", "b"] * 30, "id": IDS}, found("text", "label")),
        ({"text": LONG, "label": NAMES, "author": GROUPS}, found("text", "label", None, "author")),
        ({"text": LONG, "label": NAMES, "author": [None, *GROUPS[1:]]}, found("text", "label")),
    ],
    ids=lambda case: " ".join(case) if "label" not in case else "",
)
def test_roles_are_guessed(columns: dict[str, list[Any]], expected: dict[str, str | None]) -> None:
    assert roles(columns) == expected


@pytest.mark.parametrize(
    ("column", "why"),
    [
        (
            ["a", "b"] * 30,
            "'group' is named like groups, but holds only 2 of them (--group group takes it nevertheless)",
        ),
        ([None, *GROUPS[1:]], "'group' is named like groups, but 1 of its cells are blank"),
        (LONG[:20] * 3, "'group' is named like groups, but holds texts or fractions"),
        (IDS, "No column says which rows belong together"),
    ],
)
def test_a_column_named_like_groups_is_not_passed_over_in_silence(column: list[Any], why: str) -> None:
    frame = pd.DataFrame({"text": LONG, "label": NAMES, "group": column})
    assert assign(profiles(frame), {})["group_id"].why == f"{why}: every row is its own group."


def test_few_groups_are_groups_if_the_column_says_so() -> None:
    seven = [f"article {n % 7}" for n in range(ROWS)]
    assert roles({"text": LONG, "label": NAMES, "group_id": seven})["group_id"] == "group_id"
    assert roles({"text": LONG, "label": NAMES, "some_id": seven})["group_id"] is None


def test_evidence_is_offsets_within_the_text() -> None:
    columns = {"text": LONG, "label": NAMES, "start": START, "end": END}
    assert roles(columns)["evidence_start"] == "start"
    assert roles(columns)["evidence_end"] == "end"
    assert "evidence_start" not in roles({**columns, "end": [end and end * 100 for end in END]})


def test_named_columns_have_their_roles() -> None:
    columns = {"a": LONG, "b": SHORT, "c": NAMES, "d": NUMBERS, "e": GROUPS}
    given = {"text": "b", "criterion": "a", "label": "d", "group_id": "e"}
    assert roles(columns, **given) == given
    assert {chosen.why for chosen in assign(profiles(pd.DataFrame(columns)), given).values()} == {
        "Named with --text.",
        "Named with --criterion.",
        "Named with --label.",
        "Named with --group.",
    }


@pytest.mark.parametrize(
    ("columns", "options", "parts"),
    [
        (
            {"text": LONG, "a": NAMES, "b": NUMBERS},
            {},
            ["which column holds the label", "'a' and 'b'", "--label COLUMN"],
        ),
        (
            {"text": LONG, "toxic": [0, 1] * 30, "spam": [0, 0, 1] * 20},
            {},
            ["'toxic' and 'spam' may", "--label COLUMN"],
        ),
        ({"text": LONG, "score": SHARES}, {}, ["'score' holds numbers such as 0.01", "regression", "--label"]),
        ({"text": LONG, "score": SHARES}, {"label": "score"}, ["--label: 'score'", "0.01", "regression"]),
        ({"text": LONG, "label": ONE}, {}, ["'label' holds the single value 'same'", "--label COLUMN"]),
        ({"text": LONG, "id": IDS}, {}, ["which column holds the label", "--label COLUMN", "'id'"]),
        ({"text": LONG, "votes": IDS}, {}, ["which column holds the label"]),
        ({"a": LONG, "b": LONG, "label": NAMES}, {}, ["the text", "'a' and 'b' may", "--text COLUMN", "--criterion"]),
        ({"n": IDS, "label": NAMES}, {}, ["none holds words", "--text COLUMN"]),
        ({"text": LONG, "label": NAMES}, {"label": "lable"}, ["--label: 'lable'", "did you mean label?"]),
        ({"text": LONG, "label": NAMES}, {"text": "label", "label": "label"}, ["--text, --label", "of its own"]),
        ({"text": ["", *LONG[1:]], "label": NAMES}, {}, ["'text' is empty in 1 of 60 rows", "row 1", "remove"]),
        ({"text": LONG, "label": [*NAMES[:-1], " "]}, {}, ["'label' is empty in 1 of 60 rows", "row 60"]),
        ({"no": NAMES, LONG[0]: LONG}, {}, ["first line looks like a row", "'no'"]),
    ],
)
def test_what_cannot_be_told_is_asked_for(
    columns: dict[str, list[Any]], options: dict[str, str], parts: list[str]
) -> None:
    with pytest.raises(UserError) as refused:
        roles(columns, **options)
    assert [part for part in parts if part not in str(refused.value)] == [], refused.value


CELLS = (
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats()
    | st.text(max_size=12)
    | st.lists(st.integers(), max_size=1)
)
NAME = st.sampled_from(["text", "label", "id", "question", "start", "end", "target", "x"]) | st.text(
    alphabet=string.printable, max_size=4
)


@settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(st.dictionaries(NAME, st.lists(CELLS, min_size=6, max_size=6), max_size=5))
def test_any_columns_get_roles_or_are_refused(columns: dict[str, list[Any]]) -> None:
    frame = pd.DataFrame({name: pd.Series(cells, dtype=object) for name, cells in columns.items()})
    with suppress(UserError):
        chosen = assign(profiles(frame), {})
        assert {role.column for role in chosen.values()} - {None} <= set(frame.columns)
