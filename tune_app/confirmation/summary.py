"""Record of a confirmation, from the results of its trainings."""

from collections.abc import Mapping, Sequence

from tune_app.confirmation.candidates import Candidate
from tune_app.confirmation.expectation import Parts, expected_interval, expected_value
from tune_app.confirmation.figures import figures_of
from tune_app.confirmation.racing import Result, Verdict
from tune_app.confirmation.statistics import best_probabilities, compare, mean_interval
from tune_app.confirmation.trainings import Trainings
from tune_app.study.confirmation import Confirmation, ConfirmedCandidate
from tune_app.study.store import StudyStore


def summarised(
    confirmed: StudyStore,
    trainings: Trainings,
    candidates: Sequence[Candidate],
    verdict: Verdict,
    *,
    folds: int | None,
    parts: Parts,
    remarks: Sequence[str],
) -> Confirmation:
    """Return the record of a confirmation whose race has a winner.

    Args:
        candidates: candidates by place.
        folds: number of folds that the seeds are; None if every seed draws its own split.
        parts: numbers of rows that trainings train on, validate on, and are tested on.
        remarks: lines on what qualifies the result.
    """
    results = trainings.results(candidates)
    able = [place for place in results if results[place].can_win]
    chances = dict(zip(able, best_probabilities([results[place].values for place in able]), strict=True))
    tied = (verdict.leader, *verdict.ties)
    corrected = {place: trainings.corrected(candidates[place]) for place in verdict.racing}
    deviations = [deviation for place in verdict.racing for deviation in trainings.deviations(candidates[place])]
    winner = candidates[verdict.winner]
    numbers = {trainings.key(candidate.params): candidate.number for candidate in candidates}
    return Confirmation(
        study=confirmed.name,
        metric=confirmed.record.metric,
        seeds=max(len(result.values) for result in results.values()),
        folds=folds,
        winner=winner.number,
        winner_params=dict(winner.params),
        ties=[number for place in tied if place != verdict.winner and (number := candidates[place].number) is not None],
        candidates=[
            _candidate(trainings, candidate, place, results, verdict, chances.get(place, 0.0))
            for place, candidate in enumerate(candidates)
        ],
        expected_value=expected_value(verdict.winner, corrected),
        expected_interval=expected_interval(verdict.winner, corrected, deviations, parts),
        is_clear=len(verdict.racing) == 1,
        data_fingerprint=confirmed.record.data_fingerprint,
        test=figures_of(trainings, confirmed.record.metric, numbers),
        remarks=list(remarks),
    )


def _candidate(
    trainings: Trainings,
    candidate: Candidate,
    place: int,
    results: Mapping[int, Result],
    verdict: Verdict,
    p_best: float,
) -> ConfirmedCandidate:
    result, leader = results[place], results[verdict.leader]
    corrected = trainings.corrected(candidate)
    is_compared = place != verdict.leader and bool(leader.values.keys() & result.values.keys())
    return ConfirmedCandidate(
        number=candidate.number,
        role="recommended" if candidate.is_recommended else "leader",
        params=dict(candidate.params),
        search_value=candidate.value,
        standing=_standing(place, result, verdict),
        values=[result.values[seed] for seed in sorted(result.values)],
        corrected=[corrected[seed] for seed in sorted(corrected)],
        mean=result.mean if result.values else None,
        interval=mean_interval([result.values[seed] for seed in sorted(result.values)]),
        p_best=p_best,
        compared=compare(leader.values, result.values) if is_compared else None,
        seconds_per_sample=result.seconds_per_sample,
        peak_gib=result.peak_gib,
        problems=[f"seed {seed}: {why}" for seed, why in sorted(result.problems.items())],
    )


def _standing(place: int, result: Result, verdict: Verdict) -> str:
    if place == verdict.winner:
        return "winner"
    if not result.can_win:
        return "failed"
    if place in (verdict.leader, *verdict.ties):
        return "tie"
    return "behind" if place in verdict.racing else "beaten"
