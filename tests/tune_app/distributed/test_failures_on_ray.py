"""Real Ray runs with hanging, crashing and failing workers and full disks: no finished trial is lost."""

import errno
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from trainables.content import InputsChangedError
from tune_app.distributed.breaker import Breakage
from tune_app.distributed.trainable import CheckpointsOutOfReachError
from tune_app.errors import storage_failure
from tune_app.outcomes import Outcome
from tune_app.study.journal import JournalFile

pytestmark = pytest.mark.slow


def outcomes(store: Any) -> list[str]:
    return [trial.user_attrs["outcome"] for trial in store.trials() if trial.state.is_finished()]


KILLED, CRASHED, ALWAYS_KILLED, RAISED, NOT_A_NUMBER = RATES = [0.1, 0.2, 0.3, 0.4, 0.5]


@pytest.fixture(scope="module")
def unlucky(run_scripted_once: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Run a search of five trials, each with a misfortune; return its end, its trials by their rate, and its output."""
    folder = str(tmp_path_factory.mktemp("died"))

    def script(settings: Any, epoch: int) -> float:
        rate = settings.optim.lr
        died_before = Path(folder, str(rate))
        if rate in (KILLED, CRASHED) and epoch == 3 and not died_before.exists():
            died_before.touch()
            os.kill(os.getpid(), signal.SIGKILL if rate == KILLED else signal.SIGSEGV)
        if rate == ALWAYS_KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
        if rate == RAISED:
            raise KeyError("no such thing")
        return float("nan") if rate == NOT_A_NUMBER and epoch == 2 else 0.5

    end, store, output = run_scripted_once(script, "search.trials=5", f"space.optim.lr.choices={RATES}")
    return end, {trial.params["optim.lr"]: trial for trial in store.trials()}, output


@pytest.mark.parametrize("rate", [KILLED, CRASHED])
def test_a_worker_that_dies_is_no_end_of_its_trial(rate: float, unlucky: Any) -> None:
    _, trials, output = unlucky
    trial = trials[rate]
    assert (trial.user_attrs["outcome"], trial.user_attrs["retries"]) == (Outcome.COMPLETE, 1)
    assert trial.user_attrs["resumed_at"] == 2
    assert sorted(trial.intermediate_values) == [1, 2, 3, 4]
    reason = "ActorDiedError: its worker was lost once: its worker process has died"
    assert trial.user_attrs["retry_1"].startswith(reason)
    assert f"trial    {trial.number}  is retried (1 of at most 2): {reason}" in output


def test_a_worker_that_dies_every_time_fails_the_trial_and_not_the_search(unlucky: Any) -> None:
    end, trials, _ = unlucky
    lost = trials[ALWAYS_KILLED].user_attrs
    assert (lost["outcome"], lost["retries"]) == (Outcome.FAILED, 2)
    assert "worker was lost 3 times" in lost["error_message"]
    assert end.breakage is None
    assert (end.status.trials["complete"], end.status.trials["failed"]) == (2, 3)


def test_every_failed_trial_keeps_type_message_and_traceback(unlucky: Any) -> None:
    _, trials, output = unlucky
    raised, not_a_number = trials[RAISED].user_attrs, trials[NOT_A_NUMBER].user_attrs
    assert raised["outcome"] == not_a_number["outcome"] == Outcome.FAILED
    assert raised["error_type"] == "KeyError"
    assert raised["error_message"] == "'no such thing'"
    assert 'raise KeyError("no such thing")' in raised["error_traceback"]
    assert not_a_number["error_message"] == "the objective was nan in epoch 2"
    assert "failed" in output


def test_a_worker_that_hangs_is_ended_and_its_trial_run_again_from_its_checkpoint(
    run_scripted: Any, tmp_path: Path
) -> None:
    hung_before = str(tmp_path / "hung")

    def script(settings: Any, epoch: int) -> float:
        if epoch == 3 and not os.path.exists(hung_before):
            Path(hung_before).touch()
            time.sleep(600)
        return 0.5

    _, store, _ = run_scripted(script, "search.trials=1", "trial.timeout_s=6")
    (hung,) = store.trials()
    assert hung.user_attrs["outcome"] == Outcome.COMPLETE
    assert (hung.user_attrs["retries"], sorted(hung.intermediate_values)) == (1, [1, 2, 3, 4])
    assert hung.user_attrs["resumed_at"] == 2
    assert hung.user_attrs["retry_1"].startswith("TrialHung: no report for 6 s")


def test_a_full_disk_ends_the_search_and_loses_nothing_that_was_finished(
    run_scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    appended = JournalFile._append
    written = 0

    def until_it_is_full(descriptor: int, data: bytes) -> int:
        nonlocal written
        written += b'"outcome"' in data
        if written > 2:
            os.write(descriptor, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return appended(descriptor, data)

    with monkeypatch.context() as full:
        full.setattr(JournalFile, "_append", staticmethod(until_it_is_full))
        with pytest.raises(Exception, match="No space left") as caught:
            run_scripted(lambda settings, epoch: 0.5, "search.trials=4")
    failure = storage_failure(caught.value)
    assert failure is not None
    assert "No space left on device" in failure
    assert "run the same command again" in failure

    end, store, _ = run_scripted(lambda settings, epoch: 0.5, "search.trials=4")
    assert outcomes(store) == [Outcome.COMPLETE] * 4
    assert [sorted(trial.intermediate_values) for trial in store.trials()] == [[1, 2, 3, 4]] * 4
    assert end.status.launched == 4


def test_an_error_that_is_no_trials_fault_ends_the_search_and_fails_none(run_scripted: Any, tmp_path: Path) -> None:
    mended = str(tmp_path / "mended")

    def script(settings: Any, epoch: int) -> float:
        if settings.optim.lr == 0.2 and epoch == 3 and not os.path.exists(mended):
            raise InputsChangedError("data.path: rows.csv is gone; put it back")
        return 0.5

    end, store, _ = run_scripted(script, "search.trials=3")
    assert end.breakage == Breakage("data.path: rows.csv is gone; put it back", "")
    assert outcomes(store) == [Outcome.COMPLETE]
    assert (end.status.trials["failed"], end.status.trials["interrupted"]) == (0, 1)

    Path(mended).touch()
    (checkpoint,) = (end.run_dir / "checkpoints").glob("trial-00001-*/checkpoint_*1")
    (checkpoint / "epoch").unlink()
    end, store, output = run_scripted(script, "search.trials=3")
    assert end.breakage is None
    assert outcomes(store) == [Outcome.COMPLETE] * 3
    cut_short = store.trials()[1]
    assert sorted(cut_short.intermediate_values) == [1, 2, 3, 4]
    # All epochs are equal, so the first is the best, and its checkpoint exists.
    assert cut_short.user_attrs["resumed_at"] == 1
    why = cut_short.user_attrs["passed_over"]
    assert why.startswith("its checkpoint trial-00001-")
    assert "checkpoint_000001 cannot be used (it holds no file); it resumes from trial-00001-" in why
    assert f"trial    1  {why}" in output


def test_checkpoints_that_stay_out_of_reach_end_the_search_and_fail_no_trial(run_scripted: Any) -> None:
    def script(settings: Any, epoch: int) -> float:
        if settings.optim.lr == 0.2:
            raise CheckpointsOutOfReachError("node 127.0.0.1 does not have /runs; mount it there")
        return 0.5

    end, store, output = run_scripted(script, "search.trials=3")
    assert end.breakage == Breakage("node 127.0.0.1 does not have /runs; mount it there", "")
    assert output.count("is retried") == 2
    assert outcomes(store) == [Outcome.COMPLETE]
    assert end.status.trials["interrupted"] == 1


def test_a_study_whose_file_is_gone_ends_its_search(run_scripted: Any, tmp_path: Path) -> None:
    def script(settings: Any, epoch: int) -> float:
        if settings.optim.lr == 0.2:
            (tmp_path / "runs" / "test" / "study.journal").unlink(missing_ok=True)
        return 0.5

    with pytest.raises(Exception, match=r"study\.journal is gone") as caught:
        run_scripted(script, "search.trials=3")
    failure = storage_failure(caught.value)
    assert failure is not None
    assert failure.startswith(f"{tmp_path}/runs/test/study.journal is gone: it holds the study")


def test_a_database_that_is_gone_ends_the_search_in_a_line_that_says_so(
    run_scripted: Any, postgres_url_to_kill: str
) -> None:
    server = int((Path(postgres_url_to_kill.partition("host=")[2]) / "data" / "postmaster.pid").read_text().split()[0])

    def script(settings: Any, epoch: int) -> float:
        if settings.optim.lr == 0.2 and epoch == 2:
            # Kill the server, so that its clients get no notice.
            for process in [*psutil.Process(server).children(recursive=True), psutil.Process(server)]:
                process.kill()
        return 0.5

    with pytest.raises(Exception, match=r"commit|connection") as caught:
        run_scripted(script, "search.trials=3", f"study.storage={postgres_url_to_kill}")
    failure = storage_failure(caught.value)
    assert failure is not None
    assert "server closed the connection unexpectedly" in failure
    assert "check that the database answers and run the same command again" in failure
    assert "SQL" not in failure
