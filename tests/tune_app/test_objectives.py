"""Several objectives: valid choices, trials on the front, learning of samplers, and output."""

import csv
import io
import json
import random
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.conditions import ActiveSpace
from search_spaces.rules import Violation
from search_spaces.space import Params, parse_space
from tune_app.cli import cli, main
from tune_app.commands.tables import print_leaderboard
from tune_app.config import RunConfig, load_config, parse_config
from tune_app.console import Console
from tune_app.errors import UserError
from tune_app.objectives import Objective, front, measured
from tune_app.outcomes import Outcome
from tune_app.progress.live_table import search_view
from tune_app.sampling.proposers import Proposer, build_proposer
from tune_app.screening.preconditions import study_record
from tune_app.study.checkpoints import CheckpointKeeper, CheckpointStorage, StudyCheckpoints, trial_folder
from tune_app.study.export import export_best, export_front, export_leaderboard
from tune_app.study.lines import closing_line
from tune_app.study.record import StudyRecord
from tune_app.study.remaining import Course
from tune_app.study.reporting import leaderboard, study_status
from tune_app.study.run_dir import write_config
from tune_app.study.store import StudyStore, load_study, open_study

SCORE, MEMORY, ERROR = Objective("macro_f1", "max"), Objective("peak_gib", "min"), Objective("calibration_error", "min")
SPACE = {"optim.lr": {"low": 0.0, "high": 1.0}, "head.dropout": {"low": 0.0, "high": 0.5}}


def new_store(folder: Path, *further: Objective, entries: Any = None) -> StudyStore:
    folder.mkdir(parents=True, exist_ok=True)
    record = StudyRecord(parse_space(entries or SPACE), "criteria", "macro_f1", "max", "f" * 64, further=further)
    return open_study(folder, "test", None, record)


def complete(store: StudyStore, *values: float, lr: float = 0.5) -> int:
    number = store.open_trial({"optim.lr": lr, "head.dropout": 0.0}, {})
    store.close_trial(number, Outcome.COMPLETE, value=values, attributes={"best_epoch": 2, "peak_gib": values[1]})
    return number


# Valid choices


def configured(metric: Any, **changes: Any) -> RunConfig:
    raw: dict[str, Any] = {
        "study": {"name": "test"},
        "data": {"path": "demo"},
        "search": {"metric": metric},
        "scheduler": {"name": "none"},
        "space": {"optim.lr": {"low": 0.0001, "high": 0.001}},
    }
    return parse_config({**raw, **changes})


def test_several_metrics_are_names_or_say_their_mode() -> None:
    recorded = [{"name": "macro_f1", "mode": "max"}, "peak_gib", {"name": "calibration_error", "mode": "min"}]
    config = configured(recorded)
    assert config.objectives == (SCORE, MEMORY, ERROR)
    assert config.as_dict()["search"]["metric"] == ["macro_f1", "peak_gib", "calibration_error"]
    assert parse_config(config.as_dict()) == configured(["macro_f1", "peak_gib", "calibration_error"])


@pytest.mark.parametrize("metric", ["accuracy", ["accuracy"], [{"name": "accuracy"}], {"name": "accuracy"}])
def test_a_list_of_one_is_the_metric_alone(metric: Any) -> None:
    config = configured(metric, scheduler={"name": "asha"})
    assert config.objectives == (Objective("accuracy", "max"),)
    assert config.trial_settings().task.metric == "accuracy"
    assert config.as_dict()["search"]["metric"] == "accuracy"


def test_without_a_metric_it_is_the_tasks_objective() -> None:
    assert configured(None).objectives == (SCORE,)
    assert configured(None, task={"objective": "auc"}).objectives == (Objective("auc", "max"),)
    assert configured(["auc", "peak_gib"], task={"objective": "auc"}).trial_settings().task.metric == "auc"


def test_a_metric_is_the_same_study_whichever_setting_names_it() -> None:
    by_task = study_record(configured(None, task={"objective": "auc"}))
    assert by_task.differences(study_record(configured("auc"))) == []


