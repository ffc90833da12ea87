"""Searches on a cluster of three nodes with a claimed GPU each: nodes are lost, and studies share the cards."""

import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Three nodes; the head, on which the searches run, has no room for a trial."""
    import tune_app.ray_session  # noqa: F401  # Ray's environment.
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=2, num_gpus=1)
    yield cluster
    cluster.shutdown()


@pytest.fixture
def search(plain_config: dict[str, Any], cluster: Any) -> Callable[..., Any]:
    """Run a search on the cluster; returns the trials of its study and its output."""
    from tune_app.config import parse_config
    from tune_app.experiment import run_search
    from tune_app.study import load_study

    def run(run_trial: Any, *overrides: str) -> Any:
        config = parse_config(plain_config, overrides)
        output = io.StringIO()
        run_search(config, console=Console(file=output, width=300), address=cluster.address, run_trial=run_trial)
        return load_study(Path(config.run_dir), config.study.name, None).trials(), output.getvalue()

    return run


def slow_trial(log: Path) -> Any:
    """A trial of half a second an epoch that notes where and when it was trained."""

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
        cluster.add_node(num_cpus=2, num_gpus=1)
    assert removed
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    assert [trial.user_attrs["outcome"] for trial in trials] == ["complete"] * 4
    assert all(sorted(trial.intermediate_values) == [1, 2, 3, 4, 5, 6] for trial in trials)
    lost = [trial for trial in trials if trial.user_attrs.get("retries")]
    assert [trial.user_attrs["retries"] for trial in lost] == [1]
    lines = [line.split() for line in log.read_text().splitlines()]
    own = [(int(epoch), node) for lr, epoch, node, *_ in lines if float(lr) == lost[0].params["optim.lr"]]
    epochs = [epoch for epoch, _ in own]
    assert len(epochs) <= 7, "more than one epoch was trained again"
    assert own[0][1] == removed[0]
    assert own[-1][1] != removed[0]
