"""Timelines of storages, reduced to the moments that decide their peak at any micro-batch and length.

Every storage has c · B^i · L^j bytes (B samples, L tokens). The live bytes at one moment are therefore a polynomial in
B and L with non-negative coefficients. The peak is the largest of these polynomials over all moments. Most moments are
dominated by another one, coefficient by coefficient. Only the few others are kept, so that a replay is exact and takes
microseconds.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Exponents = tuple[int, int]


@dataclass(frozen=True)
class StorageSize:
    """``factor · B^exponents[0] · L^exponents[1]`` bytes."""

    factor: int
    exponents: Exponents


@dataclass(frozen=True)
class SizeFactors:
    """The micro-batch and the length of a trace, and the primes that reveal the powers in its sizes.

    Either ``micro_batch`` is prime and ``length`` a multiple of ``length_prime``, and neither prime divides any other
    dimension of the model. Or ``length_prime`` is None, and every size counts as a constant.
    """

    micro_batch: int
    length: int
    length_prime: int | None = None

    def split(self, size_bytes: int) -> StorageSize:
        """Return the factor and the powers in a size; a size that holds a prime by chance counts as a constant."""
        if self.length_prime is None or size_bytes == 0:
            return StorageSize(size_bytes, (0, 0))
        samples = _multiplicity(size_bytes, self.micro_batch)
        tokens = _multiplicity(size_bytes, self.length_prime)
        factor, rest = divmod(size_bytes, self.micro_batch**samples * self.length**tokens)
        return StorageSize(size_bytes, (0, 0)) if rest else StorageSize(factor, (samples, tokens))


def _multiplicity(number: int, prime: int) -> int:
    count = 0
    while number % prime == 0:
        number //= prime
        count += 1
    return count


@dataclass(frozen=True)
class Peaks:
    """The moments of a timeline at which the peak can lie.

    Attributes:
        exponents: exponents of B and L per column, (columns, 2).
        coefficients: bytes per moment and column, (moments, columns).
    """

    exponents: np.ndarray
    coefficients: np.ndarray

    def need_bytes(self, micro_batch: int, length: int) -> int:
        columns = [micro_batch**i * length**j for i, j in self.exponents.tolist()]
        return int((self.coefficients @ np.array(columns, dtype=np.int64)).max())

    def most_samples(self, budget_bytes: float, lengths: np.ndarray, most: int) -> np.ndarray:
        """Return for every length the most samples, up to ``most``, whose need is within the budget; 0 if none fits.

        Args:
            lengths: numbers of tokens, (n,).
        """
        lengths = np.asarray(lengths, dtype=np.int64)
        fits = np.zeros(len(lengths), dtype=np.int64)
        fails = np.full(len(lengths), most + 1, dtype=np.int64)
        # No coefficient is negative, so more samples never need less. Bisect all lengths at once.
        while (fails - fits > 1).any():
            samples = (fits + fails) // 2
            powers = [samples**i * lengths**j for i, j in self.exponents.tolist()]
            fit = (self.coefficients @ np.stack(powers)).max(axis=0) <= budget_bytes
            fits, fails = np.where(fit, samples, fits), np.where(fit, fails, samples)
        return fits

    def to_json(self) -> dict[str, Any]:
        return {"exponents": self.exponents.tolist(), "coefficients": self.coefficients.tolist()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Peaks":
        exponents, coefficients = (np.array(value[name], dtype=np.int64) for name in ("exponents", "coefficients"))
        return cls(exponents, coefficients)


def find_peaks(
    events: Sequence[int],
    sizes: Sequence[StorageSize],
    *,
    resident: Iterable[int] = (),
    rounded: Callable[[int], int] = int,
) -> Peaks:
    """Reduce a timeline to its peaks.

    Args:
        events: storage numbers in order: n is born, ``~n`` dies.
        sizes: size of each storage, indexed by its number.
        resident: numbers of the storages that are alive from the start; no event names them.
        rounded: maps a storage's bytes to what the allocator takes. It applies to storages that depend on neither B nor
            L, because the others are always large.
    """
    exponents = sorted({size.exponents for size in sizes} | {(0, 0)})
    column_of = {value: column for column, value in enumerate(exponents)}
    columns = np.array([column_of[size.exponents] for size in sizes])
    factors = np.array([rounded(size.factor) if size.exponents == (0, 0) else size.factor for size in sizes])

    start = np.zeros(len(exponents), dtype=np.int64)
    for number in resident:
        start[columns[number]] += factors[number]
    named = np.array(events, dtype=np.int64)
    births = named >= 0
    numbers = np.where(births, named, ~named)
    changes = np.zeros((len(named), len(exponents)), dtype=np.int64)
    changes[np.arange(len(named)), columns[numbers]] = np.where(births, factors[numbers], -factors[numbers])
    alive = start + np.cumsum(changes, axis=0)
    # The sum is highest just before a death, or at the end.
    crests = births & ~np.append(births[1:], False)
    return Peaks(np.array(exponents, dtype=np.int64), _undominated(alive[crests]))


def _undominated(moments: np.ndarray) -> np.ndarray:
    """Return the rows that no other row equals or exceeds in every column."""
    moments = np.unique(moments, axis=0)
    # Only a row with a larger sum can dominate a row, and it comes first.
    front = np.empty((0, moments.shape[1]), dtype=moments.dtype)
    for row in moments[np.argsort(-moments.sum(axis=1), kind="stable")]:
        if not (front >= row).all(axis=1).any():
            front = np.vstack([front, row])
    return front
