"""Keeps what libraries have to say to developers off a person's terminal."""

import logging
import os
import sys
import warnings

from tune_app.printable import PrintableFormatter

_LEVELS = {
    # Read by the library when it is imported, here and in the processes that are started.
    "HF_HUB_VERBOSITY": "error",
    "TRANSFORMERS_VERBOSITY": "error",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}


def quiet_libraries() -> None:
    """Silence libraries' warnings in this process, and show those of headroom's own log as lines.

    Whoever wants to see them sets ``PYTHONWARNINGS`` or the library's own variable.
    """
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    for name, level in _LEVELS.items():
        os.environ.setdefault(name, level)
    # Python prints warnings of libraries that set up no log of their own.
    logging.lastResort = logging.NullHandler()
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("headroom: %(message)s"))
    handler.setLevel(logging.WARNING)
    logging.getLogger("headroom").addHandler(handler)
