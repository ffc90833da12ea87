"""Training session on tiny encoders of every family."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainables import session as session_module
from trainables.devices.cpu import CpuDevice
from trainables.devices.host import GIB
from trainables.planning.batch_limits import MachineFiles
from trainables.session import TrainingSession
from trainables.settings import TrialSettings, with_params
from trainables.training import step as step_module
from trainables.training.divergence import NonFiniteLossError


@pytest.mark.parametrize("name", ["tiny-bert", "tiny-roberta", "tiny-deberta"])
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_padding_does_not_change_the_logits(
    name: str, settings: TrialSettings, session_of: Callable[[TrialSettings], TrainingSession]
) -> None:
    session = session_of(with_params(settings, {"model.name": name}))
    session.model.eval()
    by_length = np.argsort(session.examples.lengths)
    short, long = by_length[:4], by_length[-2:]
    assert session.examples.lengths[long].min() > 1.5 * session.examples.lengths[short].max()
    with torch.no_grad():
        alone = session.model(session.examples.batch(short[:1]))
        padded = session.model(session.examples.batch(np.concatenate([short, long])))
    torch.testing.assert_close(padded[:1], alone, atol=1e-5, rtol=1e-5)


def test_every_epoch_has_an_order_of_its_own(
    settings: TrialSettings, session_of: Callable[[TrialSettings], TrainingSession]
) -> None:
    # A rate of zero freezes the weights, so that only the order distinguishes epochs.
    session = session_of(with_params(settings, {"optim.lr": 0.0}))
    first = session.train_epoch()
    assert session.train_epoch() == first
    session.progress.values.append(0.5)
    assert session.train_epoch() != first


def test_ruined_weights_are_not_scored(
    settings: TrialSettings, session_of: Callable[[TrialSettings], TrainingSession]
) -> None:
    # With one step per epoch the loss was still finite.
    session = session_of(with_params(settings, {"optim.lr": 1e36, "train.batch_size": 1000, "train.clip_norm": 0.0}))
    session.train_epoch()
    with pytest.raises(NonFiniteLossError, match=r"outputs on validation are not finite: .*a lower optim\.lr"):
        session.evaluate("validation")


def test_evaluation_holds_no_gradients(
    settings: TrialSettings, session_of: Callable[[TrialSettings], TrainingSession]
) -> None:
    session = session_of(settings)
    session.train_epoch()
    session.evaluate("validation")
    assert all(parameter.grad is None for parameter in session.model.parameters())


def test_facts_tell_how_the_batch_is_cut_and_what_was_trained(
    settings: TrialSettings, session_of: Callable[[TrialSettings], TrainingSession]
) -> None:
    changed = with_params(settings, {"train.batch_size": 32, "train.grad_accum": 2, "memory.micro_batch": 25})
    cut = {"effective_batch": 64, "micro_batch": 25, "accumulation_steps": 3, "eval_batch": 16, "cut_share": 0.0}
    session = session_of(changed)
    session.train_epoch()
    facts = session.facts()
    tokens_per_s = facts.pop("tokens_per_s")
    assert isinstance(tokens_per_s, float)
    assert tokens_per_s > 0
    assert facts.items() >= (cut | {"device": "cpu", "precision": "fp32", "recoveries": 0}).items()


def test_a_micro_batch_is_never_larger_than_the_effective_batch(
    settings: TrialSettings, session_of: Callable[[TrialSettings], TrainingSession]
) -> None:
    facts = session_of(with_params(settings, {"train.batch_size": 4, "memory.micro_batch": 57})).facts()
    assert (facts["micro_batch"], facts["accumulation_steps"]) == (4, 1)


# Settings of the model


def weights_after(session: TrainingSession) -> dict[str, torch.Tensor]:
    session.train_epoch()
    return {name: tensor.clone() for name, tensor in session.model.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model.dropout", 0.4),
        ("model.attention_dropout", 0.4),
        ("model.freeze_layers", 1),
        ("optim.layer_decay", 0.8),
        ("head.pooling", "attention"),
        ("head.dropout", 0.4),
        ("head.width", 48),
        ("head.activation", "relu"),
    ],
)
def test_each_setting_of_the_model_changes_what_is_trained(
    name: str, value: Any, settings: TrialSettings, session_of: Callable[[TrialSettings], TrainingSession]
) -> None:
    base = with_params(settings, {"model.name": "tiny-bert", "head.layers": 1, "head.width": 64})
    before, after = (weights_after(session_of(given)) for given in (base, with_params(base, {name: value})))
    frozen = "encoder.encoder.layer.0.output.dense.weight"
    trained = "encoder.encoder.layer.1.output.dense.weight"
    assert not torch.equal(before[trained], after[trained])
    untouched = session_of(base).model.state_dict()
    assert torch.equal(after[frozen], untouched[frozen]) == (name == "model.freeze_layers")


def test_checkpointing_recomputes_and_trains_the_same(
    settings: TrialSettings, session_of: Callable[[TrialSettings], TrainingSession]
) -> None:
    base = with_params(settings, {"model.name": "tiny-bert"})
    trained, computed = [], []
    for checkpointing in (False, True):
        session = session_of(with_params(base, {"train.checkpointing": checkpointing}))
        passes: list[int] = []
        session.model.encoder.encoder.layer[0].attention.register_forward_hook(lambda *_, seen=passes: seen.append(1))
        trained.append(weights_after(session))
        computed.append(len(passes))
        assert session.facts()["checkpointing"] is checkpointing
    assert computed[1] == 2 * computed[0]
    for name, tensor in trained[0].items():
        torch.testing.assert_close(trained[1][name], tensor)


# A step that runs out of memory


Plant = Callable[[pytest.MonkeyPatch], None]


def once(real: Callable[..., Any], when: Callable[..., bool], *, after: bool) -> Callable[..., Any]:
    """Return the function with a fault.

    The first time that ``when`` is true it runs out of memory, before or after its work.
    """
    pending = [True]

    def run(*args: Any, **kwargs: Any) -> Any:
        is_time = pending[0] and when(*args, **kwargs)
        result = None if is_time and not after else real(*args, **kwargs)
        if is_time:
            pending.clear()
            pending.append(False)
            raise torch.OutOfMemoryError("planted")
        return result

    return run


def nth(number: int) -> Callable[..., bool]:
    calls = count(1)
    return lambda *_, **__: next(calls) == number


def before_a_pass(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(step_module, "backward_pass", once(step_module.backward_pass, nth(2), after=False))


def after_a_pass(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(step_module, "backward_pass", once(step_module.backward_pass, nth(2), after=True))


def after_clipping(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch.nn.utils, "clip_grad_norm_", once(torch.nn.utils.clip_grad_norm_, nth(1), after=True))


def before_the_weights_change(patch: pytest.MonkeyPatch) -> None:
    def is_room(*args: Any, dtype: torch.dtype | None = None, **_: Any) -> bool:
        return dtype is torch.uint8

    patch.setattr(torch, "empty", once(torch.empty, is_room, after=False))


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, list[int]]]:
    """Return the list of attempts at a step: the random generator's state, and the rows of the passes."""
    noted: list[tuple[int, list[int]]] = []
    real = session_module.train_step

    def train_step(model: Any, task: Any, batches: Any, *args: Any, **kwargs: Any) -> float:
        state = hash(torch.get_rng_state().numpy().tobytes())
        noted.append((state, [len(batch["labels"]) for batch in batches]))
        return real(model, task, batches, *args, **kwargs)

    monkeypatch.setattr(session_module, "train_step", train_step)
    return noted


