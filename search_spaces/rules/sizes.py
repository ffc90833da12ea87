"""Limits that people set by hand for models of a size class, and the named sets of them."""

from collections.abc import Callable
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from search_spaces.rules.rule import Sample, Violation, exceeded

SizeClass = Literal["large", "base", "small"]

# Parameter counts that separate the classes. The users' large models have 270 to 400 million parameters, their base
# models 110 to 184 million.
_LARGE_FROM = 220_000_000
_BASE_FROM = 80_000_000
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
        return exceeded(
            self.name,
            sample,
            [
                ("batch", sample.batch, limits.batch),
                ("effective batch", sample.effective_batch, limits.effective_batch),
                ("length", sample.length, limits.length),
            ],
            f"a {size} model",
        )
