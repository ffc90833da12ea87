"""The study, which records every trial and is the only source of reports, exports and resumed searches.

Only the process that runs the search writes to the study, so numbers and records are reliable. A trial is created in
one record with everything known about it.
"""

import copy
import fcntl
import math
import os
import re
import time
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from search_spaces.rules import Violation
from search_spaces.space import Choices, Entry, IntRange, Params
from trainables.given import require_file
from trainables.private import open_unlinked
from tune_app import databases
from tune_app.errors import UserError, first_line, foreign_refused, without_password_of
from tune_app.objectives import Objective
from tune_app.outcomes import OUTCOME_ATTRIBUTE, REASON_ATTRIBUTE, Outcome
from tune_app.study.journal import JournalFile
from tune_app.study.record import Difference, StudyRecord, what_changed

JOURNAL_FILE = "study.journal"
LOCK_FILE = "search.lock"
_RECORD_KEY = "headroom"
_TARGET_KEY = "target"
_CONFIG_KEY = "config"
_ID_KEY = "id"
_PARENT_KEY = "parent"
_VERSION_KEY = "version_of"
_BASELINES_KEY = "baselines"
_STANDARD_ERROR_KEY = "standard_error"
_TIME_KEY = "time"
_TEST_KEY = "test"

_DIRECTIONS = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}

# The sampling module makes the proposals. A study with another sampler would sample on every access to a trial.
_NO_SAMPLER = optuna.samplers.RandomSampler()


@dataclass(frozen=True)
class Parent:
    """Study that another one is a changed version of.

    Attributes:
        run_dir: run directory at the time of the change.
        id: id that distinguishes the study from a later one of the same name. Studies begun before ids existed have
            None.
        is_carried_over: whether its trials have been carried over.
    """

    name: str
    run_dir: str
    id: str | None
    is_carried_over: bool = False


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Keep Optuna from logging anything but errors in the block."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


@dataclass(frozen=True)
class StudyTime:
    """Planned and taken time of a study.

    Attributes:
        planned: the plan's ``low``, ``expected`` and ``high`` hours, its ``basis``, and the ``trials`` that it is for;
            None if nothing was known when the study began.
        taken_s: seconds that its searches took, up to the last recorded end of a trial.
    """

    planned: dict[str, Any] | None = None
    taken_s: float = 0.0


