"""Python interface: what a notebook imports, with nothing heavy before it is needed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import tune_app
from search_spaces.space import parse_space
from tune_app import UserError, estimate_memory, load_config, load_study
from tune_app.outcomes import Outcome
from tune_app.study.record import StudyRecord
from tune_app.study.store import open_study

SETTINGS = {
    "study": {"name": "notes"},
    "data": {"path": "demo", "max_rows": 200},
    "model": {"name": "tiny-bert"},
    "tok": {"max_length": 32},
    "train": {"epochs": 1},
    "search": {"trials": 1, "recommended": 0},
    "scheduler": {"name": "none"},
    "space": {"optim.lr": {"choices": [0.001, 0.0005]}},
}

UNTOUCHED = """
import json, logging, os, sys
before = dict(os.environ)
import tune_app
assert {"search", "load_study", "train"} <= set(dir(tune_app))
from tune_app import Study, UserError, estimate_memory, load_config, load_study, search, train
config = load_config({"study": {"name": "x"}, "data": {"path": "demo"}}, {"train.epochs": 3})
assert config.train.epochs == 3
assert dict(os.environ) == before, "the environment changed"
assert not logging.getLogger().handlers, "logging was configured"
print(json.dumps([name for name in ("torch", "transformers", "ray", "optuna", "mlflow") if name in sys.modules]))
"""

NOTEBOOK = """
import logging, os
import optuna
before, verbosity = dict(os.environ), optuna.logging.get_verbosity()
from tune_app import load_config, load_study, search, train
study = search(load_config(SETTINGS), quiet=True)
assert study.end.why and not study.end.interrupted
assert study.best.params["optim.lr"] in (0.001, 0.0005)
assert study.status().trials["complete"] == 1
assert search(study.config, quiet=True).status().launched == 1, "the second call resumes the study"
exported = load_study("notes").export("exports", model=True, quiet=True)
assert exported.training.reached == study.best.value, "the model of the kept checkpoint"
end = train(load_config(exported.best), "models/notes", quiet=True)
assert end.reached == study.best.value
assert optuna.logging.get_verbosity() == verbosity
left = {name for name in os.environ.keys() - before.keys() if name.startswith(("TUNE_", "TOKENIZERS", "PYTHONSAFE"))}
assert not left, left
print(study)
"""


def run_script(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    root = str(Path(tune_app.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root}
    command = [sys.executable, "-c", script]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_importing_and_loading_change_nothing_and_import_nothing_heavy(tmp_path: Path) -> None:
    ran = run_script(UNTOUCHED, tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == []


@pytest.mark.slow
def test_a_notebook_searches_resumes_exports_and_trains(tmp_path: Path) -> None:
    ran = run_script(NOTEBOOK.replace("SETTINGS", repr(SETTINGS)), tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("<Study notes: 1 of 1 launched, best macro_f1 0.")
    assert ran.stderr == ""


def test_a_dictionary_is_checked_like_a_file() -> None:
    with pytest.raises(UserError, match=r"train\.batch_sze"):
        load_config({**SETTINGS, "train": {"batch_sze": 8}})
    with pytest.raises(UserError, match=r"train\.epochs"):
        load_config(SETTINGS, {"train.epochs": "three"})


def test_overrides_reach_the_space_and_leave_the_dictionary_as_it_is() -> None:
    given = {**SETTINGS, "space": {"optim.lr": {"choices": [0.001, 0.0005]}}}
    config = load_config(given, {"space.optim.lr.choices": [0.1], "space.train.batch_size": {"choices": [8, 16]}})
    assert config.space is not None
    assert sorted(config.space) == ["optim.lr", "train.batch_size"]
    assert given["space"] == {"optim.lr": {"choices": [0.001, 0.0005]}}


def test_a_study_is_read_without_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_dir = tmp_path / "runs" / "notes"
    run_dir.mkdir(parents=True)
    (run_dir / "config.yaml").write_text(json.dumps(SETTINGS))
    record = StudyRecord(parse_space(SETTINGS["space"]), "criteria", "macro_f1", "max", "f" * 64)
    store = open_study(run_dir, "notes", None, record)
    values = [0.7, 0.8]
    for value, rate in zip(values, (0.001, 0.0005), strict=True):
        number = store.open_trial({"optim.lr": rate}, {})
        store.close_trial(number, Outcome.COMPLETE, value=[value], attributes={"best_epoch": 1})
    study = load_study("notes")
    assert study.best is not None
    assert (study.best.number, study.best.value) == (1, 0.8)
    frame = study.trials_dataframe()
    assert list(frame["number"]) == [1, 0]
    exported = study.export(tmp_path / "exports", trial=0)
    assert load_config(exported.best).optim.lr == 0.001
    assert exported.front is None
    written = pd.read_csv(exported.leaderboard)
    assert list(written.columns) == list(frame.columns)
    assert list(written["macro_f1"]) == [0.8, 0.7]
    with pytest.raises(UserError, match="no study of that name"):
        load_study("other")


def test_a_memory_question_is_one_call() -> None:
    roomy = estimate_memory("tiny-bert", 128, 512, budget_gib=20, device="cpu", precision="fp32")
    assert (roomy.fits, roomy.micro_batch, roomy.accumulation_steps) == (True, 128, 1)
    tight = estimate_memory("tiny-bert", 128, 512, budget_gib=0.3, device="cpu", precision="fp32")
    assert tight.fits
    assert tight.need_gib <= 0.3 * 0.9


@pytest.mark.parametrize(
    ("arguments", "options", "named"),
    [
        (("no-such-model", 8, 64), {}, "model.name"),
        (("tiny-bert", 0, 64), {}, "batch: 0"),
        (("tiny-bert", 8, 64), {"budget_gib": -1.0}, r"budget_gib: -1\.0"),
        (("tiny-bert", 8, 64), {"settings": {"optim.nme": "lion"}}, r"optim\.nme"),
    ],
)
def test_a_wrong_question_is_a_user_error(arguments: tuple[str, int, int], options: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        estimate_memory(*arguments, **options)


def test_an_unknown_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="serch"):
        tune_app.serch  # noqa: B018
