"""GPU shares on real Ray with two GPUs that are only claimed: given per trial, recorded, and packed onto cards."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tune_app.console import Console

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def two_claimed_gpus(start_ray: Any) -> Iterator[None]:
    with start_ray(2, gpus=2):
        yield


@pytest.fixture
def search(plain_config: dict[str, Any], two_claimed_gpus: None) -> Any:
    """Return a function that runs a search over models and batches on cards of 0.5 GiB.

    It returns the trials of the study and the output.
    """
    from tune_app.config import parse_config
    from tune_app.experiment import run_search
    from tune_app.study.store import load_study

    def run(run_trial: Any, *overrides: str) -> Any:
        space = {"model.name": {"choices": ["tiny-bert", "small-bert"]}, "train.batch_size": {"choices": [8, 64, 512]}}
        raw = {**plain_config, "space": space, "limits": "predicted", "memory": {"device_gib": 0.5, "micro_batch": 512}}
        config = parse_config(raw, ["tok.max_length=128", "train.epochs=1", "search.trials=6", *overrides])
        output = io.StringIO()
        run_search(config, console=Console(file=output, width=300), run_trial=run_trial, checks=())
        return load_study(Path(config.run_dir), config.study.name, None).trials(), output.getvalue()

    return run


def telling_trial() -> Any:
    """Return a trial that trains nothing and reports the share and card that it got."""

    def run_trial(settings: Any, report: Any, workspace: Any) -> None:
        from trainables.reports import TrialReport

        facts = {"share_given": workspace.share, "card": workspace.card}
        report(TrialReport(step=1, value=0.5, facts=facts, ended="complete"))

    return run_trial


def meeting_trial(folder: Path, how_many: int) -> Any:
    """Return a trial that completes only once so many of them run at the same time."""

    def run_trial(settings: Any, report: Any, workspace: Any) -> None:
        import time

        from trainables.reports import TrialReport

        (folder / f"{settings.model.name}-{settings.train.batch_size}").touch()
        deadline = time.monotonic() + 60
        while len(list(folder.iterdir())) < how_many:
            if time.monotonic() > deadline:
                raise TimeoutError("it was left alone")
            time.sleep(0.05)
        report(TrialReport(step=1, value=0.5, facts={"card": workspace.card}, ended="complete"))

    return run_trial


def test_every_trial_is_given_its_share_and_the_study_holds_it(search: Any) -> None:
    trials, output = search(telling_trial(), "search.max_concurrent=2")
    launched = [trial for trial in trials if trial.user_attrs["outcome"] != "infeasible"]
    shares = {tuple(trial.params.values()): trial.user_attrs["gpu_fraction"] for trial in launched}
    assert shares[("tiny-bert", 8)] == 0.125
    assert shares[("tiny-bert", 512)] > shares[("tiny-bert", 64)] >= 0.125
    assert shares[("small-bert", 64)] > shares[("tiny-bert", 64)]
    assert len(set(shares.values())) >= 3
    assert [trial.user_attrs["share_given"] for trial in launched] == list(shares.values())
    assert {trial.user_attrs["card"] for trial in launched} <= {"0", "1"}
    assert "  rules: memory rejects 0.0 % of the space, accumulation " in output


def test_two_quarter_card_trials_run_on_one_card_at_a_time(search: Any, tmp_path: Path) -> None:
    (tmp_path / "met").mkdir()
    trials, _ = search(
        meeting_trial(tmp_path / "met", 2),
        "search.max_concurrent=2",
        "search.trials=2",
        "resources.gpu=0.25",
        "space.train.batch_size.choices=[8]",
    )
    assert [trial.user_attrs["outcome"] for trial in trials] == ["complete", "complete"]
    assert len({trial.user_attrs["card"] for trial in trials}) == 1
    assert {trial.user_attrs["gpu_fraction"] for trial in trials} == {0.25}


def test_two_whole_card_trials_run_on_two_cards_at_a_time(search: Any, tmp_path: Path) -> None:
    (tmp_path / "met").mkdir()
    trials, _ = search(
        meeting_trial(tmp_path / "met", 2),
        "search.max_concurrent=2",
        "search.trials=2",
        "memory.device_gib=0.06",
        "memory.max_accumulation=null",
        "space.model.name.choices=[tiny-bert]",
        "space.train.batch_size.choices=[64, 512]",
    )
    assert [trial.user_attrs["gpu_fraction"] for trial in trials] == [1.0, 1.0]
    assert {trial.user_attrs["card"] for trial in trials} == {"0", "1"}


def test_without_a_gpu_for_trials_there_is_no_share(search: Any) -> None:
    trials, _ = search(telling_trial(), "resources.gpu=0", "search.trials=1")
    launched = trials[-1].user_attrs
    assert (launched["gpu_fraction"], launched["share_given"], launched["card"]) == (0.0, 1.0, "cpu")


def test_the_device_is_looked_at_where_a_trial_would_run(two_claimed_gpus: None) -> None:
    from tune_app.distributed.cluster import Cluster, ray

    resources = dict(ray.cluster_resources())
    look = lambda: ray.get_gpu_ids()  # noqa: E731
    assert Cluster(resources, None, joined=True).where_gpus_are(look) in ([0], [1])
    assert Cluster(resources, None).where_gpus_are(look) == []