@pytest.mark.parametrize(
    ("plant", "num_workers", "dropout"),
    [
        (before_a_pass, 0, True),
        (after_a_pass, 0, True),
        (after_clipping, 0, True),
        (before_the_weights_change, 0, True),
        (after_a_pass, 0, False),
        (after_a_pass, 2, True),
    ],
)
def test_a_step_done_again_is_to_the_last_bit_that_of_a_run_that_was_cut_so_from_the_start(
    plant: Plant,
    num_workers: int,
    dropout: bool,
    settings: TrialSettings,
    builtin_settings: TrialSettings,
    session_of: Callable[[TrialSettings], TrainingSession],
    attempts: list[tuple[int, list[int]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = with_params(
        builtin_settings if dropout else settings,
        {"memory.micro_batch": 12, "data.num_workers": num_workers, "train.clip_norm": 0.5},
    )
    recovered = session_of(chosen)
    plant(monkeypatch)
    loss = recovered.train_epoch()
    assert recovered.progress.recoveries == 1
    (first_random, first), (again_random, again), *_ = attempts
    # The second attempt has the same random state and the same rows, in smaller passes.
    assert first_random == again_random
    assert sum(first) == sum(again) == 32
    assert max(again) == recovered.batch_limits.micro_batch < max(first)
    done = attempts.copy()

    attempts.clear()
    straight = session_of(with_params(chosen, {"memory.micro_batch": max(again)}))
    assert straight.train_epoch() == loss
    assert attempts == done[1:]
    weights, expected = recovered.model.state_dict(), straight.model.state_dict()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    states, expected_states = (s.optimizer.state_dict()["state"] for s in (recovered, straight))
    for number, state in expected_states.items():
        assert all(torch.equal(states[number][name], value) for name, value in state.items())
    assert recovered.schedule.last_epoch == straight.schedule.last_epoch == recovered.steps_per_epoch


def test_steps_that_were_done_are_not_done_again(
    settings: TrialSettings,
    session_of: Callable[[TrialSettings], TrainingSession],
    attempts: list[tuple[int, list[int]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = session_of(settings)
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", once(torch.nn.utils.clip_grad_norm_, nth(2), after=False))
        loss = session.train_epoch()
    # The epoch has three steps and repeats the second.
    assert [sum(rows) for _, rows in attempts][:3] == [32, 32, 32]
    assert len(attempts) == session.steps_per_epoch + 1
    assert session.schedule.last_epoch == session.steps_per_epoch
    assert loss == pytest.approx(session_of(settings).train_epoch(), abs=1e-5)


# A budget


def step_losses(
    settings: TrialSettings,
    cache: Path,
    folder: Path,
    budget_gib: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[list[float], list[int], float]:
    """Train two epochs; return the loss of every step, the rows of every pass, and the peak in GiB."""
    losses: list[float] = []
    passes: list[int] = []
    real = session_module.train_step

    def train_step(model: Any, task: Any, batches: Any, *args: Any, **kwargs: Any) -> float:
        losses.append(real(model, task, batches, *args, **kwargs))
        passes.extend(len(batch["labels"]) for batch in batches)
        return losses[-1]

    device = CpuDevice(budget_gib)
    with monkeypatch.context() as patch, device.enforce():
        patch.setattr(session_module, "train_step", train_step)
        session = TrainingSession(settings, cache, device)
        session.plan_memory(MachineFiles(folder))
        device.reset_peak()
        for _ in range(2):
            session.train_epoch()
            session.progress.values.append(session.evaluate("validation").metrics["macro_f1"])
        assert session.progress.recoveries == 0
        return losses, passes, device.peak_bytes() / GIB


@pytest.mark.parametrize(("share", "effective_batch"), [(0.5, 7), (0.5, 30), (0.65, 32), (0.9, 32)])
def test_the_loss_of_every_step_is_the_same_in_a_small_budget_and_in_a_large_one(
    share: float,
    effective_batch: int,
    settings: TrialSettings,
    cache: Path,
    machine_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    auto = {"memory.micro_batch": "auto", "memory.eval_batch": "auto", "train.batch_size": effective_batch}
    changed = with_params(settings, auto)
    folder = machine_folder
    large, passes, peak_gib = step_losses(changed, cache, folder, None, monkeypatch)
    small, cut, small_peak_gib = step_losses(changed, cache, folder, share * peak_gib, monkeypatch)
    assert len(cut) > len(passes)
    assert sum(cut) == sum(passes)
    assert small_peak_gib < peak_gib
    assert small == pytest.approx(large, abs=2e-5)


def test_the_share_of_rows_that_are_cut_is_known(
    settings: TrialSettings, session_of: Callable[[TrialSettings], TrainingSession]
) -> None:
    session = session_of(settings)
    uncut = np.sort(session.inputs.readings[0].tokens.lengths(10**6))
    middle = int(uncut[len(uncut) // 2])
    cut = session_of(with_params(settings, {"tok.max_length": middle})).facts()["cut_share"]
    assert cut == pytest.approx(np.mean(uncut > middle))
    assert 0 < cut < 1
