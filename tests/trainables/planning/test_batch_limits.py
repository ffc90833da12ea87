"""Rows of one pass: found in few points, remembered while valid, and with remedies where nothing fits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pytest
import torch
import transformers
from transformers import AlbertConfig, BertConfig, PreTrainedConfig

from trainables.devices.cpu import CpuDevice
from trainables.devices.host import GIB
from trainables.models.builtin import build_encoder
from trainables.models.families import UnsupportedError
from trainables.planning import batch_limits as batch_limits_module
from trainables.planning.accepted import AcceptedPlans, name_of
from trainables.planning.batch_limits import BatchLimits, MachineFiles
from trainables.planning.kernels import CudaKernels
from trainables.planning.ledger import Circumstances, Ledger
from trainables.planning.plan import MemoryPlan, predict
from trainables.planning.rehearsal import Rehearsal
from trainables.planning.trace import Workload
from trainables.settings import TrialSettings, with_params
from trainables.training.split import RowLimits

LENGTH, EFFECTIVE = 48, 32
BERT = BertConfig(vocab_size=600, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
# The gradient of its embeddings is larger than the activations of some rows.
WORDY = BertConfig(vocab_size=60_000, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
ALBERT = AlbertConfig(
    vocab_size=600,
    embedding_size=16,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
)


class Card(CpuDevice):
    """CUDA card by name alone."""

    @property
    def torch_device(self) -> torch.device:
        return torch.device("cuda")

    def overhead_bytes(self) -> int:
        return CudaKernels.overhead_bytes


@dataclass
class Truth:
    """Real needs of passes, instead of running them: the uncorrected prediction times an error.

    Attributes:
        tried: the points run: their kind and their rows.
    """

    limits: BatchLimits
    machine: "Machine"
    training_error: float = 1.0
    evaluation_error: float = 1.0
    disturbed: bool = False
    tried: list[tuple[str, int]] = field(default_factory=list)

    def need_gib(self, rows: int, accumulating: bool) -> float:
        plan = self.machine.plan(checkpointing=self.limits.checkpointing)
        return self.training_error * plan.need_gib(rows, LENGTH, 2 if accumulating else 1)

    def training_peak(self, rows: int, length: int, *, accumulating: bool) -> int | None:
        assert length == self.machine.settings.tok.max_length
        self.tried.append(("accumulating" if accumulating else "alone", rows))
        return self._unless_too_much(self.need_gib(rows, accumulating))

    def evaluation_peak(self, rows: int, length: int) -> int | None:
        self.tried.append(("evaluation", rows))
        return self._unless_too_much(self.evaluation_error * self.machine.plan().eval_need_gib(rows, length))

    def _unless_too_much(self, need_gib: float) -> int | None:
        return None if need_gib > self.machine.budget_gib else int(need_gib * GIB)


@dataclass
class Machine:
    """Maker of batch limits for one workload in one budget."""

    settings: TrialSettings
    folder: Path
    config: PreTrainedConfig = field(default_factory=lambda: BERT)
    budget_gib: float = 1.0
    device_kind: Literal["cpu", "cuda"] = "cpu"

    def plan(self, **changes: Any) -> MemoryPlan:
        workload = Workload(self.settings, self.config, device_kind=self.device_kind, **changes)
        return predict(workload, self.folder / "predictions")

    def allowing(self, rows: int, *, accumulating: bool = True, spare: float = 1.0001, **changes: Any) -> "Machine":
        """Return a machine whose budget holds just so many rows, by the prediction."""
        need = self.plan(**changes).need_gib(rows, LENGTH, 2 if accumulating else 1)
        return replace(self, budget_gib=spare * need / (1 - self.settings.memory.headroom))

    def changed(self, **values: Any) -> "Machine":
        return replace(self, settings=with_params(self.settings, {k.replace("__", "."): v for k, v in values.items()}))

    def batch_limits(self, accepted: AcceptedPlans | None = None) -> BatchLimits:
        device = (CpuDevice if self.device_kind == "cpu" else Card)(self.budget_gib)
        encoder, files = build_encoder(self.config, seed=0), MachineFiles(self.folder)
        rows = self.settings.train.effective_batch
        return BatchLimits(
            self.settings, [encoder], device, precision="fp32", files=files, step_inputs=rows, accepted=accepted
        )

    def probed(self, **truth: Any) -> tuple[BatchLimits, Truth]:
        limits = self.batch_limits()
        truth = Truth(limits, self, **truth)
        limits.probe(rehearsing(truth))
        return limits, truth


@contextmanager
def rehearsing(truth: Truth) -> Iterator[Rehearsal]:
    yield cast(Rehearsal, truth)


@pytest.fixture
def machine(settings: TrialSettings, machine_folder: Path) -> Machine:
    auto = with_params(
        settings,
        {
            "memory.micro_batch": "auto",
            "memory.eval_batch": "auto",
            "memory.max_accumulation": None,
            "tok.max_length": LENGTH,
            "train.batch_size": EFFECTIVE,
        },
    )
    return Machine(auto, machine_folder)


def same(one: RowLimits, other: RowLimits) -> bool:
    names = ("alone", "accumulating", "evaluation")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


# Starting from the plans that accepted the configuration


def accepted(machine: Machine) -> AcceptedPlans:
    """Return the plans that a driver makes for a machine's workload, as they arrive in a worker."""
    plans = {}
    for checkpointing in (False, True):
        workload = Workload(
            machine.settings, machine.config, device_kind=machine.device_kind, checkpointing=checkpointing
        )
        plans[name_of(workload)] = machine.plan(checkpointing=checkpointing)
    return AcceptedPlans.from_text(AcceptedPlans(plans).text)


