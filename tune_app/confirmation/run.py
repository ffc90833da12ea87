"""A confirmation in order: candidates → trainings on fresh seeds, seed by seed → winner → test part → record."""

import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tune_app.config import RunConfig
from tune_app.confirmation import racing
from tune_app.confirmation.candidates import Candidate, candidates_of
from tune_app.confirmation.expectation import Parts
from tune_app.confirmation.racing import Verdict
from tune_app.confirmation.summary import summarised
from tune_app.confirmation.trainings import Trainings, trainings_config, trainings_record
from tune_app.console import Console
from tune_app.distributed.breaker import Breakage, LoopEnd
from tune_app.distributed.questions import ray_starts_here
from tune_app.distributed.trial import RunTrial, score_encoder, train_encoder
from tune_app.durations import duration_text
from tune_app.errors import UserError
from tune_app.experiment import check_machine, check_storage
from tune_app.folders import check_own_folders, made_folder
from tune_app.screening.preconditions import development_of, with_classes_of_data
from tune_app.screening.screen import Screen, screen_here
from tune_app.study.confirmation import Confirmation
from tune_app.study.named import NamedStudy
from tune_app.study.remote import LOCAL_FILES, StoredStudies, open_permanent_storage
from tune_app.study.run_dir import check_unlinked, keep_config, study_checkpoints
from tune_app.study.store import LOCK_FILE, open_study, quiet_optuna, search_lock
from tune_app.study.versions import check_idle
from tune_app.uris import is_store
from tune_app.voice import Voice

if TYPE_CHECKING:
    from trainables.data.split import Development

_FEW_GROUPS = 10
"""Groups of the test part below which a bootstrap over them says little."""


@dataclass(frozen=True)
class Request:
    """What to confirm.

    Attributes:
        top: number of leaders.
        seeds: trainings of each candidate.
        folds: number of folds to train on instead of seeds; None draws a split for every seed.
        max_hours: hours after which no round begins, and until which seeds are added while the winner is not clear;
            None adds none.
    """

    top: int = 5
    seeds: int = 5
    folds: int | None = None
    max_hours: float | None = None

    def check(self) -> None:
        """Refuse impossible numbers.

        Raises:
            UserError: a number is out of its range.
        """
        if self.top < 1:
            raise UserError(f"--top: {self.top}: give the number of leaders to confirm, at least 1")
        if not 1 <= self.seeds <= racing.MOST:
            raise UserError(f"--seeds: {self.seeds}: give the trainings of each candidate, 1 to {racing.MOST}")
        if self.folds is not None and not 2 <= self.folds <= racing.MOST:
            raise UserError(f"--folds: {self.folds}: give the number of folds, 2 to {racing.MOST}")
        if self.max_hours is not None and not 0 < self.max_hours < math.inf:
            raise UserError(f"--max-hours: {self.max_hours}: give hours above 0")

    @property
    def trainings(self) -> int:
        """Trainings of a candidate that stays in the race."""
        return self.seeds if self.folds is None else self.folds


@dataclass(frozen=True)
class ConfirmationEnd:
    """End of a confirmation.

    Attributes:
        confirmation: result; None if it was cut off, or no candidate has a value.
        file: path of ``confirm.json``; None if nothing was written.
        why: reason for an end without a result; None otherwise.
        interrupted: whether a signal ended it.
    """

    confirmation: Confirmation | None
    file: Path | None = None
    why: str | None = None
    interrupted: bool = False
    breakage: Breakage | None = None

    @property
    def winner(self) -> int | None:
        """Trial number of the winner; None without one, or if it is a configuration that the search never completed."""
        return None if self.confirmation is None else self.confirmation.winner


def run_confirmation(
    confirmed: NamedStudy,
    request: Request,
    *,
    console: Console,
    quiet: bool = False,
    address: str | None = None,
    run_trial: RunTrial = train_encoder,
    score_trial: RunTrial = score_encoder,
) -> ConfirmationEnd:
    """Retrain a study's leaders and the recommended configuration on fresh seeds, and open the test part once.

    The same call resumes an interrupted confirmation.

    Args:
        address: address of a Ray cluster to join; None starts Ray on this machine, or joins the job's cluster.
        run_trial: function that runs a training.
        score_trial: function that scores a model on the test part.

    Raises:
        UserError: the study has nothing to confirm, its data changed, or the machine or storage does not allow it.
    """
    request.check()
    check_own_folders()
    check_idle(confirmed.run_dir)
    with Voice(console, quiet=quiet) as voice, quiet_optuna():
        return _run(confirmed, request, voice, address, run_trial, score_trial)


