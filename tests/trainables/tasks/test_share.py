"""Score of two answers at once."""

from trainables.tasks.protocol import Scores
from trainables.tasks.share import both


def test_the_score_is_the_mean_of_both_parts_beside_that_of_knowing_nothing() -> None:
    classes = Scores(
        {"macro_f1": 0.8, "majority_macro_f1": 0.4},
        {"threshold": 0.5},
        {"by_criterion": {"sleep": {"rows": 4.0}}},
        False,
    )
    spans = Scores(
        {"exact_match": 0.6, "empty_exact_match": 0.5},
        {"null_threshold": 1.0},
        {"by_criterion": {"sleep": {"f1": 0.2}}},
        True,
    )
    scores = both(classes, spans)
    assert scores.metrics == {
        "mean_score": 0.7,
        "majority_empty_mean_score": 0.45,
        **classes.metrics,
        **spans.metrics,
    }
    assert scores.decision == {"threshold": 0.5, "null_threshold": 1.0}
    assert scores.breakdowns == {"by_criterion": {"sleep": {"rows": 4.0, "f1": 0.2}}}
    assert scores.collapsed
