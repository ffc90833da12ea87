"""The last steps of a training run that saves its model: load the best epoch's weights, score them, save them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trainables.devices.current import current_device
from trainables.machine import MachineFiles
from trainables.saved import save_model_folder
from trainables.session import TrainingSession
from trainables.settings import TrialSettings


@dataclass(frozen=True)
class BestEpoch:
    """Scores of the saved model on the two parts that it was not trained on.

    Attributes:
        collapsed: whether the model gives every row of the test part the same answer although the true answers differ.
    """

    folder: Path
    validation: Mapping[str, float]
    test: Mapping[str, float]
    collapsed: bool


def save_best_epoch(settings: TrialSettings, cache: Path, checkpoint: Path, folder: Path) -> BestEpoch:
    """Load the checkpoint of the best epoch, score it on validation and test, and save it in transformers' layout.

    Raises:
        FileExistsError: ``folder`` exists and is not empty.
        torch.OutOfMemoryError, MemoryExhaustedError: the memory budget of the settings does not suffice.
    """
    device = current_device(settings.memory.budget_gib, device_gib=settings.memory.device_gib)
    with device.enforce():
        session = TrainingSession(settings, cache, device, with_test=True)
        session.plan_memory(MachineFiles())
        session.resume(checkpoint)
        validation = session.evaluate("validation")
        test = session.evaluate("test", validation.decision)
        tokenizers = [reader.tokenizer for reader in session.inputs.readers]
        save_model_folder(
            session.model,
            tokenizers,
            folder,
            settings=settings,
            decision=validation.decision,
            scores={"validation": validation, "test": test},
        )
    return BestEpoch(folder, validation.metrics, test.metrics, test.collapsed)