class StudyStore:
    """Optuna study with its storage. Anyone may read it; only the search that holds the lock may write."""

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
        """Number of launched trials that the study shall hold in the end."""
        return int(self.study.user_attrs.get(_TARGET_KEY, 0))

    @property
    def id(self) -> str | None:
        """Id that distinguishes the study from an earlier one of the same name; None if it was begun without one.

        Raises:
            UserError: the id is malformed, so the study was edited. Folder names contain the id, so it must not lead
                elsewhere.
        """
        stored: str | None = self.study.user_attrs.get(_ID_KEY)
        if stored is not None and not re.fullmatch(r"[0-9a-f]{32}", str(stored)):
            raise UserError(f"study {self.name}: its id {stored!r} is not one of headroom's; restore it from a copy")
        return stored

    @property
    def parent(self) -> Parent | None:
        """The study that this one is a changed version of; None if it started anew."""
        stored = self.study.user_attrs.get(_PARENT_KEY)
        return Parent(**stored) if stored else None

    @property
    def version_of(self) -> str:
        """Name of the study that this one is a later version of; the study's own name if it is the first."""
        return str(self.study.user_attrs.get(_VERSION_KEY, self.name))

    @property
    def baselines(self) -> dict[str, float]:
        """Scores of answers that need no model in the first objective, by answer; empty if never computed."""
        return dict(self.study.user_attrs.get(_BASELINES_KEY, {}))

    def set_baselines(self, scores: Mapping[str, float]) -> None:
        if self.baselines != scores:
            self.study.set_user_attr(_BASELINES_KEY, dict(scores))

    @property
    def standard_error(self) -> float | None:
        """Least standard error of the first objective on the validation part; None if never computed."""
        stored = self.study.user_attrs.get(_STANDARD_ERROR_KEY)
        return None if stored is None else float(stored)

    def set_standard_error(self, error: float) -> None:
        if self.standard_error != error:
            self.study.set_user_attr(_STANDARD_ERROR_KEY, error)

    @property
    def time(self) -> StudyTime:
        """Planned and taken time of the study."""
        return StudyTime(**self.study.user_attrs.get(_TIME_KEY, {}))

    def set_time(self, time: StudyTime) -> None:
        if self.time != time:
            self.study.set_user_attr(_TIME_KEY, asdict(time))

    @property
    def opened_test(self) -> dict[str, Any] | None:
        """What was scored when a confirmation opened the test part, as it noted before; None while it is closed."""
        stored: dict[str, Any] | None = self.study.user_attrs.get(_TEST_KEY)
        return stored

    def open_test(self, scored: Mapping[str, Any]) -> None:
        """Note that the test part is about to be opened, once, and what is scored on it.

        Raises:
            ValueError: it was opened before.
        """
        if self.opened_test is not None:
            raise ValueError(f"{self.name}: the test part was opened before")
        self.study.set_user_attr(_TEST_KEY, dict(scored))

    def set_target(self, trials: int) -> None:
        if self.target != trials:
            self.study.set_user_attr(_TARGET_KEY, trials)

    @property
    def config(self) -> dict[str, Any] | None:
        """Settings of the latest search, as ``run_dir.keep_config`` saves them; None if none were saved."""
        stored: dict[str, Any] | None = self.study.user_attrs.get(_CONFIG_KEY)
        return stored

    def set_config(self, settings: dict[str, Any]) -> None:
        if self.config != settings:
            self.study.set_user_attr(_CONFIG_KEY, settings)

    def trials(self) -> list[FrozenTrial]:
        """Return all trials in the order of their numbers. They are not copies: do not modify them."""
        return self.study.get_trials(deepcopy=False)

    def trial(self, number: int) -> FrozenTrial:
        return self.storage.get_trial(self._trial_id(number))

    def open_trial(self, params: Params, attributes: Mapping[str, Any]) -> int:
        """Record a trial that is about to be launched, and return its number."""
        return self._create(TrialState.RUNNING, params, attributes)

    def record_infeasible(self, params: Params, violations: Sequence[Violation]) -> int:
        """Record a sample that rules rejected, and return its number."""
        attributes = {
            OUTCOME_ATTRIBUTE: Outcome.INFEASIBLE.value,
            REASON_ATTRIBUTE: "; ".join(violation.reason for violation in violations),
        }
        # Two sets of limits may share one rule name: the larger excess counts.
        by_excess = sorted(violations, key=lambda violation: violation.excess)
        constraints = {violation.rule: violation.excess for violation in by_excess}
        return self._create(Outcome.INFEASIBLE.state, params, attributes, constraints)

    def carry_over(self, trials: Iterable[FrozenTrial]) -> None:
        """Add the parent's trials as converted for this study, and record that this was done."""
        assert self.parent is not None
        with self._one_write():
            for trial in trials:
                self.storage.create_new_trial(self._study_id, template_trial=trial)
            self.study.set_user_attr(_PARENT_KEY, asdict(replace(self.parent, is_carried_over=True)))

    def copy_as(self, name: str, moved: tuple[str, str]) -> None:
        """Copy the study to another name in the same storage.

        Args:
            moved: old and new folder of the study's files. Attributes that hold a path below the old one are updated.
        """
        with quiet_optuna(), self._one_write():
            study_id = self.storage.create_new_study(self.study.directions, name)
            for key, value in self.storage.get_study_system_attrs(self._study_id).items():
                self.storage.set_study_system_attr(study_id, key, value)
            for trial in self.trials():
                shown = copy.copy(trial)
                shown.user_attrs = {name: _moved(value, *moved) for name, value in trial.user_attrs.items()}
                self.storage.create_new_trial(study_id, template_trial=shown)
            # Write the record last: a study without one does not count as a study yet.
            attributes = self.study.user_attrs
            for key in sorted(attributes, key=lambda key: key == _RECORD_KEY):
                self.storage.set_study_user_attr(study_id, key, attributes[key])

    def delete(self) -> None:
        """Delete the study from its storage; the caller holds the search lock."""
        self.storage.delete_study(self._study_id)

    def report(self, number: int, step: int, value: float) -> None:
        """Record the first objective of one step."""
        # Bypass Optuna's trial, which refuses reports in studies with several objectives.
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
        """Record a trial's outcome, once. Only ``complete`` takes a ``value``: one number per objective.

        Raises:
            ValueError: the outcome is ``complete`` without finite values of all objectives, or another one with a
                value.
        """
        values = () if value is None else tuple(value) if isinstance(value, Sequence) else (value,)
        wanted = len(self.study.directions) if outcome is Outcome.COMPLETE else 0
        if len(values) != wanted or not all(map(math.isfinite, values)):
            raise ValueError(f"trial {number}: outcome {outcome} with value {value}")
        trial = self._live(number)
        stored = {**(attributes or {}), OUTCOME_ATTRIBUTE: outcome.value, REASON_ATTRIBUTE: reason}
        with self._one_write():
            # Set attributes and constraints first: Optuna refuses them on a trial that has ended.
            for name, attribute in stored.items():
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


