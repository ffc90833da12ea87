"""Recommended configurations of a space: published settings per model, at the space's nearest values."""

import random
from collections.abc import Iterator, Sequence

from search_spaces.conditions import ActiveSpace
from search_spaces.nearest import nearest
from search_spaces.space import Params
from trainables.models.recommended import recommendations
from trainables.models.sizes import architecture
from trainables.settings import ModelSettings, revision_of

# Draws of what a recommendation leaves open, one of which the rules may accept.
_DRAWS = 3

Turn = Iterator[Params]
"""Configurations of one recommendation, which differ in what it leaves open."""


def recommended_turns(space: ActiveSpace, models: Sequence[str], model: ModelSettings, seed: int) -> Iterator[Turn]:
    """Yield the recommendations for every model in turn: first the best of each, then the second best, and so on.

    Args:
        models: every model that a trial may use.
        model: its revision says which of a hub model's configurations is looked up.
        seed: of what the recommendations leave open.
    """
    wanted = {name: recommendations(architecture(name, revision_of(model, name), fetch=False)) for name in models}
    for place in range(max(map(len, wanted.values()), default=0)):
        for name, settings in wanted.items():
            if place < len(settings):
                rng = random.Random(f"{seed}:{name}:{place}")
                settings_here = {**settings[place], "model.name": name, "model.criteria_name": name}
                yield (space.normalised(nearest(space.space, settings_here, rng, space.fixed)) for _ in range(_DRAWS))