@pytest.mark.parametrize(
    ("metric", "changes", "parts"),
    [
        (["macro_f1", "peak_gb"], {}, ["'peak_gb'", "task criteria", "did you mean peak_gib?", "seconds_per_sample"]),
        (["macro_f1", "token_f1"], {}, ["'token_f1'", "task criteria", "known: macro_f1"]),
        (["token_f1", "calibration_error"], {"task": {"name": "evidence"}}, ["'calibration_error'", "task evidence"]),
        (["macro_f1", "peak_gib", "macro_f1"], {}, ["macro_f1 is listed twice", "drop one"]),
        ([{"name": "macro_f1", "mode": "min"}, "peak_gib"], {}, ["macro_f1 with mode min", "set mode: max"]),
        (["macro_f1", {"name": "peak_gib", "mode": "up"}], {}, ["metric.1.mode", "'up'", "max, min"]),
        (
            ["macro_f1", {"nam": "peak_gib"}],
            {},
            ["search.metric: ", "{'nam': 'peak_gib'}", "{name: peak_gib, mode: min}"],
        ),
        ({"macro_f1": "max"}, {}, ["search.metric: {'macro_f1': 'max'}", "[macro_f1, peak_gib]"]),
        (["macro_f1", {"name": "peak_gib", "weight": 2}], {}, ["metric.1.weight", "known here: name, mode"]),
        (["peak_gib", "macro_f1"], {}, ["peak_gib comes first", "[macro_f1, peak_gib]"]),
        ("peak_gib", {}, ["peak_gib comes first", "[macro_f1, peak_gib]"]),
        ([], {}, ["search.metric: []", "[macro_f1, peak_gib]"]),
        (["macro_f1", 3], {}, ["search.metric:", "[macro_f1, peak_gib]"]),
        (["auc", "peak_gib"], {"task": {"objective": "accuracy"}}, ["task.objective: accuracy", "drop task.objective"]),
        (["macro_f1", "binary_f1"], {"task": {"classes": 3}}, ["binary_f1 is for two classes", "3"]),
        (
            ["macro_f1", "peak_gib"],
            {"scheduler": {"name": "asha"}},
            ["scheduler.name: asha", "set scheduler.name=none"],
        ),
        (["macro_f1", "peak_gib"], {"scheduler": {}}, ["scheduler.name: asha", "macro_f1, peak_gib"]),
        ("auc", {"search": {"metric": "auc", "sampler": "nsga2"}}, ["search.sampler: nsga2", "[auc, peak_gib]", "tpe"]),
    ],
)
def test_impossible_objectives_are_refused_with_the_remedy(
    metric: Any, changes: dict[str, Any], parts: list[str]
) -> None:
    with pytest.raises(UserError) as refused:
        configured(metric, **changes)
    assert all(part in str(refused.value) for part in parts), refused.value
    assert "\n" not in str(refused.value)


def test_the_refusal_is_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("study: {name: a}\ndata: {path: demo}\nspace: {optim.lr: {choices: [0.1, 0.2]}}\n")
    with pytest.raises(SystemExit) as ended:
        main(["search", str(file), "-s", "search.metric=[macro_f1, peak_gib]"])
    assert ended.value.code == 2
    error_text = capsys.readouterr().err
    assert error_text.startswith("headroom: scheduler.name: asha stops trials by one objective")
    assert error_text.count("\n") == 1


# The study


def test_other_objectives_are_another_study(tmp_path: Path) -> None:
    new_store(tmp_path, MEMORY)
    with pytest.raises(
        UserError,
        match=r"search\.metric: macro_f1 \(max\), peak_gib \(min\) there, .*, calibration_error \(min\) here",
    ):
        new_store(tmp_path, ERROR)
    with pytest.raises(
        UserError, match=r"search\.metric: macro_f1 \(max\), peak_gib \(min\) there, macro_f1 \(max\) here.*--fresh"
    ):
        new_store(tmp_path)
    assert new_store(tmp_path, MEMORY).record.objectives == (SCORE, MEMORY)


def test_a_study_from_before_there_could_be_several_goes_on(tmp_path: Path) -> None:
    record = new_store(tmp_path).record
    before = {name: value for name, value in record.as_dict().items() if name != "further"}
    before["fixed"] = {"task.objective": None}
    assert StudyRecord.from_dict(before).differences(record) == []
    assert StudyRecord.from_dict(record.as_dict()) == record


