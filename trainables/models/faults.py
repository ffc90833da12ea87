"""Search for the value of a model's ``config.json`` that keeps the model from being built or used."""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig


@dataclass(frozen=True)
class Fault:
    """A value of a ``config.json`` that a model cannot have, and its family's default, which works."""

    path: Path
    name: str
    value: Any
    default: Any

    def explained(self, problem: str) -> str:
        """Return the message on the fault: file, name, value, problem and remedy."""
        value, default = (json.dumps(value, default=str) for value in (self.value, self.default))
        return f"{self.path}: {self.name}: {value}: {problem}; fix it (the default is {default}), or use another model"


def find_fault(config: PreTrainedConfig, works: Callable[[PreTrainedConfig], bool]) -> Fault | None:
    """Return the first value of a configuration whose default makes the model work; None without such a value.

    Args:
        config: configuration that does not work.
        works: returns whether a configuration works.

    If the family's defaults do not work either, the family is at fault and no value is.
    """
    family = type(config)()
    if not works(family):
        return None
    defaults = family.to_dict()
    for name, value in config.to_dict().items():
        if name not in defaults or value == defaults[name]:
            continue
        other = copy.deepcopy(config)
        setattr(other, name, getattr(family, name, defaults[name]))
        if works(other):
            return Fault(Path(config.name_or_path or "") / "config.json", name, value, defaults[name])
    return None
