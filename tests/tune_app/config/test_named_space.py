"""A configuration that names a space of the catalogue and overrides entries; its result is written out in full."""

from typing import Any

import pytest

from search_spaces.catalogue import CATALOGUE
from trainables.task_registry import TASKS
from tune_app.config import RunConfig, parse_config, searchable_names
from tune_app.errors import UserError

OF_SPANS = {"task.null_threshold", "task.max_answer_length", "task.n_best", "tok.doc_stride"}


def parse(space: Any, *overrides: str, **sections: Any) -> RunConfig:
    raw = {"study": {"name": "test", "dir": "/runs"}, "data": {"path": "demo"}, "space": space, **sections}
    return parse_config(raw, overrides)


def names(config: RunConfig) -> set[str]:
    assert config.space is not None
    return set(config.space)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", CATALOGUE)
def test_every_space_is_right_for_every_task(name: str, task: str) -> None:
    config = parse({"from": name}, f"task.name={task}")
    assert names(config) <= set(searchable_names())
    assert config.active_space().never_read() == {}
    assert parse_config(config.as_dict()) == config, "written out in full, it is the same"
    assert "from" not in config.as_dict()["space"]


def test_wide_is_all_there_is() -> None:
    left_out = {
        "task.threshold",  # Tuning on validation beats any fixed value.
        "model.criteria_name",  # One name for both encoders, unless the configuration sets this one.
    }
    assert set(CATALOGUE["wide"].entries) | left_out == set(searchable_names())


def test_a_task_is_given_what_it_reads() -> None:
    assert not OF_SPANS & names(parse({"from": "wide"}))
    evidence = names(parse({"from": "wide"}, "task.name=evidence"))
    assert evidence >= OF_SPANS
    assert not {"head.pooling", "task.criteria_weight"} & evidence
    assert "task.criteria_weight" in names(parse("narrow", "task.name=share")), "a name alone will do"


def test_an_albert_is_given_what_it_can_do() -> None:
    space = parse({"from": "wide"}).active_space()
    params = {name: entry.examples[-1] for name, entry in space.space.entries.items()}
    assert (params["model.name"], params["model.freeze_layers"], params["train.checkpointing"]) == (
        "albert-base-v2",
        6,
        True,
    )
    of_layers = {"model.freeze_layers": 0, "optim.layer_decay": 1.0, "train.checkpointing": False}
    assert space.normalised(params).items() >= of_layers.items()
    assert not of_layers.keys() & names(parse({"from": "wide"}, "model.name=albert-base-v2"))


def test_entries_beside_the_name_replace_add_and_remove() -> None:
    config = parse(
        {
            "from": "narrow",
            "model.name": {"choices": ["tiny-bert"]},
            "head.pooling": {"choices": ["cls", "mean"]},
            "optim.weight_decay": None,
        }
    )
    assert config.space is not None
    assert config.space.as_dict()["model.name"] == {"choices": ["tiny-bert"]}
    assert "head.pooling" in names(config)
    assert "optim.weight_decay" not in names(config)
    assert config.space.as_dict()["optim.lr"] == {"type": "float", "low": 5e-6, "high": 1e-4, "log": True}


def test_single_fields_are_overridden_from_the_command_line() -> None:
    config = parse(
        None,
        "space.from=narrow",
        "space.optim.lr.high=0.01",
        "space.head.dropout=null",
        "space.tok.max_length.choices=[64]",
    )
    assert config.space is not None
    assert config.space.as_dict()["optim.lr"] == {"type": "float", "low": 5e-6, "high": 0.01, "log": True}
    assert config.space.as_dict()["tok.max_length"] == {"choices": [64]}
    assert "head.dropout" not in names(config)
    assert parse({"from": "narrow"}, "space.optim.lr.high=0.01", "space=null").space is None


def test_settings_of_the_configuration_are_not_searched() -> None:
    config = parse({"from": "wide"}, "loss.name=focal", model={"name": "tiny-bert"})
    assert config.model.name == "tiny-bert"
    assert not {"model.name", "loss.name", "loss.smoothing"} & names(config)
    assert {"loss.gamma", "loss.alpha"} <= names(config)
    own = parse({"from": "wide", "model.name": {"choices": ["tiny-bert"]}}, model={"name": "tiny-roberta"})
    assert "model.name" in names(own), "its own entry stands before its own setting, as in any space"


def test_an_entry_of_ones_own_that_nothing_reads_is_refused_all_the_same() -> None:
    with pytest.raises(UserError, match=r"space\.loss\.gamma: nothing reads it"):
        parse({"from": "wide", "loss.name": {"choices": ["cross_entropy"]}, "loss.gamma": {"choices": [1.0]}})
    assert "loss.gamma" not in names(parse({"from": "wide", "loss.name": {"choices": ["cross_entropy"]}}))


def test_large_models_come_with_the_limits_of_their_users() -> None:
    assert (
        parse({"from": "large_models_24gb"}).as_dict()["limits"] == parse(None, "limits=users_24gb").as_dict()["limits"]
    )
    assert parse({"from": "large_models_24gb"}, "limits=predicted").limits == ("predicted",)


def test_the_safe_space_fixes_what_takes_memory() -> None:
    config = parse({"from": "memory_safe"})
    assert (config.train.batch_size, config.tok.max_length, config.head.layers) == (16, 256, 0)
    assert config.train.checkpointing
    assert config.train.precision == "fp32", "there is a DeBERTa among the models"
    assert parse({"from": "memory_safe", "model.name": {"choices": ["bert-base-uncased"]}}).train.precision == "auto"
    assert parse({"from": "memory_safe"}, "model.name=microsoft/deberta-v3-base").train.precision == "fp32"
    larger = parse({"from": "memory_safe"}, "train.batch_size=32", "train.precision=bf16")
    assert (larger.train.batch_size, larger.train.precision) == (32, "bf16")
    searched = parse({"from": "memory_safe", "train.batch_size": {"choices": [8, 16]}})
    assert searched.train.batch_size == 16
    assert "train.batch_size" in names(searched)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"from": "wid"}, r"space\.from: 'wid': unknown; did you mean wide\? \(known: narrow, wide"),
        ({"from": 3}, r"space\.from: 3: unknown \(known"),
        ({"from": ["wide"]}, r"space\.from: \['wide'\]: unknown"),
        ({"from": None}, r"space\.from: None: unknown"),
        ("narow", r"space\.from: 'narow': unknown; did you mean narrow\?"),
        (
            {"from": "wide", "optim.l": {"choices": [0.1]}},
            r"space\.optim\.l: no such parameter; did you mean optim\.lr\?",
        ),
        ({"from": "wide", "head.layer": None}, r"space\.head\.layer: no such parameter; did you mean head\.layers\?"),
        ({"from": "wide", "optim.learning_rate": None}, r"space\.optim\.learning_rate: .* did you mean optim\.lr\?"),
        ({"from": "wide", "optim.lr": 0.1}, r"space\.optim\.lr: expected"),
    ],
)
def test_a_problem_is_one_line(space: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        parse(space)
    assert len(str(caught.value).splitlines()) == 1
