"""Rule of ``limits: users_families``: limits that people set by hand for models of a family."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from pydantic import BaseModel, ConfigDict, Field

from search_spaces.rules.registry import Facts, RuleEntry
from search_spaces.rules.rule import Rule, Sample, Violation, exceeded


class FamilyLimits(BaseModel):
    """Upper limits for models of one family."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    batch: int = Field(gt=0)
    length: int = Field(gt=0)
    head_layers: int = Field(gt=0)


# A second set of users' limits. Its batch is the sampled one, regardless of the accumulation.
NAMED_FAMILY_LIMITS: dict[str, dict[str, FamilyLimits]] = {
    "users_families": {
        "deberta": FamilyLimits(batch=64, length=384, head_layers=2),
        "bert": FamilyLimits(batch=128, length=512, head_layers=3),
        "roberta": FamilyLimits(batch=128, length=512, head_layers=3),
    }
}


class FamilyRule:
    """Rule that limits batch, length and head layers by the model's family; other families have no limits.

    ``family_of`` returns the family of a model name whose limits apply, or None if none do.
    """

    def __init__(self, limits: Mapping[str, FamilyLimits], family_of: Callable[[str], str | None]) -> None:
        self._limits = limits
        self._family_of = family_of

    @property
    def name(self) -> str:
        return "family_limits"

    def check(self, sample: Sample) -> Violation | None:
        family = self._family_of(sample.model)
        limits = self._limits.get(family) if family else None
        if limits is None:
            return None
        return exceeded(
            self.name,
            sample,
            [
                ("batch", sample.batch, limits.batch),
                ("length", sample.length, limits.length),
                ("layers of the head", int(sample.params.get("head.layers", 0)), limits.head_layers),
            ],
            f"a {family} model",
        )


def _build(limits: Mapping[str, FamilyLimits], facts: Facts) -> Sequence[Rule]:
    return [FamilyRule(limits, facts.family)]


ENTRIES = {name: RuleEntry(partial(_build, limits)) for name, limits in NAMED_FAMILY_LIMITS.items()}
