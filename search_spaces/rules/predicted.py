"""Rules of ``limits: predicted``, which use the predicted memory of a configuration."""

from collections.abc import Sequence

from search_spaces.rules.registry import Facts, Predict, RuleEntry
from search_spaces.rules.rule import Rule, Sample, Violation


class MemoryRule:
    """Rule that rejects samples that do not fit at one sample a pass."""

    remedy = "add smaller models or lengths to the space"

    def __init__(self, predict: Predict) -> None:
        self._predict = predict

    @property
    def name(self) -> str:
        return "memory"

    def check(self, sample: Sample) -> Violation | None:
        fit = self._predict(sample)
        if fit is None or fit.passes is not None:
            return None
        how = " with checkpointing" if fit.checkpointing else ""
        return Violation(
            rule=self.name,
            reason=f"{sample}: needs {_gib(fit.need_gib)} GiB at micro-batch 1{how},"
            f" {_gib(fit.allowed_gib)} allowed of {_gib(fit.budget_gib)}",
            excess=fit.need_gib / fit.allowed_gib - 1,
        )


class AccumulationRule:
    """Rule that rejects samples that fit only with more than ``max_accumulation`` passes a step."""

    remedy = "raise memory.max_accumulation, or add smaller batches to the space"

    def __init__(self, predict: Predict, max_accumulation: int) -> None:
        self._predict = predict
        self._most = max_accumulation

    @property
    def name(self) -> str:
        return "accumulation"

    def check(self, sample: Sample) -> Violation | None:
        fit = self._predict(sample)
        if fit is None or fit.passes is None or fit.passes <= self._most:
            return None
        how = " with checkpointing" if fit.checkpointing else ""
        return Violation(
            rule=self.name,
            reason=f"{sample}: takes {fit.passes} passes a step at micro-batch {fit.micro_batch}{how}"
            f" ({_gib(fit.allowed_gib)} GiB allowed of {_gib(fit.budget_gib)}), {fit.passes} > {self._most}",
            excess=fit.passes / self._most - 1,
        )


def _build(facts: Facts) -> Sequence[Rule]:
    rules: list[Rule] = [MemoryRule(facts.predict)]
    if facts.max_accumulation is not None:
        rules.append(AccumulationRule(facts.predict, facts.max_accumulation))
    return rules


ENTRIES = {"predicted": RuleEntry(_build)}


def _gib(size: float) -> str:
    return f"{size:.2f}" if size >= 1 else f"{size:.3g}"
