"""Rules and samples: what a rule sees, what it answers, and what is known of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self


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
    """Rule that may reject samples. ``name`` becomes the name of the constraint that the searcher records.

    A rule may also have attributes that say what else it ``reads`` (see ``read_by``), its ``remedy`` (see
    ``remedy_of``), and that it ``ends_check`` (see ``violations``).
    """

    @property
    def name(self) -> str: ...

    def check(self, sample: Sample) -> Violation | None:
        """Return the violation; None if the sample may be launched."""
        ...


def violations(rules: Sequence[Rule], sample: Sample) -> list[Violation]:
    """Return the violations of all rules, in the order of the rules.

    A violated rule with a true ``ends_check`` ends the check: a model that cannot be built has no memory to predict.
    """
    broken: list[Violation] = []
    for rule in rules:
        violation = rule.check(sample)
        if violation is not None:
            broken.append(violation)
            if getattr(rule, "ends_check", False):
                break
    return broken


# The choice of optimizer changes memory, its parameters do not.
_USUALLY_READ = frozenset({"model", "tok", "head", "loss", "train", "optim.name"})


def read_by(rules: Sequence[Rule]) -> frozenset[str]:
    """Return the settings and sections that rules read: the usual ones, and those that a rule names in ``reads``."""
    return _USUALLY_READ.union(*(getattr(rule, "reads", ()) for rule in rules))


def remedy_of(rule: Rule) -> str:
    """Return the remedy, for a person, against a rule that rejects a whole space."""
    return str(getattr(rule, "remedy", "raise the limits, or set limits: predicted"))


def exceeded(
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
