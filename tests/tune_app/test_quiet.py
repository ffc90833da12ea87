"""Warnings of libraries: off the terminal unless requested."""

import os
import subprocess
import sys
import textwrap

import pytest

WARNS = """
    import logging, os, warnings
    from tune_app.quiet import quiet_libraries

    quiet_libraries()
    warnings.warn("deprecated", DeprecationWarning, stacklevel=1)
    warnings.warn("careful", stacklevel=1)
    logging.getLogger("starlette").warning("of a library without a log of its own")
    logging.getLogger("headroom").warning("a store [red]\\x1b[31mdoes not answer")
    logging.getLogger("headroom.memory").info("for the log alone")
    from huggingface_hub.utils.logging import get_logger

    get_logger("huggingface_hub.file_download").warning("of the hub")
"""


def stderr_of(source: str, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHONWARN", "HF_HUB_VERB"))}
    command = [sys.executable, "-c", textwrap.dedent(source)]
    ran = subprocess.run(command, env={**kept, **environment}, capture_output=True, text=True, check=True)
    return ran.stderr


def test_only_headrooms_own_warnings_reach_the_terminal() -> None:
    assert stderr_of(WARNS) == "headroom: a store [red]\\x1b[31mdoes not answer\n"


@pytest.mark.parametrize(
    ("environment", "shown"),
    [({"PYTHONWARNINGS": "default"}, "UserWarning: careful"), ({"HF_HUB_VERBOSITY": "warning"}, "of the hub")],
)
def test_whoever_asks_for_a_librarys_warnings_sees_them(environment: dict[str, str], shown: str) -> None:
    assert shown in stderr_of(WARNS, **environment)
