"""One trial from beginning to end, with a list in place of Ray: its reports, its end, and its remains."""

import json
import math
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables import session as session_module
from trainables.data.rows import DataError
from trainables.devices.cpu import CpuDevice
from trainables.devices.host import GIB
from trainables.reports import Fact, TrialReport
from trainables.settings import TrialSettings, with_params
from trainables.training.divergence import NonFiniteLossError
from trainables.trial import TrialFolders, run_trial

MIB = 2**20


@dataclass
class Runner:
    """Runner of trials on the CPU, each with a folder of its own."""

    cache: Path
    folder: Path
    reports: list[TrialReport] = field(default_factory=list)

    def __call__(self, settings: TrialSettings, resume_from: Path | None = None) -> list[TrialReport]:
        """Return the reports of one trial; ``reports`` holds them too, for a trial that raises."""
        self.folder = self.folder.with_name(self.folder.name + "+")
        self.reports = []
        folders = TrialFolders(self.cache, self.folder, resume_from)
        device = CpuDevice(settings.memory.budget_gib)
        run_trial(settings, report=self.reports.append, folders=folders, device=device)
        return self.reports


@pytest.fixture
def run(cache: Path, tmp_path: Path) -> Runner:
    return Runner(cache, tmp_path / "trial")


def contents(reports: list[TrialReport]) -> list[tuple[Any, ...]]:
    """Return the parts of reports that do not depend on clock or storage location."""
    return [
        (trial_report.step, trial_report.value, trial_report.metrics, trial_report.ended, trial_report.reason)
        for trial_report in reports
    ]


def figure(facts: dict[str, Fact], name: str) -> float:
    value = facts[name]
    assert isinstance(value, int | float)
    return value


def losses(reports: list[TrialReport]) -> list[float]:
    return [trial_report.metrics["train_loss"] for trial_report in reports]


def test_every_epoch_is_reported_and_the_last_one_ends_the_trial(settings: TrialSettings, run: Runner) -> None:
    reports = run(settings)
    assert [trial_report.step for trial_report in reports] == [1, 2, 3, 4]
    assert [trial_report.ended for trial_report in reports] == [None, None, None, "complete"]
    assert all(trial_report.reason is None for trial_report in reports)
    assert all(trial_report.value == trial_report.metrics["macro_f1"] for trial_report in reports)
    assert all(trial_report.checkpoint is not None and trial_report.checkpoint.is_dir() for trial_report in reports)
    assert len({trial_report.checkpoint for trial_report in reports}) == 4
    # The model learns: a word reveals the label.
    assert losses(reports)[-1] < losses(reports)[0]


def test_the_facts_say_what_ran(settings: TrialSettings, run: Runner) -> None:
    facts = run(settings)[-1].facts
    expected = {
        "effective_batch": 32,
        "micro_batch": 32,
        "accumulation_steps": 1,
        "eval_batch": 16,
        "device": "cpu",
        "precision": "fp32",
        "recoveries": 0,
        "budget_gib": CpuDevice().budget_bytes() / GIB,
    }
    assert facts.items() >= expected.items()
    assert {"parameters", "load_s", "train_s", "eval_s", "tokens_per_s"} <= facts.keys()
    assert 0 < figure(facts, "peak_gib") < figure(facts, "budget_gib")
    assert 0 < figure(facts, "seconds_per_sample") < figure(facts, "eval_s")


def test_every_stage_leaves_its_figures_and_a_log_line(
    settings: TrialSettings, run: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "headroom.memory"):
        *_, last = run(settings)
    stages = ["trial start", "model loaded", "training start", "training end", "trial end"]
    assert [record.getMessage().split(":")[0] for record in caplog.records] == stages
    shape = r"GiB \(\d+\.\d %\)"
    for record in caplog.records:
        parts = ", ".join(rf"{name} \d+\.\d+ {shape}" for name in ("allocated", "reserved", "free"))
        assert re.fullmatch(
            rf"[a-z ]+: {parts}, total \d+\.\d+ GiB; allocated changed by [+-]\d+\.\d+ GiB", record.getMessage()
        )
    for stage in stages:
        for name in ("allocated", "reserved", "free", "change"):
            assert isinstance(last.facts[f"memory/{stage.replace(' ', '_')}/{name}_gib"], float)
    # Loading includes the optimizer's states; the end of the trial releases all of it.
    start, loaded, _, end, left = (figure(last.facts, f"memory/{s.replace(' ', '_')}/allocated_gib") for s in stages)
    assert start < loaded
    assert end == pytest.approx(loaded, abs=MIB / GIB)
    assert abs(left - start) * GIB < MIB
    assert figure(last.facts, "memory/training_end/change_gib") == pytest.approx(end - loaded)


