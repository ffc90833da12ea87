"""The available optimizers, the settings that each one reads, and its package; nothing here imports torch."""

import importlib.metadata
import importlib.util
from dataclasses import dataclass


class OptimizerMissingError(ValueError):
    """An optimizer's package is not installed. The message names it and the command that installs it."""


@dataclass(frozen=True)
class OptimizerFacts:
    """The facts about one optimizer.

    Attributes:
        reads: the fields of ``OptimSettings`` that affect it; it ignores the others.
        package: the package, beside torch, that provides it; None for torch's own.
    """

    reads: frozenset[str]
    package: str | None = None


_BY_ALL = frozenset({"lr", "layer_decay", "weight_decay"})
_BY_ADAM = _BY_ALL | {"beta1", "beta2", "eps"}

OPTIMIZERS: dict[str, OptimizerFacts] = {
    "adamw": OptimizerFacts(_BY_ADAM),
    "adafactor": OptimizerFacts(_BY_ALL),
    "lion": OptimizerFacts(_BY_ALL | {"beta1", "beta2"}, "lion-pytorch"),
    "adamw_8bit": OptimizerFacts(_BY_ADAM, "bitsandbytes"),
}
"""Facts by ``optim.name``."""


def check_installed(name: str) -> None:
    """Check that an optimizer's package is installed, without importing it.

    Raises:
        OptimizerMissingError: the package of the optimizer ``name`` is not installed in this Python.
    """
    facts = OPTIMIZERS[name]
    if facts.package is not None and importlib.util.find_spec(facts.package.replace("-", "_")) is None:
        raise OptimizerMissingError(
            f"optim.name: {name!r} needs the package {facts.package}, which is not installed; run:"
            f" pip install {facts.package}, or use another optimizer"
        )


def optimizer_version(name: str) -> str | None:
    """Return the version of the package that provides the optimizer; None for torch's own.

    Raises:
        OptimizerMissingError: the package is not installed.
    """
    check_installed(name)
    package = OPTIMIZERS[name].package
    return None if package is None else importlib.metadata.version(package)
