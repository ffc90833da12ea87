"""Timelines reduced to their peaks: they agree with a plain replay at every size."""

from hypothesis import given
from hypothesis import strategies as st

from trainables.planning.timeline import Peaks, SizeFactors, StorageSize, find_peaks

FACTORS = SizeFactors(micro_batch=1009, length=32 * 13, length_prime=13)

SIZES = st.builds(StorageSize, st.integers(1, 10_000), st.tuples(st.integers(0, 1), st.integers(0, 2)))


@st.composite
def timelines(draw: st.DrawFn) -> tuple[list[int], list[StorageSize], list[int]]:
    """Draw storages, their events in a possible order, and the numbers of the resident ones."""
    sizes = draw(st.lists(SIZES, min_size=1, max_size=12))
    resident = [number for number in range(len(sizes) - 1) if draw(st.booleans())]
    events: list[int] = []
    for number in range(len(sizes)):
        if number not in resident:
            events.append(number)
            if draw(st.booleans()):
                events.insert(draw(st.integers(events.index(number) + 1, len(events))), ~number)
    return events, sizes, resident


def replayed(events: list[int], sizes: list[StorageSize], resident: list[int], samples: int, length: int) -> int:
    held = [size.factor * samples ** size.exponents[0] * length ** size.exponents[1] for size in sizes]
    alive = peak = sum(held[number] for number in resident)
    for event in events:
        alive += held[event] if event >= 0 else -held[~event]
        peak = max(peak, alive)
    return peak


@given(timelines(), st.integers(1, 200), st.integers(1, 512))
def test_the_peak_is_that_of_a_plain_replay(
    timeline: tuple[list[int], list[StorageSize], list[int]], samples: int, length: int
) -> None:
    events, sizes, resident = timeline
    peaks = find_peaks(events, sizes, resident=resident)
    assert peaks.need_bytes(samples, length) == replayed(events, sizes, resident, samples, length)
    assert Peaks.from_json(peaks.to_json()).need_bytes(samples, length) == peaks.need_bytes(samples, length)


@given(st.integers(1, 100).filter(lambda factor: factor % 13), st.integers(0, 2), st.integers(0, 2))
def test_a_size_gives_its_powers_away(factor: int, samples: int, tokens: int) -> None:
    size = FACTORS.split(factor * 1009**samples * 416**tokens)
    assert size == StorageSize(factor, (samples, tokens))


def test_a_size_that_merely_holds_the_prime_is_a_constant() -> None:
    assert FACTORS.split(13 * 7) == StorageSize(91, (0, 0))


def test_the_allocator_rounds_what_does_not_depend_on_the_batch() -> None:
    sizes = [StorageSize(4, (0, 0)), StorageSize(4, (1, 0))]
    peaks = find_peaks([0, 1], sizes, rounded=lambda size: 512)
    assert peaks.need_bytes(10, 1) == 512 + 40


def test_without_primes_every_size_is_a_constant() -> None:
    assert SizeFactors(micro_batch=1, length=13).split(26) == StorageSize(26, (0, 0))
