"""Bad input to every command: exit code 2, one line that names it and the remedy, and no files left behind.

The last table holds input that only looks bad (a byte order mark, Windows' line ends) and is read correctly.
"""

import gzip
import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load, save

from trainables.data.rows import read_rows
from trainables.models.builtin import builtin_config
from trainables.settings import DataSettings
from trainables.stand_ins import small_model
from tune_app import experiment
from tune_app.cli import main
from tune_app.screening import unread_parameters

ROOT = Path(__file__).parents[1]

Files = Mapping[str, str | bytes]
ModelFiles = dict[str, bytes]

SPACE = "space: {optim.lr: {choices: [0.1, 0.2]}}\n"
BARE = "study: {name: a}\ndata: {path: demo}\n"
LEAST = BARE + "model: {name: tiny-bert}\n"
SEARCH = LEAST + SPACE


@dataclass(frozen=True)
class Row:
    """Input, and texts that the one line of the error must contain.

    Attributes:
        files: beside the configuration ``c.yaml``.
        model: function from the files of a sound model to the files written to ``m``.
        pipes: named pipes that nobody writes to; they take the place of files.
    """

    name: str
    says: tuple[str, ...] = ()
    config: str | bytes = SEARCH
    files: Files = field(default_factory=dict)
    model: Callable[[ModelFiles], Files] | None = None
    command: tuple[str, ...] = ("search", "c.yaml", "--quiet")
    pipes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


def setting(override: str, *says: str) -> Row:
    return Row(override[:60], says, command=("search", "c.yaml", "--quiet", "-s", override))


def value(text: str, *says: str) -> Row:
    """Return a row of settings beside the least that a configuration needs."""
    return Row(text.replace("\n", "; "), says, BARE + text)


def override(given: str, *says: str) -> Row:
    """Return a row of an override of a configuration without a space."""
    return Row(f"-s {given!r}", says, LEAST, command=("search", "c.yaml", "--quiet", "-s", given))


def config(name: str, text: str | bytes, *says: str) -> Row:
    return Row(f"config: {name}", ("c.yaml", *says), text)


def data(name: str, content: str | bytes, *says: str, file: str = "rows.csv", options: tuple[str, ...] = ()) -> Row:
    command = ("search", "c.yaml", "--quiet", "-s", f"data.path={file}", *options)
    return Row(f"data: {name}", ("data.path: ", *says), files={file: content}, command=command)


def model(name: str, damage: Callable[[ModelFiles], Files], *says: str, verb: str = "search") -> Row:
    text = SEARCH if verb == "search" else LEAST
    quiet = () if verb == "memory" else ("--quiet",)
    command = (verb, "c.yaml", *quiet, "-s", "model.name=m", "-s", "data.path=rows.csv")
    return Row(f"model: {name}", ("model.name: ", *says), text, {"rows.csv": as_csv(RECORDS)}, damage, command)


def run(name: str, *command: str, says: tuple[str, ...], files: Files | None = None, text: str = SEARCH) -> Row:
    return Row(name, says, text, files or {}, command=command)


# Data