def _run(
    confirmed: NamedStudy,
    request: Request,
    voice: Voice,
    address: str | None,
    run_trial: RunTrial,
    score_trial: RunTrial,
) -> ConfirmationEnd:
    began = time.monotonic()
    voice.doing("reading the data")
    config = with_classes_of_data(trainings_config(confirmed, request.folds))
    development = _unchanged_data(confirmed, config)
    check_machine(config, address)
    check_unlinked(config)
    screen = _screen(config, voice, address)
    candidates = candidates_of(confirmed.store, config, request.top, screen.rules if screen else ())
    record, run_dir = trainings_record(confirmed.store.record, request.folds), Path(config.run_dir)
    with made_folder(run_dir, "study.dir", traces=[LOCK_FILE, *LOCAL_FILES]), ExitStack() as stack:
        voice.doing("opening the storage of the trainings")
        check_storage(config, address)
        stack.enter_context(search_lock(run_dir))
        permanent_storage = stack.enter_context(open_permanent_storage(config, voice.say))
        store = open_study(run_dir, config.study.name, None, record)
        keep_config(store, config, run_dir)
        trainings = Trainings(config, record, store, permanent_storage, voice, address, screen, request.folds)
        voice.say(_opening_line(confirmed.store.name, candidates, request))
        stack.enter_context(_one_ray(config, address))
        end = _run_all(trainings, candidates, confirmed, request, began, voice, run_trial, score_trial)
        if end.interrupted or end.breakage:
            # Part of the trainings names no winner: the others may change it.
            return ConfirmationEnd(None, None, end.why, end.interrupted, end.breakage)
        verdict = _verdict(trainings, candidates)
        if verdict is None:
            return ConfirmationEnd(None, None, "no candidate was trained without a failure")
        confirmation = summarised(
            confirmed.store,
            trainings,
            candidates,
            verdict,
            folds=request.folds,
            parts=_parts(config, request.folds, development),
            remarks=[*end.remarks, *trainings.problems_of_test(), *few_groups(development)],
        )
        file = confirmation.write(confirmed.run_dir)
        _send(confirmed, file)
        if confirmation.test is not None:
            study_checkpoints(config, store.id, voice.say).delete_all()
    return ConfirmationEnd(confirmation, file)


@dataclass(frozen=True)
class _End:
    """End of the trainings and of the scores; ``why`` is set if they were cut off."""

    why: str | None = None
    interrupted: bool = False
    breakage: Breakage | None = None
    remarks: tuple[str, ...] = ()


def _run_all(
    trainings: Trainings,
    candidates: Sequence[Candidate],
    confirmed: NamedStudy,
    request: Request,
    began: float,
    voice: Voice,
    run_trial: RunTrial,
    score_trial: RunTrial,
) -> _End:
    """Run the trainings, round by round, and then score the winner's and the recommended models on the test part."""
    if trainings.has_open_test and (end := _cut_off(trainings.score(score_trial))):
        return end
    remarks: list[str] = []
    while wanted := racing.next_trainings(
        range(len(candidates)),
        trainings.results(candidates),
        seeds=request.trainings,
        may_prolong=request.max_hours is not None and request.folds is None,
    ):
        if remark := _out_of_time(trainings, candidates, confirmed, request, began, len(wanted)):
            remarks.append(remark)
            break
        if end := _cut_off(trainings.train([(candidates[place], seed) for place, seed in wanted], run_trial)):
            return end
    verdict = _verdict(trainings, candidates)
    if verdict is None:
        return _End(remarks=tuple(remarks))
    winner = candidates[verdict.winner]
    if (tested := trainings.tested) is not None:
        what = "of this winner" if trainings.key(tested.winner) == trainings.key(winner.params) else "of another winner"
        remarks.append(f"the test part was opened on {tested.opened}, for models {what}; the first figure stays")
        return _End(remarks=tuple(remarks))
    if trainings.keeps_no_models:
        return _End(remarks=(*remarks, "checkpoint.keep=none keeps no models to score on the test part"))
    trainings.open_test(winner, next((who for who in candidates if who.is_recommended), None))
    voice.say(f"opening the test part for {winner}")
    return _cut_off(trainings.score(score_trial)) or _End(remarks=tuple(remarks))


