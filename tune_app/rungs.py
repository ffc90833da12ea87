"""After which steps a scheduler may stop a trial, without asking Ray, which takes seconds to import."""

import math


def stopping_steps(scheduler: str, steps: int, warmup: int, reduction_factor: int) -> list[int]:
    """Steps after which ``scheduler`` compares trials that report ``steps`` of them, ascending.

    A rung at the last step is none: the trial ends there by itself. Ray places the rungs so.
    """
    if scheduler == "asha":
        return _before(steps, warmup, reduction_factor, rungs=steps)
    if scheduler == "hyperband":
        brackets = 1 + round(math.log(steps) / math.log(reduction_factor))
        first = {bracket: int(steps * float(reduction_factor) ** -bracket) for bracket in range(brackets)}
        found = [
            _before(steps, begin, reduction_factor, rungs=bracket)
            for bracket, begin in first.items()
            if begin >= warmup
        ]
        return sorted({step for rungs in found for step in rungs})
    return []


def _before(steps: int, first: int, factor: int, rungs: int) -> list[int]:
    """At most ``rungs`` of first, first x factor, first x factor^2, … that lie before ``steps``."""
    found: list[int] = []
    while first < steps and len(found) < rungs:
        found.append(first)
        first *= factor
    return found
