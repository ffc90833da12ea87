"""Search with a changed space on real Ray: it uses the old study's trials, and resumes by the same command."""

from pathlib import Path
from typing import Any

import pytest

from tune_app.outcomes import Outcome, carried_from
from tune_app.study.checkpoints import BEST
from tune_app.study.reporting import outcome_of

pytestmark = pytest.mark.slow


def half_of_the_rate(settings: Any, epoch: int) -> float:
    if settings.optim.lr == 0.4:
        raise ZeroDivisionError("planted")
    return float(settings.optim.lr) / 2


def test_a_fork_goes_on_with_what_fits_and_launches_nothing_again(run_scripted: Any, tmp_path: Path) -> None:
    _, parent, _ = run_scripted(half_of_the_rate, "checkpoint.keep=2")
    kept = {path for path in (tmp_path / "runs/test/checkpoints").rglob("epoch")}
    assert len(kept) == 2

    wider = ["space.optim.lr.choices=[0.1, 0.3, 0.4, 0.5, 0.6]", "search.trials=2", "checkpoint.keep=1"]
    end, forked, output = run_scripted(half_of_the_rate, *wider)
    assert "study test: the space changed:" in output
    assert "carried over from test: 3 of 4 finished trials (1 × optim.lr is not in the space)" in output
    assert "study test-v2: new, 3 carried over, 2 launched trials in all" in output
    assert [(str(carried_from(trial)), trial.params["optim.lr"]) for trial in forked.trials()] == [
        ("trial 0 of test", 0.1),
        ("trial 2 of test", 0.3),
        ("trial 3 of test", 0.4),
        ("None", 0.5),
        ("None", 0.6),
    ]
    assert [outcome_of(trial) for trial in forked.trials()][2] is Outcome.FAILED
    assert (end.status.launched, end.status.trials["complete"]) == (2, 2)
    assert end.status.carried == {"complete": 2, "failed": 1}
    assert end.status.best.value == 0.3
    assert {path for path in (tmp_path / "runs/test/checkpoints").rglob("epoch")} == kept, "the parent's stay"
    own = [trial.user_attrs[BEST] for trial in forked.trials() if trial.user_attrs.get(BEST)]
    assert [Path(path).exists() for path in own] == [False, True]

    end, again, output = run_scripted(half_of_the_rate, *wider)
    assert (end.status.study, len(again.trials())) == ("test-v2", 5)
    assert "holds its 2 launched trials already" in end.why
    end, resumed, _ = run_scripted(half_of_the_rate, "checkpoint.keep=2")
    assert (end.status.study, len(resumed.trials())) == ("test", len(parent.trials()))
