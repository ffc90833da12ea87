"""Rules that reject a sample before launch, each with a name, a reason and the excess over its limit.

A rule is a pure function of one configuration. One rejects combinations that the model cannot follow. Two use
predicted memory, which they receive as a function. The others are limits that users of these models set by hand, per
size class or per family.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

SizeClass = Literal["large", "base", "small"]

# Parameter counts that separate the classes. The users' large models have 270 to 400 million parameters, their base
# models 110 to 184 million.
_LARGE_FROM = 220_000_000
_BASE_FROM = 80_000_000


@dataclass(frozen=True)
class Sample:
    """Configuration as the rules see it, with its fixed settings filled in.

    ``params`` holds the whole configuration by dotted name, for rules that need more than the other attributes.
    """

    model: str
    batch: int
    accumulation: int
    length: int
    params: Mapping[str, Any] = field(default_factory=dict, hash=False, repr=False)

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Self:
        """Read a full configuration by its dotted names.

        Raises:
            KeyError: one of ``model.name``, ``train.batch_size``, ``train.grad_accum``, ``tok.max_length`` is
                missing.
        """
        return cls(
            model=str(params["model.name"]),
            batch=int(params["train.batch_size"]),
            accumulation=int(params["train.grad_accum"]),
            length=int(params["tok.max_length"]),
            params=params,
        )

    @property
    def effective_batch(self) -> int:
        return self.batch * self.accumulation

    def __str__(self) -> str:
        return f"model {self.model}, batch {self.batch}, accumulation {self.accumulation}, length {self.length}"


@dataclass(frozen=True)
class Violation:
    """Reason for rejecting a sample. ``excess`` is above 0 and measures how far the sample exceeds the limit.

    It is value / limit − 1 for a limit, and the number of problems for a combination.
    """

    rule: str
    reason: str
    excess: float


class Rule(Protocol):
    """Rule that may reject samples. ``name`` becomes the name of the constraint that the searcher records."""

    @property
    def name(self) -> str: ...

    def check(self, sample: Sample) -> Violation | None:
        """Return the violation; None if the sample may be launched."""
        ...


def violations(rules: Sequence[Rule], sample: Sample) -> list[Violation]:
    """Return the violations of all rules, in the order of the rules.

    A violated ``CombinationRule`` ends the check: a model that cannot be built has no memory to predict.
    """
    found: list[Violation] = []
    for rule in rules:
        violation = rule.check(sample)
        if violation is not None:
            found.append(violation)
            if isinstance(rule, CombinationRule):
                break
    return found


class CombinationRule:
    """Rule that rejects settings that the sample's model cannot follow.

    ``cannot`` takes a configuration by dotted name and returns a text for each impossible setting, with the reason.
    """

    def __init__(self, cannot: Callable[[Mapping[str, Any]], Sequence[str]]) -> None:
        self._cannot = cannot

    @property
    def name(self) -> str:
        return "combination"

    def check(self, sample: Sample) -> Violation | None:
        found = self._cannot(sample.params)
        if not found:
            return None
        # The distance from a possible combination has no measure other than the number of impossible settings.
        return Violation(self.name, f"{sample}: the combination: {'; '.join(found)}", excess=float(len(found)))


@dataclass(frozen=True)
class PredictedFit:
    """Predicted fit of a sample in the largest share of a device that a trial may have.

    Attributes:
        need_gib: predicted memory at one sample a pass, with every allowed saving.
        allowed_gib: largest prediction that still fits, which is the budget less the headroom.
        budget_gib: memory that the trial may hold.
        micro_batch: samples in the largest pass; 0 if not even one fits.
        passes: passes that a step takes at full length; None if not even one sample fits.
        checkpointing: whether the prediction recomputes activations so that the sample fits. It is also true if that
            does not suffice.
    """

    need_gib: float
    allowed_gib: float
    budget_gib: float
    micro_batch: int
    passes: int | None
    checkpointing: bool


Predict = Callable[[Sample], PredictedFit | None]
"""Function that predicts a sample's fit; None if it cannot, and then no rule rejects the sample."""


class MemoryRule:
    """Rule that rejects samples that do not fit at one sample a pass."""

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


def _gib(size: float) -> str:
    return f"{size:.2f}" if size >= 1 else f"{size:.3g}"


_MOST = 2**28


