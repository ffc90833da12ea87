"""Command line: help everywhere, one line and exit code 2 for bad input, and no heavy import before it is needed."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from ruamel.yaml import YAML

from trainables.optimizers import OPTIMIZERS
from trainables.scratch import temporary_folder
from tune_app.cli import cli
from tune_app.config import parse_config
from tune_app.outcomes import Outcome
from tune_app.screening.preconditions import study_record
from tune_app.study.record import StudyRecord
from tune_app.study.run_dir import keep_config
from tune_app.study.store import open_study, search_lock

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(cli.commands)
LEAST = "study: {name: a}\ndata: {path: demo}\n"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Return a run directory with a complete, a failed and an open trial."""
    config = parse_config(
        {
            "study": {"name": "mine", "dir": str(tmp_path / "runs")},
            "data": {"path": "demo"},
            "space": {"optim.lr": {"choices": [0.1, 0.2, 0.3]}},
        }
    )
    run_dir = Path(config.run_dir)
    run_dir.mkdir(parents=True)
    assert config.space is not None
    store = open_study(run_dir, "mine", None, StudyRecord(config.space, "criteria", "macro_f1", "max", "data"))
    keep_config(store, config, run_dir)
    store.set_target(3)
    store.close_trial(store.open_trial({"optim.lr": 0.1}, {}), Outcome.COMPLETE, value=0.5)
    store.close_trial(store.open_trial({"optim.lr": 0.2}, {}), Outcome.FAILED, reason="KeyError: 'x'")
    store.open_trial({"optim.lr": 0.3}, {})
    return run_dir


def assert_bad_input(ran: Any, *parts: str) -> None:
    assert ran.code == 2
    assert ran.out == ""
    assert len(ran.err.splitlines()) == 1, ran.err
    assert ran.err.startswith("headroom: ")
    assert [part for part in parts if part not in ran.err] == [], ran.err


LION = "study: {name: a}\ndata: {path: demo}\noptim: {name: lion}\n"
LION_SEARCHED = LEAST + "space: {optim.name: {choices: [adamw, lion]}}\n"


@pytest.mark.parametrize(("command", "config"), [("search", LION_SEARCHED), ("train", LION), ("memory", LION)])
def test_an_optimizer_that_is_not_installed_is_refused_before_anything_runs(
    command: str, config: str, headroom: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPTIMIZERS, "lion", replace(OPTIMIZERS["lion"], package="not-here"))
    Path("config.yaml").write_text(config)
    ran = headroom(command, "config.yaml")
    assert_bad_input(ran, "optim.name: 'lion' needs the package not-here", "pip install not-here")
    assert not Path("runs").exists()


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_command_has_help(command: str, option: str, headroom: Any) -> None:
    ran = headroom(command, option)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"Usage: headroom {command} ")
    assert len(ran.out.splitlines()) >= 5
    undescribed = [
        parameter.name
        for parameter in cli.commands[command].params
        if isinstance(parameter, click.Option) and not parameter.help and not parameter.required
    ]
    assert undescribed == []


def test_help_names_every_command(headroom: Any) -> None:
    ran = headroom("--help")
    assert ran.code == 0
    assert [command for command in COMMANDS if f"\n  {command} " not in ran.out] == []
    assert {"search", "status", "export", "train"} <= set(COMMANDS)


def test_the_version_is_told(headroom: Any) -> None:
    ran = headroom("--version")
    assert ran.code == 0
    assert "headroom" in ran.out


