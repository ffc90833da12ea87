"""Slots of a search: how many trials run at a time, and what they hold of the cards."""

from dataclasses import dataclass, field

# Shares are multiples of 1/8 or a person's decimals, whose sums are not exact.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Held:
    """Part of the cards that one trial holds: ``cards`` are their numbers, and ``gpus`` is the total."""

    cards: tuple[int, ...]
    gpus: float


@dataclass
class Slots:
    """Counter of the running trials and of the free part of each card, as Ray counts them.

    Args:
        most: trials that may run at a time.
        cards: number of cards.
    """

    most: int
    cards: int
    taken: int = 0
    free: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.free = [1.0] * self.cards

    def take(self, gpus: float) -> Held | None:
        """Take a slot for a trial, and return what it holds; None if it has to wait.

        A share of a card comes from the fullest card that still holds it. Several GPUs are whole cards.
        """
        if self.taken >= self.most:
            return None
        part = min(gpus, 1.0)
        able = sorted((free, number) for number, free in enumerate(self.free) if free >= part - _ROUNDING)
        wanted = 0 if gpus == 0 else max(1, round(gpus))
        if len(able) < wanted:
            return None
        chosen = tuple(number for _, number in able[:wanted])
        for number in chosen:
            self.free[number] -= part
        self.taken += 1
        return Held(chosen, gpus)

    def give_back(self, held: Held) -> None:
        """Free what a trial held."""
        for number in held.cards:
            self.free[number] += min(held.gpus, 1.0)
        self.taken -= 1
