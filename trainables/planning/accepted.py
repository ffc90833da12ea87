"""Memory plans that accepted a configuration before its launch, as the trial's worker receives them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from trainables.planning.plan import MemoryPlan, fingerprint
from trainables.planning.trace import Workload


def name_of(workload: Workload) -> str:
    """Return the name of a workload's plan. A plan is made before it is known whether the checkpoint has a pooler."""
    return fingerprint(replace(workload, has_pooler=True))


@dataclass(frozen=True)
class AcceptedPlans:
    """Plans of one configuration's training, with and without checkpointing as far as they were made.

    The plans answer for any budget and any micro-batch. A workload on another kind of device, in another precision or
    with another model has another name, so it finds no plan here.

    Attributes:
        plans: plans by the names of their workloads.
    """

    plans: Mapping[str, MemoryPlan]

    def plan(self, workload: Workload) -> MemoryPlan | None:
        """Return the plan of a workload; None if it was not made."""
        return self.plans.get(name_of(workload))

    @cached_property
    def text(self) -> str:
        """The plans as a text, from which ``from_text`` makes them again."""
        return json.dumps({name: plan.to_json() for name, plan in self.plans.items()}, separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> "AcceptedPlans":
        return cls({name: MemoryPlan.from_json(plan) for name, plan in json.loads(text).items()})
