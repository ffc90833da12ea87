"""Diagnosis of a run whose loss or outputs are no longer finite: what diverged, and which setting may help."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from trainables.devices.counting import uncounted


class NonFiniteLossError(ArithmeticError):
    """The training loss or an output in evaluation became NaN or infinite: the configuration diverged."""


def diverged(
    what: str, model: nn.Module, optimizer: torch.optim.Optimizer, *, clip_norm: float, precision: str
) -> NonFiniteLossError:
    """Return the error for outputs that are not finite.

    Args:
        what: the symptom, such as ``training loss became nan``.
        optimizer: in its state after the last step.
    """
    # Work on the host and tensor by tensor: the device may have no memory left.
    with uncounted(), torch.no_grad():
        return NonFiniteLossError(f"{what}: {_cause(model, optimizer, clip_norm, precision)}")


def _cause(model: nn.Module, optimizer: torch.optim.Optimizer, clip_norm: float, precision: str) -> str:
    ruined = [(name, weights) for name, weights in model.named_parameters() if not _is_finite(weights)]
    if not any(value.any() for weights in optimizer.state for _, value in _moments(optimizer, weights)):
        whose = f"the model's own weights hold {ruined[0][0]}, not finite" if ruined else "no step was taken yet"
        lower = "set train.precision to fp32, or " if precision == "bf16" else ""
        return f"{whose}; {lower}use another model.name"
    group = optimizer.param_groups[0]
    rate = max(group.get("initial_lr", group["lr"]) for group in optimizer.param_groups)
    lower_rate = f"a lower optim.lr (now {rate:g}) may help"
    if not ruined:
        name, largest = max(
            ((name, float(weights.detach().cpu().abs().max())) for name, weights in model.named_parameters()),
            key=lambda found: found[1],
        )
        return f"the weights are finite, up to {largest:.3g} in {name}; {lower_rate}{_clipping(clip_norm)}"
    name, weights = ruined[0]
    moments = dict(_moments(optimizer, weights))
    if not all(map(_is_finite, moments.values())):
        return f"the gradients of {name} were not finite; {lower_rate}{_clipping(clip_norm)}"
    squares, eps = moments.get("exp_avg_sq"), group.get("eps")
    spoilt = ~weights.detach().cpu().isfinite()
    if squares is not None and isinstance(eps, float) and not squares.cpu()[spoilt].any():
        return (
            f"the steps of {name} divided by nearly nothing where its gradients vanish; a larger optim.eps (now"
            f" {eps:g}) may help"
        )
    return f"a step with finite gradients took the weights of {name} out of range; {lower_rate}"


def _moments(optimizer: torch.optim.Optimizer, weights: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield an optimizer's states for some weights, by name."""
    for name, value in optimizer.state.get(weights, {}).items():
        if isinstance(value, Tensor) and name != "step":
            yield name, value


def _clipping(clip_norm: float) -> str:
    return ", or train.clip_norm: 1.0 (now off)" if clip_norm == 0 else f", or a lower train.clip_norm ({clip_norm:g})"


def _is_finite(tensor: Tensor) -> bool:
    return bool(tensor.detach().cpu().isfinite().all())
