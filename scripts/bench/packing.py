"""Makespan of a mixed queue whose trials get a share of a card by predicted need, against one trial per card.

    python scripts/bench/packing.py

Part 1, ``simulation``: no GPU was measured. Only the shares and passes are Headroom's own answers: ``Packing`` on the
CUDA predictions for a 24 GiB card in bf16. The configurations resemble the users' searches; the random sampler draws
them, and the default rules accept them. The clock is a model with only these assumptions:

- Alone on a card, a trial starts up for 30 to 60 s, drawn at random, in which the card idles (the users' figure). Then
  it trains. The card's work is proportional to parameters × tokens per step × steps: every trial processes the same
  rows at full length. Doubt: real tokens are fewer than full length, a scheduler stops trials early, and attention's
  work is not proportional to parameters.
- The host's work, in which the card idles too, is the same for every pass. It is set so that the queue, one trial per
  card, keeps a card busy for the given *utilisation* of its training time; so small passes leave a card idle more. A
  trial in a share takes more and smaller passes and pays for each. Users report 82 to 90 %. Doubt: that counts the time
  in which any kernel runs, not how much of the card it fills.
- Trials that train on one card together demand the sum of the shares of time for which each keeps it busy alone. If
  that exceeds the *gain* of sharing, all of them slow down alike: of n that never idle each gets gain / n. At 1.0
  sharing only fills the gaps, and fills all of them. Below, time slices cost, or gaps stay; above, kernels of several
  trials run side by side, which drivers do not do for separate processes without MPS. Doubt: nobody measured it.
- Start-up slows nobody and is slowed by nobody, and no host's work slows another's. Doubt: disks and cores are shared.

Trials wait and are placed as in Ray. The searcher suggests them in order, and at most ``search.max_concurrent`` are
open. While one of them waits for its share, the searcher suggests no further trial. Of the cards with room, the fullest
is taken. The bench also prints the effect of other policies. ``floor`` is the limit of any packing: the cards' work
divided by the gain, against one trial per card. ``slower`` is a trial's time from launch to end divided by its time
alone.

Part 2, ``ray``: the first trials of a similar queue on real Ray with two GPUs that are only claimed, through
``run_search`` with ``resources.gpu: auto`` and then ``1``. The predictions are for the CPU, in bf16, and a trial
sleeps. Trials do not slow each other, so this part checks only that shares reach Ray, and the cost of Ray's own work.
That work takes seconds a launch whatever a trial lasts, so a shorter sleep gives it more weight: a worker is reused
only for a trial of an equal share. A short queue ends in a tail of empty cards, so this one is as long as a simulated
one and takes 17 minutes. The CPU's needs are larger than CUDA's, so the card is larger than in part 1; otherwise the
shares would be larger.
"""

import argparse
import itertools
import logging
import math
import os
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common import print_json, print_ratio, print_table, versions, versions_line

from search_spaces.conditions import ActiveSpace
from search_spaces.rules import Sample, violations
from search_spaces.space import Params
from trainables.devices.facts import TrialDevice
from trainables.machine import MachineFiles
from trainables.reports import Report, TrialReport
from trainables.settings import TrialSettings
from tune_app.config import RunConfig, parse_config
from tune_app.sampling.proposers import Proposer
from tune_app.screening.filtering import build_rules
from tune_app.screening.packing import SHARES, Packing

MAKESPAN_TARGET, SLOWER_TARGET = 0.65, 1.3
PACKAGES = ("ray", "torch", "transformers")
CARD = TrialDevice("cuda", 24.0, bf16=True, name="24 GiB")

PARAMETERS = {
    "distilbert-base-uncased": 66e6,
    "google/electra-base-discriminator": 109e6,
    "bert-base-uncased": 110e6,
    "roberta-base": 125e6,
    "microsoft/deberta-v3-base": 184e6,
    "bert-large-uncased": 335e6,
    "roberta-large": 355e6,
}
SPACE: dict[str, Any] = {
    "model.name": {"choices": list(PARAMETERS)},
    "tok.max_length": {"choices": list(range(128, 513, 32))},
    "train.batch_size": {"choices": [8, 12, 16, 24, 32, 48, 64]},
}