def _moved(value: Any, there: str, here: str) -> Any:
    is_inside = isinstance(value, str) and value.startswith(f"{there}/")
    return f"{here}{value.removeprefix(there)}" if is_inside else value


def open_study(
    run_dir: Path,
    name: str,
    url: str | None,
    record: StudyRecord,
    *,
    parent: Parent | None = None,
    version_of: str | None = None,
) -> StudyStore:
    """Open the study of a search, or create it; the caller holds the search lock.

    Args:
        parent: parent of a study that is created.
        version_of: name of the first version of a study that is created; None makes it the first.

    Raises:
        UserError: the storage cannot be opened, or the study there has another record; the message lists the
            differences.
    """
    storage, journal = _open_storage(run_dir, url)
    study = _created(name, storage, record)
    _check_made_by_us(study, record)
    if _RECORD_KEY not in study.user_attrs:
        with nullcontext() if journal is None else journal.one_write():
            study.set_user_attr(_ID_KEY, uuid.uuid4().hex)
            if parent is not None:
                study.set_user_attr(_PARENT_KEY, asdict(parent))
            if version_of is not None:
                study.set_user_attr(_VERSION_KEY, version_of)
            _name_objectives(study, record.objectives)
            # Write the record last: a study without one does not count as a study yet.
            study.set_user_attr(_RECORD_KEY, record.as_dict())
    store = StudyStore(study, storage, journal)
    differences = store.record.differences(record)
    if differences:
        raise differs(name, differences)
    return store


def _created(name: str, storage: BaseStorage, record: StudyRecord) -> optuna.Study:
    """Create a study in a storage, or load the one of that name."""
    directions = [_DIRECTIONS[objective.mode] for objective in record.objectives]
    with quiet_optuna():
        return optuna.create_study(
            study_name=name, storage=storage, sampler=_NO_SAMPLER, directions=directions, load_if_exists=True
        )


def check_name(run_dir: Path, name: str, url: str | None, record: StudyRecord) -> None:
    """Refuse a name under which the storage holds a study that headroom cannot use. Write nothing.

    Raises:
        UserError: there is such a study (the message names the difference), or the storage cannot be opened.
    """
    existing = _existing(run_dir, name, url)
    if existing is not None:
        _check_made_by_us(existing[0], record)


