"""Searches on a cluster of three nodes with a claimed GPU each: nodes are lost, and studies share the cards."""

import io
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from tune_app.config import dump_yaml, parse_config
from tune_app.console import Console

# Ray's cluster for tests leaves sockets open.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Start three nodes; the head, on which the searches run, has no room for a trial."""
    from ray.cluster_utils import Cluster

    from tune_app.distributed.environment import set_for_ray

    # Short health checks, so that Ray notices a lost node soon.
    quick = {"health_check_period_ms": 500, "health_check_timeout_ms": 500, "health_check_failure_threshold": 3}
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": quick}
    with set_for_ray():
        cluster = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(2):
            cluster.add_node(num_cpus=4, num_gpus=1)
        yield cluster
        cluster.shutdown()


@pytest.fixture
def search(plain_config: dict[str, Any], cluster: Any) -> Callable[..., Any]:
    """Return a function that runs a search on the cluster and returns the trials of its study and its output."""
    from tune_app.experiment import run_search
    from tune_app.study.store import load_study

    def run(run_trial: Any, *overrides: str) -> Any:
        config = parse_config(plain_config, overrides)
        output = io.StringIO()
        run_search(
            config, console=Console(file=output, width=300), address=cluster.address, run_trial=run_trial, checks=()
        )
        return load_study(Path(config.run_dir), config.study.name, None).trials(), output.getvalue()

    return run


@dataclass(frozen=True)
class Epoch:
    """Epoch as ``slow_trial`` recorded it."""

    lr: float
    number: int
    node: str
    card: str
    begun: float
    ended: float

    @classmethod
    def of(cls, line: str) -> Self:
        lr, number, node, card, begun, ended = line.split()
        return cls(float(lr), int(number), node, card, float(begun), float(ended))

    @property
    def location(self) -> tuple[str, str]:
        return self.node, self.card

    def runs_at(self, moment: float) -> bool:
        return self.begun <= moment < self.ended


def slow_trial(log: Path, meets: Path | None = None) -> Any:
    """Return a trial of half a second an epoch that records where and when each was trained.

    Its last epoch goes on until ``meets`` exists, the log of another study.
    """

    def run_trial(settings: Any, report: Any, workspace: Any) -> None:
        import ray

        from trainables.reports import TrialReport

        done = 0
        if workspace.resume_from is not None:
            done = int((workspace.resume_from / "epoch").read_text())
        node = ray.get_runtime_context().get_node_id()
        epochs = settings.train.epochs
        for epoch in range(done + 1, epochs + 1):
            begun = time.time()
            time.sleep(0.5)
            deadline = begun + 120
            while epoch == epochs and meets is not None and not meets.exists():
                if time.time() > deadline:
                    raise TimeoutError("the other study does not train")
                time.sleep(0.05)
            folder = workspace.checkpoints / f"epoch-{epoch}"
            folder.mkdir(parents=True)
            (folder / "epoch").write_text(str(epoch))
            with log.open("a") as file:
                file.write(f"{settings.optim.lr} {epoch} {node} {workspace.card} {begun} {time.time()}\n")
            ended = "complete" if epoch == epochs else None
            report(TrialReport(step=epoch, value=0.5, checkpoint=folder, ended=ended))

    return run_trial


def test_a_node_that_is_removed_takes_no_trial_with_it(search: Any, cluster: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    removed: list[str] = []

    def remove_a_node() -> None:
        while not log.exists() or len(log.read_text().splitlines()) < 4:
            time.sleep(0.1)
        node = log.read_text().split()[2]
        removed.append(node)
        doomed = next(one for one in cluster.worker_nodes if one.node_id == node)
        cluster.remove_node(doomed, allow_graceful=False)

    threading.Thread(target=remove_a_node, daemon=True).start()
    try:
        trials, _ = search(slow_trial(log), "search.max_concurrent=2", "resources.gpu=1", "train.epochs=6")
    finally:
        cluster.add_node(num_cpus=4, num_gpus=1)
    assert removed
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    assert [trial.user_attrs["outcome"] for trial in trials] == ["complete"] * 4
    assert all(sorted(trial.intermediate_values) == [1, 2, 3, 4, 5, 6] for trial in trials)
    lost = [trial for trial in trials if trial.user_attrs.get("retries")]
    assert [trial.user_attrs["retries"] for trial in lost] == [1]
    own = [epoch for epoch in map(Epoch.of, log.read_text().splitlines()) if epoch.lr == lost[0].params["optim.lr"]]
    assert len(own) <= 7, "more than one epoch was trained again"
    assert own[0].node == removed[0]
    assert own[-1].node != removed[0]


DRIVER = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from tune_app.console import Console
from test_cluster_on_ray import slow_trial
from tune_app.config import load_config
from tune_app.experiment import run_search
address, config, log, meets = sys.argv[1:]
trial = slow_trial(Path(log), Path(meets))
run_search(load_config(Path(config)), console=Console(), address=address, run_trial=trial, checks=())
"""


def test_two_studies_share_the_cards_of_one_cluster(
    plain_config: dict[str, Any], search: Any, cluster: Any, tmp_path: Path
) -> None:
    overrides = ["search.trials=3", "search.max_concurrent=3", "resources.gpu=0.5", "train.epochs=3"]
    file, logs = tmp_path / "other.yaml", [tmp_path / "other.log", tmp_path / "one.log"]
    dump_yaml(parse_config(plain_config, ["study.name=other", *overrides]).as_dict(), file)
    command = [sys.executable, "-c", DRIVER, cluster.address, str(file), *map(str, logs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as other:
        search(slow_trial(logs[1], meets=logs[0]), *overrides)
        output, _ = other.communicate(timeout=300)
    assert other.returncode == 0, output
    studies = [[Epoch.of(line) for line in log.read_text().splitlines()] for log in logs]
    assert [len(epochs) for epochs in studies] == [9, 9]
    every = [epoch for epochs in studies for epoch in epochs]
    assert len({epoch.location for epoch in every}) == 2
    most = max(sum(epoch.location == one.location and epoch.runs_at(one.begun) for epoch in every) for one in every)
    assert most == 2, "trials of half a card"
    mine, yours = studies
    assert any(a.runs_at(b.begun) or b.runs_at(a.begun) for a in mine for b in yours)
