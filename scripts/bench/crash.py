"""Search that is killed repeatedly at random moments, and the cost of that.

    python scripts/bench/crash.py [--kills 20] [--seed 0] [--within 12]
    python scripts/bench/crash.py --kills 5 -s data.path=pairs.csv -s data.max_rows=300 -s model.name=minilm-l6

The search is real: tiny encoders on the built-in data, ASHA, two trials at a time. SIGKILL ends its driver at a random
moment, at most ``--within`` seconds after the first epoch that it reports. The same command then resumes it, until the
driver was killed so often; the last one may finish.

A trial is lost if it finished but is gone or differs later. It is left open if it is not finished in the end. An epoch
is repeated if it was trained more than once. The exit status is 1 if a trial is lost, left open or recorded twice, if a
kill cost more than one epoch per running trial, or if the search ended before the last kill.
"""

import argparse
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import print_json, print_table, versions_line

NAME, AT_A_TIME, EPOCHS = "crash", 2, 5
CONFIG = f"""
study: {{name: {NAME}}}
data: {{path: demo, max_rows: 400}}
model: {{name: tiny-bert}}
tok: {{max_length: 48}}
train: {{epochs: {EPOCHS}}}
search: {{max_concurrent: {AT_A_TIME}}}
scheduler: {{name: asha}}
space:
  optim.lr: {{low: 0.0003, high: 0.01, log: true}}
  train.batch_size: {{choices: [8, 16, 32]}}
  head.dropout: {{choices: [0.0, 0.1, 0.3]}}
"""
PATIENCE_S = 600
_EPOCH_LINE = re.compile(r"trial +(\d+) +epoch (\d+):")


@dataclass
class Course:
    """State of the search so far.

    Attributes:
        epochs: how often all drivers together reported each (trial, epoch).
        told: state, values, parameters and outcome of finished trials, by number.
        at_kill: number of running trials at each kill of the driver.
    """

    epochs: Counter[tuple[int, int]] = field(default_factory=Counter)
    told: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    at_kill: list[int] = field(default_factory=list)
    lost: set[int] = field(default_factory=set)

    def listen(self, output: str) -> None:
        self.epochs.update((int(number), int(epoch)) for number, epoch in _EPOCH_LINE.findall(output))

    def look(self, run_dir: Path) -> int:
        """Compare the study with the finished trials seen before; return the number of open trials."""
        trials = trials_of(run_dir)
        now = {
            trial.number: (trial.state.name, trial.values, trial.params, trial.user_attrs["outcome"])
            for trial in trials
            if trial.state.is_finished()
        }
        self.lost |= {number for number, said in self.told.items() if now.get(number) != said}
        self.told |= now
        return len(trials) - len(now)

    @property
    def repeated(self) -> int:
        return sum(times - 1 for times in self.epochs.values())


def trials_of(run_dir: Path) -> list[Any]:
    from tune_app.study.store import load_study

    return load_study(run_dir, NAME, None).trials()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--trials", type=int, help="of the search; by default two for each kill, and six more")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--within", type=float, default=12, help="seconds after the first report")
    parser.add_argument("-s", dest="settings", action="append", default=[], help="as of headroom search; repeatable")
    arguments = parser.parse_args()
    draw, course, begun = random.Random(arguments.seed), Course(), time.perf_counter()
    trials = arguments.trials or 2 * arguments.kills + 6
    with tempfile.TemporaryDirectory() as scratch:
        config, run_dir = Path(scratch, "crash.yaml"), Path(scratch, "runs", NAME)
        config.write_text(CONFIG)
        settings = [f"study.dir={run_dir.parent}", f"search.trials={trials}", *arguments.settings]
        command = [sys.executable, "-m", "tune_app", "search", str(config)]
        command += [option for setting in settings for option in ("-s", setting)]
        for kill in range(arguments.kills):
            killed = run_and_kill(command, run_dir, course, wait_s=draw.uniform(0, arguments.within))
            print(
                f"kill {kill + 1}: {course.at_kill[-1:] or 'it had ended'} running, {len(course.told)} finished",
                flush=True,
            )
            if not killed:
                break
        output = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
        course.listen(output.stdout)
        left_open = course.look(run_dir)
        numbers = [trial.number for trial in trials_of(run_dir)]
        children = mlflow_children(run_dir)
    launched = sum(said[3] != "infeasible" for said in course.told.values())
    allowed = sum(course.at_kill)
    print_table(
        ("kills", "launched", "finished", "lost", "left open", "epochs", "repeated", "at most"),
        [[
            len(course.at_kill), launched, len(course.told), len(course.lost), left_open, len(course.epochs),
            course.repeated, allowed,
        ]],
    )  # fmt: skip
    print(f"{time.perf_counter() - begun:.0f} s; {versions_line('ray', 'optuna', 'torch')}")
    good = (
        output.returncode == 0
        and len(course.at_kill) == arguments.kills
        and launched == trials
        and not (course.lost or left_open)
        and course.repeated <= allowed
        and numbers == list(range(len(numbers)))
        and children == Counter(str(number) for number in numbers if course.told[number][3] != "infeasible")
    )
    if not good:
        print(output.stdout[-2000:], output.stderr[-2000:], f"MLflow: {children}", sep="\n")
    print_json(
        {"kills": len(course.at_kill), "finished": len(course.told), "lost": len(course.lost), "left_open": left_open}
        | {"repeated_epochs": course.repeated, "good": good}
    )
    return int(not good)


def run_and_kill(command: list[str], run_dir: Path, course: Course, *, wait_s: float) -> bool:
    """Kill the search so many seconds after its first report; return False if it ended before."""
    with tempfile.TemporaryFile("w+") as output:
        search = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        end = time.monotonic() + PATIENCE_S
        while not _EPOCH_LINE.search(so_far(output)) and search.poll() is None and time.monotonic() < end:
            time.sleep(0.2)
        try:
            search.wait(wait_s)
        except subprocess.TimeoutExpired:
            search.send_signal(signal.SIGKILL)
            search.wait()
        course.listen(so_far(output))
        if search.returncode != -signal.SIGKILL:
            course.look(run_dir)
            return False
        course.at_kill.append(course.look(run_dir))
        return True


def so_far(output: Any) -> str:
    output.seek(0)
    return str(output.read())


def mlflow_children(run_dir: Path) -> Counter[str]:
    """Return the number of MLflow's child runs of each trial, by trial number."""
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{run_dir.parent / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, "tags.`mlflow.parentRunId` != ''", max_results=5000)
    return Counter(re.sub(r"\D", "", run.info.run_name or "").lstrip("0") or "0" for run in runs)


if __name__ == "__main__":
    sys.exit(main())