def test_all_configurations_are_checked_before_the_first_is_run(headroom: Any, tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(LEAST + "space: {optim.lr: {choices: [0.1]}}")
    (tmp_path / "bad.yaml").write_text(LEAST + "trian: {}")
    assert_bad_input(headroom("search", "good.yaml", "bad.yaml"), "trian", "train")
    assert not (tmp_path / "runs").exists()


def ended_study(folder: Path, name: str, outcome: Outcome, value: float | None) -> str:
    """Write a configuration whose study already holds its only trial; return the file's name."""
    raw = {
        "study": {"name": name, "dir": str(folder / "runs")},
        "data": {"path": "demo"},
        "model": {"name": "tiny-bert"},
        "search": {"trials": 1},
        "tracking": {"enabled": False},
        "space": {"optim.lr": {"choices": [0.1, 0.2]}},
    }
    config = parse_config(raw)
    run_dir = Path(config.run_dir)
    run_dir.mkdir(parents=True)
    store = open_study(run_dir, name, None, study_record(config))
    store.close_trial(store.open_trial({"optim.lr": 0.1}, {}), outcome, value=value)
    (folder / f"{name}.yaml").write_text(json.dumps(raw))
    return f"{name}.yaml"


def test_a_failed_search_does_not_stop_the_next(headroom: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = ended_study(tmp_path, "good", Outcome.COMPLETE, 0.75)
    failed = ended_study(tmp_path, "failed", Outcome.FAILED, None)
    (tmp_path / "no-data.yaml").write_text(
        "study: {name: no-data}\ndata: {path: none.csv}\nspace: {optim.lr: {choices: [0.1]}}"
    )
    ran = headroom("search", "no-data.yaml", failed, good, "--quiet")
    assert ran.code == 2, "the worst of them"
    assert len(ran.err.splitlines()) == 1
    assert "no-data.yaml: data.path" in ran.err
    head, *lines = [line.split() for line in ran.out.splitlines()[-4:]]
    assert head[:2] == ["study", "exit"]
    assert lines[0][:2] == ["no-data", "2"]
    assert "none.csv" in " ".join(lines[0])
    assert lines[1][:5] == ["failed", "1", "1", "of", "1"]
    assert lines[2] == ["good", "0", "1", "of", "1", "macro_f1", "0.7500", "lr=0.1"]
    assert headroom("search", failed, good, "--quiet").code == 1

    def defect(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("planted, at sqlite://me:hush@host")

    monkeypatch.setattr("tune_app.commands.tables.print_end", defect)
    ran = headroom("search", good, failed, "--quiet")
    assert ran.code == 1
    assert ran.err.count("Traceback") == 2
    assert "ZeroDivisionError: planted" in ran.out
    assert "hush" not in ran.out + ran.err


TOO_LITTLE = [
    (
        ["memory.budget_gib=0.01"],
        ["memory.budget_gib: 0.01 is less than", "needs 0.0", "at micro-batch 1", "0.009 allowed of 0.01", "raise it"],
    ),
    (["memory.device_gib=0.01"], ["memory.device_gib: 0.01 is less than", "tiny-bert", "raise it"]),
    (["memory.budget_gib=0.01", "memory.allow_checkpointing=false"], ["at micro-batch 1, 0.009 allowed"]),
]


@pytest.mark.parametrize(("overrides", "parts"), TOO_LITTLE)
def test_a_configuration_that_is_predicted_not_to_fit_is_not_trained(
    overrides: list[str], parts: list[str], headroom: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainables import session

    monkeypatch.setattr(session, "load_encoder", None)
    (tmp_path / "c.yaml").write_text(LEAST + "model: {name: tiny-bert}")
    options = [argument for override in overrides for argument in ("-s", override)]
    ran = headroom("train", "c.yaml", "--quiet", *options)
    assert_bad_input(ran, *parts, "this configuration needs", "a smaller model.name or tok.max_length")
    assert not (tmp_path / "models").exists()


@pytest.mark.slow
def test_a_search_of_which_nothing_can_run_is_bad_input(headroom: Any, tmp_path: Path, ray_with_one_slot: None) -> None:
    space = "space: {model.name: {choices: [tiny-bert, small-bert]}, optim.lr: {choices: [0.1]}}"
    (tmp_path / "c.yaml").write_text(LEAST + space)
    for overrides, parts in TOO_LITTLE:
        options = [argument for override in overrides for argument in ("-s", override)]
        ran = headroom("search", "c.yaml", "--quiet", *options)
        assert_bad_input(ran, *parts, "any model of the space needs (model tiny-bert", "smaller models or lengths")
    ran = headroom("search", "c.yaml", "--quiet", "-s", "limits={small: {batch: 8}}")
    assert_bad_input(ran, "limits: the rules reject the whole space", "batch 16 > 8", "raise the limits")
    ran = headroom("search", "c.yaml", "--quiet", "-s", "resources.gpu=1")
    assert_bad_input(ran, "resources.gpu: 1 is more than the 0", "lower it")


def test_a_configuration_with_a_space_is_not_trained(headroom: Any, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(LEAST + "space: {optim.lr: {choices: [0.1]}}")
    assert_bad_input(headroom("train", "c.yaml"), "space", "headroom export")


def test_a_model_is_not_saved_over_anything(headroom: Any, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(LEAST)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").touch()
    assert_bad_input(headroom("train", "c.yaml", "--to", "taken"), "--to", "taken", "not empty")


@pytest.mark.parametrize("way", ["name", "run directory", "relative run directory"])
def test_a_study_is_found_by_its_name_and_by_its_run_directory(way: str, headroom: Any, study: Path) -> None:
    given = {"name": "mine", "run directory": str(study), "relative run directory": "runs/mine"}[way]
    ran = headroom("status", given, "--json")
    assert (ran.code, ran.err) == (0, "")
    status = json.loads(ran.out)
    assert list(status)[:7] == ["study", "metric", "mode", "target", "launched", "trials", "best"]
    assert status["run_dir"] == str(study)
    assert [(trial["number"], trial["outcome"]) for trial in status["all_trials"]] == [
        (0, "complete"),
        (1, "failed"),
        (2, "interrupted"),
    ]
    assert (status["baseline"], status["eta_s"]) == (None, None)
    assert (status["study"], status["target"], status["launched"]) == ("mine", 3, 3)
    assert {name: count for name, count in status["trials"].items() if count} == {
        "complete": 1,
        "failed": 1,
        "interrupted": 1,
    }
    assert status["best"] == {"number": 0, "value": 0.5, "params": {"optim.lr": 0.1}}


def test_a_misspelt_study_is_guessed(headroom: Any, study: Path) -> None:
    assert_bad_input(headroom("status", "mime"), "mime", "did you mean mine?")


def test_the_status_for_people_names_counts_error_and_best(headroom: Any, study: Path) -> None:
    ran = headroom("status", "mine")
    assert (ran.code, ran.err) == (0, "")
    for part in ("study mine (not running)", "3 of 3 launched", "last failed: trial 1: KeyError: 'x'", "0.5000"):
        assert part in ran.out
    assert "\x1b" not in ran.out, "no colours where there is no terminal"


def test_every_trial_can_be_listed(headroom: Any, study: Path) -> None:
    assert "interrupted" not in headroom("status", "mine").out.partition("configuration")[2]
    rows = [line.split()[:2] for line in headroom("status", "mine", "--all").out.splitlines()[-4:-1]]
    assert rows == [["0", "complete"], ["1", "failed"], ["2", "interrupted"]]


def test_the_status_knows_whether_a_search_is_at_work(headroom: Any, study: Path) -> None:
    with search_lock(study):
        assert json.loads(headroom("status", "mine", "--json").out)["trials"]["running"] == 1
        assert "study mine (running)" in headroom("status", "mine").out


def test_a_run_directory_without_its_journal_is_bad_input(headroom: Any, study: Path) -> None:
    (study / "study.journal").unlink()
    assert_bad_input(headroom("status", "mine"), "mine", "study.journal", "headroom search")


def test_a_journal_that_is_damaged_is_bad_input(headroom: Any, study: Path) -> None:
    with (study / "study.journal").open("a") as file:
        file.write("garbage\n")
    assert_bad_input(headroom("status", "mine"), "study.journal")


def test_an_export_says_where_it_is(headroom: Any, study: Path, tmp_path: Path) -> None:
    ran = headroom("export", "mine", "--to", "out")
    assert (ran.code, ran.err) == (0, "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["best.yaml", "leaderboard.csv"]
    assert "headroom train out/best.yaml" in " ".join(ran.out.split())


def test_a_watched_study_is_warned_about_once(headroom: Any, study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = study / "config.yaml"
    file.write_text(file.read_text().replace("epochs: 3", "epochs: 7"))
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", wait)
    warning, end = filter(None, headroom("status", "mine", "--watch").err.splitlines())
    assert "config.yaml has changed since the search (" in warning
    assert end == "headroom: interrupted"
    assert len(waits) == 3


def test_the_searched_configuration_is_exported_whatever_the_file_says_now(
    headroom: Any, study: Path, tmp_path: Path
) -> None:
    untouched = headroom("export", "mine", "--to", str(tmp_path / "before"))
    file = study / "config.yaml"
    values = YAML(typ="safe").load(file.read_text())
    values["train"]["epochs"] += 4
    values["space"]["optim.lr"] = {"choices": [0.5]}
    values["tok"]["max_length"], values["head"]["width"] = 64, 17
    with file.open("w") as stream:
        YAML().dump(values, stream)
    ran = headroom("export", "mine", "--to", str(tmp_path / "after"))
    assert (untouched.code, untouched.err, ran.code) == (0, "", 0)
    assert (tmp_path / "after" / "best.yaml").read_text() == (tmp_path / "before" / "best.yaml").read_text()
    (line,) = ran.err.splitlines()
    assert "config.yaml has changed since the search (" in line
    assert "train.epochs: 3 there, 7 here" in line
    assert "; and 1 more); the study's own record applies" in line
    # A moved study is found by its config.yaml.
    values["study"]["dir"] = str(tmp_path / "moved")
    with file.open("w") as stream:
        YAML().dump(values, stream)
    study.parent.rename(tmp_path / "moved")
    assert headroom("status", str(tmp_path / "moved" / "mine")).code == 0


def test_an_export_into_a_file_is_bad_input(headroom: Any, study: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert_bad_input(headroom("export", "mine", "--to", "file"), "--to", "file")


def imported_by(code: str, modules: set[str], folder: Path) -> set[str]:
    ran = python(
        f"import sys\nfrom tune_app.cli import main\ntry:\n    main({code})\nexcept SystemExit as end:\n"
        f"    print('loaded', end.code, *sorted({modules!r} & set(sys.modules)), file=sys.stderr)\n",
        folder,
    )
    last = ran.stderr.splitlines()[-1].split()
    assert last[:2] == ["loaded", "0"], ran.stderr
    return set(last[2:])


HEAVY = {"ray", "torch", "transformers", "mlflow"}


@pytest.mark.parametrize("arguments", [["--help"], ["search", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    modules = {*HEAVY, "optuna", "pandas", "numpy", "pydantic", "rich", "ruamel", "sqlalchemy"}
    assert imported_by(repr(arguments), modules, tmp_path) == set()


@pytest.mark.parametrize("command", ["status", "export"])
def test_looking_at_a_study_waits_for_neither_ray_nor_torch_nor_mlflow(
    command: str, study: Path, tmp_path: Path
) -> None:
    arguments = [command, "mine", *(["--to", "out"] if command == "export" else [])]
    assert imported_by(repr(arguments), HEAVY, tmp_path) == set()


def test_python_dash_m_is_the_same_program(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tune_app", "status", "none"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert_bad_input(SimpleNamespace(code=ran.returncode, out=ran.stdout, err=ran.stderr), "none", "no study")


def test_ctrl_c_ends_a_watch_with_130_and_one_line(study: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "tune_app", "status", "mine", "--json", "--watch"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watch:
        try:
            assert watch.stdout is not None
            assert json.loads(watch.stdout.readline())["study"] == "mine"
            watch.send_signal(signal.SIGINT)
            _, err = watch.communicate(timeout=30)
        finally:
            watch.kill()
    assert watch.returncode == 130
    assert err.strip() == "headroom: interrupted"


LEAVES = """
import atexit, sys
from tune_app import __main__ as program

class Slow:
    def __del__(self):
        print("taken apart")

def command():
    sys.slow = Slow()
    atexit.register(print, "registered by a library")
    print("said", end=" ")
    sys.exit(130)

program.run_command = command
program.main()
"""


def test_a_process_ends_with_its_command_once_everything_is_written(tmp_path: Path) -> None:
    ran = python(LEAVES, tmp_path)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "said registered by a library\n", "")


def test_a_link_in_the_place_of_a_file_of_ours_is_bad_input(
    headroom: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.yaml").write_text(LEAST)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "precious").write_text("kept")
    (temporary_folder() / "lock").symlink_to(tmp_path / "precious")
    assert_bad_input(
        headroom("train", "c.yaml", "--to", "m", "--quiet"), "lock: is a link and is not followed; remove it"
    )
    assert (tmp_path / "precious").read_text() == "kept"
