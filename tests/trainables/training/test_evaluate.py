"""Evaluation: outputs in row order, independent of the batch size, and the model unchanged."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from trainables.devices.cpu import CpuDevice
from trainables.devices.errors import OutOfMemory
from trainables.devices.host import GIB
from trainables.session import TrainingSession
from trainables.settings import TrialSettings, with_params
from trainables.training.evaluate import predict_outputs


@pytest.fixture
def session(builtin_settings: TrialSettings, session_of: Callable[[TrialSettings], TrainingSession]) -> TrainingSession:
    return session_of(builtin_settings)


def outputs_of(session: TrainingSession, rows: np.ndarray, most: int = 4, precision: str = "fp32") -> torch.Tensor:
    def ran_out(*_: object) -> None:
        raise AssertionError("there is enough memory")

    return predict_outputs(
        session.model,
        session.task,
        session.examples,
        rows,
        device=CpuDevice(),
        rows_at=lambda length, left: most,
        ran_out=ran_out,
        precision=precision,
    )


@pytest.mark.parametrize("eval_batch", [1, 7, 1000])
def test_outputs_come_in_the_order_of_the_rows_whatever_the_batch(session: TrainingSession, eval_batch: int) -> None:
    rows = np.random.default_rng(0).permutation(len(session.examples))[:20]
    outputs = outputs_of(session, rows, eval_batch)
    session.model.eval()
    with torch.no_grad():
        one_by_one = torch.cat([session.model(session.examples.batch([row])) for row in rows])
    assert outputs.dtype == torch.float32
    torch.testing.assert_close(outputs, one_by_one, atol=1e-5, rtol=1e-5)


def test_scores_are_the_same_for_any_batch(
    settings: TrialSettings, session_of: Callable[[TrialSettings], TrainingSession]
) -> None:
    first, *others = (
        session_of(with_params(settings, {"memory.eval_batch": batch})).evaluate("validation").metrics
        for batch in (1, 5, 64)
    )
    for other in others:
        assert other == pytest.approx(first, abs=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_in_the_mode_it_came_in(session: TrainingSession, training: bool) -> None:
    session.model.train(training)
    outputs_of(session, np.arange(4))
    assert {module.training for module in session.model.modules()} == {training}


def test_the_model_is_left_in_its_mode_by_a_failure_too(session: TrainingSession) -> None:
    session.model.train()
    with pytest.raises(IndexError):
        outputs_of(session, np.array([10_000]))
    assert session.model.training


def test_training_goes_on_after_an_evaluation_in_bf16(session: TrainingSession) -> None:
    # A backward pass must not use the weights that autocast cast in inference mode.
    rows = np.arange(4)
    outputs_of(session, rows, precision="bf16")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        session.model(session.examples.batch(rows)).float().sum().backward()


def test_a_pass_that_runs_out_of_memory_is_done_again_with_fewer_rows(session: TrainingSession) -> None:
    rows = np.arange(40)
    expected = outputs_of(session, rows)
    lengths, most, refused = session.examples.lengths, [40], []

    def ran_out(failure: OutOfMemory, count: int, length: int) -> None:
        assert (failure.cause, length) == ("own", lengths[rows].max())
        assert failure.needed_bytes is not None
        assert failure.needed_bytes > failure.allowed_bytes
        refused.append(count)
        most[0] //= 2

    # The budget holds some rows beside the model, but not forty.
    device = CpuDevice((CpuDevice().live_bytes() + 2**20) / GIB)
    with device.enforce():
        outputs = predict_outputs(
            session.model,
            session.task,
            session.examples,
            rows,
            device=device,
            rows_at=lambda length, left: most[0],
            ran_out=ran_out,
            precision="fp32",
        )
    assert refused
    assert refused[0] == 40
    assert refused == [40 >> halved for halved in range(len(refused))]
    torch.testing.assert_close(outputs, expected, atol=1e-5, rtol=1e-5)
