"""Seconds of a trial, from its planned work and its models' pace on this machine."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces.space import Params, Scalar
from trainables.devices.host import GIB
from trainables.machine import MachineFiles
from trainables.planning.ledger import Circumstances
from trainables.planning.timings import PaceLedger, Setup
from trainables.settings import encoder_names, with_params
from tune_app.config import RunConfig
from tune_app.errors import UserError
from tune_app.forecast.pace import Pace, Paces
from tune_app.screening.packing import Packing

if TYPE_CHECKING:
    from trainables.devices.facts import TrialDevice
    from trainables.planning.course import Course


@dataclass(frozen=True)
class TrialTimes:
    """Seconds of a trial's parts, for a trial that nothing disturbs.

    Attributes:
        models: names of its encoders.
        start_s: loading, and planning memory; a trial that goes on after a pause loads again.
        train_s: training of one epoch.
        evaluation_s: evaluation at an epoch's end.
        rung_evaluation_s: evaluation within an epoch.
        save_s: writing a checkpoint.
        spread: standard deviation of the logarithm of measured over planned seconds, from trial to trial.
        drift: the same over all trials of a search.
        gpus: GPUs that the trial holds.
        checkpoint_gib: size of its checkpoint.
    """

    models: tuple[str, ...]
    start_s: float
    train_s: float
    evaluation_s: float
    rung_evaluation_s: float
    save_s: float
    spread: float
    drift: float
    gpus: float
    checkpoint_gib: float

    @property
    def epoch_s(self) -> float:
        """Seconds of an epoch with its evaluation and checkpoint."""
        return self.train_s + self.evaluation_s + self.save_s

    def whole_s(self, epochs: int, folds: int | None) -> float:
        """Return the seconds of a trial that nothing ends early."""
        return (self.start_s + epochs * self.epoch_s) * (folds or 1)


class TrialTimer:
    """Timer of configurations of one search, in the working folder ``scratch``.

    Args:
        device: device that trials run on.
        scratch: folder for tokens; it must outlive the timer.
    """

    def __init__(self, config: RunConfig, packing: Packing, device: "TrialDevice", scratch: Path) -> None:
        from trainables.planning.course import CoursePlanner

        self._config = config
        self._packing = packing
        self._device = device
        self._files = MachineFiles()
        self._courses = CoursePlanner(self._files, scratch)
        self._settings, self._fixed = config.trial_settings(), config.fixed_params()
        self._paces = Paces.of_machine(PaceLedger(self._files.pace))

    def models(self, params: Mapping[str, Scalar]) -> tuple[str, ...]:
        """Return the names of the encoders of a trial with these values."""
        return tuple(encoder_names(with_params(self._settings, params)))

    def gpus(self, params: Mapping[str, Scalar]) -> float:
        """Return the GPUs that a trial with these values holds."""
        return self._packing.gpus({**self._fixed, **params})

    def read_again(self) -> None:
        """Read the machine's record again, because something was timed."""
        self._paces = Paces.of_machine(PaceLedger(self._files.pace))

    def unknown(self, draws: Sequence[Params]) -> dict[tuple[str, ...], list[Params]]:
        """Return the configurations whose models the machine's record does not know, by their models."""
        found: dict[tuple[str, ...], list[Params]] = {}
        for params in draws:
            setup = self._setup(params, checkpointing=False)
            if not self._paces.knows(setup):
                found.setdefault(setup.models, []).append(params)
        return found

    def times(self, params: Mapping[str, Scalar]) -> TrialTimes | None:
        """Return the seconds of a trial with these values; None if the machine's record holds no model.

        Raises:
            UserError: a model or the data cannot be used.
        """
        whole = {**self._fixed, **params}
        cut = self._packing.limits(whole)
        limits, checkpointing = cut if cut is not None else (None, self._settings.train.checkpointing)
        setup = self._setup(params, checkpointing=checkpointing)
        pace = self._paces.pace(setup)
        if pace is None:
            return None
        course = self._course(params, lambda settings: self._courses.course(settings, limits))
        return self._priced(setup, course, pace, self._packing.gpus(whole))

    def _course(self, params: Mapping[str, Scalar], plan: "Callable[..., Course]") -> "Course":
        from trainables.data.errors import DataError
        from trainables.models.checkpoint import ModelLoadError

        try:
            return plan(with_params(self._settings, params))
        except DataError as error:
            raise UserError(f"data.path: {error}") from None
        except ModelLoadError as error:
            raise UserError(f"model.name: {error}") from None

    def _priced(self, setup: Setup, course: "Course", pace: Pace, gpus: float) -> TrialTimes:
        return TrialTimes(
            setup.models,
            pace.start_s,
            pace.train_s(course.train, setup),
            pace.evaluation_s(course.evaluation, setup),
            pace.evaluation_s(course.rung_evaluation, setup),
            pace.save_s if self._config.checkpoint.is_written else 0.0,
            pace.spread,
            pace.drift,
            gpus,
            pace.saved_bytes / GIB,
        )

    def _setup(self, params: Mapping[str, Scalar], *, checkpointing: bool) -> Setup:
        settings = with_params(self._settings, params)
        precision = settings.train.precision
        return Setup(
            Circumstances.here(self._device.name, self._device.auto_precision if precision == "auto" else precision),
            tuple(encoder_names(settings)),
            settings.task.name,
            settings.optim.name,
            self._config.resources.cpu,
            self._config.search.max_concurrent,
            checkpointing,
            settings.model.freeze_layers,
        )
