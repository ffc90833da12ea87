"""A distribution of somebody else adds a task, an optimizer and more, which are used like ours."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainables.export import save_best_epoch
from trainables.machine import MachineFiles
from trainables.models.families import FAMILIES
from trainables.optimizers import OPTIMIZERS
from trainables.reports import TrialReport
from trainables.saved import load_model_folder
from trainables.settings import with_params
from trainables.task_registry import TASKS
from trainables.trial import TrialFolders, run_trial
from tune_app.config import RunConfig, load_config, searchable_names
from tune_app.config.reference import reference
from tune_app.config.schema import config_schema
from tune_app.errors import UserError
from tune_app.progress.opening import data_lines
from tune_app.screening.unread_parameters import check_parameters_are_read

MODULE = '''
"""Entries of a distribution of somebody else. Importing them needs no torch."""

from trainables.declaration import added
from trainables.optimizers import Optimizer
from trainables.augmentations import TextChange
from trainables.models.families import Family
from trainables.poolings import Pooling
from trainables.schedules import Schedule
from trainables.task_entry import CLASSES, TaskEntry


def build(groups, settings):
    import torch

    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings["momentum"], foreach=False)


def make_state(optimizer, group, index):
    import torch

    parameter = optimizer.param_groups[group]["params"][index]
    optimizer.state[parameter] = {"momentum_buffer": torch.zeros_like(parameter)}


SGD = Optimizer(
    kind="SGD",
    build=build,
    make_state=make_state,
    reads=frozenset({"optim.lr", "optim.layer_decay", "optim.weight_decay"}),
    settings={"momentum": added(float, 0.9, "Share of the last step that is kept.", at_least=0, below=1)},
)
CALM = TaskEntry(
    implementation="calm_task:CalmTask",
    objectives=("calm_f1",),
    reads=CLASSES,
    baselines=lambda metric, shares, nothing: {"always yes": shares[-1]},
    settings={"calm": added(float, 0.5, "Weight of every row in the loss.", above=0, at_most=1)},
)
STEPS = Schedule(
    falls=lambda done, settings: settings["drop"] ** int(3 * done),
    settings={"drop": added(float, 0.5, "Factor of the rate after each third.", above=0, at_most=1)},
)
LAST = Pooling(pool=lambda outputs, mask, parameters, settings: outputs.last_hidden_state[:, -1])


def reverse(text):
    import numpy as np

    order = np.arange(len(text.ids))
    order[text.free] = text.free[::-1]
    return text.ids[order], order


BACKWARDS = TextChange(
    change=reverse,
    reads=frozenset({"augment.probability", "augment.strength", "augment.rows"}),
)
FNET = Family(names=("fnet",), stack="encoder.layer", attention_dropout=())
'''
TASK = """
from dataclasses import replace

from trainables.tasks.criteria import CriteriaTask


class CalmTask(CriteriaTask):
    def loss_sum(self, outputs, batch):
        return self._settings.task["calm"] * super().loss_sum(outputs, batch)

    def score(self, *args, **kwargs):
        scores = super().score(*args, **kwargs)
        return replace(scores, metrics={**scores.metrics, "calm_f1": scores.metrics["macro_f1"]})
"""
UNUSABLE = """
from trainables.declaration import added
from trainables.optimizers import Optimizer

