"""Hyperparameter search for transformer encoders that never loses a trial to GPU memory.

The names below are the Python interface; ``tune_app.api`` documents them. They are imported when they are first used,
so that ``import tune_app`` takes no time and changes nothing.
"""

from typing import TYPE_CHECKING, Any

from tune_app.version import VERSION

if TYPE_CHECKING:
    from tune_app.api import (
        Exported,
        Study,
        UserError,
        confirm,
        estimate_memory,
        init,
        load_config,
        load_model,
        load_study,
        plan,
        predict_file,
        search,
        train,
    )

__version__ = VERSION
__all__ = [
    "Exported",
    "Study",
    "UserError",
    "confirm",
    "estimate_memory",
    "init",
    "load_config",
    "load_model",
    "load_study",
    "plan",
    "predict_file",
    "search",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tune_app import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