START_UP_S = (30.0, 60.0)
MINUTES = (2.0, 10.0, 60.0)
# No gap at all, the middle of the users' figures, and a lower value in case their figures are too high.
UTILISATIONS = (1.0, 0.86, 0.6)
GAINS = (0.9, 1.0, 1.2, 1.5)
CARDS = (1, 2)
# Trials open per card. Packing needs at least two, and the smallest share allows eight.
OPEN_PER_CARD = (2, 4, 8)
RAY_CARDS, RAY_OPEN, RAY_MINUTES = 2, 8, 10.0


@dataclass(frozen=True)
class Assumption:
    """Unknown figures: mean minutes of training alone, the card's utilisation in them, and the gain of sharing."""

    minutes: float
    utilisation: float
    gain: float

    def __str__(self) -> str:
        return f"{self.minutes:g} min, utilisation {self.utilisation:.2f}, gain {self.gain:.1f}"


# Chosen before any result was seen: the middle of the users' utilisation, and no gain from sharing itself.
REFERENCE, REFERENCE_OPEN = Assumption(10.0, 0.86, 1.0), 4


def main() -> None:
    arguments = _parser().parse_args()
    print(versions_line(*PACKAGES))
    found: dict[str, Any] = {"bench": "packing", "versions": versions(*PACKAGES)}
    if arguments.part in ("simulation", "all"):
        found["simulation"] = simulate_all(arguments.trials, arguments.queues, arguments.quick)
    if arguments.part in ("ray", "all"):
        found["ray"] = compare_on_ray(arguments.ray_trials, arguments.ray_minute_s, arguments.ray_card_gib)
    print_json(found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["simulation", "ray", "all"], default="all")
    parser.add_argument("--trials", type=int, default=60, help="of a simulated queue")
    parser.add_argument("--queues", type=int, default=5, help="simulated, each of another seed")
    parser.add_argument("--ray-trials", type=int, default=60, help="of the queue on real Ray")
    parser.add_argument("--ray-card-gib", type=float, default=32.0, help="of a card on real Ray")
    parser.add_argument("--ray-minute-s", type=float, default=2.0, help="that a minute takes on real Ray")
    parser.add_argument(
        "--quick", action="store_true", help="one queue, the smallest models, the reference assumption alone"
    )
    return parser


@dataclass(frozen=True)
class Queued:
    """Configuration to launch, its share, and the passes of its step in that share and on a whole card."""

    params: Params
    share: float
    passes_in_share: int
    passes_alone: int

    @property
    def work(self) -> float:
        """Return the card's work without a unit: parameters × tokens, as every trial has the same rows."""
        return training_work(str(self.params["model.name"]), int(self.params["tok.max_length"]))

    def passes_per_row(self, passes: int) -> float:
        return passes / int(self.params["train.batch_size"])


def training_work(model: str, length: int) -> float:
    return PARAMETERS[model] * length


def queue_config(folder: str, *changes: str) -> RunConfig:
    raw = {
        "study": {"name": "queue", "dir": folder},
        "data": {"path": "demo"},
        "train": {"epochs": 1, "precision": "bf16"},
        "search": {"sampler": "random"},
        "scheduler": {"name": "none"},
        "tracking": {"enabled": False},
        "space": SPACE,
    }
    return parse_config(raw, changes)


class Predictions:
    """``Packing`` on a card, with a separate folder that ignores this machine's measurements."""

    def __init__(self, folder: str, config: RunConfig) -> None:
        self._config = config
        self._files = MachineFiles(Path(folder))
        self._by_share = {share: self._packing(share) for share in SHARES}
        self._auto = self._packing("auto")
        self.rules = build_rules(config.limits, config.memory.max_accumulation, self._auto)

    def queued(self, params: Params) -> Queued:
        """Return a configuration that the rules accept as a queued trial."""
        whole = {**self._config.fixed_params(), **params}
        share = self._auto.gpus(whole)
        return Queued(params, share, self._passes(whole, share), self._passes(whole, 1.0))

    def _passes(self, whole: Params, share: float) -> int:
        fit = self._by_share[share].predict_fit(Sample.of(whole))
        assert fit is not None, "every model of the space can be predicted"
        assert fit.passes is not None, "it fits into its share"
        return fit.passes

    def _packing(self, gpus: Any) -> Packing:
        settings, passes = self._config.trial_settings(), self._config.resources.passes
        return Packing(settings, CARD, gpus=gpus, passes=passes, files=self._files, say=lambda text: None)


