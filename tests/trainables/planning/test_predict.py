"""Predictions: equal to the memory of real steps, consistent with each other, and cached."""

import importlib
from dataclasses import replace
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any, Literal

import pytest
import torch
from transformers import AutoModel, BertConfig, DebertaV2Config, PreTrainedConfig

from trainables.models.architectures import ARCHITECTURE_NAMES, known_config
from trainables.models.families import UnsupportedError
from trainables.planning import plan
from trainables.planning.plan import confirm, predict
from trainables.planning.timeline import SizeFactors
from trainables.planning.trace import StepPeaks, Workload, trace
from trainables.settings import TrialSettings, with_params

BENCHES = Path(__file__).parents[3] / "scripts" / "bench"
FAMILIES = ("bert", "roberta", "xlm-roberta", "deberta-v2", "electra", "distilbert", "albert", "modernbert")


@pytest.fixture
def cases(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the bench's module that draws random workloads and measures them."""
    monkeypatch.syspath_prepend(BENCHES)
    return importlib.import_module("workloads")


@pytest.fixture(scope="module")
def config() -> PreTrainedConfig:
    return BertConfig(vocab_size=999, hidden_size=48, num_hidden_layers=2, num_attention_heads=2, intermediate_size=96)


@pytest.fixture
def workload(settings: TrialSettings, config: PreTrainedConfig) -> Workload:
    return Workload(settings, config)


def _set(workload: Workload, name: str, value: Any) -> Workload:
    return replace(workload, settings=with_params(workload.settings, {name: value}))


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[Workload]:
    """Return the list of traced workloads, in order."""
    found: list[Workload] = []

    def noting(workload: Workload, factors: SizeFactors) -> StepPeaks:
        found.append(workload)
        return trace(workload, factors)

    monkeypatch.setattr(plan, "trace", noting)
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_predictions_meet_what_real_steps_hold(family: str, cases: ModuleType) -> None:
    case = cases.draw_case(Random(f"{family} 4"), family)
    training, evaluation = cases.measure(case)
    predicted = predict(case.workload)
    need_gib = predicted.need_gib(case.micro_batch, case.length, case.accumulation)
    assert need_gib == pytest.approx(training, rel=0.005)
    assert predicted.eval_need_gib(case.micro_batch, case.length) == pytest.approx(evaluation, rel=0.005)


@pytest.mark.parametrize(("accumulation", "layer_decay"), [(1, 1.0), (2, 1.0), (2, 0.9)])
def test_steps_of_any_optimizer_are_predicted_to_the_byte(
    optimizer_name: str, accumulation: int, layer_decay: float, workload: Workload, cases: ModuleType
) -> None:
    # With so few tokens the optimizer's step is the peak.
    params = {"optim.name": optimizer_name, "optim.layer_decay": layer_decay}
    asked = replace(workload, settings=with_params(workload.settings, params))
    training, evaluation = cases.measure(cases.Case("bert", asked, 1, 8, accumulation))
    found = confirm(asked, 1, 8)
    # A real step sums two losses, a trace does not.
    assert found.need_gib(1, 8, accumulation) * 2**30 == pytest.approx(training * 2**30, abs=16)
    assert found.eval_need_gib(1, 8) * 2**30 == pytest.approx(evaluation * 2**30, abs=16)


def test_an_optimizer_that_keeps_less_is_predicted_to_need_less(workload: Workload) -> None:
    def need_gib(name: str, device_kind: Literal["cpu", "cuda"]) -> float:
        settings = with_params(workload.settings, {"optim.name": name})
        return predict(replace(workload, settings=settings, device_kind=device_kind)).need_gib(1, 8)

    assert need_gib("adafactor", "cpu") < 0.9 * need_gib("adamw", "cpu")
    assert need_gib("adafactor", "cuda") < need_gib("adamw", "cuda")


@pytest.mark.parametrize("device_kind", ["cpu", "cuda"])
@pytest.mark.parametrize(("micro_batch", "length"), [(8, 96), (3, 256)])
def test_a_direct_trace_confirms_the_replay(
    workload: Workload, device_kind: str, micro_batch: int, length: int
) -> None:
    asked = replace(workload, device_kind=device_kind)
    replayed, direct = predict(asked), confirm(asked, micro_batch, length)
    for passes in (1, 2):
        assert replayed.need_gib(micro_batch, length, passes) == pytest.approx(
            direct.need_gib(micro_batch, length, passes), rel=1e-4
        )
    assert replayed.eval_need_gib(micro_batch, length) == pytest.approx(
        direct.eval_need_gib(micro_batch, length), rel=1e-4
    )


def test_parameters_gradients_and_two_states_are_the_least(workload: Workload, config: PreTrainedConfig) -> None:
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    # A pooler that nothing reads is left out.
    parameters = sum(values.numel() for name, values in model.named_parameters() if not name.startswith("pooler."))
    need_bytes = predict(workload).need_gib(1, 1) * 2**30
    assert 4 * 4 * parameters < need_bytes < 6 * 4 * parameters


def test_memory_savings_are_predicted(workload: Workload) -> None:
    need = predict(workload).need_gib(8, 128)
    assert predict(replace(workload, checkpointing=True)).need_gib(8, 128) < need
    assert predict(_set(workload, "model.freeze_layers", 1)).need_gib(8, 128) < need
    assert predict(replace(workload, precision="bf16")).need_gib(8, 128) < need
    assert predict(workload).eval_need_gib(8, 128) < need


def test_gradients_that_live_already_add_to_the_need(workload: Workload) -> None:
    found = predict(workload)
    assert found.need_gib(8, 128, 1) < found.need_gib(8, 128, 2) == found.need_gib(8, 128, 3)


@pytest.mark.parametrize("accumulating", [False, True])
def test_the_largest_micro_batch_fits_and_one_more_does_not(workload: Workload, accumulating: bool) -> None:
    found = predict(workload)
    budget_gib = found.need_gib(9, 100, 2) * 1.01
    largest = found.largest_micro_batch(budget_gib, 100, accumulating=accumulating)
    passes = 2 if accumulating else 1
    assert found.need_gib(largest, 100, passes) <= budget_gib < found.need_gib(largest + 1, 100, passes)
    assert found.eval_need_gib(found.largest_eval_batch(budget_gib, 100), 100) <= budget_gib


def test_nothing_fits_into_less_than_the_weights(workload: Workload) -> None:
    assert predict(workload).largest_micro_batch(1e-6, 128, accumulating=False) == 0


def test_a_stored_plan_is_taken_without_a_trace(workload: Workload, tmp_path: Path, traced: list[Workload]) -> None:
    first = predict(workload, tmp_path)
    other = replace(workload, settings=with_params(workload.settings, {"optim.lr": 1e-4, "tok.max_length": 64}))
    assert predict(other, tmp_path).need_gib(5, 77, 2) == first.need_gib(5, 77, 2)
    assert traced == [workload]


def test_a_damaged_plan_is_made_anew(workload: Workload, tmp_path: Path, traced: list[Workload]) -> None:
    first = predict(workload, tmp_path)
    for damage in (lambda text: text[:12], lambda text: text.replace('overhead_bytes": ', 'overhead_bytes": 9')):
        for file in tmp_path.iterdir():
            file.write_text(damage(file.read_text()))
        assert predict(workload, tmp_path).need_gib(8, 128) == first.need_gib(8, 128)
    assert len(traced) == 3


@pytest.mark.parametrize("device_kind", ["cpu", "cuda"])
def test_a_trace_leaves_no_mark_and_needs_no_quiet(workload: Workload, device_kind: Literal["cpu", "cuda"]) -> None:
    asked = replace(workload, device_kind=device_kind)
    expected = predict(asked).need_gib(8, 128)
    before = asked.config.to_dict(), torch.get_rng_state()
    with torch.inference_mode():
        assert predict(asked).need_gib(8, 128) == expected
    assert asked.config.to_dict() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


@pytest.mark.parametrize(
    "change",
    [
        {"precision": "bf16"},
        {"device_kind": "cuda"},
        {"checkpointing": True},
        {"has_pooler": False},
        {"config": BertConfig(hidden_size=24, num_hidden_layers=1, num_attention_heads=2)},
    ],
)
def test_changes_of_the_trace_cause_a_new_one(
    workload: Workload, tmp_path: Path, traced: list[Workload], change: dict[str, Any]
) -> None:
    changed = replace(workload, **change)
    predict(workload, tmp_path)
    predict(changed, tmp_path)
    assert traced == [workload, changed]


def test_every_optimizer_is_traced_for_itself_and_its_settings_are_not(
    workload: Workload, tmp_path: Path, traced: list[Workload]
) -> None:
    settings = with_params(workload.settings, {"optim.name": "adafactor"})
    by_layer = [with_params(settings, {"optim.layer_decay": rate}) for rate in (0.9, 0.8)]
    other_rate = with_params(settings, {"optim.lr": 0.1, "optim.beta1": 0.5})
    for asked in (workload.settings, settings, other_rate, *by_layer):
        predict(replace(workload, settings=asked), tmp_path)
    assert [workload.settings for workload in traced] == [workload.settings, settings, by_layer[0]]


@pytest.mark.parametrize(
    ("name", "value"),
    [("model.freeze_layers", 1), ("head.pooling", "attention"), ("head.layers", 1), ("task.classes", 3)],
)
def test_so_is_what_settings_change(
    workload: Workload, tmp_path: Path, traced: list[Workload], name: str, value: Any
) -> None:
    changed = _set(workload, name, value)
    predict(workload, tmp_path)
    predict(changed, tmp_path)
    assert traced == [workload, changed]


def test_a_head_without_layers_is_one_head(workload: Workload, tmp_path: Path) -> None:
    for width in (64, 96):
        for layers in (0, 1):
            settings = with_params(workload.settings, {"head.layers": layers, "head.width": width})
            predict(replace(workload, settings=settings), tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_width_that_a_traced_size_divides_is_told_apart(workload: Workload) -> None:
    wide = replace(workload, settings=with_params(workload.settings, {"head.layers": 2, "head.width": 1009}))
    need = predict(wide).need_gib(2, 32)
    assert need == pytest.approx(confirm(wide, 2, 32).need_gib(2, 32), rel=1e-4)


def test_dropout_counts_by_whether_there_is_any(workload: Workload, tmp_path: Path) -> None:
    for rate in (0.1, 0.3, 0.0):
        predict(replace(workload, settings=with_params(workload.settings, {"head.dropout": rate})), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_cuda_keeps_no_square_of_the_length_per_head(workload: Workload) -> None:
    def growth_gib(device_kind: str) -> float:
        found = predict(replace(workload, device_kind=device_kind))
        return found.need_gib(8, 512) - found.need_gib(8, 256)

    assert growth_gib("cuda") < 0.5 * growth_gib("cpu")


def test_cuda_computes_in_fp32_what_the_cpu_does_not(workload: Workload) -> None:
    heads = DebertaV2Config(
        vocab_size=999,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=96,
        relative_attention=True,
        position_buckets=32,
        pos_att_type=["p2c", "c2p"],
    )
    deberta = replace(workload, config=heads, precision="bf16")
    on_cuda = predict(replace(deberta, device_kind="cuda"))
    assert on_cuda.need_gib(16, 256) - on_cuda.overhead_bytes / 2**30 > predict(deberta).need_gib(16, 256)


def test_the_emulation_of_cuda_ends_with_the_trace(workload: Workload) -> None:
    predict(replace(workload, device_kind="cuda", precision="bf16"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        normed = torch.nn.functional.layer_norm(torch.ones(2, 4, dtype=torch.bfloat16), (4,))
    assert normed.dtype is torch.bfloat16


def test_a_setting_that_a_family_does_not_support_is_an_error(workload: Workload) -> None:
    albert = replace(workload, config=known_config("albert-base-v2"))
    for refused in (
        replace(albert, checkpointing=True),
        _set(albert, "model.freeze_layers", 1),
        _set(albert, "optim.layer_decay", 0.9),
    ):
        with pytest.raises(UnsupportedError, match="albert"):
            predict(refused)


def test_every_known_architecture_has_its_published_size() -> None:
    millions = {}
    for name in ARCHITECTURE_NAMES:
        with torch.device("meta"):
            model = AutoModel.from_config(known_config(name))
        millions[name] = round(sum(parameter.numel() for parameter in model.parameters()) / 1e6)
    assert millions == {
        "bert-base-uncased": 109,
        "bert-large-uncased": 335,
        "roberta-base": 125,
        "roberta-large": 355,
        "xlm-roberta-base": 278,
        "xlm-roberta-large": 560,
        "camembert-base": 111,
        "microsoft/deberta-base": 139,
        "microsoft/deberta-v3-base": 184,
        "microsoft/deberta-v3-large": 434,
        "google/electra-base-discriminator": 109,
        "distilbert-base-uncased": 66,
        "albert-base-v2": 12,
        "answerdotai/ModernBERT-base": 149,
        "answerdotai/ModernBERT-large": 395,
        "microsoft/mpnet-base": 109,
        "EuroBERT/EuroBERT-210m": 212,
    }


def test_a_known_model_is_known_with_and_without_its_owner() -> None:
    assert known_config("FacebookAI/roberta-base") is not None
    assert known_config("somebody/else") is None
