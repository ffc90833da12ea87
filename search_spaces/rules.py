"""Rules that turn a sample away before launch: each with a name, a reason and by how much it was exceeded.

A rule is a pure function of one configuration. Hand-made limits per size class stand here; a rule that predicts
memory has the same shape and is built where the prediction lives.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

SizeClass = Literal["large", "base", "small"]

# Parameter counts that part the classes: the users' large models have 270 to 400 million parameters, their base
# models 110 to 184 million.
_LARGE_FROM = 220_000_000
_BASE_FROM = 80_000_000


@dataclass(frozen=True)
class Sample:
    """What the rules look at: one configuration with its fixed settings filled in."""

    model: str
    batch: int
    accumulation: int
    length: int

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
        )

    @property
    def effective_batch(self) -> int:
        return self.batch * self.accumulation

    def __str__(self) -> str:
        return f"model {self.model}, batch {self.batch}, accumulation {self.accumulation}, length {self.length}"


@dataclass(frozen=True)
class Violation:
    """Why a sample was turned away. ``excess`` is how far beyond the limit it lies: value / limit − 1, above 0."""

    rule: str
    reason: str
    excess: float


class Rule(Protocol):
    """Turns samples away. ``name`` becomes the name of the constraint that the searcher is told."""

    @property
    def name(self) -> str: ...

    def check(self, sample: Sample) -> Violation | None:
        """The violation, or None where the sample may be launched."""
        ...


def violations(rules: Sequence[Rule], sample: Sample) -> list[Violation]:
    """What every rule objects to, in the order of the rules."""
    return [found for rule in rules if (found := rule.check(sample)) is not None]


class SizeLimits(BaseModel):
    """The most that models of one size class may take; None leaves a quantity free."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    batch: int | None = Field(default=None, gt=0)
    effective_batch: int | None = Field(default=None, gt=0)
    length: int | None = Field(default=None, gt=0)


class LimitSet(BaseModel):
    """Hand-made limits per size class, starting from a named set where ``from`` gives one."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    base_set: str | None = Field(default=None, alias="from")
    large: SizeLimits = SizeLimits()
    base: SizeLimits = SizeLimits()
    small: SizeLimits = SizeLimits()

    @model_validator(mode="after")
    def _merge_named_set(self) -> Self:
        if self.base_set is None:
            return self
        if self.base_set not in NAMED_LIMITS:
            raise ValueError(f"unknown set of limits {self.base_set!r}; known: {', '.join(sorted(NAMED_LIMITS))}")
        named = NAMED_LIMITS[self.base_set]
        for size in ("large", "base", "small"):
            own: SizeLimits = getattr(self, size)
            changed = {field: getattr(own, field) for field in own.model_fields_set}
            object.__setattr__(self, size, getattr(named, size).model_copy(update=changed))
        # What stands here now is complete: a later version of the named set changes no study that began with this one.
        object.__setattr__(self, "base_set", None)
        return self


# What users of 24 GB cards set by hand. Claims, not truths: memory follows the micro-batch, not the product.
NAMED_LIMITS: dict[str, LimitSet] = {}
NAMED_LIMITS["users_24gb"] = LimitSet(
    large=SizeLimits(batch=16, effective_batch=64, length=384),
    base=SizeLimits(batch=64, effective_batch=512, length=512),
)


def size_class(model: str, parameters: int | None) -> SizeClass:
    """The size class of a model: by its parameter count where that is known, else by its name.

    By name, "large" anywhere or xlm-roberta is large (its vocabulary makes it so), the rest is base.
    """
    if parameters is not None:
        if parameters >= _LARGE_FROM:
            return "large"
        return "base" if parameters >= _BASE_FROM else "small"
    name = model.lower()
    return "large" if "large" in name or "xlm-roberta" in name else "base"


class SizeClassRule:
    """Limits on batch, effective batch and length by the model's size class.

    ``parameters`` answers the parameter count of a model name, or None where it is not known.
    """

    def __init__(self, limits: LimitSet, parameters: Callable[[str], int | None]) -> None:
        self._limits = limits
        self._parameters = parameters

    @property
    def name(self) -> str:
        return "size_limits"

    def check(self, sample: Sample) -> Violation | None:
        size = size_class(sample.model, self._parameters(sample.model))
        limits: SizeLimits = getattr(self._limits, size)
        exceeded = [
            (value / limit - 1, f"{label} {value} > {limit}")
            for label, value, limit in (
                ("batch", sample.batch, limits.batch),
                ("effective batch", sample.effective_batch, limits.effective_batch),
                ("length", sample.length, limits.length),
            )
            if limit is not None and value > limit
        ]
        if not exceeded:
            return None
        what = ", ".join(text for _, text in exceeded)
        return Violation(
            rule=self.name,
            reason=f"{sample}: {what} for a {size} model",
            excess=max(excess for excess, _ in exceeded),
        )