def draw_queue(config: RunConfig, predictions: Predictions, seed: int, size: int) -> tuple[list[Queued], int]:
    """Return the random sampler's first configurations that the rules accept, and the number of rejected ones."""
    assert config.space is not None
    space, rng = config.space, random.Random(seed)
    proposer = Proposer(ActiveSpace(space), lambda: [space.sample(rng)], seed)
    queue: list[Queued] = []
    rejected = 0
    while len(queue) < size:
        params = proposer.propose()
        assert params is not None, "the space holds more than a queue"
        proposer.mark_seen(params)
        if violations(predictions.rules, Sample.of({**config.fixed_params(), **params})):
            rejected += 1
        else:
            queue.append(predictions.queued(params))
    return queue, rejected


@dataclass(frozen=True)
class Job:
    """Trial as the clock sees it.

    Attributes:
        share: share of a card.
        start_up_s: seconds of start-up.
        card_s: seconds of the card's work alone.
        host_s: seconds of the host's work alone.
    """

    share: float
    start_up_s: float
    card_s: float
    host_s: float

    @property
    def training_s(self) -> float:
        return self.card_s + self.host_s

    @property
    def alone_s(self) -> float:
        return self.start_up_s + self.training_s

    @property
    def busy(self) -> float:
        """Return the part of its training in which the trial keeps a card of its own busy."""
        return self.card_s / self.training_s


def make_jobs(queue: Sequence[Queued], assumed: Assumption, seed: int) -> tuple[list[Job], list[Job]]:
    """Return the queue with one trial per card, and the same queue in shares."""
    rng = random.Random(f"start-up:{seed}")
    training_s = 60 * assumed.minutes * len(queue)
    card_s = assumed.utilisation * training_s / sum(trial.work for trial in queue)
    passes = sum(trial.passes_per_row(trial.passes_alone) for trial in queue)
    host_s = (1 - assumed.utilisation) * training_s / passes
    alone = [
        Job(1.0, rng.uniform(*START_UP_S), card_s * trial.work, host_s * trial.passes_per_row(trial.passes_alone))
        for trial in queue
    ]
    packed = [
        replace(job, share=trial.share, host_s=host_s * trial.passes_per_row(trial.passes_in_share))
        for job, trial in zip(alone, queue, strict=True)
    ]
    return alone, packed


@dataclass(frozen=True)
class Policy:
    """Policy of waiting and placing.

    Attributes:
        pass_waiting: trials are suggested and placed past those that wait for their share.
        emptiest_card: of the cards with room, the one with the most is taken, not the one with the least.
    """

    pass_waiting: bool = False
    emptiest_card: bool = False


RAYS_OWN = Policy()
POLICIES = {
    "as Ray does": RAYS_OWN,
    "past those that wait": Policy(pass_waiting=True),
    "emptiest card": Policy(emptiest_card=True),
    "both": Policy(pass_waiting=True, emptiest_card=True),
}
NOBODY_SLOWED = "nobody slowed"


@dataclass
class _Open:
    number: int
    job: Job
    start_up_s: float
    training_s: float
    card: int | None = None

    @property
    def trains(self) -> bool:
        return self.start_up_s == 0


@dataclass(frozen=True)
class Run:
    """Time of each trial's launch and end, by its position in the queue."""

    launched: Mapping[int, float]
    ended: Mapping[int, float]

    @property
    def makespan_s(self) -> float:
        return max(self.ended.values())

    def lasted_s(self, number: int) -> float:
        return self.ended[number] - self.launched[number]


