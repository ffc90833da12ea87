"""All sections of a report as facts, in the order of a reader's questions."""

from dataclasses import dataclass
from typing import Self

from tune_app.report.choice import Choice, choose
from tune_app.report.hours import Hours, hours
from tune_app.report.influence import Influence, influence
from tune_app.report.listing import Listing, listing
from tune_app.report.memory import Memory, memory
from tune_app.report.mistakes import Mistakes, mistakes
from tune_app.report.problems import Problems, problems
from tune_app.report.source import Source
from tune_app.report.trust import Trust, assess


@dataclass(frozen=True)
class Sections:
    """Facts of a report. ``choice`` is None while no trial is complete."""

    choice: Choice | None
    trust: Trust
    influence: Influence
    hours: Hours
    memory: Memory
    problems: Problems
    mistakes: Mistakes
    listing: Listing

    @classmethod
    def of(cls, source: Source) -> Self:
        choice = choose(source)
        return cls(
            choice=choice,
            trust=assess(source, choice),
            influence=influence(source, choice),
            hours=hours(source),
            memory=memory(source),
            problems=problems(source),
            mistakes=mistakes(source, choice),
            listing=listing(source),
        )