@pytest.mark.parametrize("rows", [0.5, 1, 5, 31, EFFECTIVE])
def test_a_worker_starts_from_the_accepted_plan_in_whatever_budget_it_has(
    rows: float, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = machine.allowing(max(1, int(rows)), spare=min(1.0, rows) * 1.0001)
    expected, plans = small.batch_limits(), accepted(machine)
    monkeypatch.setattr(batch_limits_module, "predict", lambda *_: pytest.fail("predicted again"))
    limits = small.batch_limits(plans)
    assert same(limits.row_limits, expected.row_limits)
    assert (limits.checkpointing, limits.predicted_gib) == (expected.checkpointing, expected.predicted_gib)


@pytest.mark.parametrize("change", [{"optim.name": "adafactor"}, {"head.layers": 2}, {}])
def test_plans_of_another_workload_are_not_used(
    change: dict[str, Any], machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    other: Machine = replace(machine, settings=with_params(machine.settings, change), config=BERT if change else WORDY)
    predicted: list[Any] = []
    expected = other.batch_limits()
    monkeypatch.setattr(batch_limits_module, "predict", lambda *given: predicted.append(given) or predict(*given))
    assert same(other.batch_limits(accepted(machine)).row_limits, expected.row_limits)
    assert predicted


# Finding the rows


@pytest.mark.parametrize("rows", [1, 5, 20, 31])
def test_a_prediction_that_holds_is_confirmed_in_one_point_each(rows: int, machine: Machine) -> None:
    limits, truth = machine.allowing(rows).probed()
    assert limits.micro_batch == rows
    assert truth.tried == [("accumulating", rows), ("evaluation", limits.eval_batch)]
    assert limits.probe_points == 2
    assert not limits.checkpointing


def test_a_batch_that_fits_in_one_pass_is_tried_in_one_pass(machine: Machine) -> None:
    limits, truth = machine.allowing(EFFECTIVE, accumulating=False).probed()
    assert limits.micro_batch == EFFECTIVE
    assert truth.tried[0] == ("alone", EFFECTIVE)
    assert limits.probe_points == 2


@pytest.mark.parametrize("error", [0.8, 0.9, 1.1, 1.3])
@pytest.mark.parametrize("rows", [8, 31])
def test_a_prediction_that_is_off_is_corrected_by_what_is_measured(error: float, rows: int, machine: Machine) -> None:
    small = machine.allowing(rows)
    limits, truth = small.probed(training_error=error)
    allowed = small.budget_gib * 0.9
    alone = truth.need_gib(EFFECTIVE, False) <= allowed
    best = max(n for n in range(EFFECTIVE + 1) if n == 0 or truth.need_gib(n, True) <= allowed)
    assert limits.micro_batch <= (EFFECTIVE if alone else best)
    points = [rows for kind, rows in truth.tried if kind != "evaluation"]
    assert limits.micro_batch in points
    assert len(points) <= 4
    assert limits.micro_batch >= min(0.9 * best, best - 1)


def test_a_batch_that_fails_in_one_pass_is_probed_beside_the_gradients(machine: Machine) -> None:
    small = machine.allowing(EFFECTIVE, accumulating=False)
    limits, truth = small.probed(training_error=1.05)
    kinds = [kind for kind, _ in truth.tried]
    assert kinds[:2] == ["alone", "accumulating"]
    assert 1 <= limits.micro_batch < EFFECTIVE
    assert ("accumulating", limits.micro_batch) in truth.tried
    assert truth.need_gib(limits.micro_batch, True) <= small.budget_gib * 0.9
    assert kinds.count("alone") + kinds.count("accumulating") <= 4


@pytest.mark.parametrize("error", [0.7, 0.9, 1.2])
def test_the_batch_of_evaluation_was_measured_to_fit(error: float, machine: Machine) -> None:
    small = machine.allowing(2)
    limits, truth = small.probed(evaluation_error=error)
    assert ("evaluation", limits.eval_batch) in truth.tried
    assert error * small.plan().eval_need_gib(limits.eval_batch, LENGTH) <= small.budget_gib * 0.9


@pytest.mark.parametrize("config", [BERT, WORDY, ALBERT], ids=["bert", "wordy", "albert"])
@pytest.mark.parametrize("spare", [0.01, 0.8, 1.0, 1.3, 3.0])
def test_more_tokens_never_allow_more_rows_and_one_is_always_tried(
    config: PreTrainedConfig, spare: float, machine: Machine
) -> None:
    limits = replace(machine, config=config).allowing(4, spare=spare).batch_limits()
    for rows in (limits.row_limits.alone, limits.row_limits.accumulating, limits.row_limits.evaluation):
        assert (np.diff(rows) <= 0).all()
        assert len(rows) == LENGTH + 1
    assert limits.row_limits.alone.min() >= 1
    assert limits.row_limits.evaluation.min() >= 1
    assert limits.micro_batch >= 1


# Settings that leave nothing to find


def test_a_certain_prediction_is_not_probed(machine: Machine) -> None:
    limits, truth = replace(machine, budget_gib=8.0).probed()
    assert (limits.micro_batch, truth.tried) == (EFFECTIVE, [])


def test_fixed_numbers_are_taken_as_they_are(machine: Machine) -> None:
    fixed = machine.allowing(2).changed(memory__micro_batch=7, memory__eval_batch=5)
    limits, truth = fixed.probed()
    assert (limits.micro_batch, limits.eval_batch, truth.tried) == (7, 5, [])
    assert not limits.checkpointing


def test_a_fixed_micro_batch_leaves_only_the_evaluation_to_probe(machine: Machine) -> None:
    limits, truth = machine.allowing(2).changed(memory__micro_batch=7).probed()
    assert limits.micro_batch == 7
    assert {kind for kind, _ in truth.tried} == {"evaluation"}
    # Passes of the fixed size were not found too large.
    assert not limits.checkpointing


def test_a_small_fixed_micro_batch_leaves_a_certain_evaluation_unprobed(machine: Machine) -> None:
    _, truth = replace(machine, budget_gib=8.0).changed(memory__micro_batch=7).probed()
    assert truth.tried == []


# Cached limits


def test_a_second_run_of_the_same_probes_nothing(machine: Machine) -> None:
    small = machine.allowing(9)
    first, _ = small.probed(training_error=1.07, evaluation_error=1.02)
    second, truth = small.probed()
    assert truth.tried == []
    assert (second.probe_points, second.micro_batch) == (0, first.micro_batch)
    assert same(first.row_limits, second.row_limits)


def another_budget(machine: Machine, _: Path, __: pytest.MonkeyPatch) -> Machine:
    return replace(machine, budget_gib=machine.budget_gib * 1.2)


def another_length(machine: Machine, _: Path, __: pytest.MonkeyPatch) -> Machine:
    return machine.changed(tok__max_length=LENGTH - 8)


def another_effective_batch(machine: Machine, _: Path, __: pytest.MonkeyPatch) -> Machine:
    return machine.changed(train__grad_accum=2)


def another_headroom(machine: Machine, _: Path, __: pytest.MonkeyPatch) -> Machine:
    return machine.changed(memory__headroom=0.2)


def another_correction(machine: Machine, folder: Path, _: pytest.MonkeyPatch) -> Machine:
    here = Circumstances("cpu", "fp32", torch.__version__, transformers.__version__)
    Ledger(folder / "ledger.jsonl").add(here, predicted_gib=1.0, measured_gib=1.04)
    return machine


def no_checkpointing(machine: Machine, _: Path, __: pytest.MonkeyPatch) -> Machine:
    return machine.changed(memory__allow_checkpointing=False)


def another_torch(machine: Machine, _: Path, patch: pytest.MonkeyPatch) -> Machine:
    patch.setattr(torch, "__version__", "9.9")
    return machine


def another_transformers(machine: Machine, _: Path, patch: pytest.MonkeyPatch) -> Machine:
    # While transformers loads models it replaces its own module, so that imports may differ.
    patch.setattr("trainables.planning.plan.transformers.__version__", "9.9")
    return machine


def another_head(machine: Machine, _: Path, __: pytest.MonkeyPatch) -> Machine:
    return machine.changed(head__pooling="max")


@pytest.mark.parametrize(
    "change",
    [
        another_budget,
        another_length,
        another_effective_batch,
        another_headroom,
        another_correction,
        no_checkpointing,
        another_torch,
        another_transformers,
        another_head,
    ],
)
def test_a_probe_under_other_circumstances_is_repeated(
    change: Callable[[Machine, Path, pytest.MonkeyPatch], Machine],
    machine: Machine,
    machine_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = machine.allowing(9)
    small.probed()
    changed = change(small, machine_folder, monkeypatch)
    _, truth = changed.probed()
    assert truth.tried


def test_a_probe_under_memory_pressure_of_others_is_not_remembered(machine: Machine) -> None:
    small = machine.allowing(9)
    small.probed(disturbed=True)
    _, truth = small.probed()
    assert truth.tried


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: "{}",
        lambda text: "[]",
        lambda text: text.replace('"rows": ', '"rows": 1', 1),
    ],
    ids=["empty", "nothing", "something else", "a digit more"],
)
def test_a_damaged_memory_is_none(damage: Callable[[str], str], machine: Machine, machine_folder: Path) -> None:
    small = machine.allowing(9)
    small.probed()
    (file,) = (machine_folder / "probes").iterdir()
    written = file.read_text()
    file.write_text(damage(written))
    assert file.read_text() != written
    _, truth = small.probed()
    assert truth.tried
    assert file.read_text() == written


# Checkpointing by the settings


@pytest.mark.parametrize("allowed", [True, False])
def test_checkpointing_that_is_asked_for_is_on_from_the_start(allowed: bool, machine: Machine) -> None:
    asking = replace(machine, budget_gib=8.0).changed(train__checkpointing=True, memory__allow_checkpointing=allowed)
    limits = asking.batch_limits()
    assert limits.checkpointing
    assert limits.predicted_gib == asking.plan(checkpointing=True).need_gib(EFFECTIVE, LENGTH)
    assert limits.predicted_gib < asking.plan().need_gib(EFFECTIVE, LENGTH)
    assert not limits.use_checkpointing(), "there is nothing left to switch on"


def test_a_probe_with_checkpointing_is_remembered_for_it_alone(machine: Machine) -> None:
    asking = machine.changed(train__checkpointing=True).allowing(9, checkpointing=True)
    first, _ = asking.probed(training_error=1.05)
    again, truth = asking.probed()
    assert truth.tried == []
    assert same(first.row_limits, again.row_limits)
    _, other = asking.changed(train__checkpointing=False).probed()
    assert other.tried


def test_an_encoder_that_cannot_checkpoint_is_not_trained_without(machine: Machine) -> None:
    with pytest.raises(UnsupportedError, match=r"train\.checkpointing: true: albert"):
        replace(machine, config=ALBERT).changed(train__checkpointing=True).batch_limits()


# Remedies


def test_checkpointing_is_switched_on_where_no_row_is_predicted_to_fit_without(machine: Machine) -> None:
    small = machine.changed(train__batch_size=8).allowing(1, spare=0.97)
    limits, truth = small.probed()
    assert limits.checkpointing
    assert truth.tried[0][0] != "evaluation"
    assert truth.need_gib(limits.micro_batch, True) <= small.budget_gib * 0.9
    again, truth = small.probed()
    assert again.checkpointing
    # The cached result includes checkpointing.
    assert truth.tried == []
    assert same(limits.row_limits, again.row_limits)


def test_checkpointing_is_switched_on_where_no_row_is_measured_to_fit_without(machine: Machine) -> None:
    small = machine.allowing(1)
    limits, truth = small.probed(training_error=1.02)
    assert limits.checkpointing
    assert truth.tried[0] == ("accumulating", 1)
    assert truth.need_gib(limits.micro_batch, True) <= small.budget_gib * 0.9
    again, truth = small.probed()
    assert (again.checkpointing, truth.tried) == (True, [])
    assert same(limits.row_limits, again.row_limits)


def test_checkpointing_is_not_switched_on_where_it_is_forbidden(machine: Machine) -> None:
    small = machine.changed(memory__allow_checkpointing=False).allowing(1, spare=0.97)
    limits, _ = small.probed()
    assert not limits.checkpointing
    # One row is tried although it exceeds the allowed part of the budget: it may fit in the whole.
    assert limits.micro_batch == 1
    assert not limits.use_checkpointing()


def test_albert_has_no_such_remedy_and_does_without(machine: Machine) -> None:
    small = replace(machine, config=ALBERT).allowing(1, spare=0.97)
    limits, _ = small.probed()
    assert (limits.checkpointing, limits.micro_batch) == (False, 1)
    assert not limits.shrink_training([np.array([0])], np.array([LENGTH]))


def test_nothing_is_computed_twice_where_all_rows_fit_in_one_pass_but_none_beside_the_gradients(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_limits_module, "device_name", lambda _: "card")
    wordy = replace(machine, config=WORDY, device_kind="cuda").changed(train__batch_size=2)
    small = wordy.allowing(2, accumulating=False)
    assert small.plan().need_gib(1, LENGTH, 2) > small.budget_gib * 0.9
    limits, truth = small.probed()
    assert (limits.checkpointing, limits.micro_batch) == (False, 2)
    assert truth.tried[0] == ("alone", 2)
    assert limits.row_limits.accumulating[LENGTH] == 0


def test_switching_to_checkpointing_keeps_what_was_found_about_evaluation(machine: Machine) -> None:
    limits, _ = machine.allowing(4).probed(evaluation_error=1.2)
    before = limits.row_limits.evaluation
    assert limits.use_checkpointing()
    assert (limits.row_limits.evaluation == before).all()
    assert not limits.use_checkpointing()


# After memory ran out


def test_the_largest_pass_is_halved_until_it_is_one_row_then_checkpointing_then_nothing(machine: Machine) -> None:
    limits = machine.allowing(8).batch_limits()
    lengths = np.full(64, LENGTH)
    for rows, left in ((8, 4), (4, 2), (2, 1)):
        assert limits.shrink_training([np.arange(rows), np.arange(8, 9)], lengths)
        assert (limits.micro_batch, limits.checkpointing) == (left, False)
    assert limits.shrink_training([np.array([row]) for row in range(8)], lengths)
    assert limits.checkpointing
    assert limits.micro_batch > 1
    assert limits.shrink_training([np.arange(limits.micro_batch)], lengths)
    assert not limits.shrink_training([np.array([0])], lengths)


def test_a_long_row_alone_does_not_end_it_while_other_passes_can_be_cut(machine: Machine) -> None:
    long = machine.changed(memory__allow_checkpointing=False, tok__max_length=400)
    limits = replace(long, budget_gib=1.5 * long.plan().need_gib(1, 400, 2)).batch_limits()
    lengths = np.array([400, 150, 150])
    assert long.plan().need_gib(1, 400) > long.plan().need_gib(2, 150)
    assert limits.shrink_training([np.array([0]), np.array([1, 2])], lengths)
    assert limits.row_limits.accumulating[150] == 1
    assert not limits.shrink_training([np.array([row]) for row in range(3)], lengths)


def test_evaluation_has_a_ladder_of_its_own(machine: Machine) -> None:
    limits = machine.allowing(8).batch_limits()
    before = limits.micro_batch
    assert limits.shrink_evaluation(6, LENGTH)
    assert (limits.eval_batch, limits.micro_batch) == (3, before)
    assert not limits.shrink_evaluation(1, LENGTH)
    assert not limits.checkpointing


# Entries of the ledger


def test_a_peak_is_entered_beside_its_prediction_without_the_correction(machine: Machine, machine_folder: Path) -> None:
    another_correction(machine, machine_folder, pytest.MonkeyPatch())
    limits = machine.allowing(8).batch_limits()
    lengths = np.full(32, LENGTH)
    limits.plans([[np.arange(8), np.arange(8, 13)]], lengths)
    need = machine.plan().need_gib(8, LENGTH, 2)
    assert limits.predicted_gib == pytest.approx(1.04 * need)
    limits.settle(int(1.1 * need * GIB))
    assert machine.batch_limits().row_limits is not None
    here = Circumstances("cpu", "fp32", torch.__version__, transformers.__version__)
    assert Ledger(MachineFiles(machine_folder).ledger).correction(here) == 1.1


def test_the_largest_pass_of_evaluation_is_noted_wherever_it_comes(machine: Machine) -> None:
    limits = replace(machine, budget_gib=8.0).batch_limits()
    lengths = np.array([LENGTH] * 2 + [30] * 20)
    for rows in (np.arange(2), np.arange(2, 22)):
        limits.plans_evaluation(len(rows), int(lengths[rows].max()))
    assert limits.predicted_gib == pytest.approx(machine.plan().eval_need_gib(20, 30))
