"""Recommended configurations of a space: published settings per model, at the space's nearest values."""

import random
from collections.abc import Iterator, Mapping

from search_spaces.conditions import ActiveSpace
from search_spaces.nearest import nearest
from search_spaces.space import Params
from trainables.models.families import Architecture
from trainables.models.recommended import recommendations

# Draws of a recommendation's open parameters, one of which the rules may accept.
_DRAWS = 3

Turn = Iterator[Params]
"""Draws of one recommendation, which differ in the parameters that it leaves open."""


def recommended_turns(space: ActiveSpace, models: Mapping[str, Architecture | None], seed: int) -> Iterator[Turn]:
    """Yield the recommendations for every model in turn: first the best of each, then the second best, and so on.

    Args:
        models: every model that a trial may use, with its architecture; None if that is unknown.
        seed: seed of the parameters that the recommendations leave open.
    """
    wanted = {name: recommendations(architecture) for name, architecture in models.items()}
    for position in range(max(map(len, wanted.values()), default=0)):
        for name, settings in wanted.items():
            if position < len(settings):
                rng = random.Random(f"{seed}:{name}:{position}")
                here = {**settings[position], "model.name": name, "model.criteria_name": name}
                yield (space.normalised(nearest(space.space, here, rng, space.fixed)) for _ in range(_DRAWS))