def simulate(jobs: Sequence[Job], *, cards: int, max_open: int, gain: float, policy: Policy = RAYS_OWN) -> Run:
    """Run the jobs in order on so many cards.

    Args:
        max_open: trials that run or wait for their share.
        gain: demand on a card that its trials may have together without slowing down.
        policy: of waiting and placing.
    """
    queue = iter(enumerate(jobs))
    running: list[_Open] = []
    waiting: list[_Open] = []
    launched: dict[int, float] = {}
    ended: dict[int, float] = {}
    now = 0.0
    while True:
        while (not waiting or policy.pass_waiting) and len(waiting) + len(running) < max_open:
            asked = next(queue, None)
            if asked is None:
                break
            number, job = asked
            waiting.append(_Open(number, job, job.start_up_s, job.training_s))
            _place(waiting, running, cards, policy, launched, now)
        if not running:
            return Run(launched, ended)
        rates = _rates(running, gain)
        left = [
            trial.training_s / rate if trial.trains else trial.start_up_s
            for trial, rate in zip(running, rates, strict=True)
        ]
        step = min(left)
        now += step
        for trial, rate, seconds in zip(list(running), rates, left, strict=True):
            # Set the end exactly, because a subtraction would leave a rounding error.
            is_over = seconds == step
            if not trial.trains:
                trial.start_up_s = 0.0 if is_over else trial.start_up_s - step
            elif is_over:
                ended[trial.number] = now
                running.remove(trial)
            else:
                trial.training_s -= step * rate
        _place(waiting, running, cards, policy, launched, now)


def _place(
    waiting: list[_Open], running: list[_Open], cards: int, policy: Policy, launched: dict[int, float], now: float
) -> None:
    for trial in list(waiting):
        free = [1.0 - sum(other.job.share for other in running if other.card == card) for card in range(cards)]
        with_room = [card for card in range(cards) if free[card] >= trial.job.share]
        if with_room:
            # Take the first of equal cards, as Ray does.
            trial.card = min(with_room, key=lambda card: -free[card] if policy.emptiest_card else free[card])
            launched[trial.number] = now
            waiting.remove(trial)
            running.append(trial)


def _rates(running: Sequence[_Open], gain: float) -> list[float]:
    """Return the speed of each trial, as a share of its speed alone."""
    training = [trial for trial in running if trial.trains]
    rates = []
    for trial in running:
        on_card = [other.job.busy for other in training if other.card == trial.card]
        shared_well = len(on_card) < 2 or sum(on_card) <= gain
        rates.append(1.0 if shared_well else gain / sum(on_card))
    return rates


@dataclass(frozen=True)
class Comparison:
    """Packed trials against one trial per card.

    Attributes:
        ratio: ratio of the makespans.
        floor: least possible ratio.
        slower: mean ratio of a trial's time to its time alone.
        slowest: the worst such ratio.
    """

    ratio: float
    floor: float
    slower: float
    slowest: float

    @property
    def meets(self) -> bool:
        return self.ratio <= MAKESPAN_TARGET and self.slower <= SLOWER_TARGET

    @property
    def mark(self) -> str:
        return "**" if self.meets else "*" if self.ratio <= MAKESPAN_TARGET else ""


def compare(
    queue: Sequence[Queued], assumed: Assumption, seed: int, *, cards: int, per_card: int, policy: Policy = RAYS_OWN
) -> Comparison:
    alone, packed = make_jobs(queue, assumed, seed)
    before = simulate(alone, cards=cards, max_open=cards, gain=1.0)
    after = simulate(packed, cards=cards, max_open=cards * per_card, gain=assumed.gain, policy=policy)
    slower = [after.lasted_s(number) / job.alone_s for number, job in enumerate(alone)]
    # A card with a single trial does one card's work, whatever the gain of sharing.
    least_s = sum(job.card_s for job in alone) / (cards * max(1.0, assumed.gain))
    return Comparison(
        after.makespan_s / before.makespan_s, least_s / before.makespan_s, statistics.mean(slower), max(slower)
    )