def test_the_study_keeps_a_value_per_objective_and_the_first_of_every_step(tmp_path: Path) -> None:
    store = new_store(tmp_path, MEMORY)
    number = store.open_trial({"optim.lr": 0.5, "head.dropout": 0.0}, {})
    store.report(number, 1, 0.25)
    store.report(number, 2, 0.75)
    store.close_trial(number, Outcome.COMPLETE, value=[0.75, 2.5])
    again = load_study(tmp_path, "test", None)
    assert again.trial(number).values == [0.75, 2.5]
    assert again.trial(number).intermediate_values == {1: 0.25, 2: 0.75}
    assert again.study.directions == [optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE]
    assert again.study.metric_names == ["macro_f1", "peak_gib"]
    assert [trial.number for trial in again.study.best_trials] == [number]


@pytest.mark.parametrize("value", [0.5, [0.5], [0.5, float("nan")], [0.5, 1.0, 2.0], None])
def test_a_trial_is_complete_with_a_finite_value_of_every_objective_alone(value: Any, tmp_path: Path) -> None:
    store = new_store(tmp_path, MEMORY)
    number = store.open_trial({"optim.lr": 0.5, "head.dropout": 0.0}, {})
    with pytest.raises(ValueError, match="complete"):
        store.close_trial(number, Outcome.COMPLETE, value=value)


def test_memory_that_ran_out_after_some_epochs_is_told_with_its_excess(tmp_path: Path) -> None:
    store = new_store(tmp_path, MEMORY)
    number = store.open_trial({"optim.lr": 0.5, "head.dropout": 0.0}, {})
    store.report(number, 1, 0.25)
    store.close_trial(number, Outcome.OOM, constraints={"memory": 0.5})
    recorded = store.trial(number)
    assert (recorded.state.name, recorded.values, recorded.constraints) == ("PRUNED", None, {"memory": 0.5})


# The front


def test_an_unmeasured_value_is_none() -> None:
    assert measured([SCORE, MEMORY, ERROR], 0.5, {"calibration_error": 0.1}, {"peak_gib": 2}) == (0.5, 2.0, 0.1)
    assert measured([SCORE, MEMORY], 0.5, {}, {"peak_gib": None}) == (0.5, None)


@given(st.lists(st.tuples(*[st.integers(0, 4).map(float)] * 3), max_size=30))
def test_the_front_is_optunas(values: Sequence[tuple[float, ...]]) -> None:
    study = optuna.create_study(directions=["maximize", "minimize", "minimize"])
    for own in values:
        study.add_trial(optuna.trial.create_trial(values=list(own)))
    mine = [trial.number for trial in front(study.trials, [SCORE, MEMORY, ERROR])]
    assert mine == [trial.number for trial in study.best_trials]


def five_trials(store: StudyStore) -> None:
    """Record five trials, of which 0, 2 and 3 are on the front.

    Trial 0 dominates 1, and trial 3 dominates 4, which has the same score.
    """
    for values in [(0.5, 1.0), (0.4, 1.0), (0.3, 0.5), (0.9, 4.0), (0.9, 5.0)]:
        complete(store, *values)


def test_the_leaderboard_begins_with_the_front(tmp_path: Path) -> None:
    store = new_store(tmp_path, MEMORY)
    five_trials(store)
    store.close_trial(store.open_trial({"optim.lr": 0.5, "head.dropout": 0.0}, {}), Outcome.FAILED)
    ranked = leaderboard(store.trials(), store.record.objectives)
    assert [trial.number for trial in ranked] == [3, 0, 2, 4, 1]


def test_checkpoints_are_kept_by_the_first_objective(tmp_path: Path) -> None:
    store = new_store(tmp_path, MEMORY)
    checkpoints = StudyCheckpoints(CheckpointStorage(str(tmp_path)), "checkpoints", store.id, print)
    keeper = CheckpointKeeper(checkpoints, 2, [])
    folders = [tmp_path / "checkpoints" / trial_folder(place, store.id, "a") / "checkpoint_0" for place in range(5)]
    for place, (folder, score) in enumerate(zip(folders, [0.5, 0.4, 0.3, 0.9, 0.9], strict=True)):
        folder.mkdir(parents=True)
        keeper.add(place, SimpleNamespace(path=str(folder)), is_best=True)
        keeper.settle(store.trial(complete(store, score, float(place))))
    keeper.sweep()
    assert [folder.exists() for folder in folders] == [False, False, False, True, True]


# Status, tables, export