RECORDS: list[dict[str, Any]] = [
    {"text": f"text {place}", "criterion": "sleep", "label": place % 2, "group_id": place // 2} for place in range(20)
]


def as_csv(records: list[dict[str, Any]]) -> str:
    lines = [list(records[0]), *([record[name] for name in records[0]] for record in records)]
    return "".join(",".join(map(str, line)) + "\n" for line in lines)


def as_jsonl(records: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def as_parquet(names: list[str], columns: list[Any]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([pa.array(column) for column in columns], names=names), file)
    return file.getvalue()


def changed(**cells: Any) -> list[dict[str, Any]]:
    """Return the records with cells of the third one replaced or added; added columns are empty elsewhere."""
    empty = dict.fromkeys(cells, "")
    return [{**empty, **record, **(cells if place == 2 else {})} for place, record in enumerate(RECORDS)]


def every(**cells: Any) -> list[dict[str, Any]]:
    return [{**record, **cells} for record in RECORDS]


# Models


class Code:
    """Object whose pickle runs a command when it is loaded."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch ran",)


def saved(tensors: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(tensors, file, **options)
    return file.getvalue()


def with_config(**values: Any) -> Callable[[ModelFiles], Files]:
    return lambda files: {**files, "config.json": json.dumps({**json.loads(files["config.json"]), **values})}


def without(*names: str) -> Callable[[ModelFiles], Files]:
    return lambda files: {name: content for name, content in files.items() if name not in names}


def with_files(**contents: bytes | str) -> Callable[[ModelFiles], Files]:
    named = {name.replace("__", "."): content for name, content in contents.items()}
    return lambda files: {**files, **named}


def pickled(content: Callable[[dict[str, torch.Tensor]], bytes]) -> Callable[[ModelFiles], Files]:
    """Return a function that replaces a model's weights by a pickled file, which ``content`` makes from them."""

    def damage(files: ModelFiles) -> Files:
        tensors = load(files["model.safetensors"])
        return {**without("model.safetensors")(files), "pytorch_model.bin": content(tensors)}

    return damage


def cut(name: str, fewer: int) -> Callable[[ModelFiles], Files]:
    return lambda files: {**files, name: files[name][:-fewer]}


def one_layer_less(files: ModelFiles) -> Files:
    kept = {name: tensor for name, tensor in load(files["model.safetensors"]).items() if ".layer.1." not in name}
    return {**files, "model.safetensors": save(kept)}


def one_value(value: float) -> Callable[[ModelFiles], Files]:
    def damage(files: ModelFiles) -> Files:
        tensors = load(files["model.safetensors"])
        next(tensor for name, tensor in tensors.items() if ".layer.0." in name).view(-1)[0] = value
        return {**files, "model.safetensors": save(tensors)}

    return damage


def padding_in_front(files: ModelFiles) -> Files:
    config = json.loads(files["tokenizer_config.json"])
    return {**files, "tokenizer_config.json": json.dumps({**config, "padding_side": "left"})}


def smaller_vocabulary(files: ModelFiles) -> Files:
    tensors = load(files["model.safetensors"])
    words = tensors["embeddings.word_embeddings.weight"]
    tensors["embeddings.word_embeddings.weight"] = words[:-5].clone()
    return {**with_config(vocab_size=len(words) - 5)(files), "model.safetensors": save(tensors)}


CODE_FILE = "open('ran', 'w').close()\nclass Model: pass\n"

# Aliases of aliases: 9 ** 8 values in a few hundred characters.
BOMB = "train: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{section}: &a{level + 1} [{', '.join([f'*a{level}'] * 9)}]\n"
    for level, section in enumerate(["tok", "head", "loss", "optim", "schedule", "augment", "memory"])
)

CONFIGS = [
    config("empty", b"", "is empty", "study.name and data.path"),
    config("only a comment", "# later\n", "is empty"),
    config("a list", "- study\n- data\n", "holds list", "sections of settings"),
    config("text", "hello\n", "holds str"),
    config("a number", "3\n", "holds int"),
    config("an open bracket", "study: [\n", "not valid YAML"),
    config("two colons", "a: b: c\n", "c.yaml:1:", "not valid YAML"),
    config("a tab", "study:\n\tname: a\n", "c.yaml:2:", "not valid YAML"),
    config("a key twice", SEARCH + "train:\n  epochs: 1\n  epochs: 2\n", "c.yaml:7:", "epochs", "twice", "keep one"),
    config("a section twice", "study: {name: a}\nstudy: {name: b}\n", "c.yaml:2:", "study", "twice"),
    config("an unknown alias", "study: *nope\n", "c.yaml:1:", "not valid YAML", "nope"),
    config("two documents", "a: 1\n---\nb: 2\n", "not valid YAML", "another document"),
    config("Latin-1", b"study: {name: caf\xe9}\n", "UTF-8"),
    config("UTF-16", SEARCH.encode("utf-16"), "UTF-8"),
    config("a control character", "study: {name: '\x07'}\n", "not valid YAML"),
    config("an impossible date", "study: 2001-99-99\n", "not valid YAML", "month"),
    config("a number of thousands of digits", SEARCH + f"search: {{seed: {'9' * 5000}}}", "not valid YAML", "digits"),
    config("a tag that calls", "study: !!python/object/apply:os.system ['touch ran']", "c.yaml:1:", "not valid YAML"),
    config("a tag that makes", "study: !!python/object/new:os.system ['touch ran']", "c.yaml:1:", "not valid YAML"),
    config("a tag that names", "study: {name: !!python/name:os.system }", "c.yaml:1:", "not valid YAML"),
    config("a tag that imports", "study: !!python/module:os", "c.yaml:1:", "not valid YAML"),
    config("a tag of one's own", "study: !command ['touch ran']", "c.yaml:1:", "not valid YAML"),
    config("aliases of aliases", SEARCH + BOMB, "not valid YAML", "more than 50000 values"),
    config("a value that holds itself", "study: &a {name: *a}\ndata: {path: demo}\n", "more than 50 levels"),
    config("deep", SEARCH + "tok: " + "[" * 200 + "]" * 200, "not valid YAML", "more than 50 levels"),
    config("too deep to read", SEARCH + "tok: " + "[" * 600, "not valid YAML"),
    config("no study", "data: {path: demo}\n", "study:", "missing", "-s study=…"),
    config("no data", "study: {name: a}\n", "data:", "missing"),
    Row("config: no name", ("study.name:", "missing", "-s study.name=…"), "study: {dir: runs}\ndata: {path: demo}\n"),
    Row("config: a path that is a number", ("data.path:", "3", "text"), "study: {name: a}\ndata: {path: 3}\n"),
    config("a data file", SEARCH + "# a line of text\n" * 10_000, "more than 100000 characters", "YAML configuration"),
]

SETTINGS = [
    Row("config: a list as key", ("('a', 'b')", "strings"), LEAST + "? [a, b]\n: 3\n"),
    setting("train.epoch=3", "train.epoch: ", "did you mean train.epochs?"),
    setting("optm.lr=0.1", "optm: ", "did you mean optim?"),
    setting("train.epochs='3'", "train.epochs: '3'", "whole number"),
    setting("train.epochs=3.5", "train.epochs: 3.5", "whole number"),
    setting("train.epochs=true", "train.epochs: True", "whole number"),
    setting("train.epochs=99999999999999999999", "train.epochs: 99999999999999999999", "smaller"),
    setting("search.max_rejections=99999999999999999999", "search.max_rejections: ", "smaller number"),
    setting("resources.cpu=1000000000000", "resources.cpu: 1000000000000", "less than or equal to 4096"),
    setting("resources.cpu=4096", "resources.cpu: 4096 is more than the ", "CPU cores of this machine; lower it"),
    setting("memory.budget_gib=1.0e300", "memory.budget_gib: 1e+300", "less than or equal to 1000000"),
    setting("optim.lr=.nan", "optim.lr: nan", "finite number"),
    setting("optim.lr=-.inf", "optim.lr: -inf", "finite number"),
    setting("optim.lr=1e999", "optim.lr: inf", "finite number"),
    setting("train.clip_norm=.nan", "train.clip_norm: nan", "finite number"),
    setting("train.tf32=yes", "train.tf32: 'yes'", "true or false"),
    setting("train=null", "train: None", "key: value"),
    setting("train.epochs=!!python/object/apply:os.system ['touch ran']", "-s train.epochs", "not valid YAML"),
    setting("train.epochs=[", "-s train.epochs", "'['", "not valid YAML"),
    setting("nonsense", "-s nonsense", "KEY=VALUE"),
    setting("space.optim.lr=0.1", "space.optim.lr", "0.1", "choices"),
    *(
        setting(f"{given}=1", f"{given}: unknown setting; did you mean {meant}?")
        for given, meant in [
            ("learning_rate", "optim.lr"),
            ("train.learning_rate", "optim.lr"),
            ("lr", "optim.lr"),
            ("batch", "train.batch_size"),
            ("per_device_train_batch_size", "train.batch_size"),
            ("train.num_train_epochs", "train.epochs"),
            ("epochs", "train.epochs"),
            ("tok.max_len", "tok.max_length"),
            ("max_seq_length", "tok.max_length"),
            ("train.weight_decay", "optim.weight_decay"),
            ("weight-decay", "optim.weight_decay"),
            ("train.seed", "search.seed"),
            ("n_trials", "search.trials"),
            ("train.warmup", "schedule.warmup_ratio"),
            ("data.group", "data.columns.group_id"),
        ]
    ),
    setting("tokenizer={max_length: 64}", "tokenizer: unknown setting; did you mean tok?"),
    setting("space.optim.learning_rate={choices: [0.1]}", "no such parameter; did you mean optim.lr?"),
    setting("space.optim.learning_rate=1", "no such parameter; did you mean optim.lr?"),
    setting("space.seed={choices: [1]}", "space.seed: ", "did you mean search.seed, which is set outside the space?"),
    setting("space.train.nonsense={choices: [1]}", "space.train.nonsense: ", "known: train.batch_size"),
    setting("space.optim.lrr=null", "space.optim.lrr: no such parameter; did you mean optim.lr?"),
    setting("space={from: narrow, model.nmae: null}", "space.model.nmae: ", "did you mean model.name?"),
    setting("trial.timeout_s=1e300", "trial.timeout_s: 1e+300", "less than or equal to 31536000"),
    setting("resources.gpu=0.3333", "resources.gpu: 0.3333, and this machine has none", "set auto"),
    setting("resources.gpu=1e300", "resources.gpu: 1e+300", "no trial runs on more than"),
    setting("resources.gpu=0.001", "resources.gpu: 0.001", "at least 0.01"),
    setting("tracking.uri=runs", "tracking.uri: 'runs'", "http://host:5000"),
    setting("tracking.uri=sqlite://", "tracking.uri: 'sqlite://'", "this process's memory"),
    setting("limits.from=users_80gb", "limits.from: 'users_80gb'", "known: users_24gb"),
    setting("task.objective=f1", "task.objective: 'f1'", "macro_f1"),
    setting("task.threshold=2", "task.threshold: 2.0", "from 0 to 1"),
    setting("data.test_share=0.9", "data.validation_share: 0.2", "data.test_share 0.9", "lower one"),
    setting("study.dir=''", "study.dir: ''", "is blank"),
    *(
        setting(f"{name}={'x ' * 50_000}", name, "…")
        for name in ("train.epochs", "task.objective", "search.metric", "limits", "study.name", "space.optim.lr")
    ),
    setting(f"train.{'x' * 100_000}=3", "train.xxx", "unknown setting"),
    setting(f"space.{'x' * 100_000}={{choices: [1]}}", "space: 'xxx", "longer than any setting's name"),
    setting("x" * 100_000, "-s xxx", "KEY=VALUE"),
    setting('study.dir="a\\0b"', "study.dir: 'a\\x00b'", "control character", "leave it out"),
    setting('study.dir="\\ud800"', "study.dir: ", "surrogate"),
    setting('model.name="\\e[31mred"', "model.name: '\\x1b[31mred'", "control character"),
    setting("study.dir=/proc/none", "study.dir: /proc/none/a cannot be written", "another folder"),
    setting("study.dir=c.yaml", "study.dir: ", "c.yaml/a cannot be written", "another folder"),
    setting(f"study.dir={'x' * 300}", "study.dir: ", "cannot be written (File name too long)"),
    setting(f"study.dir=made/{'x' * 300}", "study.dir: ", "cannot be written (File name too long)"),
    setting("study.dir=ftp://host/folder", "study.dir: ftp://host/folder", "s3://bucket/folder"),
    setting("study.dir=s3://", "study.dir: 's3://'", "s3://bucket/folder"),
    setting("study.dir=ftp://key:hush@host/folder", "study.dir: ftp://key:***@host/folder", "s3://bucket/folder"),
    setting("checkpoint.dir=ftp://host/folder", "checkpoint.dir: ftp://host/folder", "s3://bucket/folder"),
    setting("checkpoint.dir=s3://", "checkpoint.dir: 's3://'", "s3://bucket/folder"),
    setting("checkpoint.dir=/proc/none", "checkpoint.dir: /proc/none/a cannot be written", "that you may write to it"),
    setting("checkpoint.keep=some", "checkpoint.keep: 'some'", "none, or a whole number"),
    setting("checkpoint.keep=-1", "checkpoint.keep: -1", "none, or a whole number"),
    run(
        "no checkpoints for a scheduler that pauses trials",
        *("search", "c.yaml", "--quiet", "-s", "checkpoint.keep=none", "-s", "scheduler.name=hyperband"),
        says=("checkpoint.keep: none", "scheduler.name=asha"),
    ),
    setting("data.path=/dev/null", "data.path: /dev/null", "a device, not a file"),
    setting("model.name=/dev/null", "model.name: '/dev/null'", "is not a folder"),
    setting("model.name=c.yaml", "model.name: 'c.yaml'", "is not a folder"),
    setting("data.columns.text=null", "data.columns.text: None", "expected text; leave the setting out"),
    setting("model.name=./none", "model.name: ", "'./none'", "no such folder"),
    setting("model.name=deberta-v3-base", "model.name: ", "did you mean 'microsoft/deberta-v3-base'?"),
    setting("model.name=tiny-brt", "model.name: ", "'tiny-brt'", "did you mean 'tiny-bert'?"),
    *(
        setting(f"study.name={json.dumps(name)}", "study.name: ", repr(name)[:40], "letters, digits")
        for name in ("a/b", "../a", "/etc/a", "a\\b", ".", "..", ".hidden", "-x", "a b", "ä", "x" * 101)
    ),
    *(
        setting(f"study.name={json.dumps(name)}", "study.name: ", repr(name), "control character")
        for name in ("a\nb", "a\0b")
    ),
]

VALUES = [
    value("zzz: 1", "zzz:", "unknown setting", "known here: study, data"),
    value("limits: {large: {bach: 3}}", "limits.large.bach:", "did you mean batch?"),
    value("train: {epochs: 3.0}", "train.epochs:", "3.0", "whole number"),
    value("train: {epochs: 0}", "train.epochs:", "0", "greater than 0"),
    value("train: {epochs: null}", "train.epochs:", "None", "whole number"),
    value("train: {epochs: [3]}", "train.epochs:", "[3]", "whole number"),
    value("optim: {name: adam}", "optim.name:", "'adam'", "adamw, adafactor, lion, adamw_8bit", "did you mean adamw?"),
    value("optim: {lr: fast}", "optim.lr:", "'fast'", "number"),
    value("optim: {lr: true}", "optim.lr:", "True", "number"),
    value("optim: {lr: 2}", "optim.lr:", "2", "less than or equal to 1"),
    value("optim: {lr: 2001-01-01}", "optim.lr:", "2001", "number"),
    value("optim: {lr: 1.0.0}", "optim.lr:", "'1.0.0'", "number"),
    value("train: {tf32: 1}", "train.tf32:", "1", "true or false"),
    value("model: {name: 3}", "model.name:", "3", "text"),
    value("model: {name: ''}", "model.name:", "''", "is blank"),
    value("head: {pooling: men}", "head.pooling:", "'men'", "cls, mean, max, pooler, attention", "did you mean mean?"),
    value("search: {sampler: grid}", "search.sampler:", "'grid'", "tpe, nsga2, random, exhaustive"),
    value("train: 3", "train:", "3", "settings (key: value)"),
    value("train: [epochs]", "train:", "['epochs']", "settings (key: value)"),
    value("tracking: false", "tracking:", "False", "settings (key: value)"),
    value("1: 3", "1:", "strings"),
    value("memory: {budget_gib: 0}", "memory.budget_gib:", "0"),
    value("memory: {budget_gib: -2.5}", "memory.budget_gib:", "-2.5"),
    value("memory: {micro_batch: most}", "memory.micro_batch:", "'most'", "expected auto, or a whole number above 0"),
    value("memory: {eval_batch: 0}", "memory.eval_batch:", "0", "expected auto, or a whole number above 0"),
    value("resources: {gpu: 1.5}", "resources.gpu:", "1.5", "0.5"),
    value("resources: {gpu: -1}", "resources.gpu:", "-1", "greater than or equal to 0"),
    value("resources: {gpu: .inf}", "resources.gpu:", "inf", "auto"),
    value("resources: {gpu: half}", "resources.gpu:", "'half'", "auto", "0.25"),
    value("resources: {gpu: true}", "resources.gpu:", "True", "auto", "0.25"),
    value("resources: {passes: 0}", "resources.passes:", "0", "greater than 0"),
    value("memory: {headroom: -0.1}", "memory.headroom:", "-0.1", "greater than or equal to 0"),
    value("optim: {eps: 1.0e-50}", "optim.eps: 1e-50:", "greater than or equal to 1e-20"),
    value("memory: {headroom: 1}", "memory.headroom:", "1", "less than 1"),
    value("memory: {device_gib: 0}", "memory.device_gib:", "0", "greater than 0"),
    value("memory: {max_accumulation: 0}", "memory.max_accumulation:", "0", "greater than 0"),
    value("memory: {allow_checkpointing: 1}", "memory.allow_checkpointing:", "1", "true or false"),
    value("limits: users_24g", "limits:", "'users_24g'", "did you mean users_24gb?", "predicted", "users_families"),
    value("limits: predict", "limits:", "'predict'", "did you mean predicted?"),
    value("limits: 3", "limits:", "3", "known: predicted"),
    value("limits: [predicted, users_familie]", "limits:", "'users_familie'", "did you mean users_families?"),
    value("limits: [predicted, predicted]", "limits:", "'predicted'", "twice"),
    value("limits: {from: predicted}", "limits.from:", "'predicted'", "known: users_24gb"),
    value("limits: [predicted, {large: {bach: 3}}]", "limits.large.bach:", "did you mean batch?"),
    value("limits: {large: {batch: '16'}}", "limits.large.batch:", "'16'", "whole number"),
    value("limits: {large: {batch: true}}", "limits.large.batch:", "True", "whole number"),
    value(
        "scheduler: {warmup: 4}\nspace: {optim.lr: {choices: [0.1]}}",
        "scheduler.warmup:",
        "4",
        "train.epochs",
        "3",
        "lower it",
    ),
    value(
        "train: {epochs: 1}\nscheduler: {rung: epoch}\nspace: {optim.lr: {choices: [0.1]}}",
        "scheduler.rung: epoch leaves asha",
        "1 epoch (train.epochs)",
        "scheduler.rung=0.25",
        "scheduler.name=none",
    ),
    value(
        "train: {epochs: 3}\nscheduler: {warmup: 3}\nspace: {optim.lr: {choices: [0.1]}}",
        "scheduler.warmup:",
        "3 leaves asha",
        "3 epochs (train.epochs)",
        "scheduler.name=none",
    ),
    value("scheduler: {rung: 0.3}", "scheduler.rung: 0.3:", "a whole number of rungs", "0.25"),
    value("scheduler: {rung: 2}", "scheduler.rung: 2:", "expected auto, epoch, or a share of one"),
    value(
        "scheduler: {name: hyperband, warmup: 2}\nspace: {optim.lr: {choices: [0.1]}}",
        "scheduler.reduction_factor:",
        "3 epochs (train.epochs)",
        "rounded down 1",
        "scheduler.warmup 2",
    ),
    value("scheduler: {warmup_epochs: 2, warmup: 1}", "scheduler.warmup_epochs:", "2", "its new name", "keep one"),
    value("scheduler: {warmup_epochs: 0}", "scheduler.warmup:", "0", "greater than 0"),
    value("space: 3", "space:", "names with choices or ranges"),
    value("space: {}", "space:", "empty", "name at least one"),
    value("space: [optim.lr]", "space:", "a list"),
    value("space: {optim.l: {choices: [0.1]}}", "space.optim.l:", "did you mean optim.lr?"),
    value("space: {lr: {choices: [0.1]}}", "space.lr:", "no such parameter", "optim.lr"),
    value("space: {data.path: {choices: [a]}}", "space.data.path:", "no such parameter"),
    value("space: {a.b.c: {choices: [a]}}", "space.a.b.c:", "no such parameter"),
    value("space: {optim: {lr: {choices: [0.1]}}}", "space.optim:", "nested", "optim.lr"),
    value("space: {train.epochs: {choices: [1, 2]}}", "space.train.epochs:", "cannot be searched", "outside the space"),
    value("space: {train.precision: {choices: [fp32]}}", "space.train.precision:", "cannot be searched"),
    value("space: {train.patience: {choices: [1, 2]}}", "space.train.patience:", "cannot be searched"),
    value("space: {model.revision: {choices: [main]}}", "space.model.revision:", "cannot be searched"),
    value("space: {optim.lr: {choices: [0.1, 2.0]}}", "space.optim.lr:", "2.0", "less than or equal to 1"),
    value("space: {optim.lr: {low: 0.1, high: 2.0}}", "space.optim.lr:", "2.0", "less than or equal to 1"),
    value("space: {optim.lr: {low: 0.0, high: 0.1}}", "space.optim.lr:", "0.0", "greater than 0"),
    value("space: {optim.lr: {choices: [slow, fast]}}", "space.optim.lr:", "'slow'", "number"),
    value("space: {train.batch_size: {low: 8.0, high: 16.0}}", "space.train.batch_size:", "8.0", "whole number"),
    value("space: {head.pooling: {choices: [cls, men]}}", "space.head.pooling:", "'men'", "did you mean mean?"),
    value(
        "space: {loss.gamma: {choices: [1.0, 2.0]}}",
        "space.loss.gamma:",
        "used only with loss.name=focal",
        "loss.name is cross_entropy",
        "drop space.loss.gamma",
    ),
    value(
        "space: {schedule.power: {low: 1.0, high: 2.0}, schedule.name: {choices: [linear, cosine]}}",
        "space.schedule.power:",
        "schedule.name=polynomial",
        "schedule.name may be linear, cosine only",
    ),
    value(
        "search: {sampler: exhaustive}\nspace: {optim.lr: {low: 0.1, high: 0.2}}",
        "search.sampler:",
        "exhaustive",
        "float range space.optim.lr",
        "choices",
    ),
]

OVERRIDES = [
    override("", "-s", "KEY=VALUE"),
    override("=", "-s =", "KEY=VALUE"),
    override("=3", "-s =3", "KEY=VALUE"),
    override("train.epochs", "-s train.epochs", "KEY=VALUE"),
    override("train.epochs={a: 1, a: 2}", "-s train.epochs", "not valid YAML"),
    override("train.epochs=*x", "-s train.epochs", "not valid YAML"),
    override("train.epochs=2001-99-99", "-s train.epochs", "not valid YAML"),
    override("train.epochs=!!int abc", "-s train.epochs", "not valid YAML"),
    override("train.epochs=5\nfoo: 3", "-s train.epochs", "not valid YAML"),
    override("train.epochs=", "train.epochs", "None"),
    override("train.epochs=abc", "train.epochs", "'abc'", "whole number"),
    override("train.epochs.x=3", "train.epochs", "whole number"),
    override("study.name.x=3", "-s study.name.x", "study.name is 'a'"),
    override("train..epochs=3", "train.", "unknown setting"),
    override("tra\nin=3", "unknown setting"),
    override("space=3", "space:", "names with choices"),
    override("space.optim.lr=3", "space.optim.lr", "3", "choices"),
    override("space.optim.lr.choices=3", "space.optim.lr.choices", "3", "list"),
    override("space.optim.lr.choces=[0.1]", "space.optim.lr.choces", "choices"),
    override("space.optim.l.choices=[0.1]", "space.optim.l", "did you mean optim.lr?"),
    override("space.optim.lr.high=0.5", "space.optim.lr", "low"),
]

STORAGES = [
    setting(f"study.storage={json.dumps(url)}", "study.storage: ", *says)
    for url, says in [
        ("nosuch://h/db", ("nosuch://h/db cannot be opened", "null for a journal file")),
        ("postgresql://u:hush@h/db", ("postgresql://u:***@h/db cannot be opened", "driver is installed")),
        ("postgresql://u:hu@sh@h/db", ("postgresql://u:***@h/db cannot be opened",)),
        ("postgresql://u:hu sh@h/db", ("holds a blank before its @", "%20")),
        ("nosuch://h/db?user=u&password=hush", ("nosuch://h/db?user=u&password=*** cannot be opened",)),
        ("sqlite://u:hush@h/x.db", ("sqlite://u:***@h/x.db cannot be opened",)),
        ("sqlite:////proc/none/x.db", ("sqlite:////proc/none/x.db cannot be opened", "unable to open")),
        ("sqlite:///none/x.db", ("none/x.db cannot be opened", "unable to open")),
        ("sqlite:///c.yaml", ("c.yaml cannot be opened", "not a database")),
        ("runs/x.db", ("runs/x.db cannot be opened", "check the address")),
        ("", ("''", "is blank", "leave the setting out")),
        ("  ", ("'  '", "is blank")),
        ("sqlite://", ("'sqlite://'", "this process's memory", "give a file")),
        ("sqlite:///", ("'sqlite:///'", "this process's memory")),
        ("sqlite:///:memory:", ("'sqlite:///:memory:'", "this process's memory")),
        ("sqlite:///file:x?mode=memory&uri=true", ("this process's memory",)),
        ("postgresql://u:***@h/db", ("password was left out", "-s study.storage=")),
    ]
]

PASSWORDS = [
    setting("tracking=http://u:hush@h", "tracking: 'http://u:***@h'", "key: value"),
    setting("data.path=http://u:hush@h/x.csv", "data.path: http://u:***@h/x.csv", "download it first"),
    setting("model.name=https://u:hush@h/x", "model.name: ", "https://u:***@h/x"),
    setting("tracking.uri=http://u:***@h", "tracking.uri: ", "password was left out", "-s tracking.uri="),
    setting("tracking.uri=http://u:hu?sh@h", "tracking.uri: ", "holds a ? before its @", "%3F"),
    setting("study.dir=s3://key:hu/sh@bucket/x", "study.dir: ", "holds a / before its @", "%2F"),
    setting("checkpoint.dir=s3://key:hu/sh@bucket/x", "checkpoint.dir: ", "holds a / before its @", "%2F"),
]

DATA = [
    data("no such file", "", "none.csv: there is no such file", options=("-s", "data.path=none.csv"), file="x.csv"),
    data("a folder", "", "is a folder; give the file in it", file="rows.csv/x", options=("-s", "data.path=rows.csv")),
    data("a name too long", "", "no such file", options=("-s", f"data.path={'x' * 300}.csv"), file="x.csv"),
    data("no bytes", "", "holds no rows; give it a header"),
    data("a header alone", as_csv(RECORDS).splitlines()[0], "holds no rows; give it a header"),
    data("Latin-1", as_csv(changed(text="é")).encode("latin-1"), "is not UTF-8 (it holds the byte 0xe9); save it as"),
    data("compressed, damaged", b"\x1f\x8b\x08\0\0\0\0\0", "is a damaged gzip file", "compress it again"),
    data("compressed, cut", gzip.compress(as_csv(RECORDS).encode())[:-20], "is a damaged gzip file"),
    data("more fields than names", "text,label\na,1,2\n", "more fields than the header names; quote fields"),
    data("more fields in one row", "text,label\na,1\nb,1,2\n", "is not a proper CSV file: Error tokenizing data"),
    data(
        "a comment above the header", "# by me\n" + as_csv(RECORDS), "first line, '# by me'", "remove everything above"
    ),
    data("an open quote", 'text,label\n"a,1\n', "is not a proper CSV file", "a quote is opened and never closed"),
    data("semicolons", "text;label\na;1;2\na;1\n", "quote fields that hold semicolons"),
    data("a column twice", "text," + as_csv(RECORDS), "column 'text' occurs 2 times in the header; keep one"),
    data("5 MB in one line", "x" * 5_000_000 + "\n1\n", "has no columns 'text' and", "data.columns.text=NAME"),
    data("columns are missing", "a,b\n1,2\n", "'text' and 'label'", "data.columns.text=NAME data.columns.label=NAME"),
    data("a column is missing", as_csv(RECORDS).replace("label", "Label", 1), "data.columns.label=Label"),
    data("labels that are no numbers", as_csv(changed(label="often")), "row 3, column 'label': 'often'", "task.labels"),
    data("a class too rare", as_csv(changed(label=7)), "class 7 occurs in 1 group(s)", "merge it"),
    data("a label that is not a class", as_csv(changed(label=0.5)), "row 3, column 'label'", "whole numbers or names"),
    data("a NUL byte", as_csv(changed(text="te\0xt")), "row 3, column 'text': character 3 is NUL", "remove it"),
    data("NUL bytes behind the end", as_csv(RECORDS) + "\0" * 100, "row 21, column 'text'", "NUL"),
    data("a NUL in a group", as_csv(changed(group_id="\0")), "row 3, column 'group_id'", "NUL"),
    data("evidence outside", as_csv(changed(evidence_start=2, evidence_end=99)), "row 3", "from 2 to 99", "within"),
    data("evidence reversed", as_csv(changed(evidence_start=4, evidence_end=2)), "row 3", "from 4 to 2", "first char"),
    data("half an evidence", as_csv(changed(evidence_start=4, evidence_end="")), "row 3", "give both"),
    data("one group", as_csv(every(group_id="g")), "holds 1 group(s)", "data.columns.group_id"),
    data("one class", as_csv(every(label=1)), "holds only the class 1", "add rows of another"),
    data("JSONL, no bytes", "", "holds no rows", file="rows.jsonl"),
    data("JSONL, Latin-1", '{"text": "é"}'.encode("latin-1"), "is not UTF-8", file="rows.jsonl"),
    data("JSONL, a broken line", as_jsonl(RECORDS) + '{"text": \n', "line 21 is not JSON", file="rows.jsonl"),
    data("JSONL, an array", json.dumps(RECORDS), "line 1 holds [", "one object per line", file="rows.jsonl"),
    data("JSONL, deep", '{"text": ' + "[" * 99_999, "line 1 cannot be read", "recursion", file="rows.jsonl"),
    data("JSONL, endless", f'{{"label": {"9" * 5000}}}', "line 1 cannot be read", "digits", file="rows.jsonl"),
    data("JSONL, no text", as_jsonl(changed(text=["a"])), "row 3, column 'text': ['a']", file="rows.jsonl"),
    data("JSONL, half a sign", as_jsonl(changed(text="\ud800")), "half a surrogate pair", file="rows.jsonl"),
    data("Parquet that is none", "text", "is not a proper Parquet file", "write it again", file="rows.parquet"),
    data("Parquet, bytes", as_parquet(["text", "label"], [[b"a"], [1]]), "b'a' is not a text", file="rows.parquet"),
    data("Parquet, twice", as_parquet(["text"] * 2, [["a"]] * 2), "not a proper Parquet file", file="rows.parquet"),
    data("no suffix", "text", "the suffix '' is not one of .csv, .tsv, .txt, .jsonl,", file="rows"),
    data("another format", "text", "the suffix '.xlsx' is not one of .csv, .tsv,", file="rows.xlsx"),
    setting("data.columns.text=label", "data.columns.label: 'label'", "is the column of text already"),
    setting("data.columns.group_id=text", "data.columns.group_id: 'text'", "of text already", "group_id=null"),
    setting("data.columns.criterion=text", "data.columns.criterion: 'text'", "of text already", "criterion=null"),
    setting("task.labels=[a]", "task.labels: ['a']", "two names or more"),
    setting("task.labels=[a, b, a]", "task.labels: ", "no name twice"),
    setting("task.labels=a", "task.labels: 'a'", "such as [no, yes]"),
    setting("task.classes=3", "task.classes: 3: the data holds 2 classes (0, 1)", "leave task.classes out"),
]

MODELS = [
    model("deep config.json", with_files(config__json='{"a":' * 50_000 + "1" + "}" * 50_000), "nested too deeply"),
    model("a million layers", with_config(num_hidden_layers=10**6), "num_hidden_layers: 1000000: expected 1 to 256"),
    model("no layers", with_config(num_hidden_layers=0), "num_hidden_layers: 0: expected 1 to 256", verb="memory"),
    model("a vocabulary of billions", with_config(vocab_size=2**40), "vocab_size: 1099511627776", verb="memory"),
    model("no config.json", without("config.json"), "holds no config.json", "transformers layout"),
    model("no weights", without("model.safetensors"), "no weights in", "needs one of model.safetensors"),
    model("no tokenizer", without("tokenizer.json", "tokenizer_config.json"), "no vocabulary", "tokenizer.json"),
    model("truncated weights", cut("model.safetensors", 1000), "model.safetensors cannot be read", "fetch the model"),
    model("empty weights", with_files(model__safetensors=b""), "model.safetensors cannot be read", "fetch the model"),
    model("truncated pickle", pickled(lambda tensors: saved(tensors)[:-1000]), "pytorch_model.bin is damaged", "fetch"),
    model(
        "search, code in a pickle",
        pickled(lambda _: saved({"a": Code()})),
        "perhaps code, which is never run",
        "safetens",
    ),
    model("code in a bare pickle", pickled(lambda _: pickle.dumps(Code())), "which is never run", "safetensors"),
    model("a pickle of a whole checkpoint", pickled(lambda tensors: saved({"model": tensors})), "state_dict alone"),
    model("a layer is missing", one_layer_less, "the checkpoint lacks encoder.layer.1."),
    model("config.json is no JSON", with_files(config__json="{"), "config.json", "not a valid JSON", "transformers la"),
    model("config.json is a list", with_files(config__json="[1]"), "config.json", "transformers layout"),
    model("config.json is null", with_files(config__json="null"), "config.json", "transformers layout"),
    model("a family nobody knows", with_config(model_type="nosuch"), "`nosuch`", "transformers layout"),
    model("weights that are NaN", one_value(float("nan")), "NaN or infinite values", "encoder.layer.0.", "fetch"),
    model("infinite weights", one_value(float("-inf")), "NaN or infinite values", "encoder.layer.0.", "fetch"),
    model("fewer layers than weights", with_config(num_hidden_layers=1), "leaves out", "fix num_hidden_layers"),
    model("a padding token of no word", with_config(pad_token_id=5000), "pad_token_id: 5000: expected one of"),
    model("a number that is none", with_config(layer_norm_eps=float("nan")), "layer_norm_eps: nan: expected a finite"),
    model("a padding token that is text", with_config(pad_token_id="x"), "pad_token_id", "'x'"),
    model("a size that is text", with_config(hidden_size="big"), "hidden_size", "'big'"),
    model("sizes that do not fit", with_config(num_attention_heads=7), "attention heads (7)", "fix its config.json"),
    model("no function", with_config(hidden_act="nosuch"), 'config.json: hidden_act: "nosuch": ', 'default is "gelu"'),
    model("memory, no function", with_config(hidden_act="nosuch"), 'hidden_act: "nosuch": ', "fix it", verb="memory"),
    model(
        "memory, a decoder", with_config(is_decoder=True), "config.json: is_decoder: true: ", "fix it", verb="memory"
    ),
    model("memory, fewer layers", with_config(num_hidden_layers=1), "fix num_hidden_layers", verb="memory"),
    model("other shapes", with_config(intermediate_size=48), "other shapes in the checkpoint", "(48, 32)"),
    model("a tokenizer of another model", smaller_vocabulary, "its tokenizer has token ids", "use the tokenizer"),
    model("a tokenizer that pads in front", padding_in_front, "padding_side is left", "tokenizer_config.json"),
    model("a tokenizer that is none", with_files(tokenizer__json='{"model": 3}'), "tokenizer of"),
    model(
        "code beside a model",
        lambda files: {
            **with_config(model_type="own", auto_map={"AutoConfig": "own.Model"})(files),
            "own.py": CODE_FILE,
        },
        "code of its own, which is never run here",
    ),
    model("train, truncated weights", cut("model.safetensors", 1000), "cannot be read", verb="train"),
    model("train, code", pickled(lambda _: saved({"a": Code()})), "which is never run", verb="train"),
    model("train, another tokenizer", smaller_vocabulary, "use the tokenizer", verb="train"),
    model("train, no vocabulary", without("tokenizer.json", "tokenizer_config.json"), "vocabulary", verb="train"),
    model("memory, no config", with_files(config__json="{"), "config.json", "valid JSON", verb="memory"),
]
STUDY = {"runs/a/config.yaml": SEARCH, "runs/a/study.journal": ""}
LONG = "x" * 300
COMMANDS = [
    run("no command", says=("Missing command", "headroom --help")),
    run("a misspelt command", "serach", says=("'serach'", "search")),
    run("no command of ours", "fly", says=("'fly'", "headroom --help")),
    run("no option of ours", "--verbose", says=("--verbose",)),
    run("search: nothing", "search", says=("CONFIG",)),
    run("search: no trials", "search", "c.yaml", "--trials", "0", says=("--trials", "0")),
    run("search: trials that are no number", "search", "c.yaml", "--trials", "many", says=("--trials", "'many'")),
    run("search: no override", "search", "c.yaml", "-s", says=("-s",)),
    run("search: not quiet", "search", "c.yaml", says=("space", "names with choices"), text=LEAST + "space: 3"),
    run("train: nothing", "train", says=("CONFIG",)),
    run("status: nothing", "status", says=("STUDY",)),
    run("status: too much", "status", "a", "b", says=("b",)),
    run("export: nowhere", "export", "a", says=("--to",)),
    run("a misspelt option", "search", "--trails", "3", "c.yaml", says=("--trails", "--trials")),
    run("no such configuration", "search", "none.yaml", says=("none.yaml", "no such file")),
    run("a folder as configuration", "train", ".", says=(".", "is a folder")),
    run("a device as configuration", "memory", "/dev/zero", says=("/dev/zero: is a device, not a file", "YAML")),
    run("a name too long", "search", LONG, says=("File name too long", "YAML configuration")),
    run("bytes that are no text", "search", "a\udcff.yaml", says=("a\\udcff.yaml", "no such file")),
    run("search: no space", "search", "c.yaml", says=("space", "missing", "headroom train"), text=LEAST),
    run("search: a blank address", "search", "c.yaml", "--address", "", says=("--address: '' is not", "HOST:PORT")),
    run(
        "doctor: a blank address",
        "doctor",
        "--address",
        " ",
        says=("--address: ' ' is not a cluster's address", "auto"),
    ),
    *(
        run(f"search: {given}", "search", "c.yaml", "--address", given, says=(f"--address: {given!r} is not", "auto"))
        for given in ("ray://", "nonsense", "http://host:8265", "host:port")
    ),
    run("search: nobody at a client's port", "search", "c.yaml", "--address", "ray://127.0.0.1:1", says=("ray start",)),
    run("search: an address beyond ports", "search", "c.yaml", "--address", "h:99999", says=("--address", "h:99999")),
    run("train: a space", "train", "c.yaml", says=("space", "headroom export")),
    run("train: into a file", "train", "c.yaml", "--to", "f/m", says=("--to", "f/m"), files={"f": ""}, text=LEAST),
    run("train: nowhere", "train", "c.yaml", "--to", "/proc/m", says=("--to", "/proc/m", "another"), text=LEAST),
    run("train: too long", "train", "c.yaml", "--to", LONG, says=("--to", "too long", "another"), text=LEAST),
    run("memory: no number", "memory", "c.yaml", "--budget-gib", "nan", says=("--budget-gib: nan", "e.g. 24")),
    run("memory: beyond devices", "memory", "c.yaml", "--budget-gib", "inf", says=("--budget-gib", "inf")),
    run("memory: a batch", "memory", "c.yaml", "--batch", "9" * 30, says=("--batch", "268435456")),
    run("memory: data", "memory", "c.yaml", "-s", "data.path=none.csv", says=("data.path", "none.csv")),
    run("memory: no model", "memory", "c.yaml", "-s", "model.name=./none", says=("model.name", "./none")),
    run("status: no study", "status", "none", says=("none", "no study of that name in ./runs")),
    run("status: empty", "status", "", says=("no study of that name",)),
    run("status: too long", "status", LONG, says=("no study of that name",)),
    run("status: a path", "status", "../..", says=("../..", "no study of that name")),
    run("status: nothing in it", "status", "a", says=("a", "study.journal", "headroom search"), files=STUDY),
    run(
        "status: no journal",
        "status",
        "a",
        says=("study.journal", "restore it"),
        files={**STUDY, "runs/a/study.journal": "garbage\n"},
    ),
    run(
        "export: a configuration that is none",
        "export",
        "a",
        "--to",
        "out",
        says=("runs/a/config.yaml:1:", "not valid YAML"),
        files={**STUDY, "runs/a/config.yaml": "study: ["},
    ),
    run(
        "dashboard: URLs that are none",
        "dashboard",
        "a",
        says=("secrets.json", "cannot be read", "-s study.storage="),
        files={**STUDY, "runs/a/secrets.json": "[1]"},
    ),
    run(
        "status: another password",
        "status",
        "a",
        says=("study.storage", "nosuch://u:***@h"),
        files={**STUDY, "runs/a/secrets.json": '{"study.storage": "nosuch://u:hush@h"}'},
    ),
    run("export: no study", "export", "none", "--to", "out", says=("none", "no study")),
    run("dashboard: no study", "dashboard", "none", says=("none", "no study")),
    run("doctor: a misspelt option", "doctor", "--jsn", says=("--jsn", "--json")),
]


def piped(name: str, pipe: str, *command: str, files: Files | None = None) -> Row:
    model_of = dict if pipe.startswith("m/") else None
    return Row(
        f"pipe: {name}", (Path(pipe).name, "pipe"), files=files or {}, model=model_of, command=command, pipes=(pipe,)
    )


PIPES = [
    piped("configuration", "c.yaml", "search", "c.yaml"),
    piped("configuration to train", "c.yaml", "train", "c.yaml", "--to", "m"),
    piped("data", "rows.csv", "search", "c.yaml", "-s", "data.path=rows.csv"),
    piped("weights", "m/model.safetensors", "search", "c.yaml", "-s", "model.name=m"),
    piped("tokenizer", "m/tokenizer.json", "memory", "c.yaml", "-s", "model.name=m"),
    piped("journal", "runs/a/study.journal", "status", "a", files=STUDY),
    piped("lock", "runs/a/search.lock", "search", "c.yaml", "--quiet"),
    piped("passwords", "runs/a/secrets.json", "status", "a", files=STUDY),
]

BAD = [*CONFIGS, *SETTINGS, *VALUES, *OVERRIDES, *STORAGES, *PASSWORDS, *DATA, *MODELS, *COMMANDS, *PIPES]


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    """Return the files of a sound model."""
    config = builtin_config("tiny-bert", vocab_size=100, pad_token_id=0)
    folder = small_model(config, tmp_path_factory.mktemp("model"))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_files: ModelFiles) -> Callable[[Row], None]:
    """Return a function that writes a row's files into the working directory, a folder of the test's own."""
    monkeypatch.chdir(tmp_path)

    def put(row: Row) -> None:
        files = {"c.yaml": row.config, **row.files}
        if row.model is not None:
            files |= {f"m/{name}": content for name, content in row.model(model_files).items()}
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        for name in row.pipes:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).unlink(missing_ok=True)
            os.mkfifo(tmp_path / name)

    return put


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def assert_refused(row: Row, code: object, out: str, err: str) -> None:
    assert code == 2, err
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert err.startswith("headroom: ")
    assert len(err) < 3000
    assert "Traceback" not in err
    assert "hush" not in err
    assert [part for part in row.says if part not in err] == [], err


