"""Error of a diverged run: it names the diverged tensors and the setting that causes them."""

import pytest
import torch
from torch import nn

from trainables.training.divergence import diverged


def model_and_optimizer(eps: float = 1e-8) -> tuple[nn.Linear, torch.optim.Optimizer]:
    """Return a layer after one step with a gradient in its first row alone."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, eps=eps)
    model(torch.ones(1, 3))[0, 0].backward()
    optimizer.step()
    return model, optimizer


def cause(model: nn.Module, optimizer: torch.optim.Optimizer, clip_norm: float = 0.0, precision: str = "fp32") -> str:
    error = diverged("training loss became nan", model, optimizer, clip_norm=clip_norm, precision=precision)
    assert len(str(error).splitlines()) == 1
    return str(error)


def test_an_epsilon_that_is_lost_in_the_precision_is_named() -> None:
    assert cause(*model_and_optimizer(eps=1e-50)) == (
        "training loss became nan: the steps of weight divided by nearly nothing where its gradients vanish; a larger"
        " optim.eps (now 1e-50) may help"
    )


def test_gradients_that_are_not_finite_are_named() -> None:
    model, optimizer = model_and_optimizer()
    model.weight.grad = torch.full_like(model.weight, float("inf"))
    optimizer.step()
    assert cause(model, optimizer) == (
        "training loss became nan: the gradients of weight were not finite; a lower optim.lr (now 0.001) may help, or"
        " train.clip_norm: 1.0 (now off)"
    )


def test_weights_that_grew_are_named_with_how_far() -> None:
    model, optimizer = model_and_optimizer()
    with torch.no_grad():
        model.bias[1] = -3e30
    assert cause(model, optimizer, clip_norm=5.0) == (
        "training loss became nan: the weights are finite, up to 3e+30 in bias; a lower optim.lr (now 0.001) may help,"
        " or a lower train.clip_norm (5)"
    )


def test_weights_that_a_step_took_out_of_range_are_the_rates_fault() -> None:
    model, optimizer = model_and_optimizer()
    with torch.no_grad():
        model.weight[0, 0] = float("inf")
    expected = "a step with finite gradients took the weights of weight out of range; a lower optim.lr (now 0.001)"
    assert expected in cause(model, optimizer)


@pytest.mark.parametrize(
    ("ruin", "precision", "expected"),
    [
        (False, "fp32", "no step was taken yet; use another model.name"),
        (False, "bf16", "no step was taken yet; set train.precision to fp32, or use another model.name"),
        (True, "fp32", "the model's own weights hold weight, not finite; use another model.name"),
    ],
)
def test_no_setting_of_the_optimizer_is_blamed_before_its_first_step(ruin: bool, precision: str, expected: str) -> None:
    model = nn.Linear(3, 2)
    if ruin:
        with torch.no_grad():
            model.weight.fill_(float("nan"))
    assert cause(model, torch.optim.AdamW(model.parameters()), precision=precision).endswith(f": {expected}")