def _check_made_by_us(study: optuna.Study, record: StudyRecord) -> None:
    """Refuse a study with other directions than its objectives', or with content that headroom did not write.

    Args:
        record: record to assume for a study without one, whose creation may have been interrupted.

    Raises:
        UserError: the study is refused; the message names the content.
    """
    stored = study.user_attrs.get(_RECORD_KEY)
    objectives = (StudyRecord.from_dict(stored) if stored else record).objectives
    wanted = [_DIRECTIONS[objective.mode] for objective in objectives]
    what = None
    if study.directions != wanted:
        there, here = (", ".join(one.name.lower() for one in many) for many in (study.directions, wanted))
        what = f"its direction is {there}, and {' and '.join(map(str, objectives))} asks for {here}"
    elif not stored:
        foreign = study.user_attrs.keys() - {_ID_KEY, _PARENT_KEY, _VERSION_KEY}
        names = study.metric_names
        if study.get_trials(deepcopy=False):
            what = "it holds trials, but no study of headroom"
        elif foreign:
            what = f"it holds attributes of another program ({', '.join(sorted(foreign))})"
        elif names is not None and names != [objective.name for objective in objectives]:
            what = f"its values are named {', '.join(names)}"
    if what is not None:
        raise UserError(
            f"study.name: {study.study_name} is in the storage already: {what}; set another study.name, or delete it"
            " there with optuna delete-study"
        )


def study_in_memory(record: StudyRecord) -> StudyStore:
    """Return an empty study in memory, for replayed searches."""
    storage = optuna.storages.InMemoryStorage()
    study = _created("in-memory", storage, record)
    study.set_user_attr(_RECORD_KEY, record.as_dict())
    return StudyStore(study, storage, None)


def differs(name: str, differences: Sequence[Difference]) -> UserError:
    """Return the error for a study whose record differs from the configuration's."""
    what = "; ".join(map(str, differences))
    return UserError(
        f"study.name: {what_changed(differences)} since study {name} was started ({what}); set another study.name, set"
        " study.on_change=fork to carry over the trials that fit, or run with --fresh to start a new version beside it"
    )


def _name_objectives(study: optuna.Study, objectives: Sequence[Objective]) -> None:
    """Set the objectives' names, so that Optuna's own tools show them."""
    with warnings.catch_warnings():
        # The method is marked as experimental; without it the tools number the values.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([objective.name for objective in objectives])


def load_study(run_dir: Path, name: str, url: str | None) -> StudyStore:
    """Load an existing study for reading.

    Raises:
        UserError: there is no such study, or the storage cannot be opened.
    """
    if url is None and not (run_dir / JOURNAL_FILE).exists():
        raise UserError(f"{name}: no study in {run_dir} (it has no {JOURNAL_FILE}); run headroom search first")
    store = find_study(run_dir, name, url)
    if store is None:
        where = run_dir / JOURNAL_FILE if url is None else url
        raise UserError(f"{name}: no study of that name in {where}; run headroom search first")
    return store


def find_study(run_dir: Path, name: str, url: str | None) -> StudyStore | None:
    """Load an existing study for reading; None if there is none or it is not headroom's.

    Raises:
        UserError: the storage cannot be opened.
    """
    existing = _existing(run_dir, name, url)
    return StudyStore(*existing) if existing is not None and _RECORD_KEY in existing[0].user_attrs else None


def _existing(run_dir: Path, name: str, url: str | None) -> tuple[optuna.Study, BaseStorage, JournalFile | None] | None:
    """Return an existing study, headroom's or not, with its storage; None without one."""
    # Unlike Path.exists, os.path.exists accepts any text, such as a name too long for a folder.
    if not os.path.exists(run_dir / JOURNAL_FILE) if url is None else _lacks_its_file(url):
        return None
    storage, journal = _open_storage(run_dir, url)
    try:
        return optuna.load_study(study_name=name, storage=storage, sampler=_NO_SAMPLER), storage, journal
    except KeyError:
        return None