class NothingToRefuse(BaseException):
    """Signal that a search would start. No command catches it."""


@pytest.fixture
def no_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop every search after its checks, and skip the checks that train a small model first."""

    def begin(*_: Any, **__: Any) -> None:
        raise NothingToRefuse

    monkeypatch.setattr(experiment, "_search", begin)
    monkeypatch.setattr(unread_parameters, "check_parameters_are_read", lambda *_: None)
    monkeypatch.setattr(experiment, "ray_starts_here", lambda _: False)


def test_the_table_is_long_and_tells_its_rows_apart() -> None:
    names = [row.name for row in BAD]
    assert len(names) >= 60
    assert sorted(name for name in names if names.count(name) > 1) == []


@pytest.mark.parametrize("row", BAD, ids=str)
def test_bad_input_is_one_line_and_leaves_nothing_behind(
    row: Row, given: Callable[[Row], None], no_trials: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given(row)
    before = everything(tmp_path)
    with pytest.raises(SystemExit) as exited:
        main(list(row.command))
    assert_refused(row, exited.value.code, *capsys.readouterr())
    assert everything(tmp_path) == before


REAL = ["aliases of aliases", "5 MB in one line", "status: a path"]


@pytest.mark.parametrize("name", REAL)
def test_bad_input_of_a_real_process(name: str, given: Callable[[Row], None], tmp_path: Path) -> None:
    (row,) = (row for row in BAD if row.name.endswith(name))
    given(row)
    before = everything(tmp_path)
    ran = subprocess.run(
        [sys.executable, "-m", "tune_app", *row.command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert_refused(row, ran.returncode, ran.stdout, ran.stderr)
    assert everything(tmp_path) == before


@dataclass(frozen=True)
class Good:
    """Input that looks bad, and the records that it must give."""

    name: str
    content: str | bytes = ""
    file: str = "rows.csv"
    records: list[dict[str, Any]] = field(default_factory=lambda: RECORDS)
    config: str | bytes = SEARCH

    def __str__(self) -> str:
        return self.name


TEXTS, GROUPS = [record["text"] for record in RECORDS], [record["group_id"] for record in RECORDS]
CRITERIA, LABELS = ["sleep"] * len(RECORDS), [record["label"] for record in RECORDS]
NAMES = ["text", "criterion", "label", "group_id"]

GOOD = [
    Good("a configuration with a byte order mark", config=b"\xef\xbb\xbf" + SEARCH.encode()),
    Good("a configuration with Windows' line ends", config=SEARCH.replace("\n", "\r\n")),
    Good(
        "a configuration with anchors",
        config="study: {name: &n a}\ndata: {path: *n}\nmodel: {name: tiny-bert}\n" + SPACE,
    ),
    Good("a configuration that merges", config=LEAST + "train: &t {epochs: 4}\ntok: {<<: {max_length: 64}}\n" + SPACE),
    Good("semicolons", as_csv(RECORDS).replace(",", ";")),
    Good("UTF-16", as_csv(RECORDS).encode("utf-16")),
    Good("compressed", gzip.compress(as_csv(RECORDS).encode()), "rows.csv.gz"),
    Good("a byte order mark", as_csv(RECORDS).encode("utf-8-sig")),
    Good("Windows' line ends", as_csv(RECORDS).replace("\n", "\r\n")),
    Good("old line ends", as_csv(RECORDS).replace("\n", "\r")),
    Good("labels as text", as_jsonl([{**record, "label": str(record["label"])} for record in RECORDS]), "rows.jsonl"),
    Good("labels as decimal numbers", as_csv([{**record, "label": float(record["label"])} for record in RECORDS])),
    Good("labels as true and false", as_csv([{**record, "label": bool(record["label"])} for record in RECORDS])),
    Good("rows that stand there twice", as_csv(RECORDS * 2), records=RECORDS * 2),
    Good("a cell of 5 MB", as_csv(changed(text="x" * 5_000_000)), records=changed(text="x" * 5_000_000)),
    Good("JSONL with a byte order mark", b"\xef\xbb\xbf" + as_jsonl(RECORDS).encode(), "rows.jsonl"),
    Good("JSONL with Windows' line ends", as_jsonl(RECORDS).replace("\n", "\r\n"), "rows.jsonl"),
    Good(
        "Parquet with labels as text",
        as_parquet(NAMES, [TEXTS, CRITERIA, list(map(str, LABELS)), GROUPS]),
        "rows.parquet",
    ),
    Good(
        "Parquet with labels as truth",
        as_parquet(NAMES, [TEXTS, CRITERIA, list(map(bool, LABELS)), GROUPS]),
        "b.parquet",
    ),
]


@pytest.mark.parametrize("good", GOOD, ids=str)
def test_data_that_only_looks_bad_is_read_correctly(
    good: Good, given: Callable[[Row], None], no_trials: None, tmp_path: Path
) -> None:
    files = {good.file: good.content or as_csv(RECORDS), "plain.csv": as_csv(good.records)}
    given(Row(good.name, config=good.config, files=files))
    with pytest.raises(NothingToRefuse):
        main(["search", "c.yaml", "--quiet", "-s", f"data.path={good.file}"])
    read, plain = (read_rows(DataSettings(str(tmp_path / name))) for name in files)
    assert read.fingerprint == plain.fingerprint
    assert len(read) == len(good.records)