def mean_comparison(
    queues: Sequence[Sequence[Queued]], assumed: Assumption, *, cards: int, per_card: int, policy: Policy = RAYS_OWN
) -> Comparison:
    """Return the mean over queues of all figures but the slowest trial, which is the slowest of all queues."""
    found = [
        compare(queue, assumed, seed, cards=cards, per_card=per_card, policy=policy)
        for seed, queue in enumerate(queues)
    ]
    return Comparison(
        statistics.mean(one.ratio for one in found),
        statistics.mean(one.floor for one in found),
        statistics.mean(one.slower for one in found),
        max(one.slowest for one in found),
    )


def simulate_all(trials: int, queues: int, quick: bool) -> dict[str, Any]:
    if quick:
        trials, queues = 20, 1
    drawn = []
    with tempfile.TemporaryDirectory() as folder:
        smallest = sorted(PARAMETERS, key=PARAMETERS.__getitem__)[:2]
        config = queue_config(folder, *[f"space.model.name.choices={smallest}"] * quick)
        predictions = Predictions(folder, config)
        for seed in range(queues):
            queue, rejected = draw_queue(config, predictions, seed, trials)
            drawn.append(queue)
            _print_queue(queue, rejected, seed)
    grid = [REFERENCE] if quick else [Assumption(*values) for values in itertools.product(MINUTES, UTILISATIONS, GAINS)]
    cells = {
        (assumed, cards, per_card): mean_comparison(drawn, assumed, cards=cards, per_card=per_card)
        for assumed in grid
        for cards in CARDS
        for per_card in OPEN_PER_CARD
    }
    for cards in CARDS:
        _print_grid(grid, cards, cells, queues)
    found = _print_summary(cells)
    found["otherwise"] = _print_otherwise(drawn)
    return {**found, "trials": trials, "queues": queues}


def _print_queue(queue: Sequence[Queued], rejected: int, seed: int) -> None:
    shares = Counter(trial.share for trial in queue)
    more = statistics.mean(trial.passes_in_share for trial in queue) / statistics.mean(t.passes_alone for t in queue)
    print(
        f"queue {seed}: {len(queue)} trials, {rejected} rejected; "
        + ", ".join(f"{shares[share]} of {share:g}" for share in SHARES)
        + f"; mean share {statistics.mean(trial.share for trial in queue):.2f}; {more:.1f} × the passes"
    )


Cells = Mapping[tuple[Assumption, int, int], Comparison]


def _print_grid(grid: Sequence[Assumption], cards: int, cells: Cells, queues: int) -> None:
    print(
        f"\n{cards} card(s), by trials open per card: makespan over one per card, and how much slower a trial is"
        f" (mean of {queues} queues)"
    )
    header = ["minutes", "utilisation", "gain", "floor"]
    for per_card in OPEN_PER_CARD:
        header += [f"{per_card} open  ", "slower"]
    rows = []
    for assumed in grid:
        shown = [cells[assumed, cards, per_card] for per_card in OPEN_PER_CARD]
        row = [f"{assumed.minutes:g}", f"{assumed.utilisation:.2f}", f"{assumed.gain:.1f}", f"{shown[0].floor:.2f}"]
        for one in shown:
            row += [f"{one.ratio:.2f}{one.mark:2}", f"{one.slower:.2f}"]
        rows.append(row)
    print_table(header, rows)


def _print_summary(cells: Cells) -> dict[str, Any]:
    met = [key for key, one in cells.items() if one.meets]
    fast = [key for key, one in cells.items() if one.ratio <= MAKESPAN_TARGET]
    strict = [key for key in met if cells[key].slowest <= SLOWER_TARGET]
    print(
        f"\n*  makespan at most {MAKESPAN_TARGET} ×: {len(fast)} of {len(cells)}\n"
        f"** and a trial at most {SLOWER_TARGET} × slower on the mean: {len(met)}; every single trial: {len(strict)}"
    )
    for assumed, cards, per_card in met:
        one = cells[assumed, cards, per_card]
        print(
            f"   {assumed}, {cards} × {per_card} open: {one.ratio:.2f} ×,"
            f" {one.slower:.2f} × slower, at worst {one.slowest:.2f} ×"
        )
    print(f"\nchosen before any result: {REFERENCE}, {REFERENCE_OPEN} open per card")
    reference = {cards: cells[REFERENCE, cards, REFERENCE_OPEN] for cards in CARDS}
    for cards, one in reference.items():
        print_ratio(f"packed / one per card, makespan, {cards} card(s)", one.ratio, MAKESPAN_TARGET)
        print_ratio(f"a trial's time, mean, {cards} card(s)", one.slower, SLOWER_TARGET)
    return {
        "cases": len(cells),
        "makespan_met": len(fast),
        "both_met": len(met),
        "reference": {str(cards): vars(one) for cards, one in reference.items()},
    }


