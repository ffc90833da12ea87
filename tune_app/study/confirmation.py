"""Record of a confirmation: ``confirm.json`` in the run directory, which a script may read."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from trainables.files import write_whole
from tune_app.errors import UserError, one_line
from tune_app.study.run_dir import CONFIRMATION_FILE

Interval = tuple[float, float]


@dataclass(frozen=True)
class Paired:
    """Comparison of two candidates on the seeds that both were trained on.

    Attributes:
        difference: mean of the first one's values less the second one's.
        p: one-sided p value: probability of such a difference or a larger one between equally good candidates.
        test: ``sign-flip``, or ``t`` for pairs too few to flip.
        pairs: number of seeds that both have.
        standard_error: of the difference; None for a single pair.
    """

    difference: float
    standard_error: float | None
    p: float
    test: str
    pairs: int


@dataclass(frozen=True)
class ConfirmedCandidate:
    """Candidate of a confirmation, with what its trainings on fresh seeds measured.

    Attributes:
        number: number of its trial; None for a recommended configuration that the search never completed.
        role: ``leader`` or ``recommended``.
        search_value: value in the search; None without one.
        standing: ``winner``; ``tie`` with the leader; ``behind`` it by more than a standard error; ``beaten`` by it and
            dropped; or ``failed``.
        values: validation value of each training, in the order of the seeds.
        corrected: the same trainings' values on rows that did not choose their best epochs.
        mean: mean of ``values``; None without one.
        interval: 90 % BCa bootstrap interval of the mean.
        p_best: probability of having the highest mean.
        compared: comparison of the leader with this candidate; None for the leader.
        problems: reasons of the trainings that ended without a value.
    """

    number: int | None
    role: str
    params: dict[str, Any]
    search_value: float | None
    standing: str
    values: list[float]
    corrected: list[float]
    mean: float | None
    interval: Interval | None
    p_best: float
    compared: Paired | None = None
    seconds_per_sample: float | None = None
    peak_gib: float | None = None
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class TestFigure:
    """Score of a configuration's models on the test part: the mean over its trainings.

    Attributes:
        interval: 90 % bootstrap interval over the groups of the test part.
        models: number of models.
    """

    __test__ = False

    number: int | None
    value: float
    interval: Interval
    models: int


@dataclass(frozen=True)
class TestPart:
    """Figures of the test part, from the only time it was opened.

    Attributes:
        value: figure of the configuration that had won when it was opened.
        baseline: best score of an answer that needs no model; None if the metric has none.
        opened: time of the opening.
        recommended: figure of the recommended configuration, if it is not the winner itself.
        difference: winner less recommended, and its interval over groups.
    """

    __test__ = False

    number: int | None
    value: float
    interval: Interval
    models: int
    baseline: float | None
    opened: str
    recommended: TestFigure | None = None
    difference: float | None = None
    difference_interval: Interval | None = None


@dataclass(frozen=True)
class Confirmation:
    """Confirmation of a study's winner. ``as_dict`` is the contract of ``confirm.json``.

    Attributes:
        seeds: most seeds of a candidate.
        folds: number of folds that the seeds are; None if every seed draws its own split.
        winner: trial number of the winner; None if it is a recommended configuration that the search never completed.
        ties: trial numbers of the candidates that cannot be told apart from the leader, and the leader's own if another
            one wins: they lie within a standard error of the highest mean.
        expected_value: value to expect of the winner on unseen data, corrected for having been chosen.
        expected_interval: 90 % interval for the value on the test part.
        is_clear: whether the leader beat every other candidate.
        test: figures of the test part; None until it is opened.
        remarks: lines on what qualifies the result.
    """

    study: str
    metric: str
    seeds: int
    folds: int | None
    winner: int | None
    winner_params: dict[str, Any]
    ties: list[int]
    candidates: list[ConfirmedCandidate]
    expected_value: float
    expected_interval: Interval | None
    is_clear: bool
    data_fingerprint: str
    test: TestPart | None = None
    remarks: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def write(self, run_dir: Path) -> Path:
        """Write the record into the run directory, whole or not at all, and return its path."""
        file = run_dir / CONFIRMATION_FILE
        write_whole(file, json.dumps(self.as_dict(), indent=1) + "\n")
        return file


def read_confirmation(run_dir: Path) -> Confirmation | None:
    """Return the confirmation of the study in a run directory; None without one.

    Raises:
        UserError: the file is damaged.
    """
    file = run_dir / CONFIRMATION_FILE
    try:
        return TypeAdapter(Confirmation).validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        problem = (
            one_line(str(error)) if isinstance(error, OSError) else f"{error.error_count()} of its values are wrong"
        )
        raise UserError(f"{file}: cannot be read ({problem}); remove it, and run headroom confirm again") from None


def confirmation_line(confirmation: Confirmation) -> str:
    """Return a line on the confirmed winner, for people."""
    who = "the recommended configuration" if confirmation.winner is None else f"trial {confirmation.winner}"
    over = f"{confirmation.folds} folds" if confirmation.folds else f"{confirmation.seeds} seeds"
    text = f"confirmed: {who}, {confirmation.metric} {confirmation.expected_value:.4f} expected ({over})"
    if confirmation.test is not None:
        text += f"; {confirmation.test.value:.4f} on test"
    return text


def ranking_line(confirmation: Confirmation | None, study: str, best: int | None) -> str:
    """Return the line on the ranking that an export uses.

    Args:
        best: number of the best trial by the search.
    """
    if confirmation is None:
        return f"ranked by the search alone; headroom confirm {study} checks the winner on fresh seeds"
    known = {candidate.number for candidate in confirmation.candidates}
    newer = "" if best is None or best in known else f"; trial {best} leads the search since, so confirm again"
    return f"ranked by the confirmation: {confirmation_line(confirmation).removeprefix('confirmed: ')}{newer}"
