"""Loading of a configuration: complete and checked before anything runs; one line reports an error."""

from collections.abc import Callable
from pathlib import Path

import pytest

from search_spaces.space import Choices
from tune_app.config import (
    RunConfig,
    dump_yaml,
    load_config,
    parse_config,
)
from tune_app.errors import UserError

Parse = Callable[..., RunConfig]
AssertOneLine = Callable[[pytest.ExceptionInfo[UserError], list[str]], None]

CONFIGS = Path(__file__).parents[3] / "configs"


LEAST = "study: {name: test}\ndata: {path: demo}\n"


BAD_SETTINGS: list[tuple[str, list[str]]] = [
    ("train: {epoch: 3}", ["train.epoch:", "did you mean train.epochs?"]),
    ("optm: {lr: 0.1}", ["optm:", "did you mean optim?"]),
    ("lr: 0.1", ["lr:", "did you mean optim.lr?"]),
    ("zzz: 1", ["zzz:", "unknown setting", "known here: study, data"]),
    ("limits: {large: {bach: 3}}", ["limits.large.bach:", "did you mean batch?"]),
    ("train: {epochs: '3'}", ["train.epochs:", "'3'", "whole number"]),
    ("train: {epochs: true}", ["train.epochs:", "True", "whole number"]),
    ("train: {epochs: 3.0}", ["train.epochs:", "3.0", "whole number"]),
    ("train: {epochs: 0}", ["train.epochs:", "0", "greater than 0"]),
    ("train: {epochs: null}", ["train.epochs:", "None", "whole number"]),
    ("train: {epochs: [3]}", ["train.epochs:", "[3]", "whole number"]),
    ("optim: {name: adam}", ["optim.name:", "'adam'", "adamw, adafactor, lion, adamw_8bit", "did you mean adamw?"]),
    ("optim: {lr: fast}", ["optim.lr:", "'fast'", "number"]),
    ("optim: {lr: true}", ["optim.lr:", "True", "number"]),
    ("optim: {lr: .nan}", ["optim.lr:", "nan", "finite"]),
    ("optim: {lr: .inf}", ["optim.lr:", "inf", "finite"]),
    ("optim: {lr: 2}", ["optim.lr:", "2", "less than or equal to 1"]),
    ("optim: {lr: 2001-01-01}", ["optim.lr:", "2001", "number"]),
    ("optim: {lr: 1.0.0}", ["optim.lr:", "'1.0.0'", "number"]),
    ("train: {tf32: 1}", ["train.tf32:", "1", "true or false"]),
    ("train: {tf32: 'yes'}", ["train.tf32:", "'yes'", "true or false"]),
    ("model: {name: 3}", ["model.name:", "3", "text"]),
    ("model: {name: ''}", ["model.name:", "''", "is blank"]),
    ("head: {pooling: men}", ["head.pooling:", "'men'", "cls, mean, max, pooler, attention", "did you mean mean?"]),
    ("search: {sampler: grid}", ["search.sampler:", "'grid'", "tpe, nsga2, random, exhaustive"]),
    ("train: null", ["train:", "settings (key: value)"]),
    ("train: 3", ["train:", "3", "settings (key: value)"]),
    ("train: [epochs]", ["train:", "['epochs']", "settings (key: value)"]),
    ("tracking: false", ["tracking:", "False", "settings (key: value)"]),
    ("1: 3", ["1:", "strings"]),
    ("memory: {budget_gib: 0}", ["memory.budget_gib:", "0"]),
    ("memory: {budget_gib: -2.5}", ["memory.budget_gib:", "-2.5"]),
    ("memory: {micro_batch: most}", ["memory.micro_batch:", "'most'", "expected auto, or a whole number above 0"]),
    ("memory: {eval_batch: 0}", ["memory.eval_batch:", "0", "expected auto, or a whole number above 0"]),
    ("resources: {gpu: 1.5}", ["resources.gpu:", "1.5", "0.5"]),
    ("resources: {gpu: -1}", ["resources.gpu:", "-1", "greater than or equal to 0"]),
    ("resources: {gpu: .inf}", ["resources.gpu:", "inf", "auto"]),
    ("resources: {gpu: half}", ["resources.gpu:", "'half'", "auto", "0.25"]),
    ("resources: {gpu: true}", ["resources.gpu:", "True", "auto", "0.25"]),
    ("resources: {passes: 0}", ["resources.passes:", "0", "greater than 0"]),
    ("memory: {headroom: -0.1}", ["memory.headroom:", "-0.1", "greater than or equal to 0"]),
    ("optim: {eps: 1.0e-50}", ["optim.eps: 1e-50:", "greater than or equal to 1e-20"]),
    ("memory: {headroom: 1}", ["memory.headroom:", "1", "less than 1"]),
    ("memory: {device_gib: 0}", ["memory.device_gib:", "0", "greater than 0"]),
    ("memory: {max_accumulation: 0}", ["memory.max_accumulation:", "0", "greater than 0"]),
    ("memory: {max_accumulation: 2.5}", ["memory.max_accumulation:", "2.5", "whole number"]),
    ("memory: {allow_checkpointing: 1}", ["memory.allow_checkpointing:", "1", "true or false"]),
    ("limits: users_24g", ["limits:", "'users_24g'", "did you mean users_24gb?", "predicted", "users_families"]),
    ("limits: predict", ["limits:", "'predict'", "did you mean predicted?"]),
    ("limits: 3", ["limits:", "3", "known: predicted"]),
    ("limits: [predicted, users_familie]", ["limits:", "'users_familie'", "did you mean users_families?"]),
    ("limits: [predicted, predicted]", ["limits:", "'predicted'", "twice"]),
    ("limits: {from: predicted}", ["limits.from:", "'predicted'", "known: users_24gb"]),
    ("limits: [predicted, {large: {bach: 3}}]", ["limits.large.bach:", "did you mean batch?"]),
    ("limits: {large: {batch: '16'}}", ["limits.large.batch:", "'16'", "whole number"]),
    ("limits: {large: {batch: true}}", ["limits.large.batch:", "True", "whole number"]),
    (
        "scheduler: {warmup: 4}\nspace: {optim.lr: {choices: [0.1]}}",
        ["scheduler.warmup:", "4", "train.epochs", "3", "lower it"],
    ),
    (
        "train: {epochs: 1}\nscheduler: {rung: epoch}\nspace: {optim.lr: {choices: [0.1]}}",
        ["scheduler.rung: epoch leaves asha", "1 epoch (train.epochs)", "scheduler.rung=0.25", "scheduler.name=none"],
    ),
    (
        "train: {epochs: 3}\nscheduler: {warmup: 3}\nspace: {optim.lr: {choices: [0.1]}}",
        ["scheduler.warmup:", "3 leaves asha", "3 epochs (train.epochs)", "scheduler.name=none"],
    ),
    ("scheduler: {rung: 0.3}", ["scheduler.rung: 0.3:", "a whole number of rungs", "0.25"]),
    ("scheduler: {rung: 2}", ["scheduler.rung: 2:", "expected auto, epoch, or a share of one"]),
    (
        "scheduler: {name: hyperband, warmup: 2}\nspace: {optim.lr: {choices: [0.1]}}",
        ["scheduler.reduction_factor:", "3 epochs (train.epochs)", "rounded down 1", "scheduler.warmup 2"],
    ),
    ("scheduler: {warmup_epochs: 2, warmup: 1}", ["scheduler.warmup_epochs:", "2", "its new name", "keep one"]),
    ("scheduler: {warmup_epochs: 0}", ["scheduler.warmup:", "0", "greater than 0"]),
    ("space: 3", ["space:", "names with choices or ranges"]),
    ("space: {}", ["space:", "empty", "name at least one"]),
    ("space: [optim.lr]", ["space:", "a list"]),
    ("space: {optim.l: {choices: [0.1]}}", ["space.optim.l:", "did you mean optim.lr?"]),
    ("space: {lr: {choices: [0.1]}}", ["space.lr:", "no such parameter", "optim.lr"]),
    ("space: {data.path: {choices: [a]}}", ["space.data.path:", "no such parameter"]),
    ("space: {a.b.c: {choices: [a]}}", ["space.a.b.c:", "no such parameter"]),
    ("space: {optim: {lr: {choices: [0.1]}}}", ["space.optim:", "nested", "optim.lr"]),
    ("space: {optim.lr: 0.1}", ["space.optim.lr:", "0.1", "choices"]),
    ("space: {train.epochs: {choices: [1, 2]}}", ["space.train.epochs:", "cannot be searched", "outside the space"]),
    ("space: {train.precision: {choices: [fp32]}}", ["space.train.precision:", "cannot be searched"]),
    ("space: {train.patience: {choices: [1, 2]}}", ["space.train.patience:", "cannot be searched"]),
    ("space: {model.revision: {choices: [main]}}", ["space.model.revision:", "cannot be searched"]),
    ("space: {optim.lr: {choices: [0.1, 2.0]}}", ["space.optim.lr:", "2.0", "less than or equal to 1"]),
    ("space: {optim.lr: {low: 0.1, high: 2.0}}", ["space.optim.lr:", "2.0", "less than or equal to 1"]),
    ("space: {optim.lr: {low: 0.0, high: 0.1}}", ["space.optim.lr:", "0.0", "greater than 0"]),
    ("space: {optim.lr: {choices: [slow, fast]}}", ["space.optim.lr:", "'slow'", "number"]),
    ("space: {train.batch_size: {low: 8.0, high: 16.0}}", ["space.train.batch_size:", "8.0", "whole number"]),
    ("space: {head.pooling: {choices: [cls, men]}}", ["space.head.pooling:", "'men'", "did you mean mean?"]),
    (
        "space: {loss.gamma: {choices: [1.0, 2.0]}}",
        ["space.loss.gamma:", "used only with loss.name=focal", "loss.name is cross_entropy", "drop space.loss.gamma"],
    ),
    (
        "space: {schedule.power: {low: 1.0, high: 2.0}, schedule.name: {choices: [linear, cosine]}}",
        ["space.schedule.power:", "schedule.name=polynomial", "schedule.name may be linear, cosine only"],
    ),
    (
        "search: {sampler: exhaustive}\nspace: {optim.lr: {low: 0.1, high: 0.2}}",
        ["search.sampler:", "exhaustive", "float range space.optim.lr", "choices"],
    ),
]