def _print_otherwise(queues: Sequence[Sequence[Queued]]) -> dict[str, dict[str, float]]:
    """Print the effect of other policies of waiting and placing than Ray's.

    The last column is the least makespan that shares of memory allow, on cards so fast that neighbours do not matter.
    """
    found: dict[str, dict[str, float]] = {}
    for cards in CARDS:
        for per_card in OPEN_PER_CARD:
            ratios = {
                name: mean_comparison(queues, REFERENCE, cards=cards, per_card=per_card, policy=policy).ratio
                for name, policy in POLICIES.items()
            }
            nobody_slowed = replace(REFERENCE, gain=math.inf)
            ratios[NOBODY_SLOWED] = mean_comparison(queues, nobody_slowed, cards=cards, per_card=per_card).ratio
            found[f"{cards} × {per_card} open"] = ratios
    print(f"\nmakespan over one per card, were trials placed otherwise: {REFERENCE}")
    print_table(
        ["", *POLICIES, NOBODY_SLOWED],
        [[name, *(f"{ratio:.2f}" for ratio in ratios.values())] for name, ratios in found.items()],
    )
    return found


def compare_on_ray(trials: int, minute_s: float, card_gib: float) -> dict[str, Any]:
    """Run the same queue on real Ray, in shares and with one trial per claimed GPU."""
    sides = {"auto": RAY_OPEN, "1": RAY_CARDS}
    with tempfile.TemporaryDirectory() as folder:
        # Memory measured on this machine would change the shares.
        os.environ["XDG_CACHE_HOME"] = folder
        with _claimed_cards():
            done = {
                gpu: _run_on_ray(f"{folder}/{gpu}", gpu, open_, trials, minute_s, card_gib)
                for gpu, open_ in sides.items()
            }
    one_per_card = done["1"]
    if [trial.params for trial in done["auto"].trials] != [trial.params for trial in one_per_card.trials]:
        raise RuntimeError("the two sides were asked for different trials")
    print(
        f"\nreal Ray, {RAY_CARDS} claimed GPUs of {card_gib:g} GiB, {trials} trials that sleep"
        f" {one_per_card.slept_s / trials:.1f} s on the mean ({RAY_MINUTES:g} min of training at"
        f" {minute_s:g} s a minute), {os.cpu_count()} cores"
    )
    ideal = {gpu: side.ideal_s(sides[gpu]) for gpu, side in done.items()}
    print_table(
        ["resources.gpu", "open", "makespan s", "sleep alone s", "mean share", "workers", "s to a fresh one", "reused"],
        [
            [
                gpu,
                sides[gpu],
                f"{side.makespan_s:.1f}",
                f"{ideal[gpu]:.1f}",
                f"{statistics.mean(trial.share for trial in side.trials):.2f}",
                side.workers,
                *(_seconds(side.launches_s(reused=reused)) for reused in (False, True)),
            ]
            for gpu, side in done.items()
        ],
    )
    ratio = done["auto"].makespan_s / one_per_card.makespan_s
    ideal_ratio = ideal["auto"] / ideal["1"]
    print_ratio("auto / 1, makespan on real Ray, nobody slowed by a neighbour", ratio, MAKESPAN_TARGET)
    print(
        f"  simulated, were there sleep alone: {ideal_ratio:.2f} ×\n"
        "  s to a worker: median from asked for to begun, the wait for a share included"
    )
    return {
        "ratio": ratio,
        "simulated_ratio": ideal_ratio,
        "makespan_s": {gpu: side.makespan_s for gpu, side in done.items()},
        "workers": {gpu: side.workers for gpu, side in done.items()},
        "shares": {gpu: [trial.share for trial in side.trials] for gpu, side in done.items()},
        "trials": trials,
    }


