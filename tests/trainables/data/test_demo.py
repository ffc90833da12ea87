"""Demo data: reproducible, well-formed, and of the shape that its task needs."""

import pandas as pd
import pytest

from trainables.data.demo import demo_rows


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return demo_rows()


def test_equal_seeds_give_equal_rows(rows: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(rows, demo_rows(seed=0))


def test_another_seed_gives_other_rows(rows: pd.DataFrame) -> None:
    assert not rows["text"].equals(demo_rows(seed=1)["text"])


def test_fewer_posts_are_the_first_of_more(rows: pd.DataFrame) -> None:
    few = demo_rows(posts=20)
    assert few["group_id"].nunique() == 20
    pd.testing.assert_frame_equal(few, rows.head(len(few)))


def test_columns_are_those_of_the_data_contract(rows: pd.DataFrame) -> None:
    assert list(rows) == ["text", "criterion", "label", "group_id", "evidence_start", "evidence_end"]
    assert (rows["evidence_start"].dtype, rows["evidence_end"].dtype) == (pd.Int64Dtype(), pd.Int64Dtype())
    assert set(rows["label"]) == {0, 1}


def test_there_are_a_few_thousand_rows(rows: pd.DataFrame) -> None:
    assert 2_500 <= len(rows) <= 4_000


def test_there_are_eight_criteria_each_met_and_unmet(rows: pd.DataFrame) -> None:
    labels_of = rows.groupby("criterion")["label"].nunique()
    assert len(labels_of) == 8
    assert (labels_of == 2).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_positives_are_a_minority(seed: int) -> None:
    assert 0.25 <= demo_rows(seed=seed)["label"].mean() <= 0.36


def test_every_post_has_several_rows_one_text_and_distinct_criteria(rows: pd.DataFrame) -> None:
    posts = rows.groupby("group_id")
    assert posts.size().min() >= 3
    assert (posts["text"].nunique() == 1).all()
    assert (posts["criterion"].nunique() == posts.size()).all()


def test_texts_are_two_to_five_finished_sentences(rows: pd.DataFrame) -> None:
    assert rows["text"].str.count(r"\.").between(2, 5).all()
    assert not rows["text"].str.contains(r"[{}|]").any()


def test_positives_carry_evidence_inside_one_sentence_of_the_writer(rows: pd.DataFrame) -> None:
    shown = rows[rows["label"] == 1]
    for text, start, end in zip(shown["text"], shown["evidence_start"], shown["evidence_end"], strict=True):
        evidence = text[start:end]
        assert evidence.startswith("I ")
        assert "." not in evidence
        assert evidence == evidence.strip()


def test_evidence_of_different_criteria_does_not_overlap(rows: pd.DataFrame) -> None:
    for _, post in rows[rows["label"] == 1].groupby("group_id"):
        ordered = post.sort_values("evidence_start")
        assert (ordered["evidence_start"].iloc[1:].to_numpy() > ordered["evidence_end"].iloc[:-1].to_numpy()).all()


def test_negatives_carry_no_evidence(rows: pd.DataFrame) -> None:
    assert rows.loc[rows["label"] == 0, ["evidence_start", "evidence_end"]].isna().all(axis=None)