# A budget


def in_budget(settings: TrialSettings, budget_gib: float) -> TrialSettings:
    return with_params(settings, {"memory.budget_gib": budget_gib})


def need_gib(settings: TrialSettings, run: Runner) -> float:
    """Return a trial's peak in GiB without a budget, in its second run: libraries fill their caches in the first."""
    run(settings)
    return figure(run(settings)[-1].facts, "peak_gib")


@pytest.fixture(scope="module")
def plain_need_gib(settings: TrialSettings, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    """Return the peak of the trial with plain settings."""
    return need_gib(settings, Runner(cache, tmp_path_factory.mktemp("need") / "trial"))


def test_a_trial_completes_in_a_budget_slightly_above_what_it_held(
    builtin_settings: TrialSettings, run: Runner
) -> None:
    short = with_params(builtin_settings, {"train.epochs": 2})
    # Libraries fill their caches in the first run.
    run(short)
    free = run(short)
    need = figure(free[-1].facts, "peak_gib")
    reports = run(in_budget(short, 1.01 * need))
    assert contents(reports) == contents(free)
    facts = reports[-1].facts
    assert facts["budget_gib"] == pytest.approx(1.01 * need)
    assert figure(facts, "peak_gib") <= figure(facts, "budget_gib")


def test_a_trial_whose_budget_is_too_small_ends_as_out_of_memory_with_what_it_needed(
    builtin_settings: TrialSettings, run: Runner
) -> None:
    need = need_gib(builtin_settings, run)
    before = CpuDevice().live_bytes()
    *_, end = run(in_budget(builtin_settings, 0.3 * need))
    assert (end.ended, end.checkpoint) == ("oom", None)
    assert end.reason is not None
    assert "CPU out of memory. Tried to allocate" in end.reason
    allowed, needed = figure(end.facts, "allowed_gib"), figure(end.facts, "need_gib")
    assert allowed == figure(end.facts, "budget_gib") == pytest.approx(0.3 * need)
    # The need is measured where the trial stopped: above the allowed memory, at most the full need.
    assert allowed < needed <= 1.001 * need
    assert figure(end.facts, "peak_gib") <= allowed
    assert abs(figure(end.facts, "memory/trial_end/change_gib")) > 0
    CpuDevice().release()
    assert CpuDevice().live_bytes() - before < MIB


@pytest.mark.parametrize("share", [0.7, 0.98])
def test_fixed_batches_that_do_not_fit_are_cut_smaller_until_they_do(
    share: float, plain_need_gib: float, settings: TrialSettings, run: Runner
) -> None:
    whole, recovered = run(settings), run(in_budget(settings, share * plain_need_gib))
    assert [trial_report.ended for trial_report in recovered] == [None, None, None, "complete"]
    # Dropout is 0, so the losses stay equal.
    assert losses(recovered) == pytest.approx(losses(whole), abs=1e-4)
    facts = recovered[-1].facts
    assert figure(facts, "recoveries") > 0
    assert figure(facts, "micro_batch") < 32
    assert figure(facts, "peak_gib") <= figure(facts, "budget_gib")


@pytest.mark.parametrize("share", [0.5, 0.98])
def test_batches_found_automatically_fit_at_once(
    share: float, plain_need_gib: float, settings: TrialSettings, run: Runner
) -> None:
    # Live tensors of other test modules are no need of these trials, which are so small that they would matter.
    held_gib = CpuDevice().live_bytes() / GIB
    auto = with_params(settings, {"memory.micro_batch": "auto", "memory.eval_batch": "auto"})
    whole, fitted = run(auto), run(in_budget(auto, share * plain_need_gib))
    assert fitted[-1].ended == "complete"
    assert losses(fitted) == pytest.approx(losses(whole), abs=1e-4)
    facts = fitted[-1].facts
    assert facts["recoveries"] == 0
    assert 1 <= figure(facts, "micro_batch") <= 32
    assert figure(facts, "peak_gib") <= 0.9 * figure(facts, "budget_gib")
    assert figure(facts, "predicted_gib") == pytest.approx(figure(facts, "peak_gib") - held_gib, rel=0.005)


def test_a_card_made_of_the_cpu_is_the_budget_of_a_trial_that_has_it_to_itself(
    settings: TrialSettings, cache: Path, tmp_path: Path
) -> None:
    reports: list[TrialReport] = []
    small = with_params(settings, {"memory.device_gib": 0.01, "train.epochs": 1})
    run_trial(small, report=reports.append, folders=TrialFolders(cache, tmp_path))
    assert reports[-1].facts["budget_gib"] == pytest.approx(0.01)


def test_memory_held_before_the_trial_counts(plain_need_gib: float, settings: TrialSettings, run: Runner) -> None:
    held = torch.ones(32 * MIB // 4)
    assert run(in_budget(settings, 1.01 * plain_need_gib))[-1].ended == "oom"
    assert run(in_budget(settings, 1.01 * plain_need_gib + held.nbytes / GIB))[-1].ended == "complete"


def test_memory_held_before_the_trial_is_no_prediction_error(
    settings: TrialSettings, run: Runner, machine_folder: Path
) -> None:
    held = torch.ones(32 * MIB // 4)
    run(with_params(settings, {"train.epochs": 1}))
    (line,) = (machine_folder / "ledger.jsonl").read_text().split("\n")[1:]
    entry = json.loads(line)
    assert entry["measured_gib"] == pytest.approx(entry["predicted_gib"], rel=0.02)
    del held


def test_patience_ends_a_trial_as_complete_and_says_so(settings: TrialSettings, run: Runner) -> None:
    stuck = with_params(settings, {"optim.lr": 1e-12, "train.patience": 2})
    reports = run(stuck)
    assert [(trial_report.step, trial_report.ended) for trial_report in reports] == [
        (1, None),
        (2, None),
        (3, "complete"),
    ]
    assert reports[-1].reason == "patience: no better epoch in 2 since epoch 1"


def test_patience_in_the_last_epoch_is_the_ordinary_end(settings: TrialSettings, run: Runner) -> None:
    reports = run(with_params(settings, {"optim.lr": 1e-12, "train.patience": 3}))
    assert (reports[-1].step, reports[-1].ended, reports[-1].reason) == (4, "complete", None)


# Reports within an epoch


@pytest.fixture(scope="module")
def in_rungs(builtin_settings: TrialSettings) -> TrialSettings:
    """Return settings of two epochs of twelve steps with dropout and augmentation.

    An epoch has four rungs, the inner ones on a sample of rows.
    """
    changes = {"train.epochs": 2, "train.batch_size": 8, "rungs.per_epoch": 4, "rungs.rows": 12}
    return with_params(builtin_settings, {**changes, "augment.name": "swap", "augment.probability": 0.5})


@pytest.fixture(scope="module")
def reports_in_rungs(
    in_rungs: TrialSettings, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[TrialReport]:
    """Return the reports of an uninterrupted trial with rungs."""
    return Runner(cache, tmp_path_factory.mktemp("rungs") / "trial")(in_rungs)


def test_a_step_is_a_rung_and_the_epochs_end_is_the_last_of_its_rungs(reports_in_rungs: list[TrialReport]) -> None:
    reports = reports_in_rungs
    assert [trial_report.step for trial_report in reports] == list(range(1, 9))
    assert [trial_report.ended for trial_report in reports] == [None] * 7 + ["complete"]
    assert all(trial_report.value == trial_report.metrics["macro_f1"] for trial_report in reports)
    assert ["collapsed" in trial_report.metrics for trial_report in reports] == 2 * [False, False, False, True]
    assert [bool(trial_report.breakdowns) for trial_report in reports[:4]] == [False, False, False, True]
    checkpoints = {trial_report.checkpoint for trial_report in reports}
    assert len(checkpoints) == 8
    assert all(folder is not None and folder.is_dir() for folder in checkpoints)


def test_epochs_are_to_the_last_bit_those_of_a_trial_without_rungs(
    in_rungs: TrialSettings, reports_in_rungs: list[TrialReport], run: Runner
) -> None:
    plain = run(with_params(in_rungs, {"rungs.per_epoch": 1}))
    in_all_rows, in_more_than_all = (run(with_params(in_rungs, {"rungs.rows": rows})) for rows in (None, 1000))
    for reports in (reports_in_rungs, in_all_rows, in_more_than_all):
        ends = reports[3::4]
        assert [trial_report.step for trial_report in ends] == [4, 8]
        assert [contents([trial_report])[0][1:] for trial_report in ends] == [
            contents([trial_report])[0][1:] for trial_report in plain
        ]
        assert [trial_report.breakdowns for trial_report in ends] == [trial_report.breakdowns for trial_report in plain]


def test_an_epoch_of_fewer_steps_than_rungs_repeats_what_it_measured(
    settings: TrialSettings, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluations: list[int] = []
    real = session_module.predict_outputs

    def predict_outputs(model: Any, task: Any, examples: Any, inputs: Any, **kwargs: Any) -> Any:
        evaluations.append(len(inputs))
        return real(model, task, examples, inputs, **kwargs)

    monkeypatch.setattr(session_module, "predict_outputs", predict_outputs)
    one_step = {"train.batch_size": 1000, "train.epochs": 2, "rungs.per_epoch": 3, "rungs.rows": 10}
    reports = run(with_params(settings, one_step))
    validation = evaluations[1]
    assert evaluations == [10, validation] * 2
    assert validation > 10
    first, second, third = reports[:3]
    assert (second.step, second.value, second.metrics) == (2, first.value, first.metrics)
    assert third.metrics["train_loss"] == first.metrics["train_loss"]
    assert len({trial_report.checkpoint for trial_report in reports}) == 6


def test_patience_counts_epochs_not_rungs(settings: TrialSettings, run: Runner) -> None:
    stuck = with_params(settings, {"optim.lr": 1e-12, "train.patience": 2, "rungs.per_epoch": 2})
    reports = run(stuck)
    assert [trial_report.step for trial_report in reports] == [1, 2, 3, 4, 5, 6]
    assert [trial_report.ended for trial_report in reports] == [None] * 5 + ["complete"]
    assert reports[-1].reason == "patience: no better epoch in 2 since epoch 1"


def test_rungs_and_folds_exclude_each_other(settings: TrialSettings, run: Runner) -> None:
    with pytest.raises(ValueError, match=r"rungs\.per_epoch=2 with data\.folds=3"):
        run(with_params(settings, {"rungs.per_epoch": 2, "data.folds": 3}))


def test_out_of_memory_within_an_epoch_counts_the_rungs(
    in_rungs: TrialSettings, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = session_module.predict_outputs

    def runs_out(*args: Any, **kwargs: Any) -> Any:
        if len(run.reports) < 6:
            return real(*args, **kwargs)
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(session_module, "predict_outputs", runs_out)
    end = run(in_rungs)[-1]
    assert (end.step, end.ended) == (6, "oom")


def test_only_a_whole_first_epoch_teaches_later_predictions(
    in_rungs: TrialSettings, run: Runner, machine_folder: Path
) -> None:
    def lines() -> int:
        return len((machine_folder / "ledger.jsonl").read_text().splitlines())

    short = with_params(in_rungs, {"train.epochs": 1})
    first = run(short)[0]
    assert lines() == 2
    run(short, resume_from=first.checkpoint)
    assert lines() == 2
    run(short)
    assert lines() == 3


# Out of memory


@pytest.mark.parametrize(
    ("place", "epochs_done"),
    [("load_encoder", 0), ("train_step", 1), ("predict_outputs", 0)],
    ids=["loading", "training", "evaluation"],
)
@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory.\nlong story"), RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")],
    ids=["own type", "plain"],
)
def test_memory_that_runs_out_anywhere_is_reported_and_given_back(
    place: str,
    epochs_done: int,
    error: Exception,
    settings: TrialSettings,
    run: Runner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = CpuDevice()
    # Libraries fill their caches in the first trial.
    run(with_params(settings, {"train.epochs": 1}))
    device.release()
    before = device.live_bytes()
    real = getattr(session_module, place)

    def runs_out(*args: Any, **kwargs: Any) -> Any:
        if len(run.reports) < epochs_done:
            return real(*args, **kwargs)
        held = torch.ones(64 * MIB // 4)
        raise type(error)(*error.args) if held.any() else AssertionError

    monkeypatch.setattr(session_module, place, runs_out)
    reports = run(with_params(settings, {"train.grad_accum": 2}))
    assert [trial_report.ended for trial_report in reports] == [None] * epochs_done + ["oom"]
    end = reports[-1]
    assert end.step == epochs_done
    assert math.isnan(end.value)
    assert end.checkpoint is None
    what = f"model {settings.model.name}, batch 32, accumulation 2, length 48"
    assert end.reason == f"{what}: {str(error).splitlines()[0]}"
    assert end.facts["effective_batch"] == 64
    # Training tried every remedy: fewer rows down to one, then checkpointing, and down to one again.
    expected = {"train_step": (1, True), "predict_outputs": (32, False), "load_encoder": (None, None)}
    assert (end.facts.get("micro_batch"), end.facts.get("checkpointing")) == expected[place]
    assert (figure(end.facts, "recoveries") > 5) == (place == "train_step")
    # Neither error reports the size of the request.
    assert not {"need_gib", "allowed_gib"} & end.facts.keys()
    # No memory of the model, the optimizer or the failed frame is left.
    assert device.live_bytes() - before < MIB


def test_memory_that_really_runs_out_is_reported_as_such(
    settings: TrialSettings, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "train_step", lambda *_, **__: torch.empty(2**52))
    (end,) = run(settings)
    assert end.ended == "oom"
    assert end.reason is not None
    assert "can't allocate memory" in end.reason
    assert "\n" not in end.reason


# Failures


def test_other_errors_are_failures(settings: TrialSettings, run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: Any, **__: Any) -> None:
        raise RuntimeError("planted: not about memory")

    monkeypatch.setattr(session_module, "predict_outputs", bug)
    with pytest.raises(RuntimeError, match="planted"):
        run(settings)
    assert run.reports == []


def test_data_that_cannot_be_used_is_a_failure(settings: TrialSettings, run: Runner) -> None:
    with pytest.raises(DataError, match="no such file"):
        run(with_params(settings, {"data.path": "nowhere.csv"}))


@pytest.mark.parametrize("batch_size", [32, 1000])
def test_a_run_that_diverges_is_a_failure_whichever_step_shows_it(
    batch_size: int, settings: TrialSettings, run: Runner
) -> None:
    with pytest.raises(NonFiniteLossError, match=r"a lower optim\.lr"):
        run(with_params(settings, {"optim.lr": 1e36, "train.clip_norm": 0.0, "train.batch_size": batch_size}))
    assert run.reports == []


def test_a_report_may_end_the_trial(settings: TrialSettings, cache: Path, tmp_path: Path, run: Runner) -> None:
    heard: list[int] = []

    def stop(trial_report: TrialReport) -> None:
        heard.append(trial_report.step)
        if trial_report.step == 2:
            raise SystemExit(0)

    before = CpuDevice().live_bytes()
    with pytest.raises(SystemExit) as caught:
        run_trial(settings, report=stop, folders=TrialFolders(cache, tmp_path))
    del caught
    assert heard == [1, 2]
    CpuDevice().release()
    assert CpuDevice().live_bytes() - before < MIB
    assert run(settings)[-1].ended == "complete"


# Resuming from a checkpoint


def test_a_resumed_trial_reports_what_it_would_have_reported(builtin_settings: TrialSettings, run: Runner) -> None:
    short = with_params(builtin_settings, {"train.epochs": 3})
    straight = run(short)
    resumed = run(short, resume_from=straight[0].checkpoint)
    assert [trial_report.step for trial_report in resumed] == [2, 3]
    assert contents(resumed) == contents(straight[1:])


@pytest.mark.parametrize("changes", [{}, {"optim.lr": 1e-12, "train.patience": 2}], ids=["last epoch", "patience"])
def test_a_trial_that_had_ended_says_so_again_and_trains_no_further(
    changes: dict[str, Any], settings: TrialSettings, run: Runner
) -> None:
    changed = with_params(settings, changes)
    straight = run(changed)
    resumed = run(changed, resume_from=straight[-1].checkpoint)
    assert contents(resumed) == contents(straight[-1:])
    assert resumed[0].checkpoint is None
    for fact in ("peak_gib", "seconds_per_sample"):
        assert resumed[0].facts[fact] == straight[-1].facts[fact], "measured before it was interrupted"


@pytest.mark.parametrize("rung", [2, 4, 5, 8], ids=["first", "last of an epoch", "first of the next", "last of all"])
def test_a_trial_resumed_at_any_rung_reports_what_it_would_have_reported(
    rung: int, in_rungs: TrialSettings, reports_in_rungs: list[TrialReport], run: Runner
) -> None:
    resumed = run(in_rungs, resume_from=reports_in_rungs[rung - 2].checkpoint)
    assert [trial_report.step for trial_report in resumed] == list(range(rung, 9))
    assert contents(resumed) == contents(reports_in_rungs[rung - 1 :])
    for fact in ("recoveries", "micro_batch"):
        assert resumed[-1].facts[fact] == reports_in_rungs[-1].facts[fact]


def test_patience_counts_epochs_from_before_the_interruption(settings: TrialSettings, run: Runner) -> None:
    stuck = with_params(settings, {"optim.lr": 1e-12, "train.patience": 2})
    resumed = run(stuck, resume_from=run(stuck)[0].checkpoint)
    assert [(trial_report.step, trial_report.ended) for trial_report in resumed] == [(2, None), (3, "complete")]


# Reproducibility


def test_the_same_seeds_give_the_same_reports(builtin_settings: TrialSettings, run: Runner) -> None:
    short = with_params(builtin_settings, {"train.epochs": 2})
    assert contents(run(short)) == contents(run(short))


@pytest.mark.parametrize("seed", ["seeds.init", "seeds.order"])
def test_another_seed_gives_another_run(seed: str, settings: TrialSettings, run: Runner) -> None:
    short = with_params(settings, {"train.epochs": 1})
    assert losses(run(short)) != losses(run(with_params(short, {seed: 5})))


def test_the_micro_batch_decides_how_fast_a_trial_runs_never_what_it_learns(
    settings: TrialSettings, run: Runner
) -> None:
    whole, *cut = (losses(run(with_params(settings, {"memory.micro_batch": most}))) for most in (32, 8, 5))
    for each in cut:
        assert each == pytest.approx(whole, abs=1e-5)


def test_accumulation_is_only_another_name_for_a_larger_batch(settings: TrialSettings, run: Runner) -> None:
    cut = {"memory.micro_batch": 16}
    one = run(with_params(settings, {**cut, "train.batch_size": 32}))
    two = run(with_params(settings, {**cut, "train.batch_size": 16, "train.grad_accum": 2}))
    assert contents(one) == contents(two)


# Imports


@pytest.mark.slow
def test_a_trial_needs_neither_ray_nor_optuna_nor_the_rest() -> None:
    code = (
        "import json, sys, trainables.export, trainables.trial, trainables.worker;"
        "print(json.dumps(sorted({'ray', 'optuna', 'mlflow', 'pydantic', 'tune_app'} & {*sys.modules})))"
    )
    repository = Path(__file__).parents[2]
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True
    ).stdout
    assert json.loads(printed) == []
