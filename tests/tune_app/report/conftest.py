"""Studies written through the store alone, without Ray: of any size, with every outcome and measured facts."""

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from search_spaces.rules import Violation
from search_spaces.space import parse_space
from tune_app.config import parse_config
from tune_app.objectives import Objective
from tune_app.outcomes import Outcome
from tune_app.report.page import report_html
from tune_app.report.sections import Sections
from tune_app.report.source import Source
from tune_app.study.record import StudyRecord
from tune_app.study.run_dir import keep_config
from tune_app.study.store import StudyStore, open_study, study_in_memory

SPACE: dict[str, Any] = {
    "model.name": {"choices": ["tiny-bert", "tiny-roberta", "small-bert"]},
    "tok.max_length": {"choices": [64, 128, 256]},
    "head.pooling": {"choices": ["cls", "mean", "max"]},
    "train.batch_size": {"choices": [8, 16, 32, 64]},
    "train.grad_accum": {"choices": [1, 2, 4]},
    "optim.lr": {"low": 1e-6, "high": 1e-2, "log": True},
    "optim.weight_decay": {"low": 0.0, "high": 0.3},
    "head.layers": {"low": 0, "high": 3, "type": "int"},
}
STEPS = 4


class WrittenStudy:
    """Study to which trials are added as a search would, in memory unless ``on_disk``."""

    def __init__(
        self, folder: Path, space: Mapping[str, Any], further: tuple[Objective, ...] = (), *, on_disk: bool = False
    ) -> None:
        raw = {
            "study": {"name": "written", "dir": str(folder)},
            "data": {"path": "demo"},
            "model": {"name": "tiny-bert"},
            "train": {"epochs": STEPS},
            "search": {"max_concurrent": 2},
            "scheduler": {"name": "asha", "rung": "epoch"},
            "space": dict(space),
        }
        self.config = parse_config(raw)
        self.run_dir = folder / "written"
        self.run_dir.mkdir(parents=True)
        fixed = {name: value for name, value in self.config.fixed_for_study().items() if name not in space}
        record = StudyRecord(parse_space(space), "criteria", "macro_f1", "max", "data", fixed, further)
        self.store: StudyStore = (
            open_study(self.run_dir, "written", None, record) if on_disk else study_in_memory(record)
        )
        self.store.set_baselines({"always 'no'": 0.41})
        self.store.set_standard_error(0.012)
        keep_config(self.store, self.config, self.run_dir)

    def source(self) -> Source:
        return Source.read(self.store, self.config, self.run_dir)

    def sections(self) -> Sections:
        return Sections.of(self.source())

    def html(self) -> str:
        return report_html(self.source())

    def add(
        self,
        outcome: Outcome | None,
        params: Mapping[str, Any],
        values: tuple[float, ...] = (),
        *,
        steps: Mapping[int, float] | None = None,
        attributes: Mapping[str, Any] | None = None,
        reason: str | None = None,
    ) -> int:
        """Add a trial and return its number; without an outcome it stays open."""
        if outcome is Outcome.INFEASIBLE:
            violation = Violation("memory", reason or "model small-bert, batch 64: needs 3.1 GiB of 2 allowed", 0.5)
            return self.store.record_infeasible(dict(params), [violation])
        number = self.store.open_trial(
            dict(params), {"recommended": True} if (attributes or {}).get("recommended") else {}
        )
        for step, value in (steps or {}).items():
            self.store.report(number, step, value)
        if outcome is not None:
            self.store.close_trial(number, outcome, value=values or None, reason=reason, attributes=attributes)
        return number


@pytest.fixture(scope="session")
def write_study(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., WrittenStudy]:
    """Return a function, ``(space, further=(), on_disk=False)``, that begins a study in a folder of its own."""

    def write(space: Mapping[str, Any] = SPACE, further: tuple[Objective, ...] = (), **given: bool) -> WrittenStudy:
        return WrittenStudy(tmp_path_factory.mktemp("runs"), space, further, **given)

    return write


@pytest.fixture(scope="session")
def written_search(write_study: Callable[..., WrittenStudy]) -> Callable[..., WrittenStudy]:
    """Return a function, ``(trials, further=())``, that writes a study in which every outcome occurs."""

    def write(trials: int, further: tuple[Objective, ...] = ()) -> WrittenStudy:
        study = write_study(SPACE, further)
        fill(study, trials)
        return study

    return write