def test_the_status_holds_the_front_and_the_best_by_the_first_objective(tmp_path: Path) -> None:
    store = new_store(tmp_path, MEMORY)
    five_trials(store)
    recorded = json.loads(study_status(store, is_running=False).as_json())
    assert (recorded["metric"], recorded["mode"], recorded["best"]["number"], recorded["best"]["value"]) == (
        "macro_f1",
        "max",
        3,
        0.9,
    )
    assert recorded["objectives"] == [{"name": "macro_f1", "mode": "max"}, {"name": "peak_gib", "mode": "min"}]
    assert [(one["number"], one["values"]) for one in recorded["front"]] == [
        (3, {"macro_f1": 0.9, "peak_gib": 4.0}),
        (0, {"macro_f1": 0.5, "peak_gib": 1.0}),
        (2, {"macro_f1": 0.3, "peak_gib": 0.5}),
    ]
    single = json.loads(study_status(new_store(tmp_path / "single"), is_running=False).as_json())
    assert single.keys() == {"study", "metric", "mode", "target", "launched", "trials", "best"}


def test_the_tables_show_every_objective(tmp_path: Path) -> None:
    store = new_store(tmp_path, MEMORY)
    five_trials(store)
    store.open_trial({"optim.lr": 0.5, "head.dropout": 0.0}, {})
    store.report(5, 1, 0.125)
    output = io.StringIO()
    console = Console(file=output, width=200)
    print_leaderboard(console, store)
    console.print(search_view(store, [], Course(4), most=10))
    ranked, live = output.getvalue().split("trial  outcome")
    assert [line.split()[1:5] for line in ranked.splitlines()[1:6]] == [
        ["3", "★", "0.9000", "4"],
        ["0", "★", "0.5000", "1"],
        ["2", "★", "0.3000", "0.5"],
        ["4", "0.9000", "5", "2"],
        ["1", "0.4000", "1", "2"],
    ]
    assert "no other trial is at least as good in macro_f1 and peak_gib and better in one" in ranked
    assert "macro_f1  peak_gib" in live
    assert "0.1250" in live
    assert "best macro_f1 0.9000 (trial 3), of 5 complete, 3 on the front" in ranked
    ended = closing_line(store.trial(2), store.record.objectives, store.record.step_scale)
    assert ended.startswith("complete macro_f1 0.3000, peak_gib 0.5 in")


@pytest.fixture
def exported(tmp_path: Path) -> tuple[StudyStore, RunConfig]:
    config = configured(["macro_f1", "peak_gib"], study={"name": "test", "dir": str(tmp_path)}, space=SPACE_OF_EXPORT)
    assert config.space is not None
    (tmp_path / "test").mkdir()
    store = open_study(tmp_path / "test", "test", None, study_record(config))
    write_config(config, tmp_path / "test")
    five_trials_of(store, {"optim.lr": 0.001})
    return store, config


SPACE_OF_EXPORT = {"optim.lr": {"low": 0.0001, "high": 0.001}}


def five_trials_of(store: StudyStore, params: Params) -> None:
    for values in [(0.5, 1.0), (0.4, 1.0), (0.3, 0.5), (0.9, 4.0), (0.9, 5.0)]:
        number = store.open_trial(params, {})
        store.close_trial(number, Outcome.COMPLETE, value=values, attributes={"peak_gib": values[1]})


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_best_by_the_first_objective_is_exported_or_the_trial_that_is_asked_for(
    exported: tuple[StudyStore, RunConfig], tmp_path: Path
) -> None:
    store, config = exported
    file = export_best(store, config, tmp_path / "to")
    loaded = load_config(file)
    assert loaded.pinned is not None
    assert (loaded.pinned.trial, loaded.pinned.value, loaded.pinned.further) == (3, 0.9, {"peak_gib": 4.0})
    assert loaded.objectives == (SCORE, MEMORY)
    assert loaded.space is None
    assert file.read_text().startswith("# Trial 3 of study test: macro_f1 0.900000, peak_gib 4.000000 on validation.\n")
    other = load_config(export_best(store, config, tmp_path / "to", 2))
    assert other.pinned is not None
    assert (other.pinned.trial, other.pinned.further) == (2, {"peak_gib": 0.5})
    with pytest.raises(UserError, match=r"--trial: 17 is not a complete trial of test.*e\.g\. 3"):
        export_best(store, config, tmp_path / "to", 17)


