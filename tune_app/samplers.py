"""Registry of samplers: all that is known of each before a search, ours and those of other distributions.

A distribution adds one by an entry point of the group ``headroom.samplers``; see ``trainables.registry``.
"""

from dataclasses import dataclass

from trainables.registry import Entry, Registry


@dataclass(frozen=True, kw_only=True)
class SamplerEntry(Entry):
    """Sampler that ``search.sampler`` chooses.

    Attributes:
        build: address (``module:function``) of the function that makes the sampler's draw from ``SamplerFacts``
            (``tune_app.sampling.draw``). It is imported when a search starts.
        needs_several_objectives: whether it is of no use with one objective.
        lists_space: whether it goes through the whole space in its order, which must then be finite.
    """

    build: str
    needs_several_objectives: bool = False
    lists_space: bool = False


SAMPLERS = Registry(
    "headroom.samplers",
    SamplerEntry,
    {
        "tpe": SamplerEntry(build="tune_app.sampling.tpe:build"),
        "nsga2": SamplerEntry(build="tune_app.sampling.nsga:build", needs_several_objectives=True),
        "random": SamplerEntry(build="tune_app.sampling.proposers:build_random"),
        "exhaustive": SamplerEntry(build="tune_app.sampling.proposers:build_exhaustive", lists_space=True),
    },
    section="search",
    chosen_by="sampler",
)