@pytest.mark.parametrize(("text", "parts"), BAD_SETTINGS, ids=[row[0] for row in BAD_SETTINGS])
def test_a_wrong_setting_is_named_with_its_value_and_the_remedy(
    assert_one_line: AssertOneLine, text: str, parts: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(LEAST + text)
    with pytest.raises(UserError) as caught:
        load_config(file)
    assert_one_line(caught, parts)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("data: {path: demo}", ["study:", "missing", "bad.yaml", "-s study=…"]),
        ("study: {name: a}", ["data:", "missing"]),
        ("study: {dir: runs}\ndata: {path: demo}", ["study.name:", "missing", "-s study.name=…"]),
        ("study: {name: a}\ndata: {path: 3}", ["data.path:", "3", "text"]),
        (
            "study: {name: a}\ndata: {path: demo, validation_share: 0.9}",
            ["data.validation_share:", "0.9", "data.test_share 0.2", "lower one"],
        ),
    ],
)
def test_missing_and_invalid_settings_are_named(
    assert_one_line: AssertOneLine, text: str, parts: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        load_config(file)
    assert_one_line(caught, parts)


def test_a_reused_anchor_is_no_noise(tmp_path: Path) -> None:
    file = tmp_path / "anchors.yaml"
    file.write_text("study: {name: &n a}\ndata: {path: &n demo}\nmodel: {name: *n}\n")
    assert load_config(file).model.name == "demo"


@pytest.mark.parametrize(("given", "gpu"), [("auto", "auto"), ("null", "auto"), ("0", 0.0), ("0.25", 0.25), ("2", 2.0)])
def test_a_gpu_share_is_by_need_or_fixed(parse: Parse, given: str, gpu: object) -> None:
    assert parse(f"resources.gpu={given}").resources.gpu == gpu


@pytest.mark.parametrize("text", ["1e-5", "1E-5", "1.0e-5", "0.00001", "1e-05"])
def test_numbers_with_an_exponent_are_numbers(text: str, tmp_path: Path) -> None:
    file = tmp_path / "lr.yaml"
    file.write_text(
        f"{LEAST}optim: {{lr: {text}}}\nspace: {{optim.eps: {{choices: [{text}, 1]}}}}".replace(", 1]", "]")
    )
    config = load_config(file, [f"optim.weight_decay={text}"])
    assert config.optim.lr == config.optim.weight_decay == 1e-5
    assert config.space is not None
    assert config.space.entries["optim.eps"] == Choices(choices=(1e-5,))


def test_a_whole_number_serves_where_any_number_does(parse: Parse) -> None:
    assert parse("train.clip_norm=1", "resources.gpu=2").train.clip_norm == 1.0


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_configuration_is_right(file: Path, tmp_path: Path) -> None:
    overrides = [] if file.name == "demo.yaml" else ["data.path=/data/pairs.csv"]
    config = load_config(file, overrides)
    assert config.space is not None
    assert parse_config(config.as_dict()) == config
    dump_yaml(config.as_dict(), tmp_path / "again.yaml")
    assert load_config(tmp_path / "again.yaml") == config