@contextmanager
def _claimed_cards() -> Iterator[None]:
    """Start Ray as a search does, but with GPUs that may be absent and without the dashboard."""
    import ray

    from tune_app.distributed.environment import set_for_ray

    logging.getLogger("ray").setLevel(logging.CRITICAL)
    with set_for_ray():
        ray.init(
            address="local",
            num_cpus=RAY_OPEN,
            num_gpus=RAY_CARDS,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            configure_logging=False,
        )
        try:
            yield
        finally:
            ray.shutdown()


@dataclass(frozen=True)
class Slept:
    """Trial on real Ray, as its study records it."""

    params: Params
    share: float
    slept_s: float
    worker: str
    launch_s: float


@dataclass(frozen=True)
class RaySide:
    trials: list[Slept]
    makespan_s: float

    @property
    def slept_s(self) -> float:
        return sum(trial.slept_s for trial in self.trials)

    @property
    def workers(self) -> int:
        return len({trial.worker for trial in self.trials})

    def launches_s(self, *, reused: bool) -> list[float]:
        """Return the seconds from suggestion to start, of trials whose worker was reused or of the others."""
        known: set[str] = set()
        found = []
        for trial in self.trials:
            if (trial.worker in known) is reused:
                found.append(trial.launch_s)
            known.add(trial.worker)
        return found

    def ideal_s(self, max_open: int) -> float:
        """Return the makespan of the simulation when only the sleep takes time."""
        jobs = [Job(trial.share, 0.0, 0.0, trial.slept_s) for trial in self.trials]
        return simulate(jobs, cards=RAY_CARDS, max_open=max_open, gain=1.0).makespan_s


def _run_on_ray(folder: str, gpu: str, max_open: int, trials: int, minute_s: float, card_gib: float) -> RaySide:
    from tune_app.console import Console
    from tune_app.experiment import run_search
    from tune_app.study.store import load_study

    config = queue_config(
        folder,
        f"resources.gpu={gpu}",
        f"memory.device_gib={card_gib}",
        f"search.max_concurrent={max_open}",
        f"search.trials={trials}",
    )
    end = run_search(config, console=Console(), quiet=True, run_trial=sleeping_trial(minute_s), checks=())
    if end.status.trials["complete"] != trials:
        raise RuntimeError(f"resources.gpu={gpu}: {end.status.trials} instead of {trials} complete trials")
    launched = [trial for trial in load_study(Path(config.run_dir), "queue", None).trials() if trial.value is not None]
    asked = [trial.datetime_start.timestamp() for trial in launched if trial.datetime_start]
    ended = [trial.datetime_complete.timestamp() for trial in launched if trial.datetime_complete]
    slept = [
        Slept(
            trial.params,
            share=trial.user_attrs["gpu_fraction"],
            slept_s=trial.user_attrs["slept_s"],
            worker=trial.user_attrs["worker"],
            launch_s=trial.user_attrs["began_at"] - asked_at,
        )
        for trial, asked_at in zip(launched, asked, strict=True)
    ]
    return RaySide(slept, max(ended) - min(asked))


def _seconds(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f}" if values else "-"


def sleeping_trial(minute_s: float) -> Any:
    """Return a trial that sleeps as long as the simulation lets one of its size run alone.

    One minute of the simulation takes ``minute_s`` seconds.
    """
    mean_work = statistics.mean(
        training_work(model, length)
        for model in SPACE["model.name"]["choices"]
        for length in SPACE["tok.max_length"]["choices"]
    )
    start_up_minutes = statistics.mean(START_UP_S) / 60

    def run_trial(settings: TrialSettings, report: Report, workspace: object) -> None:
        work = training_work(settings.model.name, settings.tok.max_length)
        seconds = minute_s * (start_up_minutes + RAY_MINUTES * work / mean_work)
        facts: dict[str, Any] = {"began_at": time.time(), "slept_s": seconds, "worker": str(os.getpid())}
        time.sleep(seconds)
        report(TrialReport(step=1, value=0.5, facts=facts, ended="complete"))

    return run_trial


if __name__ == "__main__":
    main()
