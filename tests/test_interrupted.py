"""Searches that are killed or interrupted, then resumed by the same command: real processes, real signals."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tune_app import experiment
from tune_app.cli import cli, main

CONFIG = """
study: {name: cut, dir: RUNS}
data: {path: demo, max_rows: 100}
model: {name: tiny-bert}
train: {epochs: 9}
search: {trials: 1, sampler: exhaustive}
scheduler: {name: none}
limits: null
tracking: {enabled: false}
space:
  optim.lr: {choices: [0.001, 0.0005]}
"""


COMMAND = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_interrupted import with_trials_up_to
from tune_app import experiment
from tune_app.__main__ import main
experiment.run_search = with_trials_up_to(Path(sys.argv.pop()))
main()
"""


def with_trials_up_to(limit: Path) -> Any:
    """Return ``run_search`` with trials that train nothing and wait before the epoch after the one in this file."""

    def run_trial(settings: Any, report: Any, workspace: Any) -> None:
        from trainables.reports import TrialReport

        done = 0 if workspace.resume_from is None else int((workspace.resume_from / "epoch").read_text())
        for epoch in range(done + 1, settings.train.epochs + 1):
            while epoch > int(limit.read_text()):
                time.sleep(0.05)
            folder = workspace.checkpoints / f"epoch-{epoch}"
            folder.mkdir(parents=True)
            (folder / "epoch").write_text(str(epoch))
            ended = "complete" if epoch == settings.train.epochs else None
            report(TrialReport(step=epoch, value=0.5, checkpoint=folder, ended=ended))

    return partial(experiment.run_search, run_trial=run_trial, checks=())


def start(config: Path, limit: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", COMMAND, "search", str(config), str(limit)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True, start_new_session=True)


def status(runs: Path) -> dict[str, Any]:
    shown = CliRunner().invoke(cli, ["status", str(runs / "cut"), "--json"], catch_exceptions=False)
    return dict(json.loads(shown.stdout))


def epochs_reported(runs: Path) -> list[int]:
    from tune_app.errors import UserError
    from tune_app.study.store import load_study

    try:
        trials = load_study(runs / "cut", "cut", None).trials()
    except UserError:
        return []
    return [epoch for trial in trials for epoch in sorted(trial.intermediate_values)]


def wait_for_epoch(runs: Path, epoch: int, search: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 300
    while epoch not in epochs_reported(runs):
        assert search.poll() is None, search.stdout.read() if search.stdout else ""
        assert time.monotonic() < end, f"epoch {epoch} was not reported in 300 s"
        time.sleep(0.1)


def resumed_after(output: str) -> list[int]:
    """Return the epoch after which trial 0 resumed, and the next epoch that it reported."""
    return [int(re.findall(rf"trial +0 +{what} (\d+)", output)[0]) for what in ("resumes after epoch", "epoch")]


@pytest.mark.slow
def test_a_killed_and_then_interrupted_search_goes_on_and_repeats_no_epoch(
    tmp_path: Path, ray_with_one_slot: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, config, limit = tmp_path / "runs", tmp_path / "cut.yaml", tmp_path / "limit"
    config.write_text(CONFIG.replace("RUNS", str(runs)))
    monkeypatch.setattr(experiment, "run_search", with_trials_up_to(limit))

    def search_here() -> tuple[object, str]:
        with pytest.raises(SystemExit) as exited:
            main(["search", str(config)])
        captured = capsys.readouterr()
        return exited.value.code, captured.out + captured.err

    limit.write_text("3")
    search = start(config, limit)
    wait_for_epoch(runs, 3, search)
    assert status(runs)["trials"]["running"] == 1
    code, output = search_here()
    assert (code, output.count("\n")) == (2, 1)
    assert "a search is running on cut already" in output
    os.kill(search.pid, signal.SIGKILL)
    search.communicate(timeout=60)
    assert status(runs)["trials"]["interrupted"] == 1

    limit.write_text("6")
    search = start(config, limit)
    wait_for_epoch(runs, 6, search)
    # A service manager or batch system signals every process, Ray's too.
    os.killpg(search.pid, signal.SIGTERM)
    output, _ = search.communicate(timeout=50)
    assert search.returncode == 130
    assert "the same command resumes the search" in output
    assert "Traceback" not in output
    assert status(runs)["trials"]["interrupted"] == 1
    assert resumed_after(output) == [3, 4]

    limit.write_text("9")
    code, output = search_here()
    assert code == 0, output
    assert resumed_after(output) == [6, 7]
    end = status(runs)
    assert end["trials"] == {
        "complete": 1,
        "stopped": 0,
        "oom": 0,
        "infeasible": 0,
        "failed": 0,
        "running": 0,
        "interrupted": 0,
    }
    assert end["best"]["number"] == 0
    assert epochs_reported(runs) == list(range(1, 10))


ONE_THAT_SAVES_FOR_EVER = """
import time
from tune_app.distributed.interrupts import interruptible
with interruptible():
    try:
        print("begun", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("saves", flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_a_search_that_is_still_saving_at_once(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", ONE_THAT_SAVES_FOR_EVER], stdout=subprocess.PIPE, text=True) as search:
        assert search.stdout is not None
        assert search.stdout.readline() == "begun\n"
        search.send_signal(number)
        assert search.stdout.readline() == "saves\n"
        search.send_signal(number)
        assert search.wait(10) == 128 + number
