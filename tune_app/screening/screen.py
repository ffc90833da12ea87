"""Screen of a search: the rules that reject configurations before launch, and the packing of the others."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from search_spaces.rules import Rule
from trainables.machine import MachineFiles
from trainables.seeds import sub_seed
from tune_app.config import RunConfig
from tune_app.screening.combinations import combination_rules
from tune_app.screening.filtering import Rejections, build_rules, check_something_runs, count_rejections
from tune_app.screening.packing import Gpus, Packing
from tune_app.screening.preconditions import model_names

if TYPE_CHECKING:
    from trainables.devices.facts import TrialDevice


@dataclass(frozen=True)
class Screen:
    """Rules that reject configurations before launch, and packing of the accepted ones.

    Attributes:
        rejections: shares of the space that the rules reject; None without rules.
    """

    packing: Packing
    rules: list[Rule]
    rejections: Rejections | None = None


def build_screen(
    config: RunConfig, device: "TrialDevice", gpus: Gpus, *, host_share: float, say: Callable[[str], None]
) -> Screen:
    """Build the packing and the rules for a device, and report the share of the space that each rule rejects.

    Args:
        device: device that trials run on.
        gpus: GPUs of each trial.
        host_share: share of the host's memory that a trial on the CPU has.

    Raises:
        UserError: the rules reject the whole space.
    """
    assert config.space is not None
    if device.kind == "cpu":
        device = replace(device, total_gib=device.total_gib * host_share)
    passes = config.resources.passes
    packing = Packing(config.trial_settings(), device, gpus=gpus, passes=passes, files=MachineFiles(), say=say)
    rules = [
        *combination_rules(config, model_names(config)),
        *build_rules(config.limits, config.memory.max_accumulation, packing),
    ]
    rejections = None
    if rules:
        rejections = count_rejections(rules, config.space, config.fixed_params(), sub_seed(config.search.seed, "rules"))
        check_something_runs(rejections, packing)
        say(str(rejections))
    return Screen(packing, rules, rejections)


def screen_here(config: RunConfig, say: Callable[[str], None]) -> Screen:
    """Build the screen before Ray starts, for a search that will start it on this machine.

    Raises:
        UserError: the rules reject the whole space.
    """
    device, gpus = device_here(config)
    share = host_share(config, config.search.max_concurrent)
    return build_screen(config, device, gpus, host_share=share, say=say)


def device_here(config: RunConfig) -> "tuple[TrialDevice, Gpus]":
    """Return the device that trials on this machine run on, and the GPUs of each trial; 0 on a machine without."""
    from trainables.devices.facts import torch_facts, trial_device

    memory, gpus = config.memory, config.resources.gpu
    if gpus == "auto" and not torch_facts().devices and memory.device_gib is None:
        gpus = 0
    return trial_device(memory.device_gib, use_cuda=gpus != 0), gpus


def host_share(config: RunConfig, at_once: int) -> float:
    """Return the share of a host's memory for a trial on the CPU, where so many run at a time."""
    # A card simulated on the CPU is shared like a real one.
    return 1.0 if config.memory.device_gib is not None else 1 / max(1, at_once)
