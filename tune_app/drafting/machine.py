"""The machine that a draft is made for, and the models that it can train."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from search_spaces.catalogue import CATALOGUE
from trainables.machine import cpu_cores
from trainables.models import hub
from trainables.models.names import OFFLINE_NAME, UnknownModelError, resolve_model
from tune_app.estimates import Target

if TYPE_CHECKING:
    from trainables.devices.facts import TrialDevice

SMALLEST = "tiny-bert"
BUILT_IN = ("small-bert", SMALLEST)
_BASE = tuple(CATALOGUE["narrow"].entries["model.name"]["choices"])
_MANY_LANGUAGES = "xlm-roberta-base"
_MOST_FOREIGN = 0.3
_MOST_ON_CPU = 4
_A_CARD = 2


@dataclass(frozen=True)
class Machine:
    """Machine that a draft is made for.

    Attributes:
        device: device that trials run on.
        cards: number of CUDA cards.
        cores: CPU cores that this process may use.
        has_hub: whether the hub answers, so that its models can be fetched.
        has_offline_model: whether the extra ``offline-model`` is installed.
    """

    device: "TrialDevice"
    cards: int
    cores: int
    has_hub: bool
    has_offline_model: bool

    @property
    def has_card(self) -> bool:
        return self.device.kind == "cuda"

    @property
    def at_once(self) -> int:
        """Number of trials to run at a time."""
        return self.cards * _A_CARD if self.has_card else min(self.cores, _MOST_ON_CPU)

    @property
    def threads(self) -> int:
        """CPU cores of each trial."""
        return 1 if self.has_card else max(1, self.cores // self.at_once)

    @property
    def target(self) -> Target:
        """Device of a trial, for questions about memory."""
        # Trials on the CPU share its memory. A card that is shared is shared by need.
        share = 1 if self.has_card else self.at_once
        return Target(self.device.kind, self.device.total_gib / share, self.device.auto_precision)

    @property
    def line(self) -> str:
        if self.has_card:
            cards = f"{self.cards} × " if self.cards > 1 else ""
            return f"{cards}{self.device.name} with {self.device.total_gib:.3g} GiB"
        return f"{self.cores} CPU cores and no GPU"


def this_machine() -> Machine:
    """Return the machine that this process runs on."""
    from trainables.devices.facts import torch_facts, trial_device

    device = trial_device()
    # Only a card is fast enough for the hub's models.
    return Machine(
        device,
        len(torch_facts().devices),
        cpu_cores(),
        has_hub=device.kind == "cuda" and hub.answers(),
        has_offline_model=_is_available(OFFLINE_NAME),
    )


def _is_available(model: str) -> bool:
    try:
        resolve_model(model)
    except UnknownModelError:
        return False
    return True


def models_for(machine: Machine, foreign_letters: float) -> tuple[tuple[str, ...], str]:
    """Return the models to try, and the reason for them.

    Args:
        foreign_letters: share of the texts' letters that are not Latin.
    """
    is_foreign = foreign_letters > _MOST_FOREIGN
    better = _MANY_LANGUAGES if is_foreign else ", ".join(_BASE)
    if machine.has_card and machine.has_hub:
        if is_foreign:
            return (_MANY_LANGUAGES,), f"{foreign_letters:.0%} of the letters are not Latin, and this one reads them."
        return _BASE, "The base models that people use most; large ones: space.from: large_models_24gb."
    where = "On a machine with a GPU and the hub" if not machine.has_card else "The hub does not answer; with it"
    warning = f" {foreign_letters:.0%} of the letters are not Latin, which it hardly knows." if is_foreign else ""
    if machine.has_offline_model:
        return (OFFLINE_NAME,), f"The pretrained model of the extra offline-model.{warning} {where}: {better}."
    return BUILT_IN, (
        "Small encoders without pretraining: they run anywhere and show that all works. The extra offline-model adds"
        f" {OFFLINE_NAME}, a small pretrained one. {where}: {better}."
    )


def readers(models: Sequence[str], machine: Machine) -> list[str]:
    """Return the models whose tokenizers may count tokens, in the order to try; the last ones are on this machine."""
    return list(dict.fromkeys([models[0], *([OFFLINE_NAME] if machine.has_offline_model else []), SMALLEST]))
