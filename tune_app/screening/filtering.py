"""Rules that a configuration chooses, and the share of its space that each of them rejects."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from search_spaces.conditions import ActiveSpace
from search_spaces.rules import (
    Facts,
    LimitSet,
    Rule,
    RuleEntryError,
    Sample,
    SizeClassRule,
    Violation,
    read_by,
    remedy_of,
    rule_entry,
    violations,
)
from search_spaces.space import Params, Scalar, Space
from tune_app.config import Limit
from tune_app.config.conditions import active_space
from tune_app.errors import UserError

if TYPE_CHECKING:
    from tune_app.screening.packing import Packing

_MOST_COUNTED = 2_000
_SAMPLES = 1_000
# Parameters with more values are ranges, whose single values say little.
_MOST_VALUES = 32


def build_rules(limits: Sequence["Limit"], max_accumulation: int | None, packing: "Packing") -> list[Rule]:
    """Build the rules for the setting ``limits``, each of which rejects samples before launch.

    Raises:
        UserError: the rules of another distribution cannot be used.
    """
    from trainables.models.sizes import family_of, parameter_count

    facts = Facts(
        predict=packing.predict_fit,
        max_accumulation=max_accumulation,
        parameters=parameter_count,
        large_vocabulary=lambda model: family_of(model).large_vocabulary,
        family=lambda model: family_of(model).kin,
    )
    rules: list[Rule] = []
    for limit in limits:
        if isinstance(limit, LimitSet):
            rules.append(SizeClassRule(limit, facts.parameters, facts.large_vocabulary))
            continue
        try:
            rules += rule_entry(limit).build(facts)
        except RuleEntryError as error:
            raise UserError(f"limits: {limit}: {error}") from None
    return rules


@dataclass(frozen=True)
class Suffering:
    """Value of a parameter, and the share of the configurations with it that a rule rejects."""

    setting: str
    value: Scalar
    share: float


@dataclass(frozen=True)
class Rejections:
    """Shares of a space that rules reject.

    Attributes:
        shares: rejected share of the space, by rule. Several rules may reject the same configuration.
        can_run: share of the space that every rule accepts.
        sampled: whether the shares are estimates from random configurations.
        counted: number of counted configurations.
        suffering: values that a rule rejects more often than the space as a whole, the worst first, by rule.
        nearest: violation with the least excess, by rule.
        remedies: remedy against a rule that rejects the whole space, by rule.
    """

    shares: dict[str, float]
    can_run: float
    sampled: bool
    counted: int
    suffering: dict[str, list[Suffering]]
    nearest: dict[str, Violation]
    remedies: dict[str, str]

    def __str__(self) -> str:
        (first, share), *others = self.shares.items()
        parts = [f"{first} rejects {_percent(share)} of the space"]
        parts += [f"{name} {_percent(share)}" for name, share in others]
        about = "about " if self.sampled else ""
        return f"rules: {', '.join(parts)}; {about}{_percent(self.can_run)} can run"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def count_rejections(
    rules: Sequence[Rule], space: Space, fixed: Params, seed: int, samples: int = _SAMPLES
) -> Rejections:
    """Count the configurations that each rule rejects.

    All configurations that the rules can distinguish are counted; if there are too many, a random sample of them.

    Args:
        rules: rules to apply, at least one.
        space: whole space, of which only the entries that rules read matter.
        fixed: every setting that rules read, with its value outside the space.
        seed: seed of the sample.
        samples: size of the sample.
    """
    names = dict.fromkeys(rule.name for rule in rules)
    watched = read_by(rules)
    counts: Counter[str] = Counter()
    nearest: dict[str, Violation] = {}
    looked_at = {
        name: entry for name, entry in space.entries.items() if name in watched or name.split(".")[0] in watched
    }
    sampled, configurations = (
        _configurations(active_space(Space(looked_at), fixed), seed, samples)
        if looked_at
        else (False, iter([Params()]))
    )
    discrete = [name for name, entry in looked_at.items() if entry.size is not None and entry.size <= _MOST_VALUES]
    with_value: Counter[tuple[str, Scalar]] = Counter()
    hit: Counter[tuple[str, str, Scalar]] = Counter()
    total = running = 0
    for params in configurations:
        broken = violations(rules, Sample.of({**fixed, **params}))
        total += 1
        running += not broken
        counts.update({violation.rule for violation in broken})
        values = [(name, params[name]) for name in discrete]
        with_value.update(values)
        hit.update((rule, *value) for rule in {violation.rule for violation in broken} for value in values)
        for violation in broken:
            if violation.rule not in nearest or violation.excess < nearest[violation.rule].excess:
                nearest[violation.rule] = violation
    shares = {name: counts[name] / total for name in names}
    return Rejections(
        shares,
        running / total,
        sampled,
        total,
        {name: _suffering(name, share, with_value, hit) for name, share in shares.items()},
        nearest,
        remedies={rule.name: remedy_of(rule) for rule in rules},
    )


def _suffering(
    rule: str, share: float, with_value: Counter[tuple[str, Scalar]], hit: Counter[tuple[str, str, Scalar]]
) -> list[Suffering]:
    """Return the values that a rule rejects more often than the whole space, of which it rejects ``share``."""
    found = [Suffering(name, value, hit[rule, name, value] / count) for (name, value), count in with_value.items()]
    return sorted((one for one in found if one.share > share), key=lambda one: -one.share)


def _configurations(space: ActiveSpace, seed: int, samples: int) -> tuple[bool, Iterator[Params]]:
    """Return all configurations of a space or a random sample of them, preceded by whether it is a sample."""
    if space.size is not None and space.size <= _MOST_COUNTED:
        return False, map(space.config_at, range(space.size))
    rng = random.Random(seed)
    return True, (space.sample(rng) for _ in range(samples))


def check_something_runs(rejections: Rejections, packing: "Packing") -> None:
    """Refuse a space that the rules reject entirely.

    Raises:
        UserError: the rules reject the whole space; the message names the nearest configuration and the remedy.
    """
    if rejections.can_run > 0:
        return
    if rejections.shares.get("memory") == 1:
        raise packing.refusal(rejections.nearest["memory"], "any model of the space", rejections.remedies["memory"])
    if rejections.shares.get("combination") == 1:
        raise UserError(
            f"space: none of its configurations can be built (the nearest: {rejections.nearest['combination'].reason});"
            f" {rejections.remedies['combination']}"
        )
    name, violation = min(rejections.nearest.items(), key=lambda item: item[1].excess)
    raise UserError(
        f"limits: the rules reject the whole space (the nearest: {violation.reason}); {rejections.remedies[name]}"
    )
