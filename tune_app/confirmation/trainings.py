"""Trainings of a confirmation: a study of their own beside the confirmed one, run on Ray as a search's trials are.

A trial of that study is a candidate with the seeds of one training. It is recorded before it is launched, and the next
run adopts it if a run was killed. Scores on the test part are trials of the study too, one for each scored model.
"""

import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from optuna.trial import FrozenTrial

from search_spaces.space import IntRange, Params, Space
from trainables.reports import CORRECTED_VALUE, RESAMPLED, VALUE_DEVIATION
from trainables.seeds import sub_seed, trial_seeds
from tune_app.config import RunConfig
from tune_app.confirmation.candidates import Candidate
from tune_app.confirmation.racing import Result
from tune_app.distributed.breaker import LoopEnd
from tune_app.distributed.study_run import StudyRun
from tune_app.distributed.trial import RunTrial
from tune_app.outcomes import RECOMMENDED_ATTRIBUTE, Outcome
from tune_app.progress.display import display_of
from tune_app.screening.screen import Screen
from tune_app.study.budget import SearchClock
from tune_app.study.checkpoints import BEST
from tune_app.study.named import NamedStudy
from tune_app.study.record import StudyRecord
from tune_app.study.remote import PermanentStorage
from tune_app.study.reporting import outcome_of, reason_of, was_launched
from tune_app.study.run_dir import CONFIRMATION_FOLDER
from tune_app.study.store import StudyStore
from tune_app.study.times import working_s
from tune_app.uris import below, is_store
from tune_app.voice import Voice

_SEED, _TESTED = "confirm_seed", "tested_trial"
_DRAWN = ("init", "order", "augment", "validation")
_HIGHEST_SEED = 2**31 - 1


def trainings_config(confirmed: NamedStudy, folds: int | None) -> RunConfig:
    """Return the configuration of the trainings: that of the search, each trained to its end on one split."""
    config = confirmed.config
    folder = (
        below(config.location, CONFIRMATION_FOLDER)
        if is_store(config.study.dir)
        else str(confirmed.run_dir / CONFIRMATION_FOLDER)
    )
    name = "confirm-seeds" if folds is None else f"confirm-{folds}-folds"
    return replace(
        config,
        study=replace(config.study, name=name, dir=folder, storage=None),
        data=replace(config.data, folds=None),
        scheduler=replace(config.scheduler, name="none", rung="epoch", warmup=None),
        # Every model may be scored on the test part in the end.
        checkpoint=replace(config.checkpoint, keep=sys.maxsize) if config.checkpoint.is_written else config.checkpoint,
        tracking=replace(config.tracking, enabled=False),
        search=replace(config.search, recommended=0, max_hours=None, stop="none"),
    )


def trainings_record(record: StudyRecord, folds: int | None) -> StudyRecord:
    """Return the record of the trainings' study: that of the search, whose space gains the seeds."""
    seeds = {f"seeds.{name}": IntRange(low=0, high=_HIGHEST_SEED) for name in _DRAWN}
    if folds is not None:
        seeds |= {"seeds.fold": IntRange(low=0, high=folds - 1), "seeds.folds": IntRange(low=folds, high=folds)}
    return replace(
        record,
        space=Space({**record.space.entries, **seeds}),
        fixed={**record.fixed, "data.folds": None},
        per_epoch=1,
    )


def seed_params(master: int, seed: int, folds: int | None) -> dict[str, int]:
    """Return the seeds of one training by dotted name; none of them is a seed of the search.

    Args:
        master: master seed of the search.
        seed: number of the training, from 1; equal for all candidates, which are thus paired.
        folds: number of folds, of which the training validates on the ``seed``-th; None draws a split of its own.
    """
    drawn = {f"seeds.{name}": _fresh(master, f"confirm:{seed}:{name}") for name in _DRAWN}
    if folds is None:
        return drawn
    return {**drawn, "seeds.validation": _fresh(master, "confirm:folds"), "seeds.fold": seed - 1, "seeds.folds": folds}


def _fresh(master: int, name: str) -> int:
    searched = trial_seeds(master)
    drawn = sub_seed(master, name)
    return drawn if drawn not in (searched.split, searched.init, searched.order) else _fresh(master, f"{name}+")


