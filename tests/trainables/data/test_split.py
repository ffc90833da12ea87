"""Splitting: parts share no group and no row, hold every class, and come close to their shares."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.data.rows import DataError, Rows
from trainables.data.split import (
    Split,
    fold_rows,
    read_development,
    read_test_rows,
    split_rows,
    tie_equal_texts,
)
from trainables.settings import DataSettings, Redraw


def make_rows(groups: list[int], labels: list[int]) -> Rows:
    return Rows(
        texts=tuple(f"text {row}" for row in range(len(groups))),
        criteria=None,
        labels=np.array(labels, dtype=np.int64),
        groups=tuple(f"group-{group}" for group in groups),
        evidence=np.full((len(groups), 2), -1, dtype=np.int64),
        class_names=tuple(map(str, range(max(labels) + 1))),
    )


def random_rows(groups: int, positive_share: float, largest: int = 12, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    group_of_row = rng.permutation(np.repeat(np.arange(groups), rng.integers(1, largest + 1, size=groups)))
    labels = rng.random(len(group_of_row)) < positive_share
    return make_rows(group_of_row.tolist(), labels.astype(int).tolist())


def parts(split: Split) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return split.train, split.validation, split.test


@given(
    pairs=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), min_size=1, max_size=60),
    validation_share=st.floats(0.05, 0.45),
    test_share=st.floats(0.05, 0.45),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=100, deadline=None)
def test_a_split_is_a_partition_that_no_group_crosses(
    pairs: list[tuple[int, int]], validation_share: float, test_share: float, seed: int
) -> None:
    rows = make_rows([group for group, _ in pairs], [label for _, label in pairs])
    try:
        split = split_rows(rows, validation_share=validation_share, test_share=test_share, seed=seed)
    except DataError:
        return
    assert sorted(np.concatenate(parts(split)).tolist()) == list(range(len(rows)))
    groups = [{rows.groups[index] for index in part} for part in parts(split)]
    assert sum(map(len, groups)) == len(set(rows.groups))
    for part in parts(split):
        assert part.tolist() == sorted(part.tolist())
        assert set(rows.labels[part]) == set(rows.labels)


@pytest.mark.parametrize(("validation_share", "test_share"), [(0.2, 0.2), (0.15, 0.15), (0.1, 0.3), (0.05, 0.05)])
@pytest.mark.parametrize("positive_share", [0.5, 0.05])
def test_parts_have_their_share_of_every_class(
    validation_share: float, test_share: float, positive_share: float
) -> None:
    rows = random_rows(groups=400, positive_share=positive_share)
    split = split_rows(rows, validation_share=validation_share, test_share=test_share, seed=3)
    shares = (1 - validation_share - test_share, validation_share, test_share)
    for part, share in zip(parts(split), shares, strict=True):
        assert len(part) / len(rows) == pytest.approx(share, abs=0.01)
        assert (rows.labels[part] == 1).sum() / (rows.labels == 1).sum() == pytest.approx(share, abs=0.02)


def test_parts_do_not_differ_in_the_size_of_their_groups() -> None:
    rows = random_rows(groups=2000, positive_share=0.3, largest=20)
    split = split_rows(rows, validation_share=0.2, test_share=0.2, seed=0)
    sizes = [len(part) / len({rows.groups[index] for index in part}) for part in parts(split)]
    assert max(sizes) / min(sizes) < 1.1


@pytest.mark.parametrize("groups", [3, 4, 5, 6])
@pytest.mark.parametrize("share", [0.1, 0.2, 0.33])
def test_few_groups_suffice(groups: int, share: float) -> None:
    rows = make_rows([group for group in range(groups) for _ in range(4)], [0, 1, 0, 1] * groups)
    split = split_rows(rows, validation_share=share, test_share=share, seed=1)
    assert all(set(rows.labels[part]) == {0, 1} for part in parts(split))


def test_few_unequal_groups_come_as_near_to_the_shares_as_they_can() -> None:
    sizes = (18, 10, 4, 4)
    rows = make_rows([group for group, size in enumerate(sizes) for _ in range(size)], [0, 1] * (sum(sizes) // 2))
    split = split_rows(rows, validation_share=0.15, test_share=0.15, seed=0)
    assert [len(part) for part in parts(split)] == [28, 4, 4]


def test_a_class_in_three_groups_of_many_reaches_every_part() -> None:
    labels = [1 if group in (17, 40, 77) else 0 for group in range(100)]
    rows = make_rows(list(range(100)), labels)
    for seed in range(10):
        split = split_rows(rows, validation_share=0.2, test_share=0.2, seed=seed)
        assert [int(rows.labels[part].sum()) for part in parts(split)] == [1, 1, 1]


def test_the_seed_decides_the_split() -> None:
    rows = random_rows(groups=50, positive_share=0.3)
    first, again, other = (
        split_rows(rows, validation_share=0.2, test_share=0.2, seed=seed).validation.tolist() for seed in (5, 5, 6)
    )
    assert first == again
    assert first != other


def test_the_order_of_the_rows_does_not_change_which_groups_go_where() -> None:
    rows = random_rows(groups=50, positive_share=0.3)
    shuffled = rows.take(np.random.default_rng(1).permutation(len(rows)))
    one, two = (
        {each.groups[index] for index in split_rows(each, validation_share=0.2, test_share=0.2, seed=0).test}
        for each in (rows, shuffled)
    )
    assert one == two


@pytest.mark.parametrize(
    ("rows", "shares", "message"),
    [
        (
            make_rows([0, 1, 2, 3], [0, 0, 1, 1]),
            (0.2, 0.2),
            r"class 0 occurs in 2 group\(s\), .* merge it with another",
        ),
        (
            make_rows([0, 0, 1, 1], [0, 1, 0, 1]),
            (0.2, 0.2),
            r"class 0 occurs in 2 group\(s\), .*\(or raise data.max_rows\)",
        ),
        (make_rows([0, 1, 2], [0, 1, 0]), (0.2, 0.2), r"class 1 occurs in 1 group\(s\)"),
        (
            make_rows([0, 1, 2], [0, 0, 0]),
            (0.5, 0.5),
            r"data.validation_share=0.5 and data.test_share=0.5 leave a part",
        ),
        (make_rows([0, 1, 2], [0, 0, 0]), (0.0, 0.5), r"data.validation_share=0.0 .* set both above 0"),
        (
            make_rows([1, 2, 3, 1, 2, 4, 1, 3, 4, 2, 3, 4], [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]),
            (0.2, 0.2),
            "no split by group was found that gives training, validation and test every class; add groups",
        ),
    ],
)
def test_rows_that_cannot_be_split_are_refused(rows: Rows, shares: tuple[float, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        split_rows(rows, validation_share=shares[0], test_share=shares[1], seed=0)


# Folds


@given(
    pairs=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 2)), min_size=1, max_size=60),
    folds=st.integers(2, 5),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=100, deadline=None)
def test_every_row_is_in_the_validation_part_of_one_fold_and_no_group_crosses(
    pairs: list[tuple[int, int]], folds: int, seed: int
) -> None:
    rows = make_rows([group for group, _ in pairs], [label for _, label in pairs])
    try:
        splits = fold_rows(rows, folds=folds, seed=seed)
    except DataError:
        return
    assert len(splits) == folds
    validated = np.concatenate([split.validation for split in splits])
    assert sorted(validated.tolist()) == list(range(len(rows)))
    for split in splits:
        assert sorted([*split.train, *split.validation]) == list(range(len(rows)))
        assert len(split.test) == 0
        train, validation = ({rows.groups[index] for index in part} for part in (split.train, split.validation))
        assert not train & validation
        assert all(set(rows.labels[part]) == set(rows.labels) for part in (split.train, split.validation))


@pytest.mark.parametrize("positive_share", [0.5, 0.05])
def test_folds_have_equal_shares_of_every_class(positive_share: float) -> None:
    rows = random_rows(groups=400, positive_share=positive_share)
    for split in fold_rows(rows, folds=5, seed=3):
        assert len(split.validation) / len(rows) == pytest.approx(0.2, abs=0.01)
        positives = (rows.labels[split.validation] == 1).sum() / (rows.labels == 1).sum()
        assert positives == pytest.approx(0.2, abs=0.02)


def test_the_seed_decides_the_folds() -> None:
    rows = random_rows(groups=50, positive_share=0.3)
    first, again, other = (fold_rows(rows, folds=3, seed=seed)[0].validation.tolist() for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_classes_that_too_few_groups_hold_cannot_be_folded() -> None:
    rows = make_rows(list(range(20)), [1] * 4 + [0] * 16)
    assert len(fold_rows(rows, folds=4, seed=0)) == 4
    with pytest.raises(DataError, match=r"class 1 occurs in 4 group\(s\), and the 5 folds .* or lower data.folds"):
        fold_rows(rows, folds=5, seed=0)


def with_texts(rows: Rows, texts: list[str]) -> Rows:
    return replace(rows, texts=tuple(texts))


def test_groups_that_hold_equal_texts_are_tied_together() -> None:
    rows = make_rows([0, 1, 2, 3, 4], [0, 1, 0, 1, 0])
    tied = tie_equal_texts(with_texts(rows, ["a", "b  C", "d", "B c\n", "d"]))
    assert tied.names == ("group-0", "group-1", "group-2", "group-1", "group-2")
    assert (tied.texts, tied.most_rows) == (2, 2)


def test_ties_reach_over_several_groups() -> None:
    rows = make_rows([3, 2, 2, 1, 1, 0], [0, 1, 0, 1, 0, 1])
    tied = tie_equal_texts(with_texts(rows, ["a", "a", "b", "b", "c", "c"]))
    assert set(tied.names) == {"group-0"}
    assert (tied.texts, tied.most_rows) == (3, 6)


def test_texts_that_are_all_different_tie_nothing() -> None:
    rows = random_rows(groups=50, positive_share=0.3)
    tied = tie_equal_texts(rows)
    assert tied.names == rows.groups
    assert (tied.texts, tied.most_rows) == (0, 0)


@pytest.fixture
def twice(tmp_path: Path) -> Path:
    """Write sixty texts, each of which occurs in two groups."""
    rows = [f"post {row % 60},{row % 2},{row}" for row in range(120)]
    file = tmp_path / "rows.csv"
    file.write_text("\n".join(["text,label,group_id", *rows]) + "\n")
    return file


@pytest.mark.parametrize("folds", [None, 3])
def test_equal_texts_stay_on_one_side_of_every_split(twice: Path, folds: int | None) -> None:
    data = DataSettings(str(twice), folds=folds)
    development = read_development(data, None, 0)
    test = {*read_test_rows(data, None, 0).texts}
    assert not test & {*development.rows.texts}
    for split in development.splits:
        sides = [{development.rows.texts[row] for row in part} for part in (split.train, split.validation)]
        assert not sides[0] & sides[1]


def test_equal_texts_may_be_set_apart(twice: Path) -> None:
    data = DataSettings(str(twice), equal_texts="apart")
    assert {*read_test_rows(data, None, 0).texts} & {*read_development(data, None, 0).rows.texts}


def test_texts_that_tie_everything_together_are_told_with_the_way_out(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("text,label\n" + "thanks,0\nthanks,1\n" * 9)
    with pytest.raises(DataError, match=r"tie them together, up to 18 of 18 rows.*data\.equal_texts=apart"):
        read_development(DataSettings(str(file)), None, 0)


def test_counts_of_the_test_part_are_known(twice: Path) -> None:
    development = read_development(DataSettings(str(twice)), None, 0)
    assert len(development.test_labels) == 120 - len(development.rows)
    assert development.test_groups == len(development.test_labels)


def test_the_data_is_split_once_for_the_labels_that_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "".join(f"text {row},{'no' if row % 2 else 'yes'}\n" for row in range(20)))
    data = DataSettings(str(path))
    found = read_development(data, None, 0)
    assert found.rows.class_names == ("no", "yes")
    assert read_development(data, ["no", "yes"], 0) is found
    assert read_development(data, ["yes", "no"], 0).rows.class_names == ("yes", "no")
    path.write_text(path.read_text() + "another,no\n")
    assert len(read_development(data, ["yes", "no"], 0).rows) + len(read_test_rows(data, None, 0)) == 21


def test_a_redraw_moves_rows_between_training_and_validation_and_leaves_the_test_part() -> None:
    data = DataSettings("demo", max_rows=300)
    usual = read_development(data, None, 3)
    first, again, other = (read_development(data, None, 3, Redraw(seed)) for seed in (1, 1, 2))
    assert len({read.rows.texts for read in (usual, first, other)}) == 1, "the rows outside the test part"
    assert np.array_equal(first.splits[0].validation, again.splits[0].validation)
    drawn = [set(read.splits[0].validation.tolist()) for read in (usual, first, other)]
    assert drawn[0] != drawn[1] != drawn[2] != drawn[0]
    for read in (first, other):
        (split,) = read.splits
        assert sorted([*split.train, *split.validation]) == list(range(len(read.rows)))
        assert not {read.rows.groups[row] for row in split.train} & {read.rows.groups[row] for row in split.validation}
        assert len(split.validation) == pytest.approx(len(usual.splits[0].validation), rel=0.15)


def test_redrawn_folds_validate_every_row_once() -> None:
    data = DataSettings("demo", max_rows=300)
    folds = [read_development(data, None, 3, Redraw(7, fold, 4)) for fold in range(4)]
    validated = np.concatenate([read.splits[0].validation for read in folds])
    assert sorted(validated.tolist()) == list(range(len(folds[0].rows)))
