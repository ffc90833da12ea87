"""Recorded settings: they contain every setting that training reads, and none that only inspects them."""

import copy
from dataclasses import asdict, replace

import pytest

from trainables.planning.needs import encoder_config
from trainables.planning.plan import fingerprint, predict
from trainables.planning.trace import Workload
from trainables.recording import recording
from trainables.seeds import trial_seeds
from trainables.settings import DataSettings, TrialSettings, with_params
from trainables.training.schedule import rate_factor

SETTINGS = TrialSettings(data=DataSettings("demo"), seeds=trial_seeds(0))


def test_a_setting_that_is_read_is_noted_by_its_dotted_name_and_has_its_value() -> None:
    settings, read = recording(with_params(SETTINGS, {"optim.lr": 0.5}))
    assert read == set()
    assert settings.optim.lr == 0.5
    assert read == {"optim.lr"}


def test_settings_that_a_property_reads_count_as_read() -> None:
    settings, read = recording(SETTINGS)
    assert settings.train.effective_batch == 16
    assert read == {"train.batch_size", "train.grad_accum"}


def test_a_setting_that_a_function_does_not_reach_is_not_read() -> None:
    settings, read = recording(SETTINGS)
    rate_factor(5, 10, settings.schedule)
    assert read == {"schedule.name", "schedule.warmup_ratio"}
    settings, read = recording(with_params(SETTINGS, {"schedule.name": "polynomial"}))
    rate_factor(5, 10, settings.schedule)
    assert read == {"schedule.name", "schedule.warmup_ratio", "schedule.power"}


def test_to_compare_hash_print_and_copy_settings_is_no_use_of_them() -> None:
    settings, read = recording(SETTINGS)
    again, _ = recording(SETTINGS)
    for section, values in vars(settings).items():
        assert values != getattr(again, section), "another record is another object"
        hash(values)
        assert "(" in repr(values)
        assert asdict(values) == vars(values) == vars(getattr(SETTINGS, section)) or section == "data"
        copy.deepcopy(values)
    replace(settings.optim, lr=0.5)
    assert read == set()


@pytest.mark.parametrize("changed", [lambda given: replace(given, lr=0.5), copy.copy, copy.deepcopy])
def test_a_changed_copy_notes_what_is_read_too(changed: object) -> None:
    settings, read = recording(SETTINGS)
    assert callable(changed)
    assert changed(settings.optim).beta1 == 0.9
    assert read == {"optim.beta1"}


def test_a_prediction_of_memory_is_no_use_of_what_it_is_named_by() -> None:
    settings, read = recording(SETTINGS)
    fingerprint(Workload(settings, encoder_config("tiny-bert", None)))
    assert read == set()


def test_a_prediction_builds_what_training_builds() -> None:
    settings, read = recording(SETTINGS)
    predict(Workload(settings, encoder_config("tiny-bert", None)))
    assert "head.dropout" in read
    assert "train.clip_norm" not in read, "asked for by the prediction alone"