@dataclass(frozen=True)
class Tested:
    """Models scored on the test part, and when it was opened.

    Attributes:
        winner: configuration that had won by then, without its seeds.
        recommended: recommended configuration; None if there is none.
        models: numbers of the trainings whose models are scored.
        opened: time of the opening.
    """

    winner: Params
    recommended: Params | None
    models: list[int]
    opened: str


@dataclass(frozen=True)
class ModelScore:
    """Score of one model on the test part.

    Attributes:
        params: configuration without its seeds.
        metrics: everything measured there.
        resampled: values on resampled groups, the same groups for every model.
    """

    params: Params
    value: float
    metrics: Mapping[str, float]
    resampled: list[float]


class Trainings:
    """Study of a confirmation's trainings, open for one run.

    Args:
        config: configuration of the trainings, with the classes of the data.
        address: address of a Ray cluster to join; None starts Ray here, or joins the job's cluster.
        screen: screen that was built before Ray started; None builds it for the cluster.
    """

    def __init__(
        self,
        config: RunConfig,
        record: StudyRecord,
        store: StudyStore,
        permanent_storage: PermanentStorage,
        voice: Voice,
        address: str | None,
        screen: Screen | None,
        folds: int | None,
    ) -> None:
        self.store = store
        self._config = config
        self._record = record
        self._permanent_storage = permanent_storage
        self._voice = voice
        self._address = address
        self._screen = screen
        self._folds = folds

    def results(self, candidates: Sequence[Candidate]) -> dict[int, Result]:
        """Return the results of the candidates, by their places."""
        found: dict[int, list[FrozenTrial]] = {place: [] for place in range(len(candidates))}
        places = {self.key(candidate.params): place for place, candidate in enumerate(candidates)}
        for trial in self._trainings():
            place = places.get(self.key(trial.params))
            if place is not None:
                found[place].append(trial)
        return {place: _result(trials) for place, trials in found.items()}

    def corrected(self, candidate: Candidate) -> dict[int, float]:
        """Return a candidate's values on rows that did not choose their epochs, by seed; see ``CORRECTED_VALUE``."""
        return {
            trial.user_attrs[_SEED]: float(trial.user_attrs.get(CORRECTED_VALUE, trial.values[0]))
            for trial in self._complete(candidate)
        }

    def deviations(self, candidate: Candidate) -> list[float]:
        """Return the standard deviations of a candidate's values by their validation rows, where they are known."""
        found = (trial.user_attrs.get(VALUE_DEVIATION) for trial in self._complete(candidate))
        return [float(deviation) for deviation in found if deviation is not None]

    def train(self, wanted: Iterable[tuple[Candidate, int]], run_trial: RunTrial) -> LoopEnd:
        """Run trainings, each a candidate with the number of its seeds, and those that an earlier run left open.

        Raises:
            UserError: the cluster or the storage does not allow it.
        """
        is_open = {(self.key(trial.params), trial.user_attrs[_SEED]) for trial in self._trainings()}
        for candidate, seed in wanted:
            if (self.key(candidate.params), seed) in is_open:
                continue
            params = {**candidate.params, **seed_params(self._config.search.seed, seed, self._folds)}
            mark = {RECOMMENDED_ATTRIBUTE: True} if candidate.is_recommended else {}
            number = self.store.open_trial(params, {"suggested_at": time.time(), _SEED: seed, **mark})
            self._voice.say(f"trial {number:>4}  is {candidate} on {'seed' if self._folds is None else 'fold'} {seed}")
        return self._run(run_trial)

    @property
    def has_open_test(self) -> bool:
        """Whether the test part was opened, and a run was ended before all models were scored."""
        tested = self.tested
        return tested is not None and any(number not in self._scored() for number in tested.models)

    @property
    def tested(self) -> Tested | None:
        """Models scored on the test part; None while it is closed."""
        opened = self.store.opened_test
        return None if opened is None else Tested(**opened)

    @property
    def keeps_no_models(self) -> bool:
        return not self._config.checkpoint.is_written

    def open_test(self, winner: Candidate, recommended: Candidate | None) -> None:
        """Note which models are to be scored on the test part: those of the winner and of the recommended candidate."""
        keys = {self.key(candidate.params) for candidate in (winner, recommended) if candidate is not None}
        models = [trial.number for trial in self._trainings() if self.key(trial.params) in keys and _has_model(trial)]
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        self.store.open_test(
            {
                "winner": winner.params,
                "recommended": recommended and recommended.params,
                "models": models,
                "opened": now,
            }
        )

    def score(self, score_trial: RunTrial) -> LoopEnd:
        """Score the noted models on the test part, without those that were scored already."""
        tested = self.tested
        assert tested is not None, "the test part is opened first"
        begun = {trial.user_attrs[_TESTED] for trial in self._tests()}
        for number in tested.models:
            if number not in begun:
                training = self.store.trial(number)
                attributes = {"suggested_at": time.time(), _TESTED: number, BEST: training.user_attrs[BEST]}
                scored = self.store.open_trial(dict(training.params), attributes)
                self._voice.say(f"trial {scored:>4}  scores the model of trial {number} on the test part")
        return self._run(score_trial)

    def scores(self) -> list[ModelScore]:
        """Return the scores of the models on the test part."""
        return [
            ModelScore(
                self._without_seeds(trial.params),
                trial.values[0],
                dict(trial.user_attrs["metrics"]),
                [float(value) for value in str(trial.user_attrs[RESAMPLED]).split()],
            )
            for trial in self._tests()
            if outcome_of(trial) is Outcome.COMPLETE
        ]

    def problems_of_test(self) -> list[str]:
        """Return the reasons of the models that could not be scored."""
        ended = [trial for trial in self._tests() if trial.state.is_finished()]
        return [reason_of(trial) for trial in ended if outcome_of(trial) is not Outcome.COMPLETE]

    def seconds_of_a_training(self, candidates: Sequence[Candidate], confirmed: StudyStore) -> float | None:
        """Return the mean working time of the trainings so far, else of the candidates' trials; None without any."""
        complete = [trial for trial in self._trainings() if outcome_of(trial) is Outcome.COMPLETE]
        numbers = [candidate.number for candidate in candidates if candidate.number is not None]
        times = list(map(working_s, complete or [confirmed.trial(number) for number in numbers]))
        return statistics.fmean(times) if times else None

    def key(self, params: Params) -> str:
        """Return a text that two configurations share exactly when they are equal but for their seeds."""
        assert self._config.space is not None
        return self._config.space.key(params)

    def _run(self, run_trial: RunTrial) -> LoopEnd:
        # Ray takes seconds to import.
        from tune_app.distributed.run import run_trials

        self.store.set_target(sum(map(was_launched, self.store.trials())))
        with display_of(self._config, self.store, self._voice) as progress:
            run = StudyRun(
                self._config,
                self._record,
                self.store,
                self._permanent_storage,
                progress,
                self._voice,
                self._address,
                run_trial,
                SearchClock(self.store, time.monotonic()),
                # Only a limit on the hours of a search asks, and trainings have none.
                lambda packing: lambda params: None,
            )
            end, _ = run_trials(run, self._screen)
        return end

    def _trainings(self) -> list[FrozenTrial]:
        return [trial for trial in self.store.trials() if _TESTED not in trial.user_attrs]

    def _complete(self, candidate: Candidate) -> list[FrozenTrial]:
        key = self.key(candidate.params)
        return [
            trial
            for trial in self._trainings()
            if outcome_of(trial) is Outcome.COMPLETE and self.key(trial.params) == key
        ]

    def _tests(self) -> list[FrozenTrial]:
        return [trial for trial in self.store.trials() if _TESTED in trial.user_attrs]

    def _scored(self) -> set[int]:
        return {trial.user_attrs[_TESTED] for trial in self._tests() if trial.state.is_finished()}

    def _without_seeds(self, params: Mapping[str, Any]) -> Params:
        return {name: value for name, value in params.items() if not name.startswith("seeds.")}


def _result(trials: Sequence[FrozenTrial]) -> Result:
    complete = [trial for trial in trials if outcome_of(trial) is Outcome.COMPLETE]
    ended = [trial for trial in trials if trial.state.is_finished() and trial not in complete]
    return Result(
        {trial.user_attrs[_SEED]: trial.values[0] for trial in complete},
        {trial.user_attrs[_SEED]: f"{outcome_of(trial)}: {reason_of(trial)}" for trial in ended},
        _median(trial.user_attrs.get("seconds_per_sample") for trial in complete),
        _median(trial.user_attrs.get("peak_gib") for trial in complete),
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _has_model(trial: FrozenTrial) -> bool:
    return outcome_of(trial) is Outcome.COMPLETE and bool(trial.user_attrs.get(BEST))
