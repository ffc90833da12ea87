"""Recommended configurations of a space: published settings per model, at the space's nearest values."""

import random
from collections.abc import Iterator, Mapping, Sequence

from optuna.trial import FrozenTrial

from search_spaces.conditions import ActiveSpace
from search_spaces.nearest import nearest
from search_spaces.space import Params
from trainables.models.families import Architecture
from trainables.models.recommended import recommendations
from tune_app.outcomes import own_trials
from tune_app.samplers import SAMPLERS
from tune_app.study.reporting import is_recommended, was_launched

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


def recommended_left(wanted: int, sampler: str, trials: Sequence[FrozenTrial]) -> int:
    """Return the number of recommended configurations to launch before any others.

    Args:
        wanted: setting ``search.recommended``.
        sampler: setting ``search.sampler``.
        trials: all trials of the study.
    """
    own = [trial for trial in own_trials(trials) if was_launched(trial)]
    # Trials carried over from another version count, too.
    launched = sum(map(is_recommended, trials))
    # The start is over once another trial was launched. An exhaustive search reaches every configuration anyway.
    is_over = not all(map(is_recommended, own)) or SAMPLERS[sampler].lists_space
    return 0 if is_over else max(0, wanted - launched)