def test_the_front_is_a_table_beside_the_leaderboard(exported: tuple[StudyStore, RunConfig], tmp_path: Path) -> None:
    store, _ = exported
    file = export_front(store, tmp_path)
    assert file is not None
    recorded = [(row["rank"], row["number"], row["macro_f1"], row["peak_gib"]) for row in rows_of(file)]
    assert recorded == [("1", "3", "0.9", "4.0"), ("2", "0", "0.5", "1.0"), ("3", "2", "0.3", "0.5")]
    board = export_leaderboard(store, tmp_path)
    assert [row["number"] for row in rows_of(board)] == ["3", "0", "2", "4", "1"]
    assert board.read_text().splitlines()[0].split(",").count("peak_gib") == 1
    assert export_front(new_store(tmp_path / "single"), tmp_path / "none") is None
    assert not (tmp_path / "none").exists()


def test_the_command_writes_all_three(exported: tuple[StudyStore, RunConfig], tmp_path: Path) -> None:
    _, config = exported
    error_text = CliRunner().invoke(
        cli, ["export", config.run_dir, "--to", str(tmp_path / "to"), "--trial", "0"], standalone_mode=False
    )
    assert error_text.exception is None
    assert f"trial 0             {tmp_path / 'to' / 'best.yaml'}" in error_text.stdout
    assert sorted(path.name for path in (tmp_path / "to").iterdir()) == ["best.yaml", "front.csv", "leaderboard.csv"]


# Learning of samplers


def proposer_for(store: StudyStore, sampler: str, seed: int = 0) -> Proposer:
    return build_proposer(sampler, ActiveSpace(store.record.space), store.study, store.distributions, seed)


MIXED = {
    "model.name": {"choices": ["base", "large"]},
    "optim.lr": {"low": 1e-5, "high": 1e-2, "log": True},
    "train.batch_size": {"choices": [8, 16, 32]},
    "tok.max_length": {"low": 64, "high": 256, "step": 64},
    "head.dropout": {"choices": [0.1]},
}


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_every_sampler_stays_in_the_space_and_repeats_itself_from_its_seed(sampler: str, tmp_path: Path) -> None:
    def proposals(name: str, seed: int) -> list[Params]:
        store = new_store(tmp_path / name, MEMORY, entries=MIXED)
        proposer, found = proposer_for(store, sampler, seed), []
        for place in range(40):
            params = proposer.propose()
            assert params is not None
            assert store.record.space.contains(params)
            proposer.mark_seen(params)
            number = store.open_trial(params, {})
            if place % 4 == 0:
                store.close_trial(number, Outcome.OOM, constraints={"memory": 0.5})
            elif place % 4 == 1:
                store.close_trial(number, Outcome.FAILED)
            else:
                values = (float(params["optim.lr"]), float(params["train.batch_size"]))
                store.close_trial(number, Outcome.COMPLETE, value=values)
            found.append(params)
        return found

    assert proposals("one", 1) == proposals("same", 1)
    assert proposals("one again", 1) != proposals("two", 2)


def test_exhaustive_goes_through_all_whatever_the_objectives(tmp_path: Path) -> None:
    store = new_store(tmp_path, MEMORY, entries={"head.dropout": {"choices": [0.0, 0.1, 0.2]}})
    proposer, found = proposer_for(store, "exhaustive"), []
    while (params := proposer.propose()) is not None:
        proposer.mark_seen(params)
        found.append(params["head.dropout"])
    assert found == [0.0, 0.1, 0.2]


def beyond_the_limit(store: StudyStore, sampler: str, seed: int, outcome: Outcome | None) -> int:
    """Count the proposals of 80 that run out of memory.

    The best score lies at the edge of memory, the lowest need at the other end.
    """
    proposer, beyond = proposer_for(store, sampler, seed), 0
    for _ in range(80):
        params = proposer.propose()
        assert params is not None
        proposer.mark_seen(params)
        lr = float(params["optim.lr"])
        if lr <= 0.5:
            complete_at(store, params, lr, lr + float(params["head.dropout"]))
            continue
        beyond += 1
        excess = lr / 0.5 - 1
        if outcome is None:
            store.record_infeasible(params, [Violation("memory", "too large", excess)])
        else:
            constraints = {"memory": excess} if outcome is Outcome.OOM else None
            store.close_trial(store.open_trial(params, {}), outcome, constraints=constraints)
    return beyond


