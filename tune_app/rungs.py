"""Steps after which a scheduler may stop a trial, computed without Ray, which takes seconds to import."""

import math


def stopping_steps(scheduler: str, steps: int, warmup: int, reduction_factor: int) -> list[int]:
    """Return the steps after which ``scheduler`` compares trials of ``steps`` steps, ascending.

    The last step is never a rung, because a trial ends there by itself. Ray places the rungs in the same way.
    """
    if scheduler == "asha":
        return _before(steps, warmup, reduction_factor, rungs=steps)
    if scheduler == "hyperband":
        brackets = 1 + round(math.log(steps) / math.log(reduction_factor))
        first = {bracket: int(steps * float(reduction_factor) ** -bracket) for bracket in range(brackets)}
        per_bracket = [
            _before(steps, begin, reduction_factor, rungs=bracket)
            for bracket, begin in first.items()
            if begin >= warmup
        ]
        return sorted({step for rungs in per_bracket for step in rungs})
    return []


def _before(steps: int, first: int, factor: int, rungs: int) -> list[int]:
    """Return at most ``rungs`` of first, first x factor, first x factor^2, … that are below ``steps``."""
    ascending: list[int] = []
    while first < steps and len(ascending) < rungs:
        ascending.append(first)
        first *= factor
    return ascending
