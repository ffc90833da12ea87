"""Rule against combinations that a model cannot follow. It holds in every search, whatever ``limits`` says."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from search_spaces.rules.rule import Sample, Violation


class CombinationRule:
    """Rule that rejects settings that the sample's model cannot follow.

    ``cannot`` takes a configuration by dotted name and returns a text for each impossible setting, with the reason.
    """

    ends_check = True
    reads = frozenset({"optim.layer_decay"})
    remedy = "change the settings that the models cannot follow, or the models"

    def __init__(self, cannot: Callable[[Mapping[str, Any]], Sequence[str]]) -> None:
        self._cannot = cannot

    @property
    def name(self) -> str:
        return "combination"

    def check(self, sample: Sample) -> Violation | None:
        problems = self._cannot(sample.params)
        if not problems:
            return None
        # The distance from a possible combination has no measure other than the number of impossible settings.
        return Violation(self.name, f"{sample}: the combination: {'; '.join(problems)}", excess=float(len(problems)))