def _cut_off(end: LoopEnd) -> _End | None:
    if end.interrupted:
        return _End("not finished, so no winner is named; the same command resumes the confirmation", interrupted=True)
    return _End(end.why, breakage=end.breakage) if end.breakage else None


def _verdict(trainings: Trainings, candidates: Sequence[Candidate]) -> Verdict | None:
    recommended = [place for place, candidate in enumerate(candidates) if candidate.is_recommended]
    return racing.decide(trainings.results(candidates), recommended)


def _out_of_time(
    trainings: Trainings,
    candidates: Sequence[Candidate],
    confirmed: NamedStudy,
    request: Request,
    began: float,
    round_size: int,
) -> str | None:
    """Return a remark if the next round would, by the trainings' own times, end after the hours; None otherwise.

    Raises:
        UserError: not even the first round fits into the hours.
    """
    if request.max_hours is None:
        return None
    each_s = trainings.seconds_of_a_training(candidates, confirmed.store) or 0.0
    takes_s = math.ceil(round_size / confirmed.config.search.max_concurrent) * each_s
    left_s = request.max_hours * 3600 - (time.monotonic() - began)
    if takes_s <= left_s:
        return None
    if _verdict(trainings, candidates) is None:
        raise UserError(
            f"--max-hours: {request.max_hours:g} is less than the first {round_size} trainings are expected to take"
            f" ({duration_text(takes_s)}); give more, or fewer candidates with --top"
        )
    return f"--max-hours {request.max_hours:g} ended the race: the next round would take {duration_text(takes_s)}"


def _unchanged_data(confirmed: NamedStudy, config: RunConfig) -> "Development":
    """Read the data, and refuse to confirm on other data than the search's.

    Raises:
        UserError: the data cannot be used, or is not the search's.
    """
    development = development_of(config)
    there, here = confirmed.store.record.data_fingerprint, development.fingerprint
    if there != here:
        raise UserError(
            f"data.path: {config.data.path} has changed since the search of {confirmed.store.name} (fingerprint"
            f" {there[:12]} then, {here[:12]} now); restore that file, or search the new one"
        )
    return development


def _screen(config: RunConfig, voice: Voice, address: str | None) -> Screen | None:
    if not ray_starts_here(address):
        return None
    voice.doing("predicting the memory of the candidates")
    return screen_here(config, lambda text: None)


def _one_ray(config: RunConfig, address: str | None) -> AbstractContextManager[object]:
    """Keep a Ray that is started here over all rounds; a cluster is joined anew by each."""
    if not ray_starts_here(address):
        return nullcontext()
    # Ray takes seconds to import.
    from tune_app.distributed.cluster import joined
    from tune_app.distributed.run import offered

    return joined(address, offered(config))


def _parts(config: RunConfig, folds: int | None, development: "Development") -> Parts:
    rows, test = len(development.rows), len(development.test_labels)
    share = config.data.validation_share / (1 - config.data.test_share) if folds is None else 1 / folds
    validation = max(1, round(share * rows))
    return Parts(max(1, rows - validation), validation, test)


def few_groups(development: "Development") -> list[str]:
    """Return a remark if the test part holds few groups."""
    groups = development.test_groups
    if groups >= _FEW_GROUPS:
        return []
    what = "1 group" if groups == 1 else f"{groups} groups"
    return [f"the test part holds {what}: intervals over so few groups are too narrow"]


def _opening_line(study: str, candidates: Sequence[Candidate], request: Request) -> str:
    numbers = ", ".join(map(str, candidates))
    on = f"{request.seeds} fresh seeds" if request.folds is None else f"{request.folds} folds"
    return f"confirming {study}: {numbers}; each on {on}, unless it is beaten after {racing.FEWEST}"


def _send(confirmed: NamedStudy, file: Path) -> None:
    """Copy the record to the store that holds the study, if one does.

    Raises:
        UserError: the store does not accept it.
    """
    location = confirmed.config.study.dir
    if not is_store(location):
        return
    studies = StoredStudies(location)
    try:
        studies.write(f"{confirmed.config.study.name}/{file.name}", file.read_bytes())
    except OSError as error:
        raise UserError(
            f"study.dir: {studies.shown(confirmed.config.study.name)} cannot be written ({studies.why(error)}); the"
            f" record is {file}"
        ) from None
