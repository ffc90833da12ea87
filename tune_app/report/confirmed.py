"""Confirmation of a study's winner, read from ``confirm.json`` in its run directory."""

from pathlib import Path

from pydantic import BaseModel, ValidationError

from trainables.given import read_json
from tune_app.errors import UserError

CONFIRMATION_FILE = "confirm.json"

Interval = tuple[float, float]


class ConfirmedCandidate(BaseModel, frozen=True):
    """Candidate of a confirmation, trained again on fresh seeds.

    Attributes:
        number: number of its trial; None for a recommended configuration that the search never completed.
        role: ``leader`` or ``recommended``.
        search_value: value in the search; None without one.
        standing: what became of it, in a word; empty if the file does not say.
        values: value of each training.
        interval: 90 % interval of the mean.
        p_best: probability of having the highest mean.
    """

    number: int | None
    role: str
    search_value: float | None = None
    standing: str = ""
    values: tuple[float, ...] = ()
    mean: float | None = None
    interval: Interval | None = None
    p_best: float | None = None


class TestFigure(BaseModel, frozen=True):
    """Figure of a configuration on the test part, with its 90 % interval."""

    value: float
    interval: Interval


class TestPart(TestFigure, frozen=True):
    """Figure of the winner on the test part.

    Attributes:
        baseline: best score of an answer that needs no model; None if the metric has none.
        recommended: figure of the recommended configuration, if it is not the winner itself.
    """

    baseline: float | None = None
    recommended: TestFigure | None = None


class Confirmation(BaseModel, frozen=True):
    """Confirmation of a study's winner, by the contract of ``confirm.json``; further keys are ignored.

    Attributes:
        seeds: most seeds of a candidate.
        winner: trial number of the winner; None for a recommended configuration that the search never completed.
        ties: trial numbers of the candidates that cannot be told apart from the winner.
        expected_value: value to expect of the winner on unseen data.
        test: figures of the test part; None until it is opened.
        remarks: lines on what qualifies the result.
    """

    seeds: int
    winner: int | None
    ties: tuple[int | None, ...] = ()
    candidates: tuple[ConfirmedCandidate, ...]
    expected_value: float | None = None
    test: TestPart | None = None
    remarks: tuple[str, ...] = ()


def read_confirmation(run_dir: Path) -> Confirmation | None:
    """Return the confirmation of the study in a run directory; None without one.

    Raises:
        UserError: the file is damaged.
    """
    file = run_dir / CONFIRMATION_FILE
    try:
        return Confirmation.model_validate(read_json(file))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except (OSError, ValueError) as error:
        problem = str(error)
    raise UserError(f"{file}: cannot be read ({problem}); run headroom confirm again")
