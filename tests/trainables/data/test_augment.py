"""Augmented texts: how much changes, never the evidence, and the same for the same seed, epoch and row."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.data.augment import Augmentation, AugmentedTexts, augment_row, touched
from trainables.data.rows import Rows
from trainables.data.tokens import Reading, tokenise_rows
from trainables.models.builtin import train_tokenizer
from trainables.models.load import load_tokenizer
from trainables.settings import AugmentSettings

WAYS = ("mask", "delete", "swap")
MASK = 99_999


@st.composite
def texts_with_spans(draw: st.DrawFn) -> tuple[np.ndarray, tuple[int, int]]:
    """Draw distinct ids, and a span of them, which may be empty or all."""
    tokens = draw(st.integers(1, 60))
    first = draw(st.integers(0, tokens))
    return np.arange(100, 100 + tokens, dtype=np.int32), (first, draw(st.integers(first, tokens)))


@pytest.mark.parametrize("way", WAYS)
@given(text=texts_with_spans(), strength=st.floats(0.01, 0.99), seed=st.integers(0, 5))
def test_a_span_stays_as_it_is_and_every_token_is_where_it_is_said_to_be(
    way: str, text: tuple[np.ndarray, tuple[int, int]], strength: float, seed: int
) -> None:
    (ids, (first, end)), settings = text, AugmentSettings(way, strength=strength)
    before = ids.copy()
    augmented = augment_row(ids, (first, end), settings, MASK, np.random.default_rng(seed))
    assert (ids == before).all()
    assert augmented.ids.dtype == ids.dtype
    assert augmented.positions.shape == ids.shape
    remaining = augmented.positions >= 0
    assert sorted(augmented.positions[remaining]) == list(range(len(augmented.ids)))
    there = augmented.ids[augmented.positions[remaining]]
    assert ((there == ids[remaining]) | (there == MASK)).all()
    span = augmented.positions[first:end]
    assert remaining[first:end].all()
    assert (np.diff(span) == 1).all()
    assert (augmented.ids[span] == ids[first:end]).all()


@pytest.mark.parametrize("way", WAYS)
@given(text=texts_with_spans(), strength=st.floats(0.01, 0.99))
def test_so_many_tokens_are_changed_as_is_said(
    way: str, text: tuple[np.ndarray, tuple[int, int]], strength: float
) -> None:
    (ids, (first, end)), settings = text, AugmentSettings(way, strength=strength)
    free = len(ids) - (end - first)
    count = int(touched(settings, len(ids), free))
    augmented = augment_row(ids, (first, end), settings, MASK, np.random.default_rng(0))
    if way == "mask":
        assert (augmented.ids == MASK).sum() == count == min(free, max(1, round(strength * free)))
    elif way == "delete":
        assert len(ids) - len(augmented.ids) == count == min(free, len(ids) - 1, max(1, round(strength * free)))
    else:
        # Short runs of adjacent free tokens limit the number of swaps.
        moved = int((augmented.positions != np.arange(len(ids))).sum())
        assert moved % 2 == 0
        assert moved <= max(2, count + 1)
        assert (np.abs(augmented.positions - np.arange(len(ids))) <= 1).all()


def test_half_of_a_long_text_is_swapped_where_that_is_asked_for() -> None:
    ids = np.arange(1000, dtype=np.int32)
    augmented = augment_row(ids, (0, 0), AugmentSettings("swap", strength=0.5), None, np.random.default_rng(0))
    assert (augmented.ids != ids).sum() == 500


def test_a_text_of_one_token_is_not_left_out() -> None:
    augmented = augment_row(
        np.array([7], dtype=np.int32), (0, 0), AugmentSettings("delete"), None, np.random.default_rng(0)
    )
    assert augmented.ids.tolist() == [7]


WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> tuple[Rows, Reading]:
    """Return sixty rows, every third of which has evidence and a label of 1, and an empty text among them."""
    draw, folder = np.random.default_rng(1), tmp_path_factory.mktemp("augment")
    texts, evidence = [], []
    for row in range(60):
        # The first two words always differ, so that swapping them is visible.
        words = ["zero", *draw.choice(WORDS, size=int(draw.integers(2, 30)))]
        text = " ".join(words) if row else "."
        start = len(" ".join(words[:2])) + 1
        texts.append(text)
        evidence.append((start, len(text)) if row % 3 == 1 else (-1, -1))
    labels = np.array([int(start >= 0) for start, _ in evidence])
    rows = Rows(tuple(texts), None, labels, tuple(map(str, range(60))), np.array(evidence, dtype=np.int64), ("0", "1"))
    train_tokenizer("tiny-bert", texts, folder)
    tokenizer = load_tokenizer(folder)
    return rows, Reading(tokenise_rows(rows, tokenizer, Path(folder) / "cache"), 0, tokenizer.mask_token_id)


EVERY = np.arange(60)


def augmented_in(
    reading: tuple[Rows, Reading], settings: AugmentSettings, epoch: int = 1, seed: int = 3, part: np.ndarray = EVERY
) -> AugmentedTexts:
    rows, own = reading
    (texts,) = Augmentation(settings, seed, rows, [own]).texts_in(epoch, part)
    return texts


def as_lists(texts: AugmentedTexts) -> list[list[int]]:
    return [texts.ids_of(row).tolist() for row in range(60)]


@pytest.mark.parametrize("way", WAYS)
def test_an_epoch_is_the_same_every_time_and_unlike_another(reading: tuple[Rows, Reading], way: str) -> None:
    settings = AugmentSettings(way, probability=0.5, strength=0.2)
    augmented = as_lists(augmented_in(reading, settings))
    assert augmented == as_lists(augmented_in(reading, settings))
    assert augmented != as_lists(augmented_in(reading, settings, epoch=2))
    assert augmented != as_lists(augmented_in(reading, settings, seed=4))


@pytest.mark.parametrize("way", WAYS)
def test_a_row_is_augmented_the_same_whatever_rows_come_after_it(reading: tuple[Rows, Reading], way: str) -> None:
    rows, own = reading
    few, column = rows.take(np.arange(20)), own.tokens.texts
    column = replace(column, text_of_row=column.text_of_row[:20])
    of_few = replace(own, tokens=replace(own.tokens, texts=column))
    settings = AugmentSettings(way, probability=0.5, strength=0.2)
    (texts,) = Augmentation(settings, 3, few, [of_few]).texts_in(1, np.arange(20))
    assert [texts.ids_of(row).tolist() for row in range(20)] == as_lists(augmented_in(reading, settings))[:20]


def test_the_share_of_rows_the_part_and_the_positives_are_kept_to(reading: tuple[Rows, Reading]) -> None:
    rows, own = reading
    plain = [own.tokens.texts.ids_of(row).tolist() for row in range(60)]
    counts = []
    for epoch in range(1, 41):
        texts = augmented_in(reading, AugmentSettings("mask", probability=0.3), epoch, part=np.arange(10, 50))
        changed = {row for row, ids in enumerate(as_lists(texts)) if ids != plain[row]}
        assert changed == set(np.flatnonzero(texts.chosen))
        assert changed <= set(range(10, 50))
        counts.append(len(changed))
    assert np.mean(counts) == pytest.approx(0.3 * 40, rel=0.15)
    positives = augmented_in(reading, AugmentSettings("mask", probability=1.0, rows="positives"))
    assert (positives.chosen == (rows.labels > 0)).all()


@pytest.mark.parametrize("way", WAYS)
def test_lengths_are_known_without_telling_and_never_more(reading: tuple[Rows, Reading], way: str) -> None:
    texts = augmented_in(reading, AugmentSettings(way, probability=0.6, strength=0.4))
    assert texts.lengths.tolist() == list(map(len, as_lists(texts)))
    before = reading[1].tokens.texts.lengths
    assert (texts.lengths <= before).all()
    assert (texts.lengths < before).any() == (way == "delete")


@pytest.mark.parametrize("way", WAYS)
def test_evidence_is_left_as_it_is(reading: tuple[Rows, Reading], way: str) -> None:
    rows, own = reading
    texts = augmented_in(reading, AugmentSettings(way, probability=1.0, strength=0.9))
    for row in np.flatnonzero(rows.evidence[:, 0] >= 0):
        # The evidence is all but the first two words.
        in_evidence = own.tokens.texts.spans_of(row)[:, 0] >= rows.evidence[row, 0]
        remaining = texts.ids_of(row)[-in_evidence.sum() :]
        assert remaining.tolist() == own.tokens.texts.ids_of(row)[in_evidence].tolist()
        assert texts.ids_of(row).tolist() != own.tokens.texts.ids_of(row).tolist()


def test_masking_needs_a_token_for_it(reading: tuple[Rows, Reading]) -> None:
    rows, own = reading
    bare = Reading(own.tokens, 0)
    with pytest.raises(ValueError, match=r"augment\.name: 'mask' needs a mask token"):
        Augmentation(AugmentSettings("mask"), 3, rows, [bare])
    Augmentation(AugmentSettings("swap"), 3, rows, [bare])
