"""Predicted memory needs of trials on a shared device, and the share that each trial gets."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from search_spaces.rules import PredictedFit, Sample, Violation
from search_spaces.space import Scalar
from trainables.machine import MachineFiles
from trainables.planning.ledger import Circumstances, Ledger
from trainables.settings import TrialSettings, with_params
from tune_app.errors import UserError, first_line

if TYPE_CHECKING:
    from trainables.devices.facts import TrialDevice
    from trainables.planning.needs import Cut, Planner
    from trainables.training.split import RowLimits

SHARES = (0.125, 0.25, 0.5, 1.0)
"""Shares of a device that ``auto`` may choose. They are few, so that a worker with one share can serve many trials."""

Gpus = float | Literal["auto"]


class Packing:
    """Prediction of how configurations fit on a device, and of the GPUs that Ray gives each trial.

    Args:
        settings: settings of every trial, whose searched values a configuration replaces.
        device: device that trials share. A trial without a GPU gets all of it.
        gpus: GPUs of each trial: a share of one or a whole number, 0 for none, or ``auto`` for a share by need.
        passes: most passes of a step in the share that ``auto`` chooses.
        files: this machine's traced predictions and the errors of earlier ones.
        say: called with a message when a prediction will take seconds, and on models that cannot be predicted.
    """

    def __init__(
        self,
        settings: TrialSettings,
        device: "TrialDevice",
        *,
        gpus: Gpus,
        passes: int,
        files: MachineFiles,
        say: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._device = device
        self._gpus = gpus
        self._passes = passes
        self._files = files
        self._say = say
        self._made: Planner | None = None
        self._announced: set[tuple[str, str]] = set()

    def predict_fit(self, sample: Sample) -> PredictedFit | None:
        """Predict the fit of a sample in the largest share that a trial may have; None if there is no prediction.

        Raises:
            UserError: there is no such model.
        """
        share = self._largest_share
        cut = self._cut(with_params(self._settings, sample.params), share)
        if cut is None:
            return None
        return PredictedFit(
            need_gib=cut.one_sample_gib,
            allowed_gib=self._allowed_gib(share),
            budget_gib=self._budget_gib(share),
            micro_batch=cut.micro_batch or 0,
            passes=cut.passes,
            checkpointing=cut.checkpointing,
        )

    def gpus(self, params: Mapping[str, Scalar]) -> float:
        """Return the GPUs for a trial with these values.

        With ``auto``, that is the smallest share in which a step at full length takes few enough passes, with
        checkpointing only if the settings ask for it. A share that holds the whole memory budget is chosen too, because
        a larger one would not help. If no share qualifies, the trial gets the whole card.

        Raises:
            UserError: there is no such model.
        """
        if self._gpus != "auto":
            return self._gpus
        settings = with_params(self._settings, params)
        for share in SHARES[:-1]:
            cut = self._cut(settings, share, plain=True)
            if cut is None:
                break
            if cut.passes is not None and cut.passes <= self._passes_allowed(settings):
                return share
            if self._budget_gib(share) == self._budget_gib(1.0):
                return share
        return SHARES[-1]

    def limits(self, params: Mapping[str, Scalar]) -> "tuple[RowLimits, bool] | None":
        """Return the limits of the passes of a trial with these values, and whether it recomputes activations.

        Return None if its memory cannot be predicted.

        Raises:
            UserError: there is no such model.
        """
        from trainables.planning.batch_limits import row_limits

        settings = with_params(self._settings, params)
        share = min(1.0, self.gpus(params) or 1.0)
        cut = self._cut(settings, share)
        if cut is None:
            return None
        plan = self._planner.plan(settings, checkpointing=cut.checkpointing)
        limits = row_limits(plan, settings.memory, self._allowed_gib(share), settings.tok.max_length)
        return limits, cut.checkpointing

    def plans(self, params: Mapping[str, Scalar]) -> str | None:
        """Return the plans for a trial with these values, as a text for its worker; None if none were made.

        No plan is made here.
        """
        accepted = self._made and self._made.accepted(with_params(self._settings, params))
        return accepted.text if accepted else None

    def refusal(self, violation: Violation, whose: str, remedy: str) -> UserError:
        """Return the error for a configuration that cannot run at all.

        Args:
            violation: violation of the rule ``memory``.
            whose: owner of the need in the message, e.g. ``any model of the space``.
            remedy: remedy besides raising the setting that limits the trial's memory.
        """
        memory, device, share = self._settings.memory, self._device, self._largest_share
        if memory.budget_gib is not None and memory.budget_gib <= share * device.total_gib:
            scarce = f"memory.budget_gib: {memory.budget_gib:g}"
        elif share < 1:
            scarce = f"resources.gpu: {share:g} of {device.total_gib:.4g} GiB"
        elif memory.device_gib is not None:
            scarce = f"memory.device_gib: {memory.device_gib:g}"
        else:
            # The machine's own memory cannot be raised.
            device_memory = f"model.name: the device's {device.total_gib:.4g} GiB ({device.kind})"
            return UserError(f"{device_memory} is less than {whose} needs ({violation.reason}); {remedy}")
        return UserError(f"{scarce} is less than {whose} needs ({violation.reason}); raise it, or {remedy}")

    @property
    def _largest_share(self) -> float:
        # A trial with several cards uses only the first.
        return 1.0 if self._gpus == "auto" or self._gpus == 0 else min(1.0, self._gpus)

    def _passes_allowed(self, settings: TrialSettings) -> int:
        rows = settings.memory.micro_batch
        # The user's limit on rows requires this many passes on any card.
        least = -(-settings.train.effective_batch // rows) if isinstance(rows, int) else 1
        return max(self._passes, least)

    def _budget_gib(self, share: float) -> float:
        of_the_device = share * self._device.total_gib
        return min(of_the_device, self._settings.memory.budget_gib or of_the_device)

    def _allowed_gib(self, share: float) -> float:
        return self._budget_gib(share) * (1 - self._settings.memory.headroom)

    def _cut(self, settings: TrialSettings, share: float, *, plain: bool = False) -> "Cut | None":
        """Return the split of a step's batch in this share; None if its model's memory cannot be predicted.

        Args:
            plain: use checkpointing only if the settings ask for it.
        """
        # torch and transformers take seconds to import.
        from trainables.models.checkpoint import ModelLoadError
        from trainables.models.names import UnknownModelError

        model = settings.model.name
        try:
            return self._planner.cut(settings, self._allowed_gib(share), plain=plain)
        except (UnknownModelError, ModelLoadError) as error:
            raise UserError(f"model.name: {error}") from None
        except Exception as error:
            # A model that cannot be traced may still train, and one that cannot be built fails with its own error.
            self._announce_once(
                model,
                f"cannot predict the memory of {model} ({type(error).__name__}: {first_line(error)}): none of its"
                " configurations is rejected, and its trials get a whole card",
            )
            return None

    @property
    def _planner(self) -> "Planner":
        if self._made is None:
            from trainables.inputs import builtin_vocabulary
            from trainables.planning.needs import Planner

            device, files = self._device, self._files
            self._made = Planner(
                device.kind,
                device.auto_precision,
                files.predictions,
                lambda precision: Ledger(files.ledger).correction(Circumstances.here(device.name, precision)),
                lambda settings: builtin_vocabulary(settings, files.tokenizers),
                lambda model: self._announce_once(model, f"predicting the memory of {model} (seconds, the first time)"),
            )
        return self._made

    def _announce_once(self, model: str, text: str) -> None:
        if (model, text) not in self._announced:
            self._announced.add((model, text))
            self._say(text)
