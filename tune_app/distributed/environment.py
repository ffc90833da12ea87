"""Environment variables that Ray and its processes read during a search."""

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

_VARIABLES = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "60",
    # Headroom's own signal handlers end the loop; see interrupts.py.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # A kill by Ray's memory monitor would abort the whole search, not only the trial.
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Nothing reads Ray's own record of the search, so writing it once at the end suffices.
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    # Workers that load tokenizers after a fork would warn about it repeatedly.
    "TOKENIZERS_PARALLELISM": "false",
}


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables while the block runs, here and in processes that it starts."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def set_for_ray(niceness: int = 0) -> AbstractContextManager[None]:
    """Set Ray's variables while a block runs, except for those that the user has set.

    Args:
        niceness: niceness of the workers of a Ray that is started inside the block; Ray's own default of 15 lets
            everything else on a busy machine run first.
    """
    values = {**_VARIABLES, "RAY_worker_niceness": str(niceness)}
    return variables({name: value for name, value in values.items() if name not in os.environ})