def study_names(folder: Path, url: str | None) -> list[str]:
    """Return the names of the studies that may be in a folder of run directories, or in a database.

    Raises:
        UserError: the database cannot be opened.
    """
    if url is None:
        return [file.parent.name for file in folder.glob(f"*/{JOURNAL_FILE}")] if os.path.isdir(folder) else []
    if _lacks_its_file(url):
        return []
    storage, _ = _open_storage(folder, url)
    return [study.study_name for study in storage.get_all_studies()]


def _lacks_its_file(url: str) -> bool:
    """Return whether a database is a missing SQLite file, which opening would create."""
    file = databases.sqlite_file(url)
    return file is not None and not os.path.exists(file)


# Databases whose tables were of Optuna's version when this process opened them. The check reads all of Optuna's
# migrations, and takes ten times as long as the rest.
_compatible: set[str] = set()


def _open_storage(run_dir: Path, url: str | None) -> tuple[BaseStorage, JournalFile | None]:
    if url is None:
        file = run_dir / JOURNAL_FILE
        try:
            if file.exists():
                require_file(file)
            journal = JournalFile(file)
            return JournalStorage(journal), journal
        except Exception as error:
            # A file with other content can make Optuna fail anywhere, with any error.
            raise UserError(
                f"{file}: cannot be read as a study's journal ({error}); restore it from a copy, or move it away to"
                " start anew"
            ) from None
    try:
        owner = databases.owner(url)
        if owner in (None, "Optuna"):
            storage = RDBStorage(url, skip_compatibility_check=url in _compatible)
            _compatible.add(url)
            return storage, None
    except Exception as error:
        # SQLAlchemy's many errors, driver errors and missing drivers need the same remedy, and all may quote the URL.
        problem = without_password_of(url, first_line(error))
        raise UserError(
            f"study.storage: {url} cannot be opened ({type(error).__name__}: {problem}); check the address and that its"
            " driver is installed (PostgreSQL's: pip install 'psycopg[binary]'), or set null for a journal file"
        ) from None
    raise UserError(
        f"study.storage: {url} holds the tables of {owner}; give the study a database of its own, or set null for a"
        " journal file"
    )


@contextmanager
def search_lock(run_dir: Path) -> Iterator[None]:
    """Lock the run directory for one search. The kernel releases the lock however this process ends.

    Raises:
        UserError: another search holds the lock, or a link is in the place of the lock file.
    """
    with _opened(run_dir / LOCK_FILE, "a") as file:
        try:
            _lock_soon(file)
        except BlockingIOError:
            raise UserError(
                f"study.name: a search is running on {run_dir.name} already; wait for it, end it, or set another"
                " study.name"
            ) from None
        yield


def _opened(lock: Path, mode: str) -> IO[str]:
    """Open a lock file.

    Raises:
        FileNotFoundError: the file does not exist, and ``mode`` does not create it.
        UserError: the path holds something else, such as a link, or another user's file.
    """
    try:
        if lock.exists() and not lock.is_symlink():
            require_file(lock)
        with foreign_refused():
            return open(lock, mode, opener=open_unlinked)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{lock}: cannot be opened ({error.strerror}); move it away") from None


def _lock_soon(file: IO[str]) -> None:
    # Retry: a process that checks whether a search is running holds the lock for an instant.
    for _ in range(20):
        with suppress(BlockingIOError):
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(0.02)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def search_is_running(run_dir: Path) -> bool:
    """Return whether a process holds the run directory's search lock.

    Raises:
        UserError: a link is in the place of the lock file.
    """
    try:
        file = _opened(run_dir / LOCK_FILE, "r")
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
        return IntDistribution(entry.low, entry.high, log=entry.log, step=entry.step)
    return FloatDistribution(entry.low, entry.high, log=entry.log)