class SizeLimits(BaseModel):
    """Upper limits for models of one size class; None leaves a quantity unlimited."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    batch: int | None = Field(default=None, gt=0, le=_MOST, description="Maximum of train.batch_size.")
    effective_batch: int | None = Field(
        default=None, gt=0, le=_MOST, description="Maximum of train.batch_size × train.grad_accum."
    )
    length: int | None = Field(default=None, gt=0, le=_MOST, description="Maximum of tok.max_length.")


class LimitSet(BaseModel):
    """Manual limits per size class, based on a named set if ``from`` gives one."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    base_set: str | None = Field(default=None, alias="from", description="Named set to start from.")
    large: SizeLimits = SizeLimits()
    base: SizeLimits = SizeLimits()
    small: SizeLimits = SizeLimits()

    @field_validator("base_set")
    @classmethod
    def _known_set(cls, name: str | None) -> str | None:
        if name is not None and name not in NAMED_LIMITS:
            raise ValueError(f"unknown set of limits; known: {', '.join(sorted(NAMED_LIMITS))}")
        return name

    @model_validator(mode="after")
    def _merge_named_set(self) -> Self:
        if self.base_set is None:
            return self
        named = NAMED_LIMITS[self.base_set]
        for size in ("large", "base", "small"):
            own: SizeLimits = getattr(self, size)
            changed = {field: getattr(own, field) for field in own.model_fields_set}
            object.__setattr__(self, size, getattr(named, size).model_copy(update=changed))
        # The limits are complete now. A later change of the named set must not change studies that began with it.
        object.__setattr__(self, "base_set", None)
        return self


# Limits that users of 24 GB cards set by hand. They are claims, not facts: memory depends on the micro-batch, not on
# the product.
NAMED_LIMITS: dict[str, LimitSet] = {}
NAMED_LIMITS["users_24gb"] = LimitSet(
    large=SizeLimits(batch=16, effective_batch=64, length=384),
    base=SizeLimits(batch=64, effective_batch=512, length=512),
)


def size_class(model: str, parameters: int | None, *, large_vocabulary: bool = False) -> SizeClass:
    """Return a model's size class, by its parameter count if known.

    Otherwise a model is large if its name says so or its vocabulary makes it large, and base if not.
    """
    if parameters is not None:
        if parameters >= _LARGE_FROM:
            return "large"
        return "base" if parameters >= _BASE_FROM else "small"
    return "large" if large_vocabulary or "large" in model.lower() else "base"


class SizeClassRule:
    """Rule that limits batch, effective batch and length by the model's size class.

    Args:
        parameters: model name → parameter count, or None if it is unknown.
        large_vocabulary: model name → whether even the smallest models of its family count as large.
    """

    def __init__(
        self,
        limits: LimitSet,
        parameters: Callable[[str], int | None],
        large_vocabulary: Callable[[str], bool] = lambda model: False,
    ) -> None:
        self._limits = limits
        self._parameters = parameters
        self._large_vocabulary = large_vocabulary

    @property
    def name(self) -> str:
        return "size_limits"

    def check(self, sample: Sample) -> Violation | None:
        model = sample.model
        size = size_class(model, self._parameters(model), large_vocabulary=self._large_vocabulary(model))
        limits: SizeLimits = getattr(self._limits, size)
        return _exceeded(
            self.name,
            sample,
            [
                ("batch", sample.batch, limits.batch),
                ("effective batch", sample.effective_batch, limits.effective_batch),
                ("length", sample.length, limits.length),
            ],
            f"a {size} model",
        )


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
        return _exceeded(
            self.name,
            sample,
            [
                ("batch", sample.batch, limits.batch),
                ("length", sample.length, limits.length),
                ("layers of the head", int(sample.params.get("head.layers", 0)), limits.head_layers),
            ],
            f"a {family} model",
        )


def _exceeded(
    rule: str, sample: Sample, quantities: Sequence[tuple[str, int, int | None]], whose: str
) -> Violation | None:
    """Return the violation of the (label, value, limit) triples whose value is above the limit; None without one."""
    over = [
        (value / limit - 1, f"{label} {value} > {limit}")
        for label, value, limit in quantities
        if limit is not None and value > limit
    ]
    if not over:
        return None
    what = ", ".join(text for _, text in over)
    return Violation(rule=rule, reason=f"{sample}: {what} for {whose}", excess=max(excess for excess, _ in over))
