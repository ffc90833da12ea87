"""The study: where every trial is recorded, and from which alone everything is reported, exported and resumed.

Only the process that runs the search writes to it, so numbers and records can be counted on. Trials are created with
all that is known of them in one record.
"""

import fcntl
import json
import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Self

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from search_spaces.rules import Violation
from search_spaces.space import Choices, Entry, IntRange, Params, Space, parse_space
from tune_app.errors import UserError, without_password
from tune_app.journal import JournalFile
from tune_app.objectives import Mode, Objective
from tune_app.outcomes import OUTCOME_ATTRIBUTE, REASON_ATTRIBUTE, Outcome
from tune_app.unit import UnitName

JOURNAL_FILE = "study.journal"
LOCK_FILE = "search.lock"
_RECORD_KEY = "headroom"
_TARGET_KEY = "target"

_ADDED_LATER: Mapping[str, Any] = {"data.folds": None}
"""What holds of studies that were begun before there was such a setting."""

_DIRECTIONS = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}

optuna.logging.set_verbosity(optuna.logging.WARNING)

# Proposals are the sampler module's business; a study that is handed one would sample on every access to a trial.
_NO_SAMPLER = optuna.samplers.RandomSampler()


@dataclass(frozen=True)
class StudyRecord:
    """What a study is about. Two records that differ are two different studies.

    Attributes:
        fixed: settings outside the space that a trial's value depends on, by dotted name. Trials that were trained with
            others cannot be compared, and ``best.yaml`` would not be what was trained.
        further: objectives beside the first, which is ``metric`` and ``mode``.
    """

    space: Space
    task: str
    metric: str
    mode: Mode
    data_fingerprint: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    further: tuple[Objective, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {
            "space": self.space.as_dict(),
            "task": self.task,
            "metric": self.metric,
            "mode": self.mode,
            "data_fingerprint": self.data_fingerprint,
            "fixed": dict(self.fixed),
            "further": [asdict(objective) for objective in self.further],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        # Studies that were begun before there could be several have none.
        further = tuple(Objective(**objective) for objective in values.get("further", ()))
        return cls(**{**values, "space": parse_space(values["space"]), "further": further})

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """All that the study improves, the one first by which the epochs of a trial are compared."""
        return (Objective(self.metric, self.mode), *self.further)

    @property
    def unit(self) -> UnitName:
        """What trials report: epochs, or folds."""
        return "fold" if self.fixed.get("data.folds") else "epoch"

    def differences(self, other: "StudyRecord") -> list[str]:
        """One line per difference: what, here, there."""
        found = []
        for name in {**self.space.entries, **other.space.entries}:
            mine, others = self.space.entries.get(name), other.space.entries.get(name)
            if mine != others:
                found.append(f"space.{name}: {_shown(mine)} there, {_shown(others)} here")
        for name in ("task", "metric", "mode"):
            mine_text, others_text = getattr(self, name), getattr(other, name)
            if mine_text != others_text:
                found.append(f"{name}: {mine_text} there, {others_text} here")
        if self.further != other.further:
            found.append(f"search.metric: {_named(self.objectives)} there, {_named(other.objectives)} here")
        mine_fixed, others_fixed = ({**_ADDED_LATER, **record.fixed} for record in (self, other))
        for name in {**mine_fixed, **others_fixed}:
            # A name that one side lacks is in its space, which was compared above.
            if name in mine_fixed and name in others_fixed and mine_fixed[name] != others_fixed[name]:
                found.append(f"{name}: {mine_fixed[name]} there, {others_fixed[name]} here")
        if self.data_fingerprint != other.data_fingerprint:
            found.append(f"data: fingerprint {self.data_fingerprint[:12]} there, {other.data_fingerprint[:12]} here")
        return found


def _named(objectives: Sequence[Objective]) -> str:
    return ", ".join(objective.name for objective in objectives)


def _shown(entry: Entry | None) -> str:
    if entry is None:
        return "absent"
    values = entry.model_dump(mode="json", exclude={"type"})
    return json.dumps(values["choices"] if isinstance(entry, Choices) else values)


class StudyStore:
    """An Optuna study and its storage: reading for everyone, writing for the search that holds the lock."""

    def __init__(self, study: optuna.Study, storage: BaseStorage, journal: JournalFile | None) -> None:
        self.study = study
        self.storage = storage
        self._journal = journal
        self._study_id = storage.get_study_id_from_name(study.study_name)

    @property
    def name(self) -> str:
        return self.study.study_name

    @cached_property
    def record(self) -> StudyRecord:
        return StudyRecord.from_dict(self.study.user_attrs[_RECORD_KEY])

    @cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        return {name: _distribution(entry) for name, entry in self.record.space.entries.items()}

    @property
    def target(self) -> int:
        """Launched trials that the study is to hold in the end."""
        return int(self.study.user_attrs.get(_TARGET_KEY, 0))

    def set_target(self, trials: int) -> None:
        if self.target != trials:
            self.study.set_user_attr(_TARGET_KEY, trials)

    def trials(self) -> list[FrozenTrial]:
        """All trials in the order of their numbers; not copies, so leave them as they are."""
        return self.study.get_trials(deepcopy=False)

    def trial(self, number: int) -> FrozenTrial:
        return self.storage.get_trial(self._trial_id(number))

    def open_trial(self, params: Params, attributes: Mapping[str, Any]) -> int:
        """Record a trial about to be launched; returns its number."""
        return self._create(TrialState.RUNNING, params, attributes)

    def record_infeasible(self, params: Params, violations: Sequence[Violation]) -> int:
        """Record a sample that rules turned away; returns its number."""
        attributes = {
            OUTCOME_ATTRIBUTE: Outcome.INFEASIBLE.value,
            REASON_ATTRIBUTE: "; ".join(violation.reason for violation in violations),
        }
        # Two sets of limits may speak under one name: the larger excess stands.
        by_excess = sorted(violations, key=lambda violation: violation.excess)
        constraints = {violation.rule: violation.excess for violation in by_excess}
        return self._create(Outcome.INFEASIBLE.state, params, attributes, constraints)

    def report(self, number: int, step: int, value: float) -> None:
        """Keep the first objective of one step."""
        # Not through the trial, which refuses it where there are several objectives.
        self.storage.set_trial_intermediate_value(self._trial_id(number), step, value)

    def set_attributes(self, number: int, attributes: Mapping[str, Any]) -> None:
        trial = self._live(number)
        with self._one_write():
            for name, value in attributes.items():
                trial.set_user_attr(name, value)

    def close_trial(
        self,
        number: int,
        outcome: Outcome,
        *,
        value: float | Sequence[float] | None = None,
        reason: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        constraints: Mapping[str, float] | None = None,
    ) -> None:
        """Tell what became of a trial, once. ``value`` goes with ``complete`` alone: one number per objective.

        Raises:
            ValueError: ``complete`` without finite values of all objectives, or a value with anything else.
        """
        values = () if value is None else tuple(value) if isinstance(value, Sequence) else (value,)
        wanted = len(self.study.directions) if outcome is Outcome.COMPLETE else 0
        if len(values) != wanted or not all(map(math.isfinite, values)):
            raise ValueError(f"trial {number}: outcome {outcome} with value {value}")
        trial = self._live(number)
        told = {**(attributes or {}), OUTCOME_ATTRIBUTE: outcome.value, REASON_ATTRIBUTE: reason}
        with self._one_write():
            # Attributes and constraints first: Optuna refuses them on a trial that was told.
            for name, attribute in told.items():
                trial.set_user_attr(name, attribute)
            for name, excess in (constraints or {}).items():
                trial.set_constraint(name, excess)
            self.study.tell(trial, values or None, state=outcome.state)

    def _create(
        self,
        state: TrialState,
        params: Params,
        attributes: Mapping[str, Any],
        constraints: dict[str, float] | None = None,
    ) -> int:
        template = create_trial(
            state=state,
            params=dict(params),
            distributions=self.distributions,
            user_attrs=dict(attributes),
            constraints=constraints,
        )
        trial_id = self.storage.create_new_trial(self._study_id, template_trial=template)
        return self.storage.get_trial_number_from_id(trial_id)

    def _live(self, number: int) -> optuna.Trial:
        return optuna.Trial(self.study, self._trial_id(number))

    def _trial_id(self, number: int) -> int:
        return self.storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def _one_write(self) -> AbstractContextManager[None]:
        return nullcontext() if self._journal is None else self._journal.one_write()


def open_study(run_dir: Path, name: str, url: str | None, record: StudyRecord) -> StudyStore:
    """The study of a search, created if there is none; call with the search lock held.

    Raises:
        UserError: the storage cannot be opened, or the study there is about something else; the message lists what
            differs.
    """
    storage, journal = _open_storage(run_dir, url)
    study = optuna.create_study(
        study_name=name,
        storage=storage,
        sampler=_NO_SAMPLER,
        directions=[_DIRECTIONS[objective.mode] for objective in record.objectives],
        load_if_exists=True,
    )
    if _RECORD_KEY not in study.user_attrs:
        if study.get_trials(deepcopy=False):
            raise UserError(f"study.name: {name} is there already and no study of headroom's; set another study.name")
        study.set_user_attr(_RECORD_KEY, record.as_dict())
        _name_objectives(study, record.objectives)
    store = StudyStore(study, storage, journal)
    differences = store.record.differences(record)
    if differences:
        raise UserError(
            f"study.name: study {name} is about something else ({'; '.join(differences)}); set another study.name, or"
            " run with --fresh to begin a new version beside it"
        )
    return store


def _name_objectives(study: optuna.Study, objectives: Sequence[Objective]) -> None:
    """Have Optuna's own tools call the values by their names."""
    with warnings.catch_warnings():
        # The method is marked as experimental; without it the values have numbers for names.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([objective.name for objective in objectives])


def load_study(run_dir: Path, name: str, url: str | None) -> StudyStore:
    """An existing study, for reading.

    Raises:
        UserError: there is none.
    """
    if url is None and not (run_dir / JOURNAL_FILE).exists():
        raise UserError(f"{name}: no study in {run_dir} (it has no {JOURNAL_FILE}); run headroom search first")
    storage, journal = _open_storage(run_dir, url)
    try:
        study = optuna.load_study(study_name=name, storage=storage, sampler=_NO_SAMPLER)
    except KeyError:
        study = None
    if study is None or _RECORD_KEY not in study.user_attrs:
        where = run_dir / JOURNAL_FILE if url is None else without_password(url)
        raise UserError(f"{name}: no study of that name in {where}; run headroom search first")
    return StudyStore(study, storage, journal)


def _open_storage(run_dir: Path, url: str | None) -> tuple[BaseStorage, JournalFile | None]:
    if url is None:
        file = run_dir / JOURNAL_FILE
        try:
            journal = JournalFile(file)
            return JournalStorage(journal), journal
        except Exception as error:
            # A file that is something else can break Optuna's reading of it anywhere.
            raise UserError(
                f"{file}: cannot be read as a study's journal ({error}); restore it from a copy, or move it away to"
                " begin anew"
            ) from None
    try:
        return RDBStorage(url), None
    except Exception as error:
        # SQLAlchemy's many errors, driver errors and missing drivers all mean the same here, and all may quote the URL.
        problem = str(error).splitlines()[0].replace(url, without_password(url))
        raise UserError(
            f"study.storage: {without_password(url)} cannot be opened ({type(error).__name__}: {problem}); check the"
            " address and that its driver is installed, or set null for a journal file"
        ) from None


@contextmanager
def search_lock(run_dir: Path) -> Iterator[None]:
    """Hold the run directory for one search. The kernel lets go of it however this process ends.

    Raises:
        UserError: another search holds it.
    """
    with (run_dir / LOCK_FILE).open("a") as file:
        try:
            _lock_soon(file)
        except BlockingIOError:
            raise UserError(
                f"study.name: a search is running on {run_dir.name} already; wait for it, end it, or set another"
                " study.name"
            ) from None
        yield


def _lock_soon(file: IO[str]) -> None:
    # Whoever asks whether a search is running holds the lock for an instant.
    for _ in range(20):
        with suppress(BlockingIOError):
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(0.02)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def search_is_running(run_dir: Path) -> bool:
    """Whether some process holds the run directory's search lock."""
    try:
        file = (run_dir / LOCK_FILE).open("r")
    except FileNotFoundError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _distribution(entry: Entry) -> BaseDistribution:
    if isinstance(entry, Choices):
        return CategoricalDistribution(entry.choices)
    if isinstance(entry, IntRange):
        return IntDistribution(entry.low, entry.high, step=entry.step)
    return FloatDistribution(entry.low, entry.high, log=entry.log)