def fill(study: WrittenStudy, trials: int) -> None:
    """Add trials whose value depends on learning rate, pooling and model, as drawn from a fixed seed."""
    draw = random.Random(0)
    further = study.store.record.further
    for number in range(trials):
        is_recommended = number < 2
        params = _drawn(draw, study.store)
        if is_recommended:
            params |= {"optim.lr": 3e-4, "head.pooling": "cls", "model.name": "tiny-bert", "head.layers": number}
        if params["model.name"] == "small-bert" and params["train.batch_size"] == 64:
            study.add(Outcome.INFEASIBLE, params)
            continue
        best = _value(params, draw)
        steps = {step: best - 0.25 / (step + 1) ** 2 for step in range(1, STEPS + 1)}
        attributes = _attributes(params, draw) | ({"recommended": True} if is_recommended else {})
        chance = draw.random()
        if is_recommended or chance < 0.35:
            measured = {"confusion": _confusion(best), "by_criterion": _by_criterion(best, draw), "best_epoch": STEPS}
            others = tuple(float(attributes[objective.name]) for objective in further)
            study.add(Outcome.COMPLETE, params, (best, *others), steps=steps, attributes=attributes | measured)
        elif chance < 0.85:
            kept = {step: steps[step] for step in range(1, draw.randint(2, STEPS))}
            study.add(Outcome.STOPPED, params, steps=kept, attributes=attributes, reason="asha: below the best third")
        elif chance < 0.92:
            study.add(Outcome.OOM, params, attributes=attributes, reason=f"model {params['model.name']}: out of memory")
        else:
            error = {
                "error_type": "ValueError",
                "error_message": f"row {number}: <script>alert('{number}')</script> & co",
                "error_traceback": 'Traceback (most recent call last):\n  File "x.py", line 3\nValueError: row',
            }
            study.add(Outcome.FAILED, params, attributes=attributes | error, reason="ValueError: row")
    study.store.set_target(trials)


def _drawn(draw: random.Random, store: StudyStore) -> dict[str, Any]:
    return {name: entry.at(draw.random()) for name, entry in store.record.space.entries.items()}


def _value(params: Mapping[str, Any], draw: random.Random) -> float:
    from math import log10

    value = 0.86 - 0.06 * (log10(params["optim.lr"]) + 3.2) ** 2
    value += {"cls": 0.0, "mean": 0.03, "max": -0.02}[params["head.pooling"]]
    value += {"tiny-bert": 0.0, "tiny-roberta": -0.03, "small-bert": 0.04}[params["model.name"]]
    return max(0.2, value + draw.gauss(0, 0.01))


def _attributes(params: Mapping[str, Any], draw: random.Random) -> dict[str, Any]:
    predicted = 0.2 + params["train.batch_size"] * params["tok.max_length"] / 16384
    predicted *= 1.6 if params["model.name"] == "small-bert" else 1.0
    work = 20 + 60 * draw.random()
    return {
        "effective_batch": params["train.batch_size"] * params["train.grad_accum"],
        "micro_batch": params["train.batch_size"],
        "predicted_gib": predicted,
        "peak_gib": predicted * (1 + draw.gauss(0, 0.01)),
        "budget_gib": 2.0,
        "gpu_fraction": draw.choice([0.5, 1.0]),
        "recoveries": int(draw.random() < 0.04),
        "working_s": work,
        "waiting_s": 15 * draw.random(),
        "paused_s": 0.0,
        "queued_s": 1.0,
        "load_s": 3.0,
        "fit_s": 0.5,
        "train_s": 0.7 * work,
        "eval_s": 0.12 * work,
        "tokens_per_s": 20000 * draw.random(),
        "seconds_per_sample": 0.001 + 0.01 * draw.random(),
    }


def _confusion(value: float) -> dict[str, dict[str, float]]:
    right = round(100 * value)
    return {"no": {"no": float(right), "yes": float(100 - right)}, "yes": {"no": float(60 - right // 2), "yes": 40.0}}


def _by_criterion(value: float, draw: random.Random) -> dict[str, dict[str, float]]:
    names = ["feels tired", "sleeps badly", "has lost interest", "eats little", "<b>bold</b> & bad"]
    return {
        name: {"rows": 40.0, "positives": 12.0, "accuracy": value, "macro_f1": value - 0.1 * draw.random()}
        for name in names
    }
