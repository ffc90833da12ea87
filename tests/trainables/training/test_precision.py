"""Number formats on the CPU."""

import math
from collections.abc import Callable

import pytest
import torch

from trainables.session import TrainingSession
from trainables.settings import TrialSettings, with_params
from trainables.training.precision import autocast, resolve_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(("setting", "resolved"), [("auto", "fp32"), ("fp32", "fp32"), ("bf16", "bf16")])
def test_auto_is_fp32_on_the_cpu_and_the_others_are_what_they_say(setting: str, resolved: str) -> None:
    assert resolve_precision(setting, CPU) == resolved


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match=r"train\.precision: 'fp16' is not auto, fp32 or bf16"):
        resolve_precision("fp16", CPU)


def test_matrix_products_run_in_the_precision() -> None:
    a = torch.ones(2, 2)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with autocast(precision, CPU):
            assert (a @ a).dtype == dtype


def test_bf16_keeps_weights_gradients_and_outputs_in_fp32(
    settings: TrialSettings, session_of: Callable[[TrialSettings], TrainingSession]
) -> None:
    session = session_of(with_params(settings, {"train.precision": "bf16"}))
    loss = session.train_epoch()
    gradients = {weight.grad.dtype for weight in session.model.parameters() if weight.grad is not None}
    scores = session.evaluate("validation").metrics
    assert session.precision == "bf16"
    assert math.isfinite(loss)
    assert all(math.isfinite(score) for score in scores.values())
    weights = list(session.model.parameters())
    assert {weight.dtype for weight in weights} == {torch.float32}
    assert gradients == {torch.float32}
    # Training ran in bf16: the same epoch in fp32 has a slightly different loss.
    in_fp32 = session_of(settings).train_epoch()
    assert loss != in_fp32
    assert loss == pytest.approx(in_fp32, rel=0.05)
