"""Suppression of libraries' messages to developers on a person's terminal."""

import logging
import os
import sys
import warnings

from tune_app.printable import PrintableFormatter

_LEVELS = {
    # The libraries read these when they are imported, here and in child processes.
    "HF_HUB_VERBOSITY": "error",
    "TRANSFORMERS_VERBOSITY": "error",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}


def quiet_libraries() -> None:
    """Silence libraries' warnings in this process, and show those of headroom's own log as lines.

    ``PYTHONWARNINGS`` or the library's own variable makes them visible again.
    """
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    for name, level in _LEVELS.items():
        os.environ.setdefault(name, level)
    # Python's last resort would print warnings of libraries that configure no logging.
    logging.lastResort = logging.NullHandler()
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("headroom: %(message)s"))
    handler.setLevel(logging.WARNING)
    logging.getLogger("headroom").addHandler(handler)