X = 3
NAMES_OURS = Optimizer(
    kind="X", build=print, make_state=print, settings={"lr": added(float, 0.1, "Rate of its own.")}
)
"""
POINTS = {
    "headroom.optimizers": {"sgd": "calm_entries:SGD"},
    "headroom.tasks": {"calm": "calm_entries:CALM"},
    "headroom.schedules": {"steps": "calm_entries:STEPS"},
    "headroom.poolings": {"last": "calm_entries:LAST"},
    "headroom.augmentations": {"backwards": "calm_entries:BACKWARDS"},
    "headroom.families": {"fnet": "calm_entries:FNET"},
}


Install = Callable[..., None]


@pytest.fixture
def plugin(install_plugin: Install) -> None:
    install_plugin({"calm_entries.py": MODULE, "calm_task.py": TASK}, POINTS)


def configured(tmp_path: Path, *overrides: str, **sections: Any) -> RunConfig:
    raw = {
        "study": {"name": "plugin", "dir": str(tmp_path)},
        "data": {"path": "demo", "max_rows": 60},
        "model": {"name": "tiny-bert"},
        "tok": {"max_length": 32},
        "train": {"batch_size": 16, "epochs": 1, "precision": "fp32"},
        **sections,
    }
    return load_config(raw, overrides)


CHOSEN_ENTRIES = (
    "task.name=calm",
    "optim.name=sgd",
    "schedule.name=steps",
    "head.pooling=last",
    "augment.name=backwards",
)


@pytest.mark.usefixtures("plugin")
def test_entries_of_a_distribution_are_validated_searched_and_described(tmp_path: Path) -> None:
    assert "calm_entries" not in sys.modules, "nothing of it is imported before it is needed"
    config = configured(
        tmp_path,
        *CHOSEN_ENTRIES,
        "task.calm=0.25",
        space={"optim.momentum": {"low": 0.5, "high": 0.9}, "schedule.drop": {"choices": [0.5, 0.1]}},
    )
    assert "calm_task" not in sys.modules, "a task is imported where it is trained"
    assert config.task["calm"] == 0.25
    assert [objective.name for objective in config.objectives] == ["calm_f1"]
    assert {"optim.momentum", "schedule.drop", "task.calm"} <= set(searchable_names())
    assert "| `optim.momentum` |" in reference()
    properties = config_schema()["$defs"]["OptimSettings"]["properties"]
    assert "sgd" in properties["name"]["enum"]
    assert properties["momentum"]["description"].startswith("Share of the last step")
    assert FAMILIES["fnet"].stack == "encoder.layer"
    for override, message in [
        ("optim.momentum=1.5", r"optim\.momentum: 1\.5: .*less than 1"),
        ("optim.name=adamw", r"space\.optim\.momentum: nothing reads it.*optim\.name=sgd, but optim\.name is adamw"),
        ("task.objective=macro_f2", r"is not a metric of task calm"),
        ("space.optim.beta1.choices=[0.8]", r"nothing reads it: it is used only with optim\.name=adamw or lion"),
    ]:
        with pytest.raises(UserError, match=message):
            configured(tmp_path, *CHOSEN_ENTRIES, override, space={"optim.momentum": {"choices": [0.5]}})


@pytest.mark.usefixtures("plugin")
def test_a_trial_of_its_entries_is_predicted_trained_and_saved(tmp_path: Path, machine_folder: Path) -> None:
    config = configured(tmp_path, *CHOSEN_ENTRIES)
    settings = with_params(config.trial_settings(), {"optim.momentum": 0.5, "task.calm": 0.75})
    reports: list[TrialReport] = []
    folders = TrialFolders(tmp_path / "cache", tmp_path / "trial", machine=MachineFiles(machine_folder))
    run_trial(settings, report=reports.append, folders=folders)
    assert reports[-1].ended == "complete"
    assert reports[-1].value == reports[-1].metrics["calm_f1"]
    assert reports[-1].facts["predicted_gib"] is not None

    checkpoint = next(report.checkpoint for report in reports if report.checkpoint)
    save_best_epoch(settings, folders.cache, checkpoint, tmp_path / "model")
    saved = load_model_folder(tmp_path / "model")
    assert saved.settings.task.name == "calm"
    assert saved.settings.task["calm"] == 0.75


@pytest.mark.usefixtures("plugin")
def test_a_metric_of_its_own_is_described_before_a_search(tmp_path: Path) -> None:
    lines = "\n".join(data_lines(configured(tmp_path, "task.name=calm", "task.classes=2"), from_here=True))
    assert "calm_f1 without learning: always yes 0." in lines
    assert "its standard error on" in lines


@pytest.mark.usefixtures("plugin")
def test_what_its_entries_read_is_found_by_a_dry_run(tmp_path: Path) -> None:
    config = configured(
        tmp_path,
        *CHOSEN_ENTRIES,
        space={"optim.momentum": {"choices": [0.5, 0.9]}, "task.calm": {"choices": [0.5, 1.0]}},
    )
    check_parameters_are_read(config, ["tiny-bert"], lambda message: None)


@pytest.mark.parametrize(
    ("group", "name", "message"),
    [
        ("tasks", "x = nowhere:X", "'x' of headroom.tasks (headroom-plugin: nowhere:X) cannot be imported"),
        ("optimizers", "x = calm_x:X", "is no Optimizer but int; mend or uninstall it"),
        ("tasks", "criteria = calm_x:X", "has the name of an entry of Headroom's own"),
        ("optimizers", "x = calm_x:NAMES_OURS", "optim.lr: x adds a setting that exists; rename it"),
    ],
)
def test_an_entry_that_cannot_be_used_is_refused_in_one_line(
    group: str, name: str, message: str, install_plugin: Install, tmp_path: Path
) -> None:
    install_plugin({"calm_x.py": UNUSABLE}, {f"headroom.{group}": dict([name.split(" = ")])})
    with pytest.raises(UserError) as caught:
        configured(tmp_path)
    assert message in str(caught.value)


def test_our_entries_are_what_they_were_once_it_is_gone() -> None:
    assert list(OPTIMIZERS) == ["adamw", "adafactor", "lion", "adamw_8bit"]
    assert set(TASKS) == {"criteria", "evidence", "share", "joint"}
