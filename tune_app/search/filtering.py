"""The rules that a configuration chooses, and what part of its space each of them turns away."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from search_spaces.conditions import ActiveSpace
from search_spaces.rules import (
    NAMED_FAMILY_LIMITS,
    AccumulationRule,
    CombinationRule,
    FamilyRule,
    LimitSet,
    MemoryRule,
    Rule,
    Sample,
    SizeClassRule,
    Violation,
    violations,
)
from search_spaces.space import Params, Space
from tune_app.errors import UserError

if TYPE_CHECKING:
    from tune_app.config import Limit
    from tune_app.search.packing import Packing

# What rules may look at: how an optimizer is set changes neither size nor memory, which one it is does.
_LOOKED_AT = ("model", "tok", "head", "loss", "train", "optim.name")
# What the rule against combinations looks at beside.
_COMBINED = ("optim.layer_decay",)
_MOST_COUNTED = 2_000
_SAMPLES = 1_000

_REMEDIES = {
    "memory": "add smaller models or lengths to the space",
    "accumulation": "raise memory.max_accumulation, or add smaller batches to the space",
}


def build_rules(limits: Sequence["Limit"], max_accumulation: int | None, packing: "Packing") -> list[Rule]:
    """The rules for the setting ``limits``, each of which turns samples away before launch."""
    from trainables.models.sizes import model_type, parameter_count

    rules: list[Rule] = []
    for limit in limits:
        if isinstance(limit, LimitSet):
            rules.append(SizeClassRule(limit, parameter_count))
        elif limit == "users_families":
            rules.append(FamilyRule(NAMED_FAMILY_LIMITS[limit], model_type))
        else:
            rules.append(MemoryRule(packing.fit))
            if max_accumulation is not None:
                rules.append(AccumulationRule(packing.fit, max_accumulation))
    return rules


@dataclass(frozen=True)
class TurnedAway:
    """What rules turn away of a space.

    Attributes:
        shares: of the space, by rule; a configuration may be turned away by several.
        can_run: share of the space that every rule lets through.
        sampled: whether these are estimates from random configurations.
        nearest: by rule, the violation with the least excess.
    """

    shares: dict[str, float]
    can_run: float
    sampled: bool
    nearest: dict[str, Violation]

    def __str__(self) -> str:
        (first, share), *others = self.shares.items()
        parts = [f"{first} turns away {_percent(share)} of the space"]
        parts += [f"{name} {_percent(share)}" for name, share in others]
        about = "about " if self.sampled else ""
        return f"rules: {', '.join(parts)}; {about}{_percent(self.can_run)} can run"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def turned_away(rules: Sequence[Rule], space: Space, fixed: Params, seed: int) -> TurnedAway:
    """Count what each rule turns away: in all that the rules can tell apart, or of many, in a random sample.

    Args:
        rules: at least one.
        fixed: every setting that rules look at, as it is outside the space.
        seed: of the sample.
    """
    names = dict.fromkeys(rule.name for rule in rules)
    watched = (*_LOOKED_AT, *(_COMBINED if any(isinstance(rule, CombinationRule) for rule in rules) else ()))
    counts: Counter[str] = Counter()
    nearest: dict[str, Violation] = {}
    looked_at = {
        name: entry for name, entry in space.entries.items() if name in watched or name.split(".")[0] in watched
    }
    sampled, configurations = (
        _configurations(ActiveSpace(Space(looked_at), fixed), seed) if looked_at else (False, iter([Params()]))
    )
    total = running = 0
    for params in configurations:
        found = violations(rules, Sample.of({**fixed, **params}))
        total += 1
        running += not found
        counts.update({violation.rule for violation in found})
        for violation in found:
            if violation.rule not in nearest or violation.excess < nearest[violation.rule].excess:
                nearest[violation.rule] = violation
    return TurnedAway({name: counts[name] / total for name in names}, running / total, sampled, nearest)


def _configurations(space: ActiveSpace, seed: int) -> tuple[bool, Iterator[Params]]:
    """Whether they are a sample, and all configurations of a space or a random sample of them."""
    if space.size is not None and space.size <= _MOST_COUNTED:
        return False, map(space.config_at, range(space.size))
    rng = random.Random(seed)
    return True, (space.sample(rng) for _ in range(_SAMPLES))


def check_something_runs(found: TurnedAway, packing: "Packing") -> None:
    """Refuse a space of which the rules let nothing through.

    Raises:
        UserError: naming the configuration that comes nearest, and the remedy.
    """
    if found.can_run > 0:
        return
    if found.shares.get("memory") == 1:
        raise packing.refusal(found.nearest["memory"], "any model of the space", _REMEDIES["memory"])
    if found.shares.get("combination") == 1:
        raise UserError(
            f"space: none of its configurations can be built (the nearest: {found.nearest['combination'].reason});"
            " change the settings that the models cannot follow, or the models"
        )
    name, violation = min(found.nearest.items(), key=lambda item: item[1].excess)
    remedy = _REMEDIES.get(name, "raise the limits, or set limits: predicted")
    raise UserError(f"limits: the rules turn away all of the space (the nearest: {violation.reason}); {remedy}")
