"""What optimizers there are, which settings each of them reads, and what brings it: all that is known without torch."""

import importlib.metadata
import importlib.util
from dataclasses import dataclass


class OptimizerMissingError(ValueError):
    """An optimizer's package is not installed; the message names it and how to get it."""


@dataclass(frozen=True)
class OptimizerFacts:
    """What is known of one optimizer.

    Attributes:
        reads: the fields of ``OptimSettings`` that change what it does; of the others it knows nothing.
        package: beside torch, that it comes from; None: it is torch's own.
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
"""By ``optim.name``."""


def check_installed(name: str) -> None:
    """Nothing is imported, only looked for.

    Raises:
        OptimizerMissingError: the package of the optimizer ``name`` is not installed in this Python.
    """
    facts = OPTIMIZERS[name]
    if facts.package is not None and importlib.util.find_spec(facts.package.replace("-", "_")) is None:
        raise OptimizerMissingError(
            f"optim.name: {name!r} needs the package {facts.package}, which is not installed; run:"
            f" pip install {facts.package}, or take another optimizer"
        )


def optimizer_version(name: str) -> str | None:
    """The version of the package that the optimizer comes from; None for torch's own.

    Raises:
        OptimizerMissingError: it is not installed.
    """
    check_installed(name)
    package = OPTIMIZERS[name].package
    return None if package is None else importlib.metadata.version(package)