def complete_at(store: StudyStore, params: Params, *values: float) -> None:
    store.close_trial(store.open_trial(params, {}), Outcome.COMPLETE, value=values)


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_trials_that_ran_out_of_memory_teach_the_sampler(sampler: str, tmp_path: Path) -> None:
    recorded: dict[str, int] = {}
    for what, outcome in (("oom", Outcome.OOM), ("infeasible", None), ("failed", Outcome.FAILED)):
        recorded[what] = sum(
            beyond_the_limit(new_store(tmp_path / f"{what}-{seed}", MEMORY), sampler, seed, outcome)
            for seed in range(3)
        )
    by_chance = sum(
        beyond_the_limit(new_store(tmp_path / f"chance-{seed}", MEMORY), "random", seed, Outcome.OOM)
        for seed in range(3)
    )
    assert recorded["oom"] < 0.75 * by_chance, (recorded, by_chance)
    if sampler == "tpe":
        assert recorded["oom"] < recorded["failed"], "of failures it learns nothing"
    else:
        assert recorded["oom"] == recorded["infeasible"], "the constraint is what counts, of rejected samples, too"


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_the_corner_that_can_run_is_found_before_any_trial_was_launched(sampler: str, tmp_path: Path) -> None:
    def rejected(name: str, seed: int) -> int:
        store = new_store(tmp_path / f"{name}-{seed}", MEMORY)
        proposer = proposer_for(store, name, seed)
        for place in range(200):
            params = proposer.propose()
            assert params is not None
            if float(params["optim.lr"]) < 0.01:
                return place
            excess = float(params["optim.lr"]) / 0.01 - 1
            store.record_infeasible(params, [Violation("memory", "too large", excess)])
        return 200

    found = {name: sum(rejected(name, seed) for seed in range(4)) for name in (sampler, "random")}
    assert found[sampler] < 0.6 * found["random"], found


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_trials_that_no_other_beats_are_found_sooner_than_by_chance(sampler: str, tmp_path: Path) -> None:
    def spread(name: str, seed: int) -> float:
        """Return the mean waste of the last 40 of 120 trials; on the front it is 0."""
        store = new_store(tmp_path / f"{name}-{seed}", MEMORY)
        proposer, wastes = proposer_for(store, name, seed), []
        for _ in range(120):
            params = proposer.propose()
            assert params is not None
            lr, waste = float(params["optim.lr"]), float(params["head.dropout"])
            complete_at(store, params, lr - waste, lr + waste)
            wastes.append(waste)
        return sum(wastes[80:]) / 40

    found = {name: sum(spread(name, seed) for seed in range(2)) for name in (sampler, "random")}
    assert found[sampler] < 0.75 * found["random"], found


def test_nsga2_takes_little_of_the_storage(tmp_path: Path) -> None:
    store = new_store(tmp_path, MEMORY)
    for place in range(15):
        complete_at(store, store.record.space.sample(random.Random(place)), place, place)
    size = (tmp_path / "study.journal").stat().st_size
    proposer_for(store, "nsga2").propose()
    assert (tmp_path / "study.journal").stat().st_size == size


def test_open_trials_that_have_reported_do_not_disturb_a_sampler_of_several_objectives(tmp_path: Path) -> None:
    store = new_store(tmp_path, MEMORY)
    rng = random.Random(0)
    for _ in range(12):
        params = store.record.space.sample(rng)
        complete_at(store, params, rng.random(), rng.random())
    number = store.open_trial(store.record.space.sample(rng), {})
    store.report(number, 1, 0.5)
    for sampler in ("tpe", "nsga2"):
        assert proposer_for(store, sampler, 0).propose() is not None


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_a_small_corner_that_can_run_is_not_taken_for_an_exhausted_space(sampler: str, tmp_path: Path) -> None:
    store = new_store(tmp_path, MEMORY)
    proposer = proposer_for(store, sampler, 1)
    for _ in range(15):
        for tries, params in enumerate(proposer.proposals()):
            proposer.mark_seen(params)
            excess = float(params["optim.lr"]) / 0.002 - 1
            if excess <= 0:
                complete_at(store, params, float(params["optim.lr"]), 0.5)
                break
            assert tries < 900, "the search would end here"
            store.record_infeasible(params, [Violation("memory", "too large", excess)])
